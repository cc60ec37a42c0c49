"""The process that llama.cpp's quantizer runs in, since nothing else can stop it."""

from __future__ import annotations

import contextlib
import json
import subprocess
import tempfile
from collections.abc import Callable
from typing import IO, Any

from localgen._util.child import OWN_GROUP, interpreter
from localgen.errors import QuantizeError

Progress = Callable[[int, int, str], object]


class QuantizerProcess:
    """Runs tasks one after another in one process, and in another one after a crash."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[str] | None = None
        self._stderr: IO[str] | None = None

    def __enter__(self) -> QuantizerProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(self, level: str, task: str, progress: Progress | None) -> dict[str, Any]:
        """Run a task, ``localgen.llama.quantize.Task`` as JSON, and return its last event.

        level: for messages. progress: called with each tensor. Raises QuantizeError if the task
        fails, or the process ends.
        """
        child = self._child or self._start()
        try:
            last = _follow(child, task, progress)
        except BaseException:
            self.close()
            raise
        if "error" in last:
            raise QuantizeError(f"quantizing to {level} failed: {last['error']}")
        if "types" not in last:
            child.wait()
            reason = self._last_line()
            self.close()
            raise QuantizeError(
                f"the quantizer ended with code {child.returncode} at {level}: {reason}"
            )
        return last

    def close(self) -> None:
        """End the process, and what it is doing."""
        child, self._child = self._child, None
        stderr, self._stderr = self._stderr, None
        if child is not None:
            child.kill()
            with contextlib.suppress(OSError):  # of a task that the process never read
                child.communicate()
        if stderr is not None:
            stderr.close()

    def _start(self) -> subprocess.Popen[str]:
        # A file: nobody would read a pipe while the process works, and a full one would stop it.
        self._stderr = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115
        self._child = subprocess.Popen(
            [interpreter(), "-m", "localgen.llama.quantize"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            encoding="utf-8",
            errors="replace",
            **OWN_GROUP,
        )
        return self._child

    def _last_line(self) -> str:
        assert self._stderr is not None
        self._stderr.seek(0)
        return (self._stderr.read().strip().splitlines() or ["no output"])[-1]


def _follow(child: subprocess.Popen[str], task: str, progress: Progress | None) -> dict[str, Any]:
    """Send a task, and return its last event, or the last one before the process ended."""
    assert child.stdin is not None
    assert child.stdout is not None
    with contextlib.suppress(OSError):  # it has ended: its exit code is reported
        child.stdin.write(task + "\n")
        child.stdin.flush()
    last: dict[str, Any] = {}
    for line in child.stdout:
        last = json.loads(line)
        if "types" in last or "error" in last:
            break
        if progress is not None:
            progress(last["index"], last["of"], last["tensor"])
    return last
