"""Files that are written whole or not at all: their modes, and the names that errors give."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from localgen._util.atomic_write import atomic_write, atomic_write_bytes


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    return path


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_mode_is_that_of_any_new_file_or_private(path: Path, tmp_path: Path) -> None:
    """A report is for whoever may read files of this folder, a chat for its owner alone."""
    before = os.umask(0o022)
    try:
        atomic_write_bytes(path, b"new")
        atomic_write_bytes(tmp_path / "private", b"new", is_private=True)
    finally:
        os.umask(before)
    assert (path.read_bytes(), _mode(path), _mode(tmp_path / "private")) == (b"new", 0o644, 0o600)


def test_a_link_stays_a_link(path: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(path)
    atomic_write_bytes(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize(
    ("make", "name", "code", "words"),
    [
        (lambda path: None, "none/file", errno.ENOENT, "its folder does not exist"),
        (os.mkdir, "other", errno.EISDIR, "Is a directory"),
        (os.mkfifo, "other", errno.EINVAL, "it is not a regular file"),
    ],
)
def test_errors_name_the_file_that_was_asked_for(
    tmp_path: Path, make: Callable[[Path], None], name: str, code: int, words: str
) -> None:
    """People were told of files with random names, which they had not asked for."""
    path = tmp_path / name
    make(path)
    with pytest.raises(OSError, match=words) as caught:
        atomic_write_bytes(path, b"new")
    assert (caught.value.errno, caught.value.filename) == (code, str(path))
    assert not any(".part" in name for name in os.listdir(tmp_path))


def test_errors_of_a_refused_name_and_of_a_full_disk(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system names the partial file, or none; an error of another file keeps its name."""

    def refused(partial: Any, *_: object) -> None:
        raise OSError(errno.EACCES, "Permission denied", str(partial))

    with pytest.raises(OSError, match="disk full") as full, atomic_write(path):
        raise OSError(errno.ENOSPC, "disk full")
    with pytest.raises(OSError, match="other") as other, atomic_write(path):
        raise OSError(errno.ENOENT, "No such file or directory", "other")
    monkeypatch.setattr(os, "replace", refused)
    with pytest.raises(PermissionError) as denied:
        atomic_write_bytes(path, b"new")
    named = [caught.value.filename for caught in (full, other, denied)]
    assert named == [str(path), "other", str(path)]
    assert path.read_bytes() == b"old"
    assert os.listdir(path.parent) == ["file"]
