"""A look at a file before C opens it; it reads a few bytes and knows nothing of tensors."""

from __future__ import annotations

import hashlib
import os
import struct
from dataclasses import dataclass
from pathlib import Path

from localgen.errors import InvalidGGUFError, ModelNotFoundError

MAGIC = b"GGUF"
VERSIONS = (2, 3)

_END_BYTES = 2**20
_BLOCK_BYTES = 2**16
_N_BLOCKS = 64


@dataclass(frozen=True, slots=True)
class FileIdentity:
    """What tells that a file is still the one that was opened."""

    device: int
    inode: int
    size: int
    mtime_ns: int

    @classmethod
    def of(cls, path: Path) -> FileIdentity:
        status = os.stat(path)
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


def check_file(path: Path) -> FileIdentity:
    """Refuse what is certainly not a GGUF file that llama.cpp reads.

    Raises ModelNotFoundError or InvalidGGUFError.
    """
    if path.is_dir():
        raise InvalidGGUFError(f"{path} is a folder; name the .gguf file inside it")
    try:
        with path.open("rb") as file:
            header = file.read(24)
    except FileNotFoundError:
        raise ModelNotFoundError(f"there is no file {path}") from None
    except OSError as error:
        raise InvalidGGUFError(f"{path} cannot be read: {error.strerror}") from error
    if header[:4] != MAGIC:
        raise InvalidGGUFError(
            f"{path} is not a GGUF file: it starts with {header[:4]!r}, not {MAGIC!r}"
        )
    if len(header) < 24:
        raise InvalidGGUFError(f"{path} is cut off inside its header ({len(header)} bytes)")
    (version,) = struct.unpack_from("<I", header, 4)
    if version not in VERSIONS:
        raise InvalidGGUFError(f"{path} has GGUF version {version}; versions 2 and 3 are read")
    return FileIdentity.of(path)


def fingerprint(path: Path) -> str:
    """A SHA-256 in hex that tells model files apart, without reading all of a large one.

    Of the size, the first and the last MiB (metadata, last tensors), and 64 blocks of 64 KiB evenly
    spaced between: other weights differ nearly everywhere, so that some block sees it.
    """
    digest = hashlib.sha256()
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        digest.update(str(size).encode())
        for start, n_bytes in _samples(size):
            file.seek(start)
            digest.update(file.read(n_bytes))
    return digest.hexdigest()


def _samples(size: int) -> list[tuple[int, int]]:
    """The (start, length) of the parts of a file that its fingerprint covers."""
    last = max(0, size - _END_BYTES)
    room = max(0, size - _BLOCK_BYTES)
    blocks = [(room * i // (_N_BLOCKS - 1), _BLOCK_BYTES) for i in range(_N_BLOCKS)]
    return [(0, _END_BYTES), *blocks, (last, _END_BYTES)]
