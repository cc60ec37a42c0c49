"""The worker process as its program sees it: started, sent to, read from, and ended."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import re
import subprocess
import sys
import threading
from collections import deque
from dataclasses import dataclass
from typing import cast

from localgen._util.child import (
    OWN_GROUP,
    kill_tree,
    module_command,
    module_environment,
    signal_name,
)
from localgen._version import __version__
from localgen.worker.forks import starting
from localgen.worker.wire import Message, Receiver, Sender

logger = logging.getLogger("localgen.worker")
# Without logging set up, a library prints nothing.
logging.getLogger("localgen").addHandler(logging.NullHandler())

_KEPT_LINES = 40
_BUFFER_BYTES = 2**16
_SECONDS_FOR_OUTPUT = 1.0
# What llama.cpp, Python and the C library write when they give up.
_TELLING = re.compile(
    r"GGML_ASSERT|Fatal Python error|terminate called|what\(\):|error|abort", re.IGNORECASE
)
_FOLDERS = re.compile(r"(?:[A-Za-z]:)?(?:[\\/][^\\/\s:\"']+)*[\\/](?=[^\\/\s:\"']+)")
_MAX_CHARACTERS = 200


@dataclass(frozen=True, slots=True)
class WorkerEnd:
    """How a worker process ended.

    signal: the name of the signal; None for an exit with ``exit_code``. output: its last lines.
    """

    exit_code: int | None
    signal: str | None
    output: str

    @property
    def reason(self) -> str:
        """Continues a sentence about the process; without folders, for any reader."""
        how = f"was killed by {self.signal}" if self.signal else f"exited with {self.exit_code}"
        said = self._telling_line()
        return f"{how} ({said})" if said else how

    def _telling_line(self) -> str:
        lines = [line for line in self.output.splitlines() if _TELLING.search(line)]
        line = " ".join(_FOLDERS.sub("", lines[0]).split()) if lines else ""
        return line if len(line) <= _MAX_CHARACTERS else f"{line[:_MAX_CHARACTERS]}…"


class WorkerProcess:
    """A running worker. It ends when this process does, or closes the pipe to it."""

    def __init__(self) -> None:
        """Start the process. Raises BackendError where there is no interpreter, or OSError."""
        # What this process imports from a folder that it changes later, the worker finds as well.
        path = [each or os.getcwd() for each in sys.path]
        with starting:
            self._popen = subprocess.Popen(
                module_command("localgen.worker", __version__),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,  # no buffer whose lock another thread may hold when this process forks
                env={**module_environment(path), "GGML_NO_BACKTRACE": "1"},
                **OWN_GROUP,
            )
        stdin, stdout, stderr = self._popen.stdin, self._popen.stdout, self._popen.stderr
        assert stdin is not None
        assert stdout is not None
        assert stderr is not None
        self._pipes = stdin, stdout, stderr
        self._to_worker = Sender(cast("io.RawIOBase", stdin))
        self._from_worker = Receiver(io.BufferedReader(cast("io.RawIOBase", stdout), _BUFFER_BYTES))
        self._lines: deque[str] = deque(maxlen=_KEPT_LINES)
        self._printer = threading.Thread(
            target=self._read_output,
            args=(cast("io.RawIOBase", stderr),),
            name="localgen-worker-output",
            daemon=True,
        )
        self._printer.start()

    @property
    def pid(self) -> int:
        """The process id."""
        return self._popen.pid

    @property
    def has_ended(self) -> bool:
        """Whether the process runs no more."""
        return self._popen.poll() is not None

    def send(self, message: Message) -> None:
        """Send a message; nothing happens if the process has ended, which ``receive`` shows."""
        with contextlib.suppress(OSError, ValueError):
            self._to_worker.send(message)

    def receive(self) -> Message | None:
        """Return the worker's next message; None once it has ended."""
        return self._from_worker.receive()

    def hang_up(self) -> None:
        """Let the process end by itself, which it does when nobody can write to it any more."""
        if not self._to_worker.close():
            self.kill()

    def kill(self) -> None:
        """Kill the process and all that it has started."""
        if not self.has_ended:
            kill_tree(self._popen)

    def end(self, seconds: float) -> WorkerEnd:
        """Let the process end, kill it after ``seconds``, and return how it ended."""
        if not self._to_worker.close(seconds):
            self.kill()
        try:
            self._popen.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
        self._printer.join(_SECONDS_FOR_OUTPUT)
        self._from_worker.close()
        code = self._popen.returncode
        signal = signal_name(code)
        return WorkerEnd(None if signal else code, signal, "\n".join(self._lines))

    def abandon(self) -> None:
        """In a fork of the process that started it, close the pipes: the worker is not its own."""
        self._popen.returncode = 0  # so that nothing here waits for it
        for pipe in self._pipes:
            with contextlib.suppress(OSError):
                pipe.close()

    def _read_output(self, stderr: io.RawIOBase) -> None:
        with contextlib.suppress(OSError, ValueError), io.BufferedReader(stderr) as lines:
            for data in lines:
                line = data.decode("utf-8", errors="replace").rstrip()
                self._lines.append(line)
                with contextlib.suppress(Exception):  # of a filter that the program has set
                    logger.info("%s", line)
