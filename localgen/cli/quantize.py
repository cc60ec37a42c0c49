"""``localgen quantize``: write a model at one or several quantization levels."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from localgen._util.format import as_size, counted
from localgen._util.progress import tensor_bars
from localgen.cli.tables import print_table
from localgen.quantization.quantize import quantize as write_levels


def quantize(
    source: Annotated[str, typer.Argument(metavar="SRC", help="A model, as -m takes it.")],
    levels: Annotated[
        list[str],
        typer.Option("-t", "--type", metavar="LEVEL", help="Q4_K_M, Q8_0, …; may be repeated."),
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="DIR", help="Where the files go.")
    ] = Path(),
    imatrix: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="An importance matrix, as llama-imatrix writes it."),
    ] = None,
    pure: Annotated[
        bool, typer.Option("--pure", help="Every tensor of the level's own type.")
    ] = False,
    allow_requantize: Annotated[
        bool, typer.Option("--allow-requantize", help="Take a source that is quantized itself.")
    ] = False,
    n_threads: Annotated[int | None, typer.Option(help="CPU threads (all).")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list.")] = False,
) -> None:
    """Quantize SRC, and say what came of it: names alone mislead."""
    with tensor_bars(levels) as begun:
        written = write_levels(
            source,
            levels,
            output=output,
            imatrix=imatrix,
            pure=pure,
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
    print_table(columns, rows, right="size bits/weight", prose=("tensors",))
    for file in written:
        if file.n_fallback:
            print(
                f"localgen: {file.level}: {counted(file.n_fallback, 'tensor')} with rows that its "
                f"blocks do not divide got a larger type",
                file=sys.stderr,
            )
        if file.replaced:
            print(f"localgen: {file.path} was there and is replaced", file=sys.stderr)
