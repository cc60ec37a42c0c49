"""Writes small GGUF files of F32 tensors; it knows no keys. Layout: see ``reader``."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt

from localgen.gguf.reader import MAGIC

Metadata = Mapping[str, str | int | tuple[str, ...]]
Tensors = Mapping[str, npt.NDArray[np.float32]]

_VERSION, _ALIGNMENT = 3, 32
_U32, _STRING, _ARRAY, _F32 = 4, 8, 9, 0


def gguf_bytes(metadata: Metadata, tensors: Tensors) -> Iterator[bytes]:
    """Yield the bytes of a file, piece by piece.

    metadata: texts, integers from 0 to 2**32 - 1, and arrays of texts. tensors: rows last, as NumPy
    has them.
    """
    head = MAGIC + struct.pack("<IQQ", _VERSION, len(tensors), len(metadata))
    head += b"".join(_text(key) + _value(value) for key, value in metadata.items())
    offset = 0
    for name, values in tensors.items():
        shape = _shape(values)
        head += _text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, _F32, offset)
        offset += _padded(values.nbytes)
    yield head.ljust(_padded(len(head)), b"\0")
    for values in tensors.values():
        yield values.astype("<f4").tobytes().ljust(_padded(values.nbytes), b"\0")


def _shape(values: npt.NDArray[np.float32]) -> list[int]:
    """Return the sizes of a tensor's dimensions, rows first, without those of 1 at the end."""
    shape = list(values.shape[::-1])
    while len(shape) > 1 and shape[-1] == 1:
        shape.pop()
    return shape


def _value(value: str | int | tuple[str, ...]) -> bytes:
    if isinstance(value, str):
        return struct.pack("<I", _STRING) + _text(value)
    if isinstance(value, int):
        return struct.pack("<II", _U32, value)
    texts = b"".join(map(_text, value))
    return struct.pack("<IIQ", _ARRAY, _STRING, len(value)) + texts


def _text(text: str) -> bytes:
    data = text.encode(errors="surrogateescape")
    return struct.pack("<Q", len(data)) + data


def _padded(n_bytes: int) -> int:
    return -(-n_bytes // _ALIGNMENT) * _ALIGNMENT
