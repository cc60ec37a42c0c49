"""Keeps Ctrl-D that is typed while a chat answers for the next prompt."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import TextIO


@contextlib.contextmanager
def ctrl_d_queued(terminal: TextIO) -> Iterator[None]:
    """Let the terminal take Ctrl-D as a key like any other, which the next prompt reads.

    Else the terminal itself takes it as an end of input, and there is nobody who reads that.
    """
    if sys.platform == "win32":
        yield
        return
    import termios  # noqa: PLC0415  # Windows has none

    number = terminal.fileno()
    before = termios.tcgetattr(number)
    changed = termios.tcgetattr(number)
    changed[6][termios.VEOF] = b"\0"  # no character, or on macOS one that nobody types
    termios.tcsetattr(number, termios.TCSANOW, changed)
    try:
        yield
    finally:
        termios.tcsetattr(number, termios.TCSANOW, before)
