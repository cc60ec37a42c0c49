"""Reads importance matrices, as llama-imatrix writes them; it loads no model.

For each tensor, the mean square of its inputs, one number per column: (n_columns,), or
(n_experts * n_columns,). Formats: GGUF (sums of squares, and counts), and the older binary one.
Zero means that a column had no data: a weight of zero would quantize it to anything.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from localgen.errors import QuantizeError
from localgen.gguf.reader import GGUF, MAGIC, Tensor, check_regular, read_gguf

Importance = dict[str, npt.NDArray[np.float32]]

_SUMS, _COUNTS = ".in_sum2", ".counts"
_MOST_ENTRIES = 2**16


@dataclass(frozen=True, slots=True)
class Gaps:
    """The tensors of an importance matrix without any data, and those with it for some columns."""

    whole: tuple[str, ...]
    partial: tuple[str, ...]


def read_imatrix(path: Path) -> Importance:
    """Return the importance of each tensor by name, float32 and above 0.

    A column without data counts like the average one of its matrix. Raises QuantizeError,
    ModelFileError or OSError.
    """
    return {name: _filled(data).reshape(-1) for name, data in _read(path).items()}


def find_gaps(path: Path) -> Gaps:
    """Return where an importance matrix has no data. Raises what ``read_imatrix`` does."""
    values = _read(path)
    whole = tuple(name for name, data in values.items() if not data.any())
    partial = tuple(name for name, data in values.items() if data.any() and not data.all())
    return Gaps(whole, partial)


def _filled(data: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Replace the zeros in each row of (n_matrices, n_columns) by its mean of the others, or 1."""
    n_known = np.count_nonzero(data, axis=1)
    means = np.divide(
        data.sum(axis=1, dtype=np.float64), n_known, out=np.ones(len(data)), where=n_known > 0
    )
    return np.where(data > 0, data, means[:, None]).astype(np.float32)


def _read(path: Path) -> Importance:
    """Return what a file has, (n_matrices, n_columns) for each tensor."""
    check_regular(path)
    with path.open("rb") as file:
        is_gguf = file.read(len(MAGIC)) == MAGIC
    values = _read_gguf(path) if is_gguf else _read_old(path)
    if not values:
        raise QuantizeError(f"{path} has no importance matrix")
    for name, data in values.items():
        if not np.isfinite(data).all():
            raise QuantizeError(f"{path} is corrupt: the importance of {name} is not finite")
        if (data < 0).any():
            raise QuantizeError(
                f"{path} is corrupt: the importance of {name} is negative, which a mean of squares "
                f"cannot be. Make it again with llama-imatrix."
            )
    return values


def _read_gguf(path: Path) -> Importance:
    file = read_gguf(path)
    tensors = {tensor.name: tensor for tensor in file.tensors}
    values: Importance = {}
    for name, tensor in tensors.items():
        if not name.endswith(_SUMS):
            continue
        of = name.removesuffix(_SUMS)
        counted = tensors.get(of + _COUNTS)
        if counted is None:
            raise QuantizeError(f"{path} is corrupt: it has sums of {of}, but no counts")
        counts = _values(file, counted)[:, None]
        sums = _values(file, tensor)
        if sums.size % counts.size:
            raise QuantizeError(
                f"{path} is corrupt: {sums.size} sums of {of} for {counts.size} counts"
            )
        sums = sums.reshape(counts.size, -1)
        values[of] = np.divide(sums, counts, out=np.zeros_like(sums), where=counts != 0)
    return values


def _values(file: GGUF, tensor: Tensor) -> npt.NDArray[np.float32]:
    if tensor.type.name != "F32":
        raise QuantizeError(f"{file.path} is not an importance matrix: {tensor.name} is not F32")
    offset = file.data_offset + tensor.offset
    return np.fromfile(file.path, "<f4", tensor.n_values, offset=offset)


def _read_old(path: Path) -> Importance:
    """Read the binary format.

    int32 n_entries, then for each entry: int32 length, name, int32 n_calls, int32 n_values,
    float32 (n_values,).
    """
    data = path.read_bytes()
    values: Importance = {}
    try:
        (n_entries,) = struct.unpack_from("<i", data)
        at = 4
        if not 0 < n_entries <= _MOST_ENTRIES:
            raise QuantizeError(f"{path} is not an importance matrix")
        for _ in range(n_entries):
            (n_name,) = struct.unpack_from("<i", data, at)
            at += 4 + n_name
            name = data[at - n_name : at].decode()
            n_calls, n_values = struct.unpack_from("<ii", data, at)
            if n_name <= 0 or n_values <= 0:
                raise QuantizeError(f"{path} is corrupt at byte {at}")
            sums = np.frombuffer(data, "<f4", n_values, at + 8)
            at += 8 + 4 * n_values
            values[name] = (sums / np.float32(max(1, n_calls)))[None]
    except (struct.error, ValueError) as error:
        raise QuantizeError(f"{path} is corrupt or not an importance matrix: {error}") from error
    return values
