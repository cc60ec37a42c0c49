"""``localgen quantize``: write a model at one or more quantization levels."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from localgen._util.format import as_size, counted
from localgen._util.progress import tensor_bars
from localgen.cli.options import MODEL_FORMS, Threads
from localgen.cli.tables import print_table
from localgen.quantization.quantize import AUTO
from localgen.quantization.quantize import quantize as write_levels


def quantize(
    source: Annotated[
        str, typer.Argument(metavar="SRC", help=f"Quantize this model: {MODEL_FORMS}.")
    ],
    levels: Annotated[
        list[str],
        typer.Option(
            "-t", "--type", metavar="LEVEL", help="Write this level, as Q4_K_M; can be repeated."
        ),
    ],
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
    allow_requantize: Annotated[
        bool,
        typer.Option("--allow-requantize", help="Accept a source that is quantized already."),
    ] = False,
    n_threads: Threads = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list.")] = False,
) -> None:
    """Quantize SRC to one or more levels and report what each file holds."""
    types = _tensor_types(tensor_type or [])
    with tensor_bars([*["importance matrix"] * (imatrix == AUTO), *levels]) as begun:
        written = write_levels(
            source,
            levels,
            output=output,
            imatrix=imatrix,
            pure=pure,
            tensor_types=types,
            token_embedding_type=token_embedding_type,
            output_tensor_type=output_tensor_type,
            allow_requantize=allow_requantize,
            n_threads=n_threads,
            progress=begun,
        )
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
