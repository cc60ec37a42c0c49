"""Locks on open files: two opens of one file are as good as two processes."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import ClassVar

import pytest

from localgen._util.file_lock import lock


class Msvcrt(ModuleType):
    """Windows' locks: a byte belongs to the descriptor that locked it."""

    LK_NBLCK = 2
    owners: ClassVar[dict[int, int]] = {}

    def locking(self, descriptor: int, mode: int, n_bytes: int) -> None:
        assert (mode, n_bytes) == (self.LK_NBLCK, 1)
        at = os.lseek(descriptor, 0, os.SEEK_CUR)
        assert at < 2**31, "msvcrt's offsets have 32 bits"
        if self.owners.setdefault(at, descriptor) != descriptor:
            raise PermissionError(errno.EACCES, "Permission denied")


@pytest.fixture(params=["fcntl", "msvcrt"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Locks of POSIX, and of Windows."""
    if request.param == "msvcrt":
        monkeypatch.setitem(sys.modules, "fcntl", None)
        monkeypatch.setitem(sys.modules, "msvcrt", Msvcrt("msvcrt"))
        monkeypatch.setattr(Msvcrt, "owners", {})
    elif sys.platform == "win32":
        pytest.skip("Windows has no fcntl")
    return str(request.param)


def test_a_second_lock_is_refused(kind: str, tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as first, (tmp_path / "file").open("wb") as second:
        assert lock(first)
        assert not lock(second)


def test_the_file_is_as_it_was(kind: str, tmp_path: Path) -> None:
    """Its position, its content and its length."""
    with (tmp_path / "file").open("wb", buffering=0) as file:
        file.write(b"abc")
        assert lock(file)
        file.write(b"def")
    assert (tmp_path / "file").read_bytes() == b"abcdef"


def test_without_locks_nothing_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fcntl", None)
    monkeypatch.setitem(sys.modules, "msvcrt", None)
    with (tmp_path / "file").open("wb") as first, (tmp_path / "file").open("wb") as second:
        assert lock(first)
        assert lock(second)


def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no reason to refuse a job."""
    fcntl = pytest.importorskip("fcntl")

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with (tmp_path / "file").open("wb") as file:
        assert lock(file)
