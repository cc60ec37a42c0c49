"""Files written completely or not at all: their modes, and the names in errors."""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from localgen._util.atomic_write import (
    atomic_write,
    atomic_write_bytes,
    check_folder,
    check_writable,
    make_folder,
)
from tests.systems import make_pipe


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    return path


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_mode_is_that_of_any_new_file_or_private(path: Path, tmp_path: Path) -> None:
    """A report has the folder's usual mode; a chat is for its owner only."""
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
        (lambda path: path.parent.touch(), "other/file", errno.ENOTDIR, "other is not a folder"),
        (os.mkdir, "other", errno.EISDIR, "it is a folder. Name a file in it"),
        (make_pipe, "other", errno.EINVAL, "it is not a regular file"),
    ],
)
def test_errors_name_the_file_that_was_asked_for(
    tmp_path: Path, make: Callable[[Path], None], name: str, code: int, words: str
) -> None:
    """Regression: errors named the temporary file."""
    path = tmp_path / name
    make(path)
    with pytest.raises(OSError, match=words) as caught:
        atomic_write_bytes(path, b"new")
    assert (caught.value.errno, caught.value.filename) == (code, str(path))
    assert not any(".part" in name for name in os.listdir(tmp_path))


def test_errors_of_a_refused_name_and_of_a_full_disk(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system names the temporary file or none; an error about another file keeps its name."""

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


class Windows:
    """``os.replace`` that refuses ``n`` times, as Windows does while another program reads."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, n: int, winerror: int) -> None:
        self.n, self.winerror = n, winerror
        self.pauses: list[float] = []
        self._replace = os.replace
        monkeypatch.setattr(os, "replace", self.replace)
        monkeypatch.setattr(time, "sleep", self.pauses.append)

    def replace(self, source: Path, target: Path) -> None:
        if self.n == 0:
            self._replace(source, target)
            return
        self.n -= 1
        error: Any = PermissionError(errno.EACCES, "Access is denied", str(source))
        error.winerror = self.winerror
        raise error


@pytest.mark.parametrize("winerror", [5, 32])
def test_a_file_that_is_open_for_a_moment_is_replaced_after_it(
    path: Path, monkeypatch: pytest.MonkeyPatch, winerror: int
) -> None:
    """Virus scanners and indexers open new files on Windows."""
    windows = Windows(monkeypatch, 3, winerror)
    atomic_write_bytes(path, b"new")
    assert path.read_bytes() == b"new"
    assert len(windows.pauses) == 3
    assert os.listdir(path.parent) == ["file"]


def test_a_file_that_stays_open_is_a_plain_error(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old file is whole, the error names it, and nothing is left beside it."""
    windows = Windows(monkeypatch, 100, 32)
    with pytest.raises(PermissionError, match="open in another program") as caught:
        atomic_write_bytes(path, b"new")
    assert caught.value.filename == str(path)
    assert 0.5 < sum(windows.pauses) < 2
    assert path.read_bytes() == b"old"
    assert os.listdir(path.parent) == ["file"]


def test_a_folder_that_may_not_be_written_is_not_waited_for(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    windows = Windows(monkeypatch, 1, winerror=0)
    with pytest.raises(PermissionError):
        atomic_write_bytes(path, b"new")
    assert windows.pauses == []


def test_a_system_that_opens_no_folders(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows opens none, so their names cannot be flushed to the disk."""
    system_open = os.open

    def refuse(name: Any, *args: Any) -> int:
        if Path(name).is_dir():
            raise PermissionError(errno.EACCES, "Permission denied", str(name))
        return system_open(name, *args)

    monkeypatch.setattr(os, "open", refuse)
    atomic_write_bytes(path, b"new")
    assert path.read_bytes() == b"new"


def test_what_a_killed_process_left_is_removed_after_a_day(tmp_path: Path) -> None:
    old, new, other = (
        tmp_path / name
        for name in (".localgen-00112233.part", ".localgen-44556677.part", ".localgen-notes.part")
    )
    for path in (old, new, other):
        path.touch()
    for path in (old, other):
        os.utime(path, (0, 0))
    atomic_write_bytes(tmp_path / "file", b"")
    assert {*tmp_path.iterdir()} == {new, other, tmp_path / "file"}


def test_a_folder_that_cannot_be_listed_can_be_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(_: Path) -> object:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refused)
    atomic_write_bytes(tmp_path / "file", b"data")
    assert (tmp_path / "file").read_bytes() == b"data"


def test_what_cannot_be_written_is_told_before_there_is_anything_to_write(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for name in ("folder", "\0"):
        with pytest.raises((OSError, ValueError)):
            check_writable(tmp_path / name)
    check_writable(tmp_path / "file")
    assert [each.name for each in tmp_path.iterdir()] == ["folder"]


def test_a_link_that_points_into_no_folder_cannot_be_written(tmp_path: Path) -> None:
    """Hours of measurements were lost when the file was written at the end."""
    link = tmp_path / "link"
    try:
        link.symlink_to(tmp_path / "none" / "file")
    except OSError:
        pytest.skip("links need a privilege here")
    with pytest.raises(OSError, match="a link into a folder that does not exist") as raised:
        check_writable(link)
    assert raised.value.filename == str(link)


def test_a_missing_folder_is_made_with_the_file_and_not_before(tmp_path: Path) -> None:
    """What is refused after the check leaves no folder behind."""
    path = tmp_path / "new" / "inner" / "file"
    check_writable(path)
    assert not path.parent.parent.exists()
    atomic_write_bytes(path, b"new")
    assert path.read_bytes() == b"new"


def test_a_folder_is_checked_and_made(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "inner"
    check_folder(folder)
    assert not folder.parent.exists()
    make_folder(folder)
    make_folder(folder)
    assert folder.is_dir()
    (folder / "file").touch()
    for act in (check_folder, make_folder):
        with pytest.raises(NotADirectoryError, match="file is not a folder") as raised:
            act(folder / "file" / "more")
        assert raised.value.filename == str(folder / "file" / "more")


def test_a_folder_that_may_only_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(PermissionError, match="its folder cannot be written to"):
        check_writable(tmp_path / "file")
