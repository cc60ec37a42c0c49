"""A child process that crashes, hangs or prints garbage is a Failure, and no more."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from localgen._util import child
from localgen._util.child import Failure
from tests.conftest import CHILD_SECONDS

pytestmark = pytest.mark.slow
Script = Callable[..., object]
ANSWER = "from localgen._util import child; child.answer"


@pytest.fixture
def ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Script:
    """``ask(code)`` runs a module with that code and returns its answer."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def run(code: str, *args: str, limit_seconds: float = CHILD_SECONDS) -> object:
        (tmp_path / "asked.py").write_text(code, "utf-8")
        return child.run_json_child("asked", *args, limit_seconds=limit_seconds)

    return run


def test_the_answer_comes_whatever_else_is_printed(ask: Script) -> None:
    """Other output, even at exit, does not get into the answer."""
    code = "import atexit; atexit.register(print, 'bye'); print('[1]', end='')\n"
    assert ask(code + ANSWER + "(lambda: {'n': [1, None, 'é']})") == {"n": [1, None, "é"]}


def test_arguments_arrive(ask: Script) -> None:
    assert ask(f"import sys; {ANSWER}(lambda: sys.argv[1:])", "a b", "ç") == ["a b", "ç"]


def test_an_exception_is_reported_without_a_traceback(ask: Script) -> None:
    """Errors of localgen and of the system explain themselves; others are shown with their type."""
    assert ask(f"{ANSWER}(lambda: {{}}['x'])") == Failure("failed: KeyError: 'x'")
    named = (
        "from localgen import BackendError\ndef work(): raise BackendError('no\\n such thing')\n"
    )
    assert ask(f"{named}{ANSWER}(work)") == Failure("failed: no such thing")


@pytest.mark.parametrize("name", ["SIGABRT", "SIGSEGV", "SIGKILL"])
def test_a_death_by_signal_is_named(ask: Script, name: str) -> None:
    """With the last line of stderr, where C prints a failed assertion."""
    code = f"import os, signal, sys; print('ggml: no!', file=sys.stderr, flush=True)\n{ANSWER}"
    failure = ask(f"{code}(lambda: os.kill(os.getpid(), signal.{name}))")
    assert failure == Failure(
        f"was killed by {name}; its last line of output: ggml: no!", signal=name
    )


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's numbers of real-time signals")
def test_a_signal_without_a_name_has_its_number(ask: Script) -> None:
    """Python names only the first and the last of the real-time signals."""
    failure = ask(f"import os\n{ANSWER}(lambda: os.kill(os.getpid(), 40))")
    assert failure == Failure("was killed by signal 40", signal="signal 40")


@pytest.mark.parametrize(
    ("code", "name"), [(0xC000001D, "SIGILL"), (0xC0000005, "SIGSEGV"), (0xC0000409, "SIGABRT")]
)
def test_a_crash_on_windows_is_named_as_its_signal(
    ask: Script, monkeypatch: pytest.MonkeyPatch, code: int, name: str
) -> None:
    """Windows has no signals: a crash is an exit code with the kernel's status."""
    wait = subprocess.Popen.wait

    def crashed(process: Any, timeout: float | None = None) -> int:
        wait(process, timeout)
        return code

    monkeypatch.setattr(subprocess.Popen, "wait", crashed)
    assert ask("") == Failure(f"was killed by {name}", signal=name)


def test_an_answer_before_a_death_does_not_count(ask: Script) -> None:
    failure = ask(f"import os; {ANSWER}(lambda: 1); os.abort()")
    assert isinstance(failure, Failure)
    assert failure.signal == "SIGABRT"


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("", "returned no answer"),
        ("print('{')", "returned no answer; its last line of output: {"),
        ("print([1])", "returned no answer; its last line of output: [1]"),
        ("import os; os.write(1, bytes(range(255)))", "returned no answer"),
        ("print('7' * 5000)", "returned no answer"),
        ("raise SystemExit(3)", "ended with exit code 3"),
        ("import nowhere", "exit code 1; its last line of output: ModuleNotFoundError"),
    ],
)
def test_nonsense_is_no_answer(ask: Script, code: str, reason: str) -> None:
    failure = ask(code)
    assert isinstance(failure, Failure)
    assert reason in failure.reason
    assert failure.signal is None
    assert len(failure.reason) < 500


@pytest.mark.parametrize("has_groups", [True, False])
def test_a_hang_ends_with_all_that_it_started(
    has_groups: bool, ask: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A grandchild that holds stdout open is neither waited for nor left behind; nor is it where
    the system has no process groups to kill."""
    if not has_groups:
        monkeypatch.delattr(os, "killpg", raising=False)
    pid_file = tmp_path / "pid"
    sleep = [sys.executable, "-c", f"import time; time.sleep({20 * CHILD_SECONDS})"]
    code = (
        f"import pathlib, subprocess; grandchild = subprocess.Popen({sleep})\n"
        f"pathlib.Path({str(pid_file)!r}).write_text(str(grandchild.pid))\n"
        f"grandchild.wait()"
    )
    wait = subprocess.Popen.wait

    def wait_for_grandchild(process: Any, timeout: float | None = None) -> int:
        """Start the time limit when the grandchild runs, however slow this machine is."""
        if timeout is not None:
            _await(lambda: pid_file.exists() and pid_file.read_text() != "")
        return wait(process, timeout)

    monkeypatch.setattr(subprocess.Popen, "wait", wait_for_grandchild)
    assert ask(code, limit_seconds=0.1) == Failure("did not end within 0.1 seconds")
    pid = int(pid_file.read_text())
    try:
        _await(lambda: _is_dead(pid))
    except TimeoutError:
        psutil.Process(pid).kill()
        raise


def test_a_module_in_the_current_folder_hides_no_other(
    ask: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``localgen`` runs in folders full of other files."""
    folder = tmp_path / "project"
    folder.mkdir()
    for name in ("json", "runpy", "llama_cpp"):
        (folder / f"{name}.py").write_text("raise SystemExit('hidden')")
    monkeypatch.chdir(folder)
    found = "import importlib.util, json; spec = importlib.util.find_spec('llama_cpp')\n"
    origin = ask(f"{found}{ANSWER}(lambda: spec and spec.origin)")
    assert isinstance(origin, str)
    assert not origin.startswith(str(folder))


def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    failure = child.run([str(tmp_path / "nothing")], CHILD_SECONDS)
    assert isinstance(failure, Failure)
    assert "could not be started" in failure.reason


def _await(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + CHILD_SECONDS
    while not is_so():
        if time.monotonic() > deadline:
            raise TimeoutError


def _is_dead(pid: int) -> bool:
    """Return whether the process is gone, or a zombie that nobody waits for."""
    try:
        os.kill(pid, 0)
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except ProcessLookupError:
        return True
    except FileNotFoundError:  # it has just gone, or this system has no such files
        return False
    return state == "Z"


@pytest.mark.parametrize("executable", [None, ""])
def test_a_program_that_embeds_python(
    executable: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", executable)
    failure = child.run_json_child("json", limit_seconds=CHILD_SECONDS)
    assert isinstance(failure, Failure)
    assert "could not be started: this needs a Python interpreter" in failure.reason


def test_a_frozen_program(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its ``sys.executable`` is the program itself, which would start once more."""
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    monkeypatch.setattr(sys, "executable", "/bin/false")
    failure = child.run_json_child("json", limit_seconds=CHILD_SECONDS)
    assert isinstance(failure, Failure)
    assert "this program is frozen" in failure.reason
