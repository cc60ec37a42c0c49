"""Folders for temporary files, which a later run removes if a process was killed in between."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import secrets
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from localgen._util.file_lock import lock

_NAME = re.compile(r"\.localgen-work-[0-9a-f]{8}")
# Locked as long as its process lives.
_OWNER = "owner.lock"


@contextlib.contextmanager
def work_folder(parent: Path) -> Iterator[Path]:
    """Yield a new folder in ``parent``, which is removed with all that is in it.

    Folders that killed processes left in ``parent`` are removed first: those of this machine and
    user whose file is no longer locked. Raises OSError.
    """
    folder = parent / f".localgen-work-{secrets.token_hex(4)}"
    folder.mkdir()
    try:
        owner = (folder / _OWNER).open("xb")
        try:
            lock(owner)
            # Only now: a folder whose file is empty is nobody's to remove.
            owner.write(_machine())
            owner.flush()
            if _is_locked(folder):
                _remove_left(parent)
            yield folder
        finally:
            _remove(folder, owner)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _machine() -> bytes:
    """Return what tells this machine from others that see the same folders."""
    return f"localgen {platform.node()}\n".encode()


def _is_locked(folder: Path) -> bool:
    """Return whether a process has locked a folder's file, as far as locks work there."""
    with (folder / _OWNER).open("r+b") as owner:
        return not lock(owner)


def _remove_left(parent: Path) -> None:
    with contextlib.suppress(OSError):  # a folder that may be written to, but not listed
        for path in parent.iterdir():
            if _NAME.fullmatch(path.name):
                _remove_if_left(path)


def _remove_if_left(folder: Path) -> None:
    with contextlib.suppress(OSError):  # of another user, or removed meanwhile
        about = folder.lstat()
        if not stat.S_ISDIR(about.st_mode) or not _is_own(about):
            return
        with (folder / _OWNER).open("r+b") as owner:
            if owner.read() == _machine() and lock(owner):
                _remove(folder, owner)


def _is_own(about: os.stat_result) -> bool:
    user = getattr(os, "getuid", None)
    return user is None or about.st_uid == user()


def _remove(folder: Path, owner: IO[bytes]) -> None:
    """Remove a folder while its file is locked; where open files stay, this one comes last."""
    shutil.rmtree(folder, ignore_errors=True)
    owner.close()
    shutil.rmtree(folder, ignore_errors=True)
