"""A module of localgen, run in a process of its own: for what could kill this one, or hang it.

What the child writes goes to files. A pipe would stay open as long as any process that the child
has started, and reading it would outlast the time limit.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import IO, Any

from localgen.errors import LocalgenError

# ``-m`` would put the current folder before all others, and a file in it could hide a module. The
# child is to find what this process finds, and nothing else.
_RUN = (
    "import sys; sys.path[:] = filter(None, sys.path); import runpy; del sys.argv[0]; "
    "runpy.run_module(sys.argv[0], run_name='__main__')"
)
_KEPT_BYTES = 2**20
_MOST_CHARACTERS = 400


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a child gave no answer.

    reason: what follows "it", as in "was killed by SIGABRT". signal: the name of the signal that
    killed the child; None if it ended by itself, or ran out of time.
    """

    reason: str
    signal: str | None = None


@dataclass(frozen=True, slots=True)
class Ended:
    """How a process ended, and the end of what it wrote; a negative code is a signal's number."""

    code: int
    stdout: str
    stderr: str


def run_json_child(module: str, *args: str, limit_seconds: float) -> Any:
    """What ``python -m module args…`` answers; a Failure if that comes to nothing."""
    ended = run(
        [sys.executable, "-c", _RUN, module, *args],
        limit_seconds,
        {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    if isinstance(ended, Failure):
        return ended
    said = _last_object(ended.stdout)
    if ended.code == 0 and "answer" in said:
        return said["answer"]
    if ended.code == 0 and "error" in said:
        return Failure(f"failed: {said['error']}")
    return _failure(ended)


def answer(work: Callable[[], object]) -> None:
    """In the child: print what ``work`` gives, or what it raises, as JSON on the last line."""
    try:
        said = {"answer": work()}
    except Exception as error:
        own = isinstance(error, (LocalgenError, OSError)) and str(error)
        said = {"error": _short(str(error) if own else f"{type(error).__name__}: {error}")}
    print("\n" + json.dumps(said), flush=True)


def run(
    command: Sequence[str], limit_seconds: float, environment: dict[str, str] | None = None
) -> Ended | Failure:
    """Run ``command``, and after ``limit_seconds`` kill it and all that it has started."""
    with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        try:
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                env=environment,
                start_new_session=True,
            )
        except OSError as error:
            return Failure(f"could not be started: {error}")
        try:
            code = child.wait(limit_seconds)
        except subprocess.TimeoutExpired:
            return Failure(f"did not end within {limit_seconds:g} seconds")
        finally:
            if child.returncode is None:  # too late, or Ctrl-C, which it does not get itself
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()
        return Ended(code, _end_of(stdout), _end_of(stderr))


def _failure(ended: Ended) -> Failure:
    name = _signal_name(-ended.code) if ended.code < 0 else None
    if name:
        reason = f"was killed by {name}"
    elif ended.code:
        reason = f"ended with exit code {ended.code}"
    else:
        reason = "gave no answer"
    last = (ended.stderr.strip() or ended.stdout.strip()).splitlines()[-1:]
    return Failure(
        f"{reason}, and its last words were: {_short(last[0])}" if last else reason, name
    )


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _last_object(text: str) -> dict[str, Any]:
    """The last line that is a JSON object; empty if none is."""
    for line in reversed(text.splitlines()):
        try:
            found = json.loads(line)
        except ValueError:
            continue
        if isinstance(found, dict):
            return found
    return {}


def _end_of(file: IO[bytes]) -> str:
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _KEPT_BYTES))
    return file.read().decode("utf-8", errors="replace")


def _short(text: str) -> str:
    """``text`` on one line, and not too much of it."""
    line = " ".join(text.split())
    return line if len(line) <= _MOST_CHARACTERS else f"{line[:_MOST_CHARACTERS]}…"
