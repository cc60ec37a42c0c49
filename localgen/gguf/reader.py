"""Reads the structure of a GGUF file: metadata and the list of tensors; it knows no architectures.

All that llama.cpp would trust is checked here: counts and lengths against the size of the file,
types, shapes, and the place of each tensor. Layout: https://github.com/ggml-org/ggml, docs/gguf.md.
"""

from __future__ import annotations

import contextlib
import io
import os
import stat
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from localgen.errors import InvalidGGUFError, ModelNotFoundError
from localgen.gguf.cursor import ByteReader, Cursor
from localgen.gguf.strings import Strings
from localgen.gguf.tensor_types import TENSOR_TYPES, TensorType, why_unknown

MAGIC = b"GGUF"
VERSIONS = (2, 3)
ALIGNMENT = "general.alignment"
ARCHITECTURE = "general.architecture"
TOKENS = "tokenizer.ggml.tokens"
IMATRIX = "imatrix."

# The texts that localgen computes with: vocabulary types and chat templates.
_TOKENIZER = "tokenizer."
_MAX_ITEMS = 2**16  # keys, and tensors
_MAX_KEY_BYTES = 2**16 - 1
_MAX_NAME_BYTES = 63
_MAX_DIMS = 4
_SHAPE_TYPE_OFFSET = [struct.Struct(f"<{n_dims}QIQ") for n_dims in range(_MAX_DIMS + 1)]
# An array of numbers longer than any vocabulary is described, but its numbers are not kept.
_MAX_KEPT = 2**21

_STRING, _ARRAY, _BOOL = 8, 9, 7
# GGUF's type of a value → NumPy's.
_NUMBERS = {
    0: "u1", 1: "i1", 2: "<u2", 3: "<i2", 4: "<u4", 5: "<i4", 6: "<f4", 7: "?",
    10: "<u8", 11: "<i8", 12: "<f8",
}  # fmt: skip
_TYPE_NAMES = {
    0: "u8", 1: "i8", 2: "u16", 3: "i16", 4: "u32", 5: "i32", 6: "f32", 7: "bool", 8: "string",
    10: "u64", 11: "i64", 12: "f64",
}  # fmt: skip


