"""Standard streams that are closed, full, broken, non-blocking, or in an encoding of their own."""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from localgen._util.standard_streams import prepare_streams
from tests.children import CAN_FORK, run_with_streams

PREPARED = "from localgen._util.standard_streams import prepare_streams as p; p(); import os, sys; "


class Raw(io.RawIOBase):
    """A stream that fails with an error number, or as long as it has ``busy`` turns left."""

    def __init__(self, error: int = 0, busy: int = 0, terminal: bool = False) -> None:
        self.data = b""
        self.error, self.busy, self.is_terminal = error, busy, terminal

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return 1

    def isatty(self) -> bool:
        return self.is_terminal

    def write(self, data: Any) -> Any:
        if self.error:
            raise OSError(self.error, os.strerror(self.error))
        if self.busy:
            self.busy -= 1
            return None
        self.data += bytes(data[:3])  # a pipe that takes a little at a time
        return len(data[:3])


Prepare = Callable[..., None]


@pytest.fixture
def prepare(monkeypatch: pytest.MonkeyPatch) -> Prepare:
    """Have the standard streams end in ``out`` and ``err``, and prepare them."""

    def run(out: Raw, err: Raw, encoding: str = "utf-8") -> None:
        for name, raw in (("stdout", out), ("stderr", err)):
            stream = io.TextIOWrapper(io.BufferedWriter(raw), encoding=encoding)
            monkeypatch.setattr(sys, name, stream)
        prepare_streams()

    return run


def test_stderr_is_a_courtesy(prepare: Prepare) -> None:
    """What it cannot take is dropped; when it can again, later messages arrive."""
    err = Raw(errno.ENOSPC)
    prepare(Raw(), err)
    print("lost", file=sys.stderr, flush=True)
    err.error = 0
    print("kept", file=sys.stderr, flush=True)
    assert err.data == b"kept\n"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EPIPE, errno.EIO])
def test_errors_of_stdout_name_it(number: int, prepare: Prepare) -> None:
    prepare(Raw(number), Raw())
    with pytest.raises(OSError, match=os.strerror(number)) as caught:
        print("text", flush=True)
    assert (caught.value.errno, caught.value.filename) == (number, "stdout")
    sys.stdout.flush()  # as the interpreter does when it ends: it was said once


def test_a_pipe_that_another_process_made_non_blocking(
    prepare: Prepare, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Regression: a long text raised BlockingIOError."""
    waits: list[object] = []
    monkeypatch.setattr("select.select", lambda *sets: waits.append(sets))
    out, err = Raw(busy=2), Raw(busy=1)
    prepare(out, err)
    print("a long text", flush=True)
    print("a message", file=sys.stderr, flush=True)
    assert (out.data, err.data) == (b"a long text\n", b"a message\n")
    assert len(waits) == 3


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "cp1252", "ascii"])
def test_pipes_are_utf8(encoding: str, prepare: Prepare) -> None:
    """Whatever PYTHONIOENCODING and the console say."""
    out, err = Raw(), Raw()
    prepare(out, err, encoding)
    print("né ✓", flush=True)
    print("né ✓", file=sys.stderr, flush=True)
    assert out.data == err.data == "né ✓\n".encode()


def test_a_terminal_keeps_its_encoding(prepare: Prepare) -> None:
    """What it lacks is a question mark in a text, and an escape in a message."""
    out, err = Raw(terminal=True), Raw(terminal=True)
    prepare(out, err, "cp1252")
    print("né ☃", flush=True)
    print("né ☃", file=sys.stderr, flush=True)
    assert sys.stdout.encoding == "cp1252"
    assert out.data == "né ?\n".encode("cp1252")
    assert err.data == "né \\u2603\n".encode("cp1252")


def test_names_of_files_are_the_bytes_that_they_are(prepare: Prepare) -> None:
    """``localgen models path`` prints a name that another program can open."""
    out = Raw()
    prepare(out, Raw(), "ascii")
    print(os.fsdecode(b"m\xff.gguf"), flush=True)
    assert out.data == b"m\xff.gguf\n"


def test_streams_of_others_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    """A notebook's are no files."""
    out, err = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    prepare_streams()
    assert (sys.stdout, sys.stderr) == (out, err)


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., tuple[int, str, str]]:
    """``run(code, closed)`` runs code in a child without the streams ``closed``, prepared.

    Returns its exit code and what it wrote to stdout and stderr.
    """
    if not CAN_FORK:
        pytest.skip("needs a forked child")
    out, err = tmp_path / "out", tmp_path / "err"

    def run(code: str, closed: str) -> tuple[int, str, str]:
        with open(os.devnull) as given, out.open("w") as stdout, err.open("w") as stderr:
            streams = (("stdin", given), ("stdout", stdout), ("stderr", stderr))
            fds = [None if name in closed else file.fileno() for name, file in streams]
            returncode = run_with_streams(PREPARED + code, fds=fds)
        return returncode, out.read_text("utf-8"), err.read_text("utf-8")

    return run


@pytest.mark.slow
def test_nothing_else_gets_the_number_of_a_closed_stream(run: Any, tmp_path: Path) -> None:
    """Regression: a file opened as descriptor 2 would hold what C prints to stderr."""
    code = f"f = open({str(tmp_path / 'file')!r}, 'w'); print(f.fileno(), flush=True)"
    for closed in ("stdin", "stderr", "stdin stderr"):
        returncode, out, _ = run(code, closed)
        assert returncode == 0
        assert int(out) > 2, closed


@pytest.mark.slow
def test_a_closed_stream_fails_when_it_is_used(run: Any) -> None:
    assert run("print('text', flush=True)", "stderr stdin")[:2] == (0, "text\n")
    for code, closed in (("print('text', flush=True)", "stdout"), ("sys.stdin.read()", "stdin")):
        returncode, _, said = run(code, closed)
        assert returncode == 1
        assert said.endswith(f"it is closed: '{closed}'\n")
    assert run("print('message', file=sys.stderr, flush=True)", "stderr") == (0, "", "")


@pytest.mark.slow
def test_children_inherit_a_stream_that_is_there(run: Any) -> None:
    """Else their first file would be their stderr."""
    code = "import subprocess; print(subprocess.run(['test', '-e', '/proc/self/fd/2']).returncode)"
    assert run(code, "stderr")[1] == "0\n"
