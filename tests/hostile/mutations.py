"""Bad files made of a good one: fields changed or added, cut at each boundary, bits flipped.

The walk over the file's fields is written apart from ``localgen.gguf.reader``, so that a mistake
there does not hide here.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from gguf import GGUFValueType as Kind

_SIZES = {
    Kind.UINT8: 1, Kind.INT8: 1, Kind.UINT16: 2, Kind.INT16: 2, Kind.UINT32: 4, Kind.INT32: 4,
    Kind.FLOAT32: 4, Kind.BOOL: 1, Kind.UINT64: 8, Kind.INT64: 8, Kind.FLOAT64: 8,
}  # fmt: skip
_FLOATS = {Kind.FLOAT32: "<f", Kind.FLOAT64: "<d"}
# Keys that a file of any architecture may have; llama.cpp reads most of them for all.
_ADDED = (
    "attention.head_count_kv", "attention.key_length", "attention.key_length_swa",
    "attention.sliding_window", "attention.value_length", "expert_count", "expert_group_count",
    "expert_group_used_count", "expert_used_count", "full_attention_interval",
    "leading_dense_block_count", "nextn_predict_layers", "rope.dimension_count",
    "rope.dimension_count_swa",
)  # fmt: skip
_ADDED_NUMBERS = (0, 1, 2, 7, 513, 2**31)
_N_KEYS_AT, _PAIRS_AT, _ALIGNMENT = 16, 24, 32
# Of a long array these items are changed, and the last.
_ITEMS = 2


@dataclass(frozen=True)
class Field:
    """A part of a file: ``kind`` is "int", "text" (without its length), "float32" or "float64"."""

    name: str
    start: int
    size: int
    kind: str = "int"


@dataclass(frozen=True)
class BadFile:
    """A name that says what is wrong, and the content."""

    name: str
    data: bytes


class _Walk:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self.at = 0
        self.fields: list[Field] = []

    def number(self, name: str, size: int, kind: str = "int") -> int:
        self.fields.append(Field(name, self.at, size, kind))
        value = int.from_bytes(self._data[self.at : self.at + size], "little")
        self.at += size
        return value

    def text(self, name: str) -> str:
        size = self.number(f"{name} length", 8)
        self.fields.append(Field(name, self.at, size, "text"))
        self.at += size
        return self._data[self.at - size : self.at].decode("latin-1")

    def value(self, name: str, kind: Kind) -> None:
        if kind == Kind.STRING:
            self.text(name)
        else:
            self.number(name, _SIZES[kind], kind.name.lower() if kind in _FLOATS else "int")

    def array(self, name: str) -> None:
        kind = Kind(self.number(f"{name} item type", 4))
        length = self.number(f"{name} items", 8)
        for index in range(length):
            n_known = len(self.fields)
            self.value(f"{name}[{index}]", kind)
            if _ITEMS <= index < length - 1:
                del self.fields[n_known:]


def fields_of(data: bytes) -> list[Field]:
    """The fields of a GGUF file, in order, to the end of its tensor infos."""
    walk = _Walk(data)
    walk.number("magic", 4)
    walk.number("version", 4)
    n_tensors = walk.number("tensor count", 8)
    n_keys = walk.number("key count", 8)
    for _ in range(n_keys):
        key = walk.text("key")
        kind = Kind(walk.number(f"{key} type", 4))
        if kind == Kind.ARRAY:
            walk.array(key)
        else:
            walk.value(key, kind)
    for _ in range(n_tensors):
        name = walk.text("tensor name")
        n_dims = walk.number(f"{name} dimensions", 4)
        for dim in range(n_dims):
            walk.number(f"{name} size {dim}", 8)
        walk.number(f"{name} type", 4)
        walk.number(f"{name} offset", 8)
    return walk.fields


def bad_files(
    data: bytes, seed: int = 0, n_flips: int = 100, *, but_for: Iterable[bytes] = ()
) -> Iterator[BadFile]:
    """All mutations of one good file, the same for the same arguments.

    but_for: other good files; fields that one of them has too, byte for byte, are not changed.
    """
    fields = fields_of(data)
    known = {(field.name, _old(field, other)) for other in but_for for field in fields_of(other)}
    for field in fields:
        old = _old(field, data)
        for new in _variants(field, old) if (field.name, old) not in known else ():
            if new != old:
                changed = data[: field.start] + new + data[field.start + field.size :]
                yield BadFile(f"{field.name}: {old[:20]!r} -> {new[:20]!r}", changed)
    yield from added(data)
    for cut in sorted({field.start for field in fields} | {len(data) - 1, len(data) // 2}):
        yield BadFile(f"cut at {cut}", data[:cut])
    yield from flipped(data, random.Random(seed), n_flips, fields[-1].start)


def added(data: bytes) -> Iterator[BadFile]:
    """Files with one more metadata key, where the good one does not have it."""
    fields = {field.name: field for field in fields_of(data)}
    architecture = _old(fields["general.architecture"], data).decode()
    for key in _ADDED:
        name = f"{architecture}.{key}"
        if f"{name} type" in fields:
            continue
        for number in _ADDED_NUMBERS:
            new = struct.pack("<II", Kind.UINT32, number)
            yield BadFile(f"{name}: {number}, added", _with_pair(data, name, new))
        numbers = struct.pack("<IIQII", Kind.ARRAY, Kind.UINT32, 2, 1, 7)
        yield BadFile(f"{name}: [1, 7], added", _with_pair(data, name, numbers))
    name = f"{architecture}.rope.scaling.type"
    for text in (b"", b"llama3", b"yarn"):
        new = struct.pack("<IQ", Kind.STRING, len(text)) + text
        yield BadFile(f"{name}: {text!r}, added", _with_pair(data, name, new))


def _with_pair(data: bytes, key: str, value: bytes) -> bytes:
    """The file with a pair before its others, and its weights at the next aligned place."""
    last = fields_of(data)[-1]
    before, weights = data[: last.start + last.size], data[last.start + last.size :]
    weights = weights[-len(before) % _ALIGNMENT :]
    n_keys = int.from_bytes(data[_N_KEYS_AT:_PAIRS_AT], "little") + 1
    pair = struct.pack("<Q", len(key)) + key.encode() + value
    head = before[:_N_KEYS_AT] + n_keys.to_bytes(8, "little") + pair + before[_PAIRS_AT:]
    return head + bytes(-len(head) % _ALIGNMENT) + weights


def _old(field: Field, data: bytes) -> bytes:
    return data[field.start : field.start + field.size]


def flipped(
    data: bytes, rng: random.Random, n_files: int, n_before_weights: int
) -> Iterator[BadFile]:
    """Files with some bits flipped, most of them before the weights."""
    for number in range(n_files):
        changed = bytearray(data)
        for _ in range(rng.choice((1, 1, 2, 8))):
            limit = n_before_weights if rng.random() < 0.9 else len(data)
            place = rng.randrange(limit)
            changed[place] ^= 1 << rng.randrange(8)
        yield BadFile(f"bits flipped, number {number}", bytes(changed))


def _variants(field: Field, old: bytes) -> Iterator[bytes]:
    makers: dict[str, Callable[[bytes], Iterator[bytes]]] = {
        "int": _ints, "text": _texts, "float32": _floats, "float64": _floats,
    }  # fmt: skip
    return makers[field.kind](old)


def _ints(old: bytes) -> Iterator[bytes]:
    size, value = len(old), int.from_bytes(old, "little")
    top = 2 ** (8 * size)
    near = {value + 1, value - 1, value * 2, value // 2}
    far = {0, 1, 2, 3, 7, 8, 9, 12, 13, 32, 511, 513, 4096, 65536, 2**31, 2**32, top // 2, top - 1}
    for number in sorted(near | far):
        if 0 <= number < top:
            yield number.to_bytes(size, "little")


def _texts(old: bytes) -> Iterator[bytes]:
    yield b"\xff" * len(old)
    yield b"\0" * len(old)
    yield b"x" * len(old)
    yield old[::-1]


def _floats(old: bytes) -> Iterator[bytes]:
    for value in (0.0, -1.0, 1e30, -1e-30, float("nan"), float("inf"), float("-inf")):
        yield struct.pack("<f" if len(old) == 4 else "<d", value)
