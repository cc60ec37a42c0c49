"""Identifies files and models; it knows nothing about their content."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import NamedTuple

_END_BYTES = 2**20
_BLOCK_BYTES = 2**16
_N_BLOCKS = 64


class FileIdentity(NamedTuple):
    """What identifies an opened file on the disk; cheap, since it is checked for each token."""

    device: int
    inode: int
    size: int
    mtime_ns: int

    @classmethod
    def of(cls, path: Path) -> FileIdentity:
        status = os.stat(path)
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


def fingerprint(*paths: Path) -> str:
    """Return a SHA-256, in hex, that identifies a model without reading all of a large file.

    It covers each file's size, its first and last MiB (metadata, last tensors), and 64 evenly
    spaced blocks of 64 KiB. Different weights differ nearly everywhere, so some block differs.
    """
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            digest.update(str(size).encode())
            for start, n_bytes in _samples(size):
                file.seek(start)
                digest.update(file.read(n_bytes))
    return digest.hexdigest()


def _samples(size: int) -> list[tuple[int, int]]:
    """Return the (start, length) of each part of a file that the fingerprint covers."""
    last = max(0, size - _END_BYTES)
    last_block = max(0, size - _BLOCK_BYTES)
    blocks = [(last_block * i // (_N_BLOCKS - 1), _BLOCK_BYTES) for i in range(_N_BLOCKS)]
    return [(0, _END_BYTES), *blocks, (last, _END_BYTES)]