_NOT_REGULAR = (
    (stat.S_ISFIFO, "pipe"),
    (stat.S_ISSOCK, "socket"),
    (stat.S_ISCHR, "device"),
    (stat.S_ISBLK, "device"),
)


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor's entry. shape: as in GGUF, row length first. offset: from the start of the
    data, in bytes."""

    name: str
    shape: tuple[int, ...]
    type: TensorType
    offset: int
    n_bytes: int

    @property
    def n_values(self) -> int:
        return int(np.prod(self.shape, dtype=np.uint64))


@dataclass(frozen=True, slots=True)
class Array:
    """A metadata array. values: its numbers, (length,); None for strings or very long arrays.
    texts: its strings, kept only for importance matrices."""

    type: str
    length: int
    values: npt.NDArray[Any] | None = None
    texts: tuple[str, ...] = ()


Value = int | float | bool | str | Array


@dataclass(frozen=True, slots=True)
class GGUF:
    """Everything before the weights of one file.

    size, data_offset: bytes. types: GGUF's type of each metadata value, "[…]" for arrays. tokens:
    the vocabulary as bytes.
    """

    path: Path
    size: int
    version: int
    alignment: int
    metadata: dict[str, Value]
    types: dict[str, str]
    tensors: tuple[Tensor, ...]
    data_offset: int
    tokens: Strings


def read_gguf(path: Path) -> GGUF:
    """Read and check everything before the weights.

    Raises ModelNotFoundError, or InvalidGGUFError with the reason and its place in the file.
    """
    try:
        check_regular(path)
        with path.open("rb", buffering=0) as file:
            return read_gguf_from(file, path, os.fstat(file.fileno()).st_size)
    except FileNotFoundError:
        raise ModelNotFoundError(f"there is no file {path}") from None
    except OSError as error:
        raise InvalidGGUFError(f"{path} cannot be read: {error.strerror}") from error


def check_regular(path: Path) -> None:
    """Raise InvalidGGUFError for a folder, a pipe or a device, whose opening may wait forever.

    Raises OSError if there is nothing.
    """
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        raise InvalidGGUFError(f"{path} is a folder; pass the .gguf file inside it")
    for is_kind, kind in _NOT_REGULAR:
        if is_kind(mode):
            raise InvalidGGUFError(
                f"{path} is a {kind}, and llama.cpp maps its file into memory; save the model to a "
                f"regular file"
            )


def read_gguf_from(
    file: ByteReader, path: Path, size: int, *, chunk_bytes: int | None = None
) -> GGUF:
    """Do what ``read_gguf`` does, with the bytes of any source.

    file: of ``size`` bytes, positioned at the start. path: its name. chunk_bytes: the fewest bytes
    to read at a time. Raises InvalidGGUFError, and what ``file`` raises.
    """
    return _Reader(Cursor(file, path, size, chunk_bytes)).read()


def read_start(data: bytes, path: Path) -> tuple[int, dict[str, Value]]:
    """Return the number of tensors, and the metadata that is whole in a file's first bytes.

    path: its name. Raises InvalidGGUFError if these are not the first bytes of a GGUF file.
    """
    reader = _Reader(Cursor(io.BytesIO(data), path, len(data)))
    _, n_tensors, n_kv = reader.read_header()
    with contextlib.suppress(InvalidGGUFError):  # the rest is not there
        reader.read_metadata(n_kv)
    return n_tensors, reader.metadata


class _Reader:
    """Reads the parts of a file in order; ``metadata`` is what was read of it."""

    def __init__(self, cursor: Cursor) -> None:
        self.metadata: dict[str, Value] = {}
        self._cursor = cursor
        self._types: dict[str, str] = {}
        self._tokens = Strings([])

    def read(self) -> GGUF:
        version, n_tensors, n_kv = self.read_header()
        self.read_metadata(n_kv)
        alignment = self._alignment(self.metadata)
        tensors = self._tensors(n_tensors)
        end = self._cursor.position
        data_offset = -(-end // alignment) * alignment if tensors else end
        self._check_places(tensors, alignment, data_offset)
        return GGUF(
            path=self._cursor.path,
            size=self._cursor.size,
            version=version,
            alignment=alignment,
            metadata=self.metadata,
            types=self._types,
            tensors=tuple(tensors),
            data_offset=data_offset,
            tokens=self._tokens,
        )

    def read_header(self) -> tuple[int, int, int]:
        """Return the version and the numbers of tensors and of metadata keys."""
        cursor = self._cursor
        magic = cursor.take(min(4, cursor.size), "the magic number")
        if not magic:
            raise InvalidGGUFError(f"{cursor.path} is not a GGUF file: it is empty")
        if magic != MAGIC:
            raise InvalidGGUFError(
                f"{cursor.path} is not a GGUF file: it starts with {magic!r}, not {MAGIC!r}"
            )
        version = cursor.integer("<I", "the version")
        if version not in VERSIONS:
            big_endian = " (big-endian files are not supported)" if version & 0xFFFF == 0 else ""
            cursor.fail(f"GGUF version {version} is not 2 or 3{big_endian}", 4)
        counts = []
        for what in ("tensors", "metadata keys"):
            count = cursor.integer("<Q", f"the number of {what}")
            if count > _MAX_ITEMS:
                cursor.fail(f"{count} {what} exceed the limit of {_MAX_ITEMS}", cursor.position - 8)
            counts.append(count)
        return version, counts[0], counts[1]

    # --- metadata ---

    def read_metadata(self, n_kv: int) -> None:
        for index in range(n_kv):
            at = self._cursor.position
            # Keys that differ must stay different.
            key = self._cursor.text(
                f"metadata key {index}", _MAX_KEY_BYTES, errors="backslashreplace"
            )
            if not key or "\0" in key:
                self._cursor.fail(f"metadata key {index} is empty or has a NUL: {key!r}", at)
            if key in self.metadata:
                self._cursor.fail(f"the metadata key {key!r} appears twice", at)
            self.metadata[key] = self._value(key)

    def _value(self, key: str) -> Value:
        at = self._cursor.position
        kind = self._cursor.integer("<I", f"the type of {key}")
        if kind == _ARRAY:
            return self._array(key)
        self._types[key] = self._type_name(kind, key, at)
        if kind == _STRING:
            is_shown_only = key != ARCHITECTURE and not key.startswith(_TOKENIZER)
            return self._cursor.text(key, errors="replace" if is_shown_only else "strict")
        dtype = np.dtype(_NUMBERS[kind])
        data = self._cursor.take(dtype.itemsize, key)
        self._check_bools(kind, data, key)
        value: int | float | bool = np.frombuffer(data, dtype)[0].item()
        return value

    def _array(self, key: str) -> Array:
        cursor = self._cursor
        at = cursor.position
        kind = cursor.integer("<I", f"the type of {key}'s items")
        name = self._type_name(kind, key, at)
        self._types[key] = f"[{name}]"
        length = cursor.integer("<Q", f"the length of {key}")
        if kind == _STRING:
            is_of_imatrix = key.startswith(IMATRIX)
            strings = cursor.strings(length, key, is_kept=key == TOKENS or is_of_imatrix)
            if key == TOKENS:
                self._tokens = strings
            if not is_of_imatrix:
                return Array(name, length)
            texts = tuple(text.decode(errors="replace") for text in strings)
            return Array(name, length, texts=texts)
        dtype = np.dtype(_NUMBERS[kind])
        if length * dtype.itemsize > cursor.size:
            cursor.fail(f"{key} has an impossible length of {length} items", cursor.position - 8)
        data = cursor.take(length * dtype.itemsize, key)
        self._check_bools(kind, data, key)
        return Array(name, length, np.frombuffer(data, dtype) if length <= _MAX_KEPT else None)

    def _type_name(self, kind: int, key: str, at: int) -> str:
        if kind not in _TYPE_NAMES:
            self._cursor.fail(f"{key} has the unknown value type {kind}", at)
        return _TYPE_NAMES[kind]

    def _check_bools(self, kind: int, data: bytes, key: str) -> None:
        if kind == _BOOL and data.strip(b"\0\1"):
            self._cursor.fail(f"{key} has a bool that is neither 0 nor 1")

    def _alignment(self, metadata: dict[str, Value]) -> int:
        alignment = metadata.get(ALIGNMENT, 32)
        is_u32 = self._types.get(ALIGNMENT, "u32") == "u32" and isinstance(alignment, int)
        if not is_u32 or alignment <= 0 or alignment & (alignment - 1):  # type: ignore[operator]
            self._cursor.fail(f"{ALIGNMENT} must be a power of two as u32, got {alignment!r}")
        return int(alignment)  # type: ignore[arg-type]

    # --- tensors ---

    def _tensors(self, n_tensors: int) -> list[Tensor]:
        tensors: dict[str, Tensor] = {}
        for index in range(n_tensors):
            at = self._cursor.position
            tensor = self._tensor(index)
            if tensor.name in tensors:
                self._cursor.fail(f"the tensor {tensor.name!r} appears twice", at)
            tensors[tensor.name] = tensor
        return list(tensors.values())

    def _tensor(self, index: int) -> Tensor:
        cursor = self._cursor
        at = cursor.position
        name = cursor.text(f"the name of tensor {index}", _MAX_NAME_BYTES)
        if not name or "\0" in name:
            cursor.fail(f"the name of tensor {index} is empty or has a NUL: {name!r}", at)
        n_dims = cursor.integer("<I", f"the number of dimensions of {name}")
        if n_dims > _MAX_DIMS:
            cursor.fail(
                f"{name} has {n_dims} dimensions; the limit is {_MAX_DIMS}", cursor.position - 4
            )
        at = cursor.position
        layout = _SHAPE_TYPE_OFFSET[n_dims]
        *shape, number, offset = layout.unpack(
            cursor.take(layout.size, f"shape, type and offset of {name}")
        )
        n_values = 1
        for size in shape:
            n_values *= size
        if not n_values or n_values >= 2**60:
            cursor.fail(f"{name} has the impossible shape {shape}", at)
        at += 8 * n_dims
        kind = TENSOR_TYPES.get(number)
        if kind is None:
            cursor.fail(f"{name} has the unknown tensor type {number}: {why_unknown(number)}", at)
        row_length = shape[0] if shape else 1
        if row_length % kind.block:
            cursor.fail(
                f"{name} has rows of {row_length} values, but {kind.name} needs a multiple of "
                f"{kind.block}",
                at,
            )
        n_bytes = n_values // kind.block * kind.n_bytes
        return Tensor(name, tuple(shape), kind, offset, n_bytes)

    def _check_places(self, tensors: list[Tensor], alignment: int, data_offset: int) -> None:
        """Check that tensors follow each other, with only padding between, inside the file."""
        expected = 0
        for tensor in tensors:
            if tensor.offset != expected:
                self._cursor.fail(
                    f"{tensor.name} is at offset {tensor.offset}; expected {expected}, where the "
                    f"tensor before it ends"
                )
            end = data_offset + tensor.offset + tensor.n_bytes
            if end > self._cursor.size:
                self._cursor.fail(
                    f"{tensor.name} ends at byte {end}, but the file has only {self._cursor.size} "
                    f"bytes: it is incomplete; download or copy it again",
                    data_offset + tensor.offset,
                )
            expected += -(-tensor.n_bytes // alignment) * alignment
