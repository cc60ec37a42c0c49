"""A lock on an open file, for one process at a time; it needs no second file."""

from __future__ import annotations

import contextlib
import importlib
import os
from typing import IO, Any

# Windows locks bytes, and keeps every other handle from them: a byte far behind what files hold,
# but within the 32 bits that msvcrt has for an offset.
_LOCKED_BYTE = 2**31 - 2


def lock(file: IO[bytes]) -> bool:
    """Lock ``file`` until it is closed; return False if another process has locked it.

    Nothing is locked where the platform or the file system has no locks.
    """
    fcntl, msvcrt = _module("fcntl"), _module("msvcrt")
    with contextlib.suppress(OSError):  # of a file system without locks
        if fcntl is not None:
            return _flock(file.fileno(), fcntl)
        if msvcrt is not None:
            return _lock_byte(file.fileno(), msvcrt)
    return True


def _flock(descriptor: int, fcntl: Any) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _lock_byte(descriptor: int, msvcrt: Any) -> bool:
    """Lock one byte of a file and leave the file's position where it was."""
    position = os.lseek(descriptor, 0, os.SEEK_CUR)
    os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
    try:
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
    except PermissionError:
        return False
    finally:
        os.lseek(descriptor, position, os.SEEK_SET)
    return True


def _module(name: str) -> Any:
    """Import a module; return None on a platform that has none of that name."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None
