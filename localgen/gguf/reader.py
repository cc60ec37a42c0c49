"""Reads the structure of a GGUF file, in bounded steps; it knows no model, and loads nothing.

All that llama.cpp would trust is checked here: counts and lengths against the size of the file,
types, shapes, and where each tensor lies. Layout: https://github.com/ggml-org/ggml, docs/gguf.md.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, Protocol

import numpy as np
import numpy.typing as npt

from localgen.errors import InvalidGGUFError, ModelNotFoundError
from localgen.gguf.strings import LENGTH_BYTES, Strings, string_ends

MAGIC = b"GGUF"
VERSIONS = (2, 3)
ALIGNMENT = "general.alignment"
TOKENS = "tokenizer.ggml.tokens"

_CHUNK_BYTES = 2**20
_MAX_ITEMS = 2**16  # keys, and tensors
_MAX_KEY_BYTES = 2**16 - 1
_MAX_NAME_BYTES = 63
_MAX_DIMS = 4
_SHAPE_TYPE_OFFSET = [struct.Struct(f"<{n_dims}QIQ") for n_dims in range(_MAX_DIMS + 1)]
# The metadata of models is some 20 MB at most; more would only be a way to fill the memory.
_MAX_METADATA_BYTES = 2**27
# An array of numbers that is longer than any vocabulary is described, its numbers are not kept.
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


@dataclass(frozen=True, slots=True)
class TensorType:
    """How numbers are stored: blocks of ``block`` numbers in ``n_bytes`` bytes."""

    name: str
    block: int
    n_bytes: int


# By ggml's number. Missing are those that it gave up, and Q8_1 and Q8_K: only activations are
# stored so.
TENSOR_TYPES = {
    number: TensorType(name, block, n_bytes)
    for number, name, block, n_bytes in (
        (0, "F32", 1, 4), (1, "F16", 1, 2), (2, "Q4_0", 32, 18), (3, "Q4_1", 32, 20),
        (6, "Q5_0", 32, 22), (7, "Q5_1", 32, 24), (8, "Q8_0", 32, 34),
        (10, "Q2_K", 256, 84), (11, "Q3_K", 256, 110), (12, "Q4_K", 256, 144),
        (13, "Q5_K", 256, 176), (14, "Q6_K", 256, 210),
        (16, "IQ2_XXS", 256, 66), (17, "IQ2_XS", 256, 74), (18, "IQ3_XXS", 256, 98),
        (19, "IQ1_S", 256, 50), (20, "IQ4_NL", 32, 18), (21, "IQ3_S", 256, 110),
        (22, "IQ2_S", 256, 82), (23, "IQ4_XS", 256, 136), (24, "I8", 1, 1), (25, "I16", 1, 2),
        (26, "I32", 1, 4), (27, "I64", 1, 8), (28, "F64", 1, 8), (29, "IQ1_M", 256, 56),
        (30, "BF16", 1, 2), (34, "TQ1_0", 256, 54), (35, "TQ2_0", 256, 66), (39, "MXFP4", 32, 17),
        (40, "NVFP4", 64, 36), (41, "Q1_0", 128, 18), (42, "Q2_0", 64, 18),
    )
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Tensor:
    """``shape`` as GGUF has it, the row length first; ``offset`` from the start of the data."""

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
    """A metadata array. ``values``: its numbers, (length,), if there are not too many."""

    type: str
    length: int
    values: npt.NDArray[Any] | None = None


Value = int | float | bool | str | Array


@dataclass(frozen=True, slots=True)
class GGUF:
    """What stands before the weights of one file. ``tokens``: the vocabulary's, as bytes."""

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
    """Read what stands before the weights, and check all of it.

    Raises ModelNotFoundError, or InvalidGGUFError with the reason and the byte where it is.
    """
    if path.is_dir():
        raise InvalidGGUFError(f"{path} is a folder; name the .gguf file inside it")
    try:
        with path.open("rb", buffering=0) as file:
            return read_gguf_from(file, path, os.fstat(file.fileno()).st_size)
    except FileNotFoundError:
        raise ModelNotFoundError(f"there is no file {path}") from None
    except OSError as error:
        raise InvalidGGUFError(f"{path} cannot be read: {error.strerror}") from error


class ByteReader(Protocol):
    """What a file is read from: the next bytes at each call, at most as many as asked for."""

    def read(self, n_bytes: int, /) -> bytes: ...


def read_gguf_from(
    file: ByteReader, path: Path, size: int, *, chunk_bytes: int | None = None
) -> GGUF:
    """``read_gguf`` for a file of ``size`` bytes that stands at its start, wherever it comes from.

    path: its name. chunk_bytes: how much to read at least at a time. Raises InvalidGGUFError, and
    what ``file`` raises.
    """
    return _Reader(file, path, size, chunk_bytes or _CHUNK_BYTES).read()


