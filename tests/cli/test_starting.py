"""Ctrl-C while the command still imports."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from localgen.cli.starting import QuietInterrupts

INTERRUPTED_IMPORT = """
import signal, sys
from localgen.cli import main

class Interrupt:
    def find_spec(self, name, *_):
        if name == "localgen.cli.options":
            signal.raise_signal(signal.SIGINT)

sys.meta_path.insert(0, Interrupt())
sys.argv = ["localgen", "inspect", "none.gguf"]
main()
"""


@pytest.mark.slow
def test_an_interrupt_during_imports_ends_quietly() -> None:
    """It printed a traceback of the import system."""
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED_IMPORT], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_afterwards_an_interrupt_is_an_exception_again() -> None:
    with QuietInterrupts():
        pass
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_an_ignored_interrupt_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with QuietInterrupts():
            signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
