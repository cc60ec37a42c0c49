"""Prints what was quantized: files, and a mixture with its loss."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict

from localgen._util.format import as_size, counted
from localgen.cli.tables import print_table
from localgen.compare.metrics import Mean
from localgen.mixtures.search import QuantizedMixture
from localgen.quantization.runner import QuantizedFile


def print_mixture(done: QuantizedMixture, *, as_json: bool) -> None:
    if as_json:
        whole = asdict(done)
        print(json.dumps([{**whole.pop("file"), **whole}], default=str))
        return
    print_files([done.file], as_json=False)
    print_table(("group", "type"), done.groups.items())
    print(f"mean KLD {_mean(done.kld)}, on text that the search did not use")
    if done.below is not None:
        print(
            f"{done.below.level} ({as_size(done.below.n_bytes)}): {_mean(done.below.kld)}, more by "
            f"{_mean(done.below.difference)}"
        )


def _mean(found: Mean) -> str:
    return f"{found.value:.4f} ±{found.se:.4f}"


def print_files(written: list[QuantizedFile], *, as_json: bool) -> None:
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
