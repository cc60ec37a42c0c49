"""A look at a file before C opens it; it reads a few bytes and knows nothing of tensors."""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from pathlib import Path

from localgen.errors import InvalidGGUFError, ModelNotFoundError

MAGIC = b"GGUF"
VERSIONS = (2, 3)


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
