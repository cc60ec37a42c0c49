"""SIGTERM and SIGHUP end a command as Ctrl-C does, which cleans up; by default they do not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from localgen.cli.termination import Termination

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no such signals")

# A command that holds a temporary folder, which it announces, and waits.
HOLDING = """
import signal, sys, tempfile, typer
if sys.platform != "win32":  # the tests may run where it is ignored
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
from localgen.cli import app as module
app = module.app
@app.command()
def hold(folder: str) -> None:
    with tempfile.TemporaryDirectory(dir=folder):
        print("holding", flush=True)
        sys.stdin.read()
sys.argv = ["localgen", "hold", sys.argv[1]]
app.info.cls = None
module.run()
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_temporary_files_are_removed(name: str, tmp_path: Path) -> None:
    """It left .localgen-XXXX folders beside the files of quantize."""
    number = signal.Signals[name]
    with subprocess.Popen(
        [sys.executable, "-c", HOLDING, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "holding\n"
        assert len(list(tmp_path.iterdir())) == 1
        child.send_signal(number)
        assert child.wait(60) == 128 + number
    assert not list(tmp_path.iterdir())


def test_a_second_signal_does_not_interrupt_the_cleaning() -> None:
    termination = Termination()
    termination.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        assert termination.exit_code_or(1) == 128 + signal.SIGTERM
    finally:
        termination.stop()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert Termination().exit_code_or(1) == 1


def test_a_signal_that_is_ignored_stays_so() -> None:
    """nohup ignores SIGHUP for the commands that it starts."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    termination = Termination()
    try:
        termination.start()
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        termination.stop()
        signal.signal(signal.SIGHUP, before)
