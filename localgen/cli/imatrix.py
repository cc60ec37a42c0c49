"""``localgen imatrix``: make importance matrices, or merge them."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from localgen._util.format import counted
from localgen._util.progress import step_bar
from localgen.cli.declared_flags import DeclaredOptions
from localgen.cli.option_groups import with_options
from localgen.cli.options import MODEL_FORMS
from localgen.cli.resuming import resume_command
from localgen.cli.typed_flags import typed_flags
from localgen.errors import GenerationInterrupted
from localgen.quantization.imatrix import imatrix as compute
from localgen.quantization.imatrix_merge import merge_imatrices
from localgen.quantization.imatrix_options import ImatrixOptions
from localgen.quantization.imatrix_result import ImportanceMatrix

# Options that apply to merging too.
_OF_MERGING = {"output", "overwrite", "merge", "as_json"}


class ComputingOptions(DeclaredOptions, of=ImatrixOptions):
    """The options of ``imatrix()`` as they were typed."""


@with_options
def imatrix(
    context: typer.Context,
    *,
    source: Annotated[
        str | None, typer.Argument(metavar="MODEL", help=f"Use this model: {MODEL_FORMS}.")
    ] = None,
    texts: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="TEXT",
            help="Compute it on these UTF-8 files.",
            show_default="sources of Python's standard library, about 100 chunks of 512 tokens",
        ),
    ] = None,
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="FILE", help="Write this .gguf file.")
    ] = Path("imatrix.gguf"),
    computing: ComputingOptions,
    merge: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE", help="Merge these importance matrices instead; repeat for each."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Write an importance matrix of MODEL, which quantization below 4 bits needs."""
    if (source is None) == (not merge):
        raise ValueError("give either MODEL or --merge FILE, at least twice")
    given = computing.given()
    if merge:
        _check_merging(typed_flags(context))
        done = merge_imatrices(merge, output=output, overwrite=given["overwrite"])
        _print(done, as_json=as_json)
        return
    try:
        with step_bar("importance matrix") as progress:
            done = compute(source or "", texts or None, output=output, **given, progress=progress)
    except GenerationInterrupted as error:
        _print_interrupt(error.partial)
        raise
    _print(done, as_json=as_json)


def _check_merging(typed: Mapping[str, str]) -> None:
    """Raise ValueError for options that would have no effect. typed: {parameter: its flag}."""
    unused = [flag for name, flag in typed.items() if name not in _OF_MERGING]
    if unused:
        raise ValueError(
            f"{', '.join(unused)} cannot be used with --merge, which computes nothing. Leave it "
            f"out."
        )


def _print(done: ImportanceMatrix, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(asdict(done), default=str))
        return
    print(
        f"{done.path}: {counted(done.n_tensors, 'tensor')} from {counted(done.n_chunks, 'chunk')} "
        f"of {done.n_ctx} tokens"
    )


def _print_interrupt(done: ImportanceMatrix | None) -> None:
    if done is None:
        print("localgen: interrupted before the first chunk; nothing was saved", file=sys.stderr)
        return
    print(
        f"localgen: interrupted; {counted(done.n_chunks, 'chunk')} saved to {done.path}. To "
        f"resume, run: {resume_command()}",
        file=sys.stderr,
    )
