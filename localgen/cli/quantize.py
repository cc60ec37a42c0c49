"""``localgen quantize``: write a model at quantization levels, or as a mixture for a target."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from localgen._util.format import as_size, counted
from localgen._util.plain_progress import as_duration
from localgen._util.progress import tensor_bars
from localgen._util.text_file import read_text
from localgen.cli.options import MODEL_FORMS, Threads
from localgen.cli.tables import print_table
from localgen.compare.metrics import Mean
from localgen.mixtures.quantize import quantize as write
from localgen.mixtures.search import SOURCE, QuantizedMixture
from localgen.quantization.options import AUTO
from localgen.quantization.process import Progress
from localgen.quantization.runner import QuantizedFile


def quantize(
    source: Annotated[
        str, typer.Argument(metavar="SRC", help=f"Quantize this model: {MODEL_FORMS}.")
    ],
    levels: Annotated[
        list[str] | None,
        typer.Option(
            "-t", "--type", metavar="LEVEL", help="Write this level, as Q4_K_M; can be repeated."
        ),
    ] = None,
    target_size: Annotated[
        str | None,
        typer.Option(
            metavar="2.5GB", help="Write the mixture of types that loses least in this size."
        ),
    ] = None,
    target_kld: Annotated[
        float | None,
        typer.Option(
            metavar="NATS", help="Write the smallest mixture of types with this mean KLD."
        ),
    ] = None,
    text: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Measure a mixture's loss on this UTF-8 text.",
            show_default="English prose that comes with Python",
        ),
    ] = None,
    n_ctx: Annotated[
        int | None,
        typer.Option(help="Cut that text into chunks of this many tokens.", show_default="512"),
    ] = None,
    chunks: Annotated[
        int | None,
        typer.Option(
            help="Use this many chunks to find a mixture, and as many to measure it.",
            show_default="4",
        ),
    ] = None,
    losses: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Keep a mixture's measured losses in FILE, and use those it has."
        ),
    ] = None,
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="DIR", help="Write the files to DIR.")
    ] = Path(),
    imatrix: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="Use this importance matrix; auto makes one in --output first."
        ),
    ] = None,
    pure: Annotated[
        bool, typer.Option("--pure", help="Store every tensor in the level's own type.")
    ] = False,
    tensor_type: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATTERN=TYPE",
            help="Store tensors whose names have PATTERN as TYPE; can be repeated, the first wins.",
        ),
    ] = None,
    token_embedding_type: Annotated[
        str | None, typer.Option(metavar="TYPE", help="Store the token embeddings as TYPE.")
    ] = None,
    output_tensor_type: Annotated[
        str | None, typer.Option(metavar="TYPE", help="Store the output matrix as TYPE.")
    ] = None,
    keep_split: Annotated[
        bool, typer.Option("--keep-split", help="Write as many shards as SRC has.")
    ] = False,
    allow_requantize: Annotated[
        bool,
        typer.Option("--allow-requantize", help="Accept a source that is quantized already."),
    ] = False,
    n_threads: Threads = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list.")] = False,
) -> None:
    """Quantize SRC to one or more levels, or to a target, and report what each file holds."""
    if not levels and target_size is None and target_kld is None:
        raise ValueError("give --type LEVEL, such as Q4_K_M, or --target-size or --target-kld")
    types = _tensor_types(tensor_type or [])
    bars = [*["importance matrix"] * (imatrix == AUTO), *(levels or ["mixture"])]
    with tensor_bars(bars) as begun:
        done: QuantizedMixture | list[QuantizedFile] = write(  # type: ignore[call-overload,misc]
            source,
            levels or None,  # with a target or not: what does not go together is refused there
            target_size=target_size,
            target_kld=target_kld,
            text=None if text is None else read_text(text),
            n_ctx=n_ctx,
            n_chunks=chunks,
            losses=losses,
            output=output,
            imatrix=imatrix,
            pure=pure,
            tensor_types=types or None,
            token_embedding_type=token_embedding_type,
            output_tensor_type=output_tensor_type,
            keep_split=keep_split,
            allow_requantize=allow_requantize,
            n_threads=n_threads,
            progress=begun if levels else _Estimated(begun),
        )
    if isinstance(done, QuantizedMixture):
        _print_mixture(done, as_json=as_json)
    else:
        _print_files(done, as_json=as_json)


class _Estimated:
    """Passes progress of a search on, and says on stderr how much there is to do.

    The time is that of the first mixture times their number: larger ones take about as long.
    """

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._started: float | None = None
        self._is_told = False

    def __call__(self, n_done: int, n_steps: int, what: str) -> None:
        self._progress(n_done, n_steps, what)
        if what == SOURCE:
            _say(f"up to {counted(n_steps - 1, 'file')} to write and measure, one after another")
        elif self._started is None and n_done == 1:
            self._started = time.monotonic()
        elif self._started is not None and n_done == 2 and not self._is_told:
            self._is_told = True
            seconds = (time.monotonic() - self._started) * (n_steps - 1)
            _say(f"the search takes about {as_duration(seconds)}, by the first of them")


def _say(message: str) -> None:
    print(f"localgen: {message}", file=sys.stderr)


def _print_mixture(done: QuantizedMixture, *, as_json: bool) -> None:
    if as_json:
        whole = asdict(done)
        print(json.dumps([{**whole.pop("file"), **whole}], default=str))
        return
    _print_files([done.file], as_json=False)
    print_table(("group", "type"), done.groups.items())
    print(f"mean KLD {_mean(done.kld)}, on text that the search did not use")
    if done.below is not None:
        print(
            f"{done.below.level} ({as_size(done.below.n_bytes)}): {_mean(done.below.kld)}, more by "
            f"{_mean(done.below.difference)}"
        )


def _mean(found: Mean) -> str:
    return f"{found.value:.4f} ±{found.se:.4f}"


def _print_files(written: list[QuantizedFile], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps([asdict(file) for file in written], default=str))
        return
    rows = [
        (
            str(file.path),
            as_size(file.n_bytes),
            f"{file.bits_per_weight:.2f}",
            ", ".join(f"{count} {kind}" for kind, count in file.types.items()),
        )
        for file in written
    ]
    columns = ("file", "size", "bits/weight", "tensors")
    print_table(columns, rows, right=("size", "bits/weight"), wrapped=("tensors",))
    for file in written:
        if file.n_fallback:
            print(
                f"localgen: {file.level}: {counted(file.n_fallback, 'tensor')} stored in a larger "
                f"type, since the row length is not a multiple of the level's block size",
                file=sys.stderr,
            )
        if file.replaced:
            print(f"localgen: replaced {file.path}", file=sys.stderr)


def _tensor_types(given: list[str]) -> dict[str, str]:
    """Return {pattern: type}. Raises ValueError for a flag without a type or given twice."""
    types: dict[str, str] = {}
    for each in given:
        pattern, is_complete, kind = each.rpartition("=")
        if not (is_complete and pattern and kind):
            raise ValueError(f"--tensor-type must be PATTERN=TYPE, as ffn_down=Q6_K, got {each!r}")
        if pattern in types:
            raise ValueError(f"--tensor-type names the pattern {pattern!r} twice")
        types[pattern] = kind
    return types
