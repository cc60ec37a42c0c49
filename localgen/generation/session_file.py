"""A file that keeps what a KV cache holds; it knows bytes and token ids, not what made them.

Numbers are little-endian. A file is

    magic                           8 bytes
    the version of this layout      uint32
    the header's length             uint32
    the file's length               uint64
    the header                      JSON: localgen's version, an identity, and each sequence's
                                    number of tokens and of bytes, least recently used first
    sha256 of all before
    for each sequence: token ids    int32 (n_tokens,)
                       state        uint8 (n_bytes,), as the backend gave it
    sha256 of all before

llama.cpp trusts the states, so nothing of a file is used before its digests are checked. They
detect damage, not malice: trust a session as much as whoever could write it.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from localgen._util.atomic_write import atomic_write
from localgen._util.json_text import read_json
from localgen._version import __version__
from localgen.engine.backend import Saved, State
from localgen.errors import StateError

# What must be the same for a state to mean the same, by names that people understand.
Identity = Mapping[str, str]

# Like PNG's: a transfer that takes the file for text changes it.
_MAGIC = b"\x89lgs\r\n\x1a\n"
_VERSION = 1
_START = struct.Struct("<8sIIQ")
_DIGEST = hashlib.sha256().digest_size
_MAX_HEADER = 2**16
_CHUNK = 2**20
_TOKEN = np.dtype("<i4")


def write(path: Path, identity: Identity, saved: Iterable[Saved]) -> None:
    """Write a session in place of whatever is at ``path``, for its owner alone to read.

    If that fails, what was there is still there. Raises StateError, OSError.
    """
    _check_is_file(path)
    with atomic_write(path, is_private=True) as file:
        _write(file, identity, list(saved))


def read(path: Path, identity: Identity) -> list[Saved]:
    """Return the sequences in a file, least recently used first.

    Raises StateError if it is damaged or was written under another identity; OSError if it cannot
    be read, FileNotFoundError if there is none.
    """
    _check_is_file(path)
    with path.open("rb") as file:
        return _Reader(path, file).read(identity)


# --- writing ---


def _write(file: BinaryIO, identity: Identity, saved: list[Saved]) -> None:

    lengths = [(len(each.token_ids), len(each.state)) for each in saved]
    described = {"localgen": __version__, "identity": dict(identity), "sequences": lengths}
    header = json.dumps(described).encode()
    n_bytes = _START.size + len(header) + _n_body(lengths) + 2 * _DIGEST
    digest = hashlib.sha256()

    def put(part: bytes | memoryview) -> None:
        digest.update(part)
        file.write(part)

    put(_START.pack(_MAGIC, _VERSION, len(header), n_bytes))
    put(header)
    put(digest.digest())
    for each in saved:
        put(each.token_ids.astype(_TOKEN).tobytes())
        put(each.state.data)
    put(digest.digest())


def _check_is_file(path: Path) -> None:
    """Raise StateError for a folder, device or pipe, which must not be waited for or replaced."""
    if path.exists() and not path.is_file():
        raise StateError(f"{path} is not a file; name one for the session")


# --- reading ---


class _Reader:
    """Reads a file once, from its start; all that it reads goes into the digest."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self._path = path
        self._file = file
        self._digest = hashlib.sha256()
        self._n_left = os.fstat(file.fileno()).st_size

    def read(self, identity: Identity) -> list[Saved]:
        n_header = self._start()
        header = self._take(n_header)
        self._check_digest()
        theirs, lengths = self._parse(header.tobytes())
        self._check_identity(theirs, identity)
        n_body = _n_body(lengths)
        n_there = self._n_left - _DIGEST
        if n_body != n_there:
            raise self._damaged(f"its sequences take {n_body} bytes, and it has {n_there}")
        body = self._take(n_body)
        self._check_digest()
        return list(_sequences(body, lengths))

    def _start(self) -> int:
        """Check the beginning; returns the header's length."""
        size = self._n_left
        start = self._take(min(_START.size, size)).tobytes()
        if start[: len(_MAGIC)] != _MAGIC:
            raise StateError(f"{self._path} is not a session that localgen saved")
        if len(start) < _START.size:
            raise self._cut_off(size, "more")
        _, layout, n_header, n_bytes = _START.unpack(start)
        if layout != _VERSION:
            raise StateError(
                f"{self._path} has version {layout} of the session format, and this localgen reads "
                f"version {_VERSION}"
            )
        if size < n_bytes:
            raise self._cut_off(size, n_bytes)
        if n_header > _MAX_HEADER:
            raise self._damaged(f"its header takes {n_header} bytes")
        return int(n_header)

    def _take(self, n_bytes: int) -> State:
        """The next bytes (n_bytes,)."""
        data = np.empty(n_bytes, np.uint8)
        for start in range(0, n_bytes, _CHUNK):
            part = data[start : start + _CHUNK].data
            if self._file.readinto(part) < len(part):  # type: ignore[attr-defined]
                raise self._damaged("it ends too early")
            self._digest.update(part)
        self._n_left -= n_bytes
        return data

    def _check_digest(self) -> None:
        expected = self._digest.digest()
        if self._take(_DIGEST).tobytes() != expected:
            raise self._damaged("its checksum is wrong")

    def _parse(self, header: bytes) -> tuple[dict[str, Any], list[tuple[int, int]]]:
        """The identity and the lengths in a header."""
        try:
            data = read_json(header)
            lengths = [(n_tokens, n_bytes) for n_tokens, n_bytes in data["sequences"]]
            identity = dict(data["identity"])
        except (ValueError, TypeError, KeyError):
            raise self._damaged("its header cannot be read") from None
        if not all(type(n) is int and n > 0 for pair in lengths for n in pair):
            raise self._damaged("its header has lengths that are none")
        return identity, lengths

    def _check_identity(self, theirs: dict[str, Any], ours: Identity) -> None:
        for name in (*ours, *theirs):
            if theirs.get(name) != ours.get(name):
                raise StateError(
                    f"{self._path} does not fit this model: its {name} is "
                    f"{str(theirs.get(name))[:80]}, here it is {ours.get(name)}"
                )

    def _cut_off(self, size: int, n_bytes: int | str) -> StateError:
        return StateError(f"{self._path} is cut off: it has {size} bytes of {n_bytes}")

    def _damaged(self, reason: str) -> StateError:
        return StateError(f"{self._path} is damaged: {reason}")


def _n_body(lengths: Iterable[tuple[int, int]]) -> int:
    """The bytes of sequences of these lengths."""
    return sum(_TOKEN.itemsize * n_tokens + n_bytes for n_tokens, n_bytes in lengths)


def _sequences(body: State, lengths: list[tuple[int, int]]) -> Iterator[Saved]:
    """The parts of ``body``; states are views of it."""
    start = 0
    for n_tokens, n_bytes in lengths:
        middle = start + _TOKEN.itemsize * n_tokens
        end = middle + n_bytes
        token_ids = np.frombuffer(body[start:middle].tobytes(), _TOKEN).astype(np.int32)
        yield Saved(token_ids, body[middle:end])
        start = end
