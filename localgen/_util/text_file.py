"""Reads whole files of text that people write, save or pipe; it does not know what is in them."""

from __future__ import annotations

import codecs
import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO


def read_text(path: Path) -> str:
    """Return the UTF-8 text of a file, or of a pipe that a program writes to.

    A byte-order mark is not text and is left out. Raises ValueError for another encoding; OSError
    for a device, which may never end, and for a pipe without a writer, which would be waited for.
    """
    with open(path, "rb", opener=_open_at_once) as file:
        data = _first_byte_of_pipe(file, path) + file.read()
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise ValueError("it is UTF-16 text. Save it as UTF-8.")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"it is not UTF-8 text: {error.reason} at byte {error.start}") from None


def _open_at_once(path: str, flags: int) -> int:
    """Open a file; a pipe without a writer opens too."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _first_byte_of_pipe(file: BinaryIO, path: Path) -> bytes:
    """Return a pipe's first byte if it is there already, nothing of a file. Raises OSError."""
    mode = os.fstat(file.fileno()).st_mode
    if stat.S_ISREG(mode):
        return b""
    if not stat.S_ISFIFO(mode):
        raise OSError(errno.EINVAL, "it is a device, not a file", str(path))
    try:
        first = os.read(file.fileno(), 1)
    except BlockingIOError:  # its writer has written nothing yet
        first = b""
    else:
        if not first:
            raise OSError(errno.EINVAL, "it is a pipe that no program writes to", str(path))
    os.set_blocking(file.fileno(), True)
    return first
