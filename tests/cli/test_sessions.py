"""``localgen generate --session``: what is loaded, and when it is saved."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from localgen import LocalModel, StateError
from localgen.cli.sessions import kept_session
from tests.cli.test_generate import EIGHT, ENDLESS, ENVIRONMENT, assert_refused, localgen_command
from tests.conftest import CHILD_SECONDS
from tests.fakes import FakeBackend, fake_model

PROMPT = "the cat sat on the mat, and nobody had asked it to"


@pytest.fixture
def run(tiny_bpe_path: Path, tmp_path: Path) -> Any:
    """``run(prompt, *args)`` runs ``localgen generate PROMPT --session …/s`` on a tiny model."""

    def run(prompt: str, *args: object) -> subprocess.CompletedProcess[str]:
        session = ("--session", tmp_path / "s")
        return localgen_command("generate", prompt, "-m", tiny_bpe_path, *session, *EIGHT, *args)

    return run


def answer(result: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert (result.returncode, result.stderr) == (0, "")
    data: dict[str, Any] = json.loads(result.stdout)
    return data


def test_next_run_resumes(run: Any, tiny: LocalModel) -> None:
    """The next process computes only the new part of the prompt."""
    first = answer(run(PROMPT, "--json"))
    assert first["stats"]["n_cached"] == 0
    longer = first["prompt"] + " at all"
    expected = tiny.complete(longer, max_new_tokens=8, min_new_tokens=8)
    second = answer(run(longer, "--json"))
    assert second["stats"]["n_cached"] >= len(first["prompt_token_ids"]) - 1
    assert second["token_ids"] == expected.token_ids


@pytest.mark.parametrize("content", [b"", b"hello", b"\x89lgs\r\n\x1a\n" + bytes(90)], ids=repr)
def test_file_that_is_not_a_session(content: bytes, run: Any, tmp_path: Path) -> None:
    """A file named by mistake causes an error before anything is generated, and stays as it is."""
    (tmp_path / "s").write_bytes(content)
    assert_refused(run(PROMPT), 1, str(tmp_path / "s"))
    assert (tmp_path / "s").read_bytes() == content


def test_session_of_other_settings(run: Any, tmp_path: Path) -> None:
    """The message says which option differs, and the file stays as it is."""
    assert run(PROMPT).returncode == 0
    before = (tmp_path / "s").read_bytes()
    assert_refused(run(PROMPT, "--kv-type", "f32"), 1, "--kv-type is f16, here it is f32")
    assert (tmp_path / "s").read_bytes() == before


INTERRUPTED = """
import signal, sys
from localgen.generation.streaming import CompletionStream as Stream
step, pieces = Stream.__next__, iter(range(9))
def next_piece(self):
    if next(pieces) == 5:
        signal.raise_signal(signal.SIGINT)
    return step(self)
Stream.__next__ = next_piece
from localgen.cli import main
main()
"""


def test_ctrl_c_saves(tiny_bpe_path: Path, tmp_path: Path) -> None:
    """The session has the tokens generated before Ctrl-C; the exit code is still 130."""
    args = ["generate", PROMPT, "-m", tiny_bpe_path, "--session", tmp_path / "s", *ENDLESS]
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, *map(str, args)],
        capture_output=True,
        env=ENVIRONMENT,
        timeout=CHILD_SECONDS,
        check=False,
    )
    assert (done.returncode, done.stderr) == (130, b"")
    with LocalModel.from_pretrained(tiny_bpe_path, n_ctx=512, n_threads=1) as model:
        assert model.load_session(tmp_path / "s") == 1
        assert model.complete(PROMPT, max_new_tokens=1).stats.n_cached > 16


def test_no_folder(tmp_path: Path) -> None:
    """It is an error before anything is generated, since nothing could be saved."""
    with (
        pytest.raises(FileNotFoundError, match=r"needs the folder .*, which does not exist"),
        kept_session(fake_model(), tmp_path / "no" / "s"),
    ):
        pytest.fail("it continued")


def test_error_leaves_the_file(tmp_path: Path) -> None:
    """A run that fails does not replace the session of an earlier one."""
    path = tmp_path / "s"
    fake_model().save_session(path)
    before = path.read_bytes()
    model = fake_model()
    model.complete(PROMPT, max_new_tokens=2)
    with pytest.raises(ValueError, match="empty"), kept_session(model, path):
        model.complete(["", "a text"], max_new_tokens=2)
    assert path.read_bytes() == before


def interrupt(backend: FakeBackend) -> None:
    """Ctrl-C, with a model that cannot be saved from then on."""
    backend.not_saved_because = "it forgets"
    raise KeyboardInterrupt


def test_save_that_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A session that cannot be saved is an error; after Ctrl-C it is only a message."""
    backend = FakeBackend()
    model = fake_model(backend=backend)
    with pytest.raises(StateError), kept_session(model, tmp_path / "s"):
        backend.not_saved_because = "it forgets"
    backend.not_saved_because = None
    with pytest.raises(KeyboardInterrupt), kept_session(model, tmp_path / "s"):
        interrupt(backend)
    (line,) = capsys.readouterr().err.splitlines()
    assert "not saved" in line
    assert "it forgets" in line
    assert not (tmp_path / "s").exists()


FULL_DISK = """
import resource, runpy
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
runpy.run_module('localgen', run_name='__main__', alter_sys=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on the size of files")
@pytest.mark.parametrize("args", [[], ["--json"], ["--stats"]], ids=" ".join)
def test_full_disk(args: list[str], run: Any, tiny_bpe_path: Path, tmp_path: Path) -> None:
    """The text comes first, then the error; an earlier session stays as it is."""
    expected = run(PROMPT).stdout
    before = (tmp_path / "s").read_bytes()
    command = ["generate", PROMPT, "-m", tiny_bpe_path, "--session", tmp_path / "s", *EIGHT, *args]
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, *map(str, command)],
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        timeout=CHILD_SECONDS,
        check=False,
    )
    assert done.returncode == 1
    text = json.loads(done.stdout)["text"] + "\n" if "--json" in args else done.stdout
    assert text == expected
    assert f"localgen: {tmp_path / 's'}: File too large\n" in done.stderr
    assert (tmp_path / "s").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["s"]
