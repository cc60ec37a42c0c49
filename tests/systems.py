"""What only some systems have, for tests that need it: named pipes, root."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest


def make_pipe(path: Path) -> None:
    """Make a named pipe, or skip the test where there are none."""
    if sys.platform == "win32" or not hasattr(os, "mkfifo"):
        pytest.skip("this system has no named pipes")
    os.mkfifo(path)


def is_root() -> bool:
    """Return whether this process may do anything to any file."""
    return sys.platform != "win32" and os.geteuid() == 0