class _Reader:
    """A position in a file, and the bytes around it."""

    def __init__(self, file: ByteReader, path: Path, size: int, chunk_bytes: int) -> None:
        self._path = path
        self._file = file
        self._size = size
        self._chunk_bytes = chunk_bytes
        self._buffer = b""
        self._start = 0  # of the buffer, in the file
        self._at = 0  # in the buffer
        self._types: dict[str, str] = {}
        self._tokens = Strings([])

    def read(self) -> GGUF:
        version, n_tensors, n_kv = self._header()
        metadata = self._metadata(n_kv)
        alignment = self._alignment(metadata)
        tensors = self._tensors(n_tensors)
        end = self._position
        data_offset = -(-end // alignment) * alignment if tensors else end
        self._check_places(tensors, alignment, data_offset)
        return GGUF(
            path=self._path,
            size=self._size,
            version=version,
            alignment=alignment,
            metadata=metadata,
            types=self._types,
            tensors=tuple(tensors),
            data_offset=data_offset,
            tokens=self._tokens,
        )

    # --- bytes ---

    @property
    def _position(self) -> int:
        return self._start + self._at

    def _fail(self, reason: str, at: int | None = None) -> NoReturn:
        place = self._position if at is None else at
        raise InvalidGGUFError(f"{self._path} is damaged or no model: {reason} (byte {place})")

    def _need(self, n_bytes: int, what: str) -> None:
        """Have ``n_bytes`` in the buffer after the position."""
        missing = n_bytes - (len(self._buffer) - self._at)
        if missing <= 0:
            return
        if self._position + n_bytes > self._size:
            self._fail(
                f"{what} needs {n_bytes} bytes, and the file has {self._size - self._position} more"
            )
        if self._position + n_bytes > _MAX_METADATA_BYTES:
            self._fail(f"{what} would make the metadata longer than {_MAX_METADATA_BYTES} bytes")
        left = self._buffer[self._at :]
        self._start, self._at = self._position, 0
        wanted = min(max(missing, self._chunk_bytes), self._size - self._start - len(left))
        parts = [left]
        while wanted > 0:
            part = self._file.read(wanted)
            if not part:
                self._fail(f"{what}: the file became shorter while it was read")
            parts.append(part)
            wanted -= len(part)
        self._buffer = b"".join(parts)

    def _take(self, n_bytes: int, what: str) -> bytes:
        self._need(n_bytes, what)
        taken = self._buffer[self._at : self._at + n_bytes]
        self._at += n_bytes
        return taken

    def _int(self, kind: str, what: str) -> int:
        number: int
        (number,) = struct.unpack(kind, self._take(struct.calcsize(kind), what))
        return number

    def _text(self, max_bytes: int, what: str) -> str:
        at = self._position
        n_bytes = self._int("<Q", f"the length of {what}")
        if n_bytes > min(max_bytes, self._size):
            self._fail(f"{what} is said to have {n_bytes} bytes", at)
        try:
            return self._take(n_bytes, what).decode("utf-8")
        except UnicodeDecodeError:
            self._fail(f"{what} is not UTF-8", at)

    # --- the parts of a file ---

    def _header(self) -> tuple[int, int, int]:
        magic = self._take(min(4, self._size), "the magic number")
        if magic != MAGIC:
            raise InvalidGGUFError(
                f"{self._path} is not a GGUF file: it starts with {magic!r}, not {MAGIC!r}"
            )
        version = self._int("<I", "the version")
        if version not in VERSIONS:
            big_endian = " (big-endian files are not read)" if version & 0xFFFF == 0 else ""
            self._fail(f"GGUF version {version}{big_endian}; versions 2 and 3 are read", 4)
        counts = []
        for what in ("tensors", "metadata keys"):
            count = self._int("<Q", f"the number of {what}")
            if count > _MAX_ITEMS:
                self._fail(f"{count} {what}, and at most {_MAX_ITEMS} are read", self._position - 8)
            counts.append(count)
        return version, counts[0], counts[1]

    def _metadata(self, n_kv: int) -> dict[str, Value]:
        metadata: dict[str, Value] = {}
        for index in range(n_kv):
            at = self._position
            key = self._text(_MAX_KEY_BYTES, f"metadata key {index}")
            if not key or "\0" in key:
                self._fail(f"metadata key {index} is {key!r}", at)
            if key in metadata:
                self._fail(f"the metadata key {key!r} is there twice", at)
            metadata[key] = self._value(key)
        return metadata

    def _value(self, key: str) -> Value:
        at = self._position
        kind = self._int("<I", f"the type of {key}")
        if kind == _ARRAY:
            return self._array(key)
        self._types[key] = self._type_name(kind, key, at)
        if kind == _STRING:
            return self._text(_MAX_METADATA_BYTES, key)
        dtype = np.dtype(_NUMBERS[kind])
        data = self._take(dtype.itemsize, key)
        self._check_bools(kind, data, key)
        value: int | float | bool = np.frombuffer(data, dtype)[0].item()
        return value

    def _array(self, key: str) -> Array:
        at = self._position
        kind = self._int("<I", f"the type of {key}'s items")
        name = self._type_name(kind, key, at)
        self._types[key] = f"[{name}]"
        length = self._int("<Q", f"the length of {key}")
        if kind == _STRING:
            strings = self._strings(length, key, is_kept=key == TOKENS)
            if key == TOKENS:
                self._tokens = strings
            return Array(name, length)
        dtype = np.dtype(_NUMBERS[kind])
        if length * dtype.itemsize > self._size:
            self._fail(f"{key} is said to have {length} items", self._position - 8)
        data = self._take(length * dtype.itemsize, key)
        self._check_bools(kind, data, key)
        return Array(name, length, np.frombuffer(data, dtype) if length <= _MAX_KEPT else None)

    def _type_name(self, kind: int, key: str, at: int) -> str:
        if kind not in _TYPE_NAMES:
            self._fail(f"{key} has the unknown value type {kind}", at)
        return _TYPE_NAMES[kind]

    def _check_bools(self, kind: int, data: bytes, key: str) -> None:
        if kind == _BOOL and data.strip(b"\0\1"):
            self._fail(f"{key} has a truth value that is neither 0 nor 1", self._position)

    def _strings(self, length: int, key: str, *, is_kept: bool) -> Strings:
        """Pass over an array of strings; those of the array if ``is_kept``, else none."""
        if length * LENGTH_BYTES > self._size:
            self._fail(f"{key} is said to have {length} items", self._position - 8)
        kept: list[tuple[bytes, npt.NDArray[np.int64]]] = []
        n_left = length
        while n_left:
            self._need(LENGTH_BYTES, key)
            at = self._at
            ends = string_ends(self._buffer, at, n_left)
            if not ends.size:  # not even one is in the buffer, or it is damaged
                n_bytes = int.from_bytes(self._buffer[at : at + LENGTH_BYTES], "little")
                self._need(LENGTH_BYTES + n_bytes, f"item {length - n_left} of {key}")
                continue
            self._at = int(ends[-1])
            n_left -= ends.size
            if is_kept:
                kept.append((self._buffer[at : self._at], ends - at))
        return Strings(kept)

    def _alignment(self, metadata: dict[str, Value]) -> int:
        alignment = metadata.get(ALIGNMENT, 32)
        is_u32 = self._types.get(ALIGNMENT, "u32") == "u32" and isinstance(alignment, int)
        if not is_u32 or alignment <= 0 or alignment & (alignment - 1):  # type: ignore[operator]
            self._fail(f"{ALIGNMENT} is {alignment!r}, not a power of two in a u32")
        return int(alignment)  # type: ignore[arg-type]

    def _tensors(self, n_tensors: int) -> list[Tensor]:
        tensors: dict[str, Tensor] = {}
        for index in range(n_tensors):
            at = self._position
            tensor = self._tensor(index)
            if tensor.name in tensors:
                self._fail(f"the tensor {tensor.name!r} is there twice", at)
            tensors[tensor.name] = tensor
        return list(tensors.values())

    def _tensor(self, index: int) -> Tensor:
        at = self._position
        name = self._text(_MAX_NAME_BYTES, f"the name of tensor {index}")
        if not name or "\0" in name:
            self._fail(f"the name of tensor {index} is {name!r}", at)
        n_dims = self._int("<I", f"the number of dimensions of {name}")
        if n_dims > _MAX_DIMS:
            self._fail(f"{name} has {n_dims} dimensions", self._position - 4)
        at = self._position
        layout = _SHAPE_TYPE_OFFSET[n_dims]
        *shape, number, offset = layout.unpack(
            self._take(layout.size, f"shape, type and offset of {name}")
        )
        n_values = 1
        for size in shape:
            n_values *= size
        if not n_values or n_values >= 2**60:
            self._fail(f"{name} has the shape {shape}", at)
        at += 8 * n_dims
        kind = TENSOR_TYPES.get(number)
        if kind is None:
            self._fail(f"{name} is of an unknown type", at)
        row_length = shape[0] if shape else 1
        if row_length % kind.block:
            self._fail(
                f"{name} has rows of {row_length}, and {kind.name} needs multiples of {kind.block}",
                at,
            )
        n_bytes = n_values // kind.block * kind.n_bytes
        return Tensor(name, tuple(shape), kind, offset, n_bytes)

    def _check_places(self, tensors: list[Tensor], alignment: int, data_offset: int) -> None:
        """Tensors follow each other with nothing but padding between, inside the file."""
        expected = 0
        for tensor in tensors:
            if tensor.offset != expected:
                self._fail(
                    f"{tensor.name} is at offset {tensor.offset}, and {expected} is where the "
                    f"tensor before it ends"
                )
            end = data_offset + tensor.offset + tensor.n_bytes
            if end > self._size:
                self._fail(
                    f"{tensor.name} would end at byte {end}, and the file has {self._size} bytes: "
                    f"it is incomplete",
                    data_offset + tensor.offset,
                )
            expected += -(-tensor.n_bytes // alignment) * alignment
