"""Texts as people save and pipe them."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from localgen._util.text_file import read_text
from tests.systems import make_pipe


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ("né ✓\r\n".encode(), "né ✓\r\n"),
        ("né".encode("utf-8-sig"), "né"),
        ("a\ufeffb".encode(), "a\ufeffb"),  # inside a text it is a character
        (b"", ""),
    ],
)
def test_utf8_with_or_without_a_mark(data: bytes, text: str, tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_bytes(data)
    assert read_text(path) == text


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("né".encode("utf-16"), "it is UTF-16 text. Save it as UTF-8."),
        (b"\xfe\xff\x00a", "it is UTF-16 text. Save it as UTF-8."),
        (b"ab\xe9", "it is not UTF-8 text: unexpected end of data at byte 2"),
    ],
)
def test_another_encoding(data: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=message):
        read_text(path)


def test_a_folder_and_a_device(tmp_path: Path) -> None:
    with pytest.raises((IsADirectoryError, PermissionError)):
        read_text(tmp_path)
    if Path("/dev/zero").exists():
        with pytest.raises(OSError, match="it is a device, not a file"):
            read_text(Path("/dev/zero"))


def test_a_pipe_without_a_writer(tmp_path: Path) -> None:
    """Regression: it was waited for, for ever."""
    make_pipe(tmp_path / "pipe")
    with pytest.raises(OSError, match="it is a pipe that no program writes to"):
        read_text(tmp_path / "pipe")


@pytest.mark.parametrize("is_there", [True, False])
def test_a_pipe_with_a_writer(is_there: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """``--text <(program)``, whether or not the program has written something already."""
    if sys.platform != "linux":
        pytest.skip("/dev/fd does not open a pipe anew elsewhere")
    read_end, write_end = os.pipe()
    set_blocking = os.set_blocking

    def write() -> None:
        os.write(write_end, b"\xef\xbb\xbfthe text")
        os.close(write_end)

    def wait(fd: int, blocking: bool) -> None:
        if not is_there:
            write()
        set_blocking(fd, blocking)

    monkeypatch.setattr(os, "set_blocking", wait)
    if is_there:
        write()
    assert read_text(Path(f"/dev/fd/{read_end}")) == "the text"
    os.close(read_end)
