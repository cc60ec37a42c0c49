"""Reads and writes importance matrices, as llama-imatrix does; it loads no model.

For each tensor, the mean square of its inputs, one number per column: (n_columns,), or
(n_experts * n_columns,). Formats: GGUF (sums of squares, and counts), and the older binary one,
which is only read. Zero means that a column had no data: a weight of zero would quantize it to
anything.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from localgen._util.atomic_write import atomic_write
from localgen.errors import QuantizeError
from localgen.gguf.imatrix_sums import Sums
from localgen.gguf.reader import GGUF, IMATRIX, MAGIC, Array, Tensor, check_regular, read_gguf
from localgen.gguf.writer import gguf_bytes

Importance = dict[str, npt.NDArray[np.float32]]

_SUMS, _COUNTS = ".in_sum2", ".counts"
_DATASETS, _N_CHUNKS, _CHUNK_SIZE = (
    f"{IMATRIX}{name}" for name in ("datasets", "chunk_count", "chunk_size")
)
# What only localgen writes, to tell what a file was made of.
_ORIGIN = f"{IMATRIX}localgen."
_MOST_ENTRIES = 2**16
# What the format has room for, and rows that NumPy can add up.
_MOST_COUNTED, _MOST_ROWS = 2**32 - 1, 2.0**50


@dataclass(frozen=True, slots=True)
class Gaps:
    """The tensors of an importance matrix without any data, and those with it for some columns."""

    whole: tuple[str, ...]
    partial: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Imatrix:
    """What a file has.

    sums: by tensor. datasets: the names of the texts. n_chunks, chunk_size: how many chunks of how
    many tokens; 0 if the file does not tell. origin: what localgen noted of the run, by name.
    """

    sums: Mapping[str, Sums]
    datasets: tuple[str, ...] = ()
    n_chunks: int = 0
    chunk_size: int = 0
    origin: Mapping[str, str | tuple[str, ...]] = field(default_factory=dict)

    def write(self, path: Path) -> None:
        """Write a GGUF file that llama.cpp reads, completely or not at all. Raises OSError."""
        with atomic_write(path) as file:
            for piece in gguf_bytes(self._metadata(), self._tensors()):
                file.write(piece)

    def _metadata(self) -> dict[str, str | int | tuple[str, ...]]:
        return {
            "general.type": "imatrix",
            _DATASETS: self.datasets,
            _N_CHUNKS: self.n_chunks,
            _CHUNK_SIZE: self.chunk_size,
            **{_ORIGIN + name: value for name, value in self.origin.items()},
        }

    def _tensors(self) -> dict[str, npt.NDArray[np.float32]]:
        tensors = {}
        for name, found in sorted(self.sums.items()):
            tensors[name + _SUMS] = found.sums.astype(np.float32)
            tensors[name + _COUNTS] = found.counts.astype(np.float32)[:, None]
        return tensors


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
    return {name: found.means() for name, found in read_sums(path).sums.items()}


def read_sums(path: Path) -> Imatrix:
    """Return all that a file has. Raises QuantizeError, ModelFileError or OSError."""
    check_regular(path)
    with path.open("rb") as file:
        is_gguf = file.read(len(MAGIC)) == MAGIC
    found = _read_gguf(path) if is_gguf else _read_old(path)
    if not found.sums:
        raise QuantizeError(f"{path} has no importance matrix")
    for name, sums in found.sums.items():
        _check_finite(path, name, sums.sums)
        _check_finite(path, name, sums.means())
        if (sums.sums < 0).any() or (sums.counts < 0).any():
            raise QuantizeError(
                f"{path} is corrupt: the importance of {name} is negative, which a mean of squares "
                f"cannot be. Make it again with localgen imatrix."
            )
    return found


def _read_gguf(path: Path) -> Imatrix:
    file = read_gguf(path)
    tensors = {tensor.name: tensor for tensor in file.tensors}
    sums: dict[str, Sums] = {}
    for name, tensor in tensors.items():
        if not name.endswith(_SUMS):
            continue
        of = name.removesuffix(_SUMS)
        counted = tensors.get(of + _COUNTS)
        if counted is None:
            raise QuantizeError(f"{path} is corrupt: it has sums of {of}, but no counts")
        sums[of] = _sums_of(file, of, _values(file, tensor), _values(file, counted))
    return Imatrix(
        sums=sums,
        datasets=_texts(file, _DATASETS),
        n_chunks=_number(file, _N_CHUNKS),
        chunk_size=_number(file, _CHUNK_SIZE),
        origin={
            key.removeprefix(_ORIGIN): value if isinstance(value, str) else _texts(file, key)
            for key, value in file.metadata.items()
            if key.startswith(_ORIGIN)
        },
    )


def _sums_of(
    file: GGUF, name: str, values: npt.NDArray[np.float32], counts: npt.NDArray[np.float32]
) -> Sums:
    if values.size % counts.size:
        raise QuantizeError(
            f"{file.path} is corrupt: {values.size} sums of {name} for {counts.size} counts"
        )
    if not (np.isfinite(counts) & (counts <= _MOST_ROWS)).all():
        raise QuantizeError(
            f"{file.path} is corrupt: the counts of {name} are not finite, or larger than any text"
        )
    _check_finite(file.path, name, values)  # first: NumPy warns of some NaNs that it converts
    sums = values.reshape(counts.size, -1).astype(np.float64)
    return Sums(sums, np.rint(counts).astype(np.int64))


def _check_finite(path: Path, name: str, values: npt.NDArray[Any]) -> None:
    if not np.isfinite(values).all():
        raise QuantizeError(f"{path} is corrupt: the importance of {name} is not finite")


def _texts(file: GGUF, key: str) -> tuple[str, ...]:
    value = file.metadata.get(key)
    return value.texts if isinstance(value, Array) else ()


def _number(file: GGUF, key: str) -> int:
    value = file.metadata.get(key)
    if not isinstance(value, int):
        return 0
    if not 0 <= value <= _MOST_COUNTED:
        raise QuantizeError(f"{file.path} is corrupt: {key} is {value}")
    return value


def _values(file: GGUF, tensor: Tensor) -> npt.NDArray[np.float32]:
    if tensor.type.name != "F32":
        raise QuantizeError(f"{file.path} is not an importance matrix: {tensor.name} is not F32")
    offset = file.data_offset + tensor.offset
    return np.fromfile(file.path, "<f4", tensor.n_values, offset=offset)


def _read_old(path: Path) -> Imatrix:
    """Read the binary format.

    int32 n_entries, then for each entry: int32 length, name, int32 n_calls, int32 n_values,
    float32 (n_values,); then, in newer files, int32 n_chunks, int32 length, the text's name.
    """
    data = path.read_bytes()
    sums: dict[str, Sums] = {}
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
            values = np.frombuffer(data, "<f4", n_values, at + 8)
            _check_finite(path, name, values)
            at += 8 + 4 * n_values
            sums[name] = Sums(values[None].astype(np.float64), np.array([max(1, n_calls)]))
    except struct.error as error:
        raise QuantizeError(
            f"{path} is corrupt or not an importance matrix: it ends after {len(data)} bytes"
        ) from error
    except ValueError as error:
        raise QuantizeError(f"{path} is corrupt or not an importance matrix: {error}") from error
    n_chunks, datasets = _old_end(data[at:])
    return Imatrix(sums=sums, datasets=datasets, n_chunks=n_chunks)


def _old_end(data: bytes) -> tuple[int, tuple[str, ...]]:
    """Return the number of chunks, and the names of the texts, if the file has them."""
    if len(data) < 8:
        return 0, ()
    n_chunks, n_bytes = struct.unpack_from("<ii", data)
    name = data[8 : 8 + max(0, n_bytes)].decode(errors="replace")
    return max(0, n_chunks), (name,) if name else ()
