"""The command in unusual processes: without a home, in other encodings, without a console."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from localgen import LocalModel
from tests.cli.test_generate import COMMAND, EIGHT, ENVIRONMENT, RUN_COMMAND
from tests.conftest import CHILD_SECONDS

Result = subprocess.CompletedProcess[bytes]
Run = Callable[..., Result]

# The system does not know the user, as in a container that runs as any number.
NO_HOME = f"import sys; sys.modules['pwd'] = None; {RUN_COMMAND}"
NO_CONSOLE = f"import sys; sys.stdin = sys.stdout = sys.stderr = None; {RUN_COMMAND}"


def run(code: str, *args: object, stdin: bytes = b"", **env: str | None) -> Result:
    """Run ``python -c code args…`` with variables set, or unset where None."""
    environment: dict[str, Any] = {**ENVIRONMENT, **env}
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, args)],
        input=stdin,
        capture_output=True,
        env={name: value for name, value in environment.items() if value is not None},
        timeout=CHILD_SECONDS,
        check=False,
    )


# --- no home ---


def without_home(*args: object) -> Result:
    return run(NO_HOME, *args, HOME=None, HF_HOME=None, HF_HUB_CACHE=None, XDG_CACHE_HOME=None)


def test_a_model_below_a_home_that_is_unknown() -> None:
    done = without_home("generate", "hi", "-m", "~/m.gguf")
    assert (done.returncode, done.stdout) == (1, b"")
    (line,) = done.stderr.splitlines()
    assert line.startswith(b"localgen: ~/m.gguf")
    assert b"HOME" in line


def test_generate_without_a_home(tiny_bpe_path: Path) -> None:
    done = without_home("generate", "the cat", "-m", tiny_bpe_path, *EIGHT)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("args", [("models", "list"), ("models", "rm", "org/name", "-y")])
def test_the_cache_without_a_home(args: tuple[str, ...]) -> None:
    """One sentence says what to set, if anything is said at all."""
    done = without_home(*args)
    assert done.returncode in (0, 1)
    assert b"Traceback" not in done.stderr
    assert done.returncode == 0 or b"Set HF_HOME" in done.stderr


def test_doctor_without_a_home(tiny_bpe_path: Path) -> None:
    done = without_home("doctor", "-m", tiny_bpe_path, "--no-probe", "--json")
    assert b"Traceback" not in done.stderr
    assert json.loads(done.stdout)["facts"]["model"]["file"] == str(tiny_bpe_path)


# --- encodings ---


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "cp1252", "ascii"])
def test_pipes_are_utf8(encoding: str, tiny_bpe_path: Path) -> None:
    """Regression: prompt and text had question marks."""
    args = ("generate", "-m", tiny_bpe_path, *EIGHT)
    prompt = "né ✓ 漢"
    done = run(RUN_COMMAND, *args, "--json", stdin=prompt.encode(), PYTHONIOENCODING=encoding)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.decode("utf-8"))
    assert found["prompt"] == prompt
    text = run(RUN_COMMAND, *args, stdin=prompt.encode(), PYTHONIOENCODING=encoding).stdout
    assert text.decode("utf-8") == found["text"] + "\n"


@pytest.mark.parametrize("args", [(), ("-",)], ids=["no prompt", "-"])
def test_a_prompt_from_a_pipe(args: tuple[str, ...], tiny_bpe_path: Path, tiny: LocalModel) -> None:
    """A byte-order mark is not part of it, and - is stdin as in ``batch``."""
    expected = tiny.complete("the cat", max_new_tokens=8, min_new_tokens=8).text
    for mark in (b"", b"\xef\xbb\xbf"):
        done = run(
            RUN_COMMAND, "generate", *args, "-m", tiny_bpe_path, *EIGHT, stdin=mark + b"the cat"
        )
        assert done.stdout.decode() == expected + "\n", done.stderr


def test_a_prompt_in_utf16(tiny_bpe_path: Path) -> None:
    """What Windows' PowerShell writes to files: an error, not a text of other characters."""
    done = run(RUN_COMMAND, "generate", "-m", tiny_bpe_path, stdin="hi".encode("utf-16"))
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr == b"localgen: stdin is UTF-16 text. Save or pipe it as UTF-8.\n"


# --- no console ---


@pytest.mark.skipif(sys.platform == "win32", reason="needs a shell")
@pytest.mark.parametrize(
    ("closed", "code", "said"),
    [
        ("<&-", 0, b""),
        ("2>&-", 0, b""),
        ("<&- 2>&-", 0, b""),
        (">&-", 1, b"localgen: stdout: it is closed\n"),
        ("<&- >&- 2>&-", 1, b""),
    ],
)
def test_closed_streams(
    closed: str, code: int, said: bytes, tiny_bpe_path: Path, tiny: LocalModel
) -> None:
    """As Python finds them when it starts."""
    command = [*COMMAND, "generate", "the cat", "-m", str(tiny_bpe_path), *EIGHT]
    done = subprocess.run(
        ["sh", "-c", f'"$@" {closed}', "sh", *command],
        capture_output=True,
        env=ENVIRONMENT,
        timeout=CHILD_SECONDS,
        check=False,
    )
    text = tiny.complete("the cat", max_new_tokens=8, min_new_tokens=8).text
    assert (done.returncode, done.stderr) == (code, said)
    assert done.stdout.decode() == ("" if code else text + "\n")


def test_a_job_without_a_console(tiny_bpe_path: Path, tmp_path: Path) -> None:
    """``pythonw``, a service: there are no streams, and the result is a file."""
    rows, results = tmp_path / "rows.jsonl", tmp_path / "results.jsonl"
    rows.write_text('{"prompt": "a"}\n{"prompt": 1}\n')
    done = run(NO_CONSOLE, "batch", rows, results, "-m", tiny_bpe_path, *EIGHT)
    assert done.returncode == 1
    assert len(results.read_bytes().splitlines()) == 3


LIBRARY = """
import sys
out, sys.stdin, sys.stdout, sys.stderr = sys.stdout, None, None, None
from localgen import LocalModel, quantize
with LocalModel.from_pretrained(sys.argv[1], n_ctx=512, n_threads=1) as model:
    text = "".join(model.stream("the cat", max_new_tokens=8, min_new_tokens=8))
quantize(sys.argv[1], "Q8_0", output=sys.argv[2])
print(text, file=out)
"""


def test_the_library_without_a_console(
    tiny_bpe_path: Path, tmp_path: Path, tiny: LocalModel
) -> None:
    """A program with a window of its own loads and runs models as any other."""
    done = run(LIBRARY, tiny_bpe_path, tmp_path)
    assert (done.returncode, done.stderr) == (0, b"")
    text = tiny.complete("the cat", max_new_tokens=8, min_new_tokens=8).text
    assert done.stdout.decode() == text + "\n"
    assert len(list(tmp_path.glob("*-Q8_0.gguf"))) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="names are text elsewhere")
def test_the_path_of_a_model_whose_name_is_not_text(tiny_bpe_path: Path, tmp_path: Path) -> None:
    """Regression: its bytes were printed as question marks, which no program can open."""
    path = tmp_path / os.fsdecode(b"m\xff.gguf")
    path.symlink_to(tiny_bpe_path)
    done = run(RUN_COMMAND, "models", "path", path)
    assert done.stdout == os.fsencode(path) + b"\n"
