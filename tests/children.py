"""Python in a child process: forked from a server where that works, or else started."""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parents[1]
CHILD_SECONDS = 60
# llama_cpp opens this file when it is imported, and never closes it.
LLAMA_CPP_DEV_NULL = "ignore:unclosed file <_io.TextIOWrapper name='/dev/null':ResourceWarning"
# What localgen says of a build whose AMX kernels do not work is for its users.
AMX = "ignore:the AMX kernels of this build:UserWarning"
# macOS's own libraries do not work in a forked child, and Windows has none.
CAN_FORK = sys.platform == "linux"
NO_FORK = "Windows has no fork"


def run_python(
    code: str,
    *args: str,
    forks: bool,
    warnings: str | None = "error",
    stdin: str | None = None,
    env: Mapping[str, str] = os.environ,
    cwd: Path = ROOT,
) -> subprocess.CompletedProcess[str]:
    """Run ``python -W warnings -c code args…`` and return how it ended, with what it printed.

    forks: fork a process that has imported localgen, which takes a tenth of the time; False for
    what is about importing. warnings: None is Python's default. stdin: None is an empty one.
    """
    env = {**env, "GGML_NO_BACKTRACE": "1"}
    if not (forks and CAN_FORK):
        return subprocess.run(
            [*_python(warnings), "-c", code, *args],
            input=stdin or "",
            capture_output=True,
            text=True,
            timeout=CHILD_SECONDS,
            check=False,
            cwd=cwd,
            env=env,
        )
    with contextlib.ExitStack() as files:
        given: IO[str]
        given, stdout, stderr = (
            files.enter_context(tempfile.TemporaryFile("w+", encoding="utf-8", newline=""))
            for _ in range(3)
        )
        if stdin is None:
            given = files.enter_context(open(os.devnull, encoding="utf-8"))
        else:
            given.write(stdin)
            given.seek(0)
        fds = [file.fileno() for file in (given, stdout, stderr)]
        returncode = run_with_streams(code, *args, fds=fds, warnings=warnings, env=env, cwd=cwd)
        stdout.seek(0)
        stderr.seek(0)
        return subprocess.CompletedProcess([code, *args], returncode, stdout.read(), stderr.read())


def run_with_streams(
    code: str,
    *args: str,
    fds: Sequence[int | None],
    warnings: str | None = "error",
    env: Mapping[str, str] = os.environ,
    cwd: Path = ROOT,
) -> int:
    """Run code in a forked child with ``fds`` as stdin, stdout and stderr, None for a closed one.

    Returns the exit code, or minus the number of the signal that killed it. Needs ``CAN_FORK``.
    """
    closed = [number for number, fd in enumerate(fds) if fd is None]
    request = {"code": code, "args": args, "env": dict(env), "cwd": str(cwd), "closed": closed}
    with open(os.devnull, encoding="utf-8") as unused:
        sent = [unused.fileno() if fd is None else fd for fd in fds]
        return os.waitstatus_to_exitcode(_server(warnings).run(request, sent))


def _python(warnings: str | None) -> list[str]:
    flags = () if warnings is None else ("-W", warnings)
    return [sys.executable, *flags, "-W", LLAMA_CPP_DEV_NULL, "-W", AMX]


class _ForkServer:
    def __init__(self, warnings: str | None) -> None:
        self._socket, theirs = socket.socketpair(type=socket.SOCK_SEQPACKET)
        self._lock = threading.Lock()
        with theirs:
            self._process = subprocess.Popen(
                [*_python(warnings), "-m", "tests.fork_server", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                cwd=ROOT,
            )
        self._answers = self._socket.makefile("r", encoding="ascii")
        atexit.register(self.close)

    def run(self, request: Mapping[str, object], fds: list[int]) -> int:
        """Return the wait status of a child that ran ``request``."""
        if sys.platform == "win32":
            raise OSError(NO_FORK)
        with self._lock:
            socket.send_fds(self._socket, [json.dumps(request).encode()], fds)
            pid = int(self._answers.readline())
            watch = threading.Timer(CHILD_SECONDS, os.kill, (pid, signal.SIGKILL))
            watch.start()
            try:
                return int(self._answers.readline())
            finally:
                watch.cancel()
                watch.join()

    def close(self) -> None:
        self._answers.close()
        self._socket.close()
        self._process.wait()


@functools.cache
def _server(warnings: str | None) -> _ForkServer:
    return _ForkServer(warnings)
