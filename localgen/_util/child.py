"""Runs a module of localgen in a child process: for work that could kill this one, or hang it.

The child writes to files. A pipe would stay open as long as any process that the child has started,
so reading it could outlast the time limit.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import IO, Any

from localgen.errors import BackendError, LocalgenError

# For Popen: Ctrl-C reaches this process alone, and ``kill_tree`` can end all of the child's.
OWN_GROUP: dict[str, Any] = {"start_new_session": True}
if sys.platform == "win32":
    OWN_GROUP = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
# ``-m`` would put the current folder first on sys.path, and a file in it could hide a module. The
# child must import what this process imports.
_RUN = (
    "import sys; sys.path[:] = filter(None, sys.path); import runpy; del sys.argv[0]; "
    "runpy.run_module(sys.argv[0], run_name='__main__')"
)
_KEPT_BYTES = 2**20
_MAX_CHARACTERS = 400
# The exit codes of a process that Windows ends, by the signal that POSIX sends for the same fault.
_NTSTATUS = {
    0xC0000005: "SIGSEGV",
    0xC000001D: "SIGILL",
    0xC0000094: "SIGFPE",
    0xC00000FD: "SIGSEGV",
    0xC0000409: "SIGABRT",
}


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a child returned no answer.

    reason: continues a sentence about the process, as "was killed by SIGABRT". signal: the name of
    the signal that killed the child; None if it exited by itself or exceeded its time limit.
    """

    reason: str
    signal: str | None = None


@dataclass(frozen=True, slots=True)
class Ended:
    """A process's exit code, negative for a signal's number, and the end of its output."""

    code: int
    stdout: str
    stderr: str


def interpreter() -> str:
    """Return the Python interpreter of this process.

    Raises BackendError in a frozen program, whose ``sys.executable`` would start the program once
    more, and in one that embeds Python and has none.
    """
    if getattr(sys, "frozen", False) or not sys.executable:
        raise BackendError(
            "this needs a Python interpreter for a child process, and this program is frozen or "
            "embeds Python without one"
        )
    return sys.executable


def module_command(module: str, *args: str) -> list[str]:
    """Return the command that runs a module as a program in a new interpreter, which needs
    ``module_environment``. Raises BackendError as ``interpreter``."""
    return [interpreter(), "-c", _RUN, module, *args]


def module_environment(path: Iterable[str]) -> dict[str, str]:
    """Return the environment of a child that imports from ``path``."""
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path),
        "PYTHONIOENCODING": "utf-8",
    }


def run_json_child(module: str, *args: str, limit_seconds: float) -> Any:
    """Return what ``python -m module args…`` answers, or a Failure."""
    try:
        command = module_command(module, *args)
    except BackendError as error:
        return Failure(f"could not be started: {error}")
    ended = run(command, limit_seconds, module_environment(filter(None, sys.path)))
    if isinstance(ended, Failure):
        return ended
    last = _last_object(ended.stdout)
    if ended.code == 0 and "answer" in last:
        return last["answer"]
    if ended.code == 0 and "error" in last:
        return Failure(f"failed: {last['error']}")
    return _failure(ended)


def answer(work: Callable[[], object]) -> None:
    """In the child, print what ``work`` returns or raises, as JSON on the last line."""
    try:
        result = {"answer": work()}
    except Exception as error:
        own = isinstance(error, (LocalgenError, OSError)) and str(error)
        result = {"error": _short(str(error) if own else f"{type(error).__name__}: {error}")}
    print("\n" + json.dumps(result), flush=True)


def run(
    command: Sequence[str], limit_seconds: float, environment: dict[str, str] | None = None
) -> Ended | Failure:
    """Run ``command``; after ``limit_seconds`` kill it and every process that it has started."""
    with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        try:
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                env=environment,
                **OWN_GROUP,
            )
        except OSError as error:
            return Failure(f"could not be started: {error}")
        try:
            code = child.wait(limit_seconds)
        except subprocess.TimeoutExpired:
            return Failure(f"did not end within {limit_seconds:g} seconds")
        finally:
            if child.returncode is None:  # the time limit, or Ctrl-C
                kill_tree(child)
        return Ended(code, _end_of(stdout), _end_of(stderr))


def kill_tree(process: subprocess.Popen[Any]) -> None:
    """Kill a process started with ``OWN_GROUP`` and all that it has started; wait for its end."""
    if sys.platform != "win32" and hasattr(os, "killpg"):
        with contextlib.suppress(OSError):  # macOS refuses where only a zombie is left
            os.killpg(process.pid, signal.SIGKILL)
    else:
        _kill_descendants(process)
    process.wait()


def _kill_descendants(process: subprocess.Popen[Any]) -> None:
    """Kill a process and its descendants where there are no process groups to kill."""
    import psutil  # noqa: PLC0415  # rarely needed

    tree = []
    with contextlib.suppress(psutil.Error):
        tree = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    for each in tree:
        with contextlib.suppress(psutil.Error):
            each.kill()


def _failure(ended: Ended) -> Failure:
    name = signal_name(ended.code)
    if name:
        reason = f"was killed by {name}"
    elif ended.code:
        reason = f"ended with exit code {ended.code}"
    else:
        reason = "returned no answer"
    last = (ended.stderr.strip() or ended.stdout.strip()).splitlines()[-1:]
    if last:
        reason += f"; its last line of output: {_short(last[0])}"
    return Failure(reason, name)


def signal_name(code: int) -> str | None:
    """Return the name of the signal that an exit code stands for; None if it is no signal."""
    if code >= 0:
        return _NTSTATUS.get(code)
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


def _last_object(text: str) -> dict[str, Any]:
    """Return the last line that is a JSON object, parsed; an empty dict if none is."""
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
    """Return ``text`` on one line, cut to a readable length."""
    line = " ".join(text.split())
    return line if len(line) <= _MAX_CHARACTERS else f"{line[:_MAX_CHARACTERS]}…"
