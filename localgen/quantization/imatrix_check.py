"""Checks that an importance matrix belongs to a model, and warns of what it lacks."""

from __future__ import annotations

import math
from pathlib import Path

from localgen._util.format import some_of
from localgen._util.warn import warn
from localgen.errors import QuantizeError
from localgen.gguf.gate import ModelFile
from localgen.gguf.imatrix_file import find_gaps, read_imatrix

# Weights of layers that are no factors of matrix products.
_NOT_MULTIPLIED = ("_norm.weight", "ssm_conv1d", "shortconv.conv")


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
    if matching and (lacking := [n for n in layer_matrices(file) if n not in matching]):
        warn(
            f"{path} has nothing for {some_of(lacking, 'weight')} of the layers of "
            f"{file.path.name}, whose columns all count the same. Use a matrix of this model."
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


def layer_matrices(file: ModelFile) -> list[str]:
    """Return the names of the layers' weights that inputs are multiplied with."""
    return [
        tensor.name
        for shard in file.shards
        for tensor in shard.tensors
        if tensor.name.startswith("blk.")
        and tensor.name.endswith(".weight")
        and not any(part in tensor.name for part in _NOT_MULTIPLIED)
        and sum(size > 1 for size in tensor.shape) > 1
    ]
