"""Writes files completely or not at all; it does not know what is in them."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import re
import secrets
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

# Windows' ERROR_ACCESS_DENIED and ERROR_SHARING_VIOLATION: what renaming over an open file gives.
_IN_USE = (5, 32)
_PARTIAL = re.compile(r"\.localgen-[0-9a-f]{8}\.part")
_LEFT_AFTER = 24 * 3600.0  # seconds
_RETRY_SECONDS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.4)


def atomic_write_bytes(path: Path, data: bytes, *, is_private: bool = False) -> None:
    """Replace the file at ``path`` by ``data``; see ``atomic_write``."""
    with atomic_write(path, is_private=is_private) as file:
        file.write(data)


@contextlib.contextmanager
def atomic_write(path: Path, *, is_private: bool = False) -> Iterator[BinaryIO]:
    """Open a new file that replaces ``path`` once it is on the disk, unless an exception is raised.

    A missing folder is made. A symbolic link is followed: the file that it points to is replaced.
    Files that a killed process left in that folder more than a day ago are removed. is_private:
    only its owner may read the new file, whatever the old one's mode was; on Windows its folder
    decides. An OSError names ``path``, not the temporary file beside it.
    """
    target = Path(os.path.realpath(path))
    partial = target.with_name(f".localgen-{secrets.token_hex(4)}.part")
    with _errors_as_of(path, partial, target):
        _check_target(path, target)
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_left(target.parent)
        descriptor = os.open(
            partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if is_private else 0o666
        )
        try:
            with os.fdopen(descriptor, "wb") as file:
                yield file
                file.flush()
                os.fsync(descriptor)
            replace(partial, target)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(partial)
            raise
        _sync_folder(target.parent)


def check_writable(path: Path) -> None:
    """Raise OSError if ``atomic_write`` could not write ``path``, before any work.

    A link into a missing folder, a folder, a device, and a folder or disk that may only be read are
    found; a disk that fills up later is not. A missing folder is not made.
    """
    target = Path(os.path.realpath(path))
    with _errors_as_of(path, target):
        folder = _check_target(path, target)
        if not os.access(folder, os.W_OK):
            raise OSError(errno.EACCES, "its folder cannot be written to")


def check_folder(folder: Path) -> None:
    """Raise OSError if files cannot be written to a folder, or if it cannot be made."""
    target = Path(os.path.realpath(folder))
    with _errors_as_of(folder, target):
        if not os.access(_existing_folder(target), os.W_OK):
            raise OSError(errno.EACCES, "it cannot be written to")


def make_folder(folder: Path) -> None:
    """Make a folder, and those above it, unless they exist. Raises OSError."""
    target = Path(os.path.realpath(folder))
    with _errors_as_of(folder, target):
        _existing_folder(target)
        target.mkdir(parents=True, exist_ok=True)


def holds_data(path: Path) -> bool:
    """Return whether there is a file with something in it, which writing would replace."""
    return path.is_file() and path.stat().st_size > 0


def replace(source: Path, target: Path) -> None:
    """Rename ``source`` to ``target``, which may exist.

    Windows refuses that while another program has one of them open, as virus scanners have for a
    moment: it is retried for about a second. Raises PermissionError after that.
    """
    for pause in (*_RETRY_SECONDS, None):
        try:
            os.replace(source, target)
            return
        except PermissionError as error:
            if getattr(error, "winerror", None) not in _IN_USE:
                raise
            if pause is None:
                reason = "it is open in another program, or write-protected"
                raise PermissionError(errno.EACCES, reason, str(target)) from error
        time.sleep(pause)


@contextlib.contextmanager
def _errors_as_of(path: Path, *others: Path) -> Iterator[None]:
    """Raise errors of ``others``, and those that name no file, as errors of ``path``."""
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename not in (None, *map(str, others)):
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


@functools.cache  # once in a process
def _remove_left(folder: Path) -> None:
    """Remove what killed processes left in a folder: files that nobody has written to for a day."""
    with contextlib.suppress(OSError):  # a folder that may be written to, but not listed
        for path in folder.iterdir():
            if _PARTIAL.fullmatch(path.name):
                _remove_if_left(path)


def _remove_if_left(path: Path) -> None:
    with contextlib.suppress(OSError):  # of another user, or removed meanwhile
        about = path.lstat()
        if stat.S_ISREG(about.st_mode) and time.time() - about.st_mtime > _LEFT_AFTER:
            path.unlink()


def _check_target(path: Path, target: Path) -> Path:
    """Refuse what cannot be replaced, or must not be: a folder, a device, a pipe.

    target: where ``path`` points to. Returns the folder that is written to, or where it is made.
    """
    if target.is_dir():
        raise OSError(errno.EISDIR, "it is a folder. Name a file in it")
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "it is not a regular file")
    if path.is_symlink() and not target.parent.is_dir():
        raise OSError(errno.ENOENT, "it is a link into a folder that does not exist")
    return _existing_folder(target.parent)


def _existing_folder(folder: Path) -> Path:
    """Return the innermost of a folder and those above it that exists. Raises OSError if it is a
    file."""
    found = next(each for each in (folder, *folder.parents) if each.exists())
    if not found.is_dir():
        raise OSError(errno.ENOTDIR, f"{found} is not a folder")
    return found


def _sync_folder(folder: Path) -> None:
    """Wait until a folder's new names are on the disk, where the system offers that."""
    with contextlib.suppress(OSError):  # Windows opens no folders
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
