"""Checks that an importance matrix belongs to a model, and warns of what it lacks."""

from __future__ import annotations

import math
from pathlib import Path

from localgen._util.format import some_of
from localgen._util.warn import warn
from localgen.errors import QuantizeError
from localgen.gguf.gate import ModelFile
from localgen.gguf.imatrix_file import find_gaps, read_imatrix


def check_imatrix(path: Path, file: ModelFile) -> None:
    """Raise QuantizeError for a matrix of another model; warn of tensors without data."""
    shapes = {t.name: t.shape for shard in file.shards for t in shard.tensors}
    matching = {name: data for name, data in read_imatrix(path).items() if name in shapes}
    if not matching:
        warn(
            f"{path} has none of the tensors of {file.path.name}, so it changes nothing: it "
            f"belongs to another model"
        )
    for name, data in matching.items():
        n_columns = math.prod(shapes[name][:1] + shapes[name][2:])
        if data.size != n_columns and name != "token_embd.weight":  # which llama.cpp ignores
            raise QuantizeError(
                f"{path} belongs to another model: it has {data.size} values for {name}, which "
                f"has {n_columns} columns in {file.path.name}"
            )
    gaps = find_gaps(path)
    if whole := [name for name in gaps.whole if name in matching]:
        tensors = some_of(whole, "tensor")
        warn(f"{path} has no data for {tensors}: all of their columns count the same")
    if partial := [name for name in gaps.partial if name in matching]:
        tensors = some_of(partial, "tensor")
        warn(
            f"{path} has no data for some columns of {tensors}: they count like the average column"
        )
