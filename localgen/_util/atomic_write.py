"""Files that are written as a whole or not at all; it does not know what is in them."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


def write_whole(path: Path, data: bytes, *, is_private: bool = False) -> None:
    """Write ``data`` in place of whatever is at ``path``; see ``atomic_write``."""
    with atomic_write(path, is_private=is_private) as file:
        file.write(data)


@contextlib.contextmanager
def atomic_write(path: Path, *, is_private: bool = False) -> Iterator[BinaryIO]:
    """A new file that takes the place of ``path`` once it is on the disk, unless an error comes.

    A link stays one: the file that it leads to is replaced. is_private: for its owner alone to
    read, whatever was there before. An OSError names ``path``, not what is written meanwhile.
    """
    target = Path(os.path.realpath(path))
    partial = target.with_name(f".localgen-{secrets.token_hex(4)}.part")
    with _errors_of(path, partial):
        _check_target(target)
        descriptor = os.open(
            partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if is_private else 0o666
        )
        try:
            with os.fdopen(descriptor, "wb") as file:
                yield file
                file.flush()
                os.fsync(descriptor)
            os.replace(partial, target)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(partial)
            raise
        _sync_folder(target.parent)


@contextlib.contextmanager
def _errors_of(path: Path, partial: Path) -> Iterator[None]:
    """Errors of ``partial``, and those that name no file, as errors of ``path``."""
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename not in (None, str(partial)):
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def _check_target(target: Path) -> None:
    """Refuse what cannot be replaced, or must not be: a folder, a device, a pipe."""
    if target.is_dir():
        raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
    if target.exists() and not target.is_file():
        raise OSError(errno.EINVAL, "it is no file that can be replaced")
    if not target.parent.is_dir():
        raise OSError(errno.ENOENT, "its folder is not there")


def _sync_folder(folder: Path) -> None:
    """Wait until a folder's new names are on the disk, where the file system can tell."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
