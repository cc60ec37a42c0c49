"""Reads a file forwards in bounded steps: integers, texts, string arrays; it knows no GGUF keys."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import NoReturn, Protocol

import numpy as np
import numpy.typing as npt

from localgen.errors import InvalidGGUFError
from localgen.gguf.strings import LENGTH_BYTES, Strings, string_ends

_CHUNK_BYTES = 2**20
# Real metadata has at most some 20 MB; the limit keeps a bad file from filling the memory.
_MAX_METADATA_BYTES = 2**27


class ByteReader(Protocol):
    """A source of bytes: each call returns the next ones, at most ``n_bytes``."""

    def read(self, n_bytes: int, /) -> bytes: ...


class Cursor:
    """A position in a file of ``size`` bytes, and the bytes around it.

    file: positioned at the start. path: for errors. chunk_bytes: the fewest bytes to read at a
    time. Each method that reads raises InvalidGGUFError if the file ends too early; ``what`` names
    the part that is read.
    """

    def __init__(
        self, file: ByteReader, path: Path, size: int, chunk_bytes: int | None = None
    ) -> None:
        self.path = path
        self.size = size
        self._file = file
        self._chunk_bytes = chunk_bytes or _CHUNK_BYTES
        self._buffer = b""
        self._start = 0  # of the buffer, in the file
        self._at = 0  # in the buffer

    @property
    def position(self) -> int:
        """The place in the file, in bytes."""
        return self._start + self._at

    def fail(self, reason: str, at: int | None = None) -> NoReturn:
        """Raise InvalidGGUFError with the reason and the byte: ``at``, or the position."""
        place = self.position if at is None else at
        raise InvalidGGUFError(f"{self.path} is not a valid model file: {reason} (byte {place})")

    def _need(self, n_bytes: int, what: str) -> None:
        """Buffer at least ``n_bytes`` after the position."""
        missing = n_bytes - (len(self._buffer) - self._at)
        if missing <= 0:
            return
        if self.position + n_bytes > self.size:
            self.fail(f"{what} needs {n_bytes} bytes, but only {self.size - self.position} remain")
        if self.position + n_bytes > _MAX_METADATA_BYTES:
            self.fail(f"{what} exceeds the limit of {_MAX_METADATA_BYTES} bytes for all metadata")
        left = self._buffer[self._at :]
        self._start, self._at = self.position, 0
        wanted = min(max(missing, self._chunk_bytes), self.size - self._start - len(left))
        parts = [left]
        while wanted > 0:
            part = self._file.read(wanted)
            if not part:
                self.fail(f"the file became shorter while {what} was read")
            parts.append(part)
            wanted -= len(part)
        self._buffer = b"".join(parts)

    def take(self, n_bytes: int, what: str) -> bytes:
        """Return the next ``n_bytes``."""
        self._need(n_bytes, what)
        taken = self._buffer[self._at : self._at + n_bytes]
        self._at += n_bytes
        return taken

    def integer(self, kind: str, what: str) -> int:
        """Return the next integer; ``kind`` is its ``struct`` format."""
        number: int
        (number,) = struct.unpack(kind, self.take(struct.calcsize(kind), what))
        return number

    def text(
        self, what: str, max_bytes: int = _MAX_METADATA_BYTES, *, errors: str = "strict"
    ) -> str:
        """Return the next string, which must have at most ``max_bytes``.

        errors: what ``bytes.decode`` does with bytes that are not UTF-8; "strict" refuses them.
        """
        at = self.position
        n_bytes = self.integer("<Q", f"the length of {what}")
        if n_bytes > min(max_bytes, self.size):
            self.fail(f"{what} has an impossible length of {n_bytes} bytes", at)
        try:
            return self.take(n_bytes, what).decode("utf-8", errors)
        except UnicodeDecodeError:
            self.fail(f"{what} is not UTF-8", at)

    def strings(self, length: int, what: str, *, is_kept: bool) -> Strings:
        """Read an array of ``length`` strings; return them if ``is_kept``, else none."""
        if length * LENGTH_BYTES > self.size:
            self.fail(f"{what} has an impossible length of {length} items", self.position - 8)
        kept: list[tuple[bytes, npt.NDArray[np.int64]]] = []
        n_left = length
        while n_left:
            self._need(LENGTH_BYTES, what)
            at = self._at
            ends = string_ends(self._buffer, at, n_left)
            if not ends.size:  # the next string is not complete in the buffer, or is corrupt
                n_bytes = int.from_bytes(self._buffer[at : at + LENGTH_BYTES], "little")
                self._need(LENGTH_BYTES + n_bytes, f"item {length - n_left} of {what}")
                continue
            self._at = int(ends[-1])
            n_left -= ends.size
            if is_kept:
                kept.append((self._buffer[at : self._at], ends - at))
        return Strings(kept)
