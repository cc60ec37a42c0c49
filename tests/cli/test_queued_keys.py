"""Ctrl-D between two prompts, on a pseudo-terminal."""

from __future__ import annotations

import os
import sys

import pytest

from localgen.cli.queued_keys import ctrl_d_queued

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")


def test_the_next_prompt_reads_it() -> None:
    """Regression: the terminal took it as an end of input. Afterwards the terminal is as before."""
    import termios
    import tty

    keyboard, number = os.openpty()
    with os.fdopen(number, "r") as terminal, os.fdopen(keyboard, "wb", buffering=0) as keys:
        before = termios.tcgetattr(number)
        with ctrl_d_queued(terminal):
            keys.write(b"\x04")
            tty.setraw(number, termios.TCSANOW)  # as a prompt does
            assert os.read(number, 1) == b"\x04"
        assert termios.tcgetattr(number) == before
