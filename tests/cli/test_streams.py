"""Every command with any two of its standard streams open, closed, full or broken; those that start
processes, with one.

stdout holds the result or the command fails; stderr is a courtesy, and what happens to it changes
neither the result nor the exit code.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import pytest

from tests.children import CAN_FORK, run_with_streams
from tests.cli.test_chat import TEMPLATE
from tests.cli.test_compare import MEASURED
from tests.cli.test_generate import ENVIRONMENT, RUN_COMMAND

pytestmark = pytest.mark.skipif(
    not (CAN_FORK and Path("/dev/full").exists()), reason="needs a forked child and /dev/full"
)

FOUR = ("--max-new-tokens", "4", "--min-new-tokens", "4", "--n-threads", "1")
GREEDY = (*FOUR, "--no-do-sample")
ROWS = '{"prompt": "a"}\n{"prompt": 1}\n{"prompt": "b"}\n{"prompt": 2}\n'
OUTPUTS = ("open", "closed", "full", "broken")
INPUTS = ("open", "closed")
# Each kind of stdout with each kind of stderr, and both with each kind of stdin: any two streams
# meet in every way, and all three are closed in one of them.
COMBINATIONS = [
    (INPUTS[(i + j + 1) % 2], stdout, stderr)
    for i, stdout in enumerate(OUTPUTS)
    for j, stderr in enumerate(OUTPUTS)
]
# For commands that start a process, which takes half a second: one of the outputs, or both closed.
ONE_OUTPUT = [
    each for each in COMBINATIONS if "open" in each[1:] or each[1:] == ("closed", "closed")
]


@dataclass(frozen=True)
class Case:
    """A command: its arguments, its stdin, and where its result is.

    prints: whether stdout has the result. reads: whether stdin is needed. same: what of a result is
    the same in every run. starts: whether the command starts a process of its own.
    """

    args: tuple[object, ...]
    stdin: str = ""
    prints: bool = True
    reads: bool = False
    same: Callable[[str], object] = str
    starts: bool = False


def texts(output: str) -> object:
    """The texts of a job's records, or its errors, by line."""
    records = [json.loads(line) for line in output.splitlines()[1:]]
    return {record["line"]: record.get("text", "error" in record) for record in records}


def names(output: str) -> object:
    """The keys of a JSON object, whose figures differ between runs."""
    return sorted(json.loads(output))


def n_lines(output: str) -> object:
    """The length of a text with figures of this moment."""
    return output.count("\n")


CASES = {
    "help": Case(("--help",)),
    "wrong option": Case(("generate", "hi", "--top-p", "7"), prints=False),
    "no model": Case(("generate", "hi", "-m", "no.gguf"), prints=False),
    "generate": Case(("generate", "the cat", "-m", "m.gguf", *FOUR, "--stats")),
    "generate, typed": Case(("generate", "-m", "m.gguf", *FOUR), "the cat", reads=True),
    "generate --json": Case(("generate", "a", "-m", "m.gguf", *FOUR, "--json"), same=names),
    "chat": Case(
        ("chat", "-m", "m.gguf", *FOUR, "--no-do-sample"), "one\n/stats\ntwo\n", reads=True
    ),
    "batch": Case(("batch", "rows.jsonl", "out.jsonl", "-m", "m.gguf", *FOUR), prints=False),
    "batch - -": Case(("batch", "-", "-", "-m", "m.gguf", *FOUR), ROWS, reads=True, same=texts),
    "inspect": Case(("inspect", "m.gguf"), same=n_lines),
    "inspect --json": Case(("inspect", "m.gguf", "--json"), same=names),
    "compare": Case(
        ("compare", "--from-json", "measured.json", "-o", "merged.json", "--overwrite")
    ),
    "models list": Case(("models", "list", "."), same=n_lines),
    "models aliases": Case(("models", "aliases")),
    "models path": Case(("models", "path", "./m.gguf")),
    "models rm": Case(("models", "rm", "org/none"), prints=False),
    "quantize": Case(("quantize", "m.gguf", "-t", "Q8_0", "-o", "made"), starts=True),
    "doctor": Case(("doctor", "-m", "m.gguf", "--no-probe", "--json"), same=names, starts=True),
    "bench": Case(
        ("bench", "m.gguf", "--prompt-lengths", "8", "--new-tokens", "8", "--batch-sizes", "1",
         "--depths", "0", "--rounds", "1", "--n-ctx", "128", "--n-threads", "1", "--json"),
        same=names, starts=True,
    ),
    "compare, measured": Case(
        ("compare", "m.gguf", "--levels", "m.gguf", "--n-ctx", "32", "--chunks", "1",
         "--no-speed", "--n-threads", "1", "--json"),
        same=names, starts=True,
    ),
}  # fmt: skip
# The result of a job is a file.
IN_A_FILE = {"batch": ("out.jsonl", texts)}


@dataclass(frozen=True)
class Ended:
    code: int
    result: object
    stderr: str


class Runner:
    """Runs commands in a folder with a model, a job's rows and a comparison."""

    def __init__(self, folder: Path, model: Path) -> None:
        self.folder = folder
        (folder / "m.gguf").symlink_to(model)
        (folder / "rows.jsonl").write_text(ROWS)
        MEASURED.save(folder / "measured.json")
        self.environment = {
            **ENVIRONMENT,
            "COLUMNS": "100",
            "HF_HUB_CACHE": str(folder / "cache"),
            "HF_HUB_OFFLINE": "1",
        }

    def run(self, name: str, case: Case, stdin: str, stdout: str, stderr: str) -> Ended:
        for made in ("out.jsonl", "made/m-Q8_0.gguf"):
            (self.folder / made).unlink(missing_ok=True)
        with ExitStack() as files:
            given = files.enter_context(_temporary())
            given.write(case.stdin)
            given.seek(0)
            outputs = [
                files.enter_context(tempfile.TemporaryFile("w+", encoding="utf-8"))
                for _ in range(2)
            ]
            fds = [given.fileno() if stdin == "open" else None]
            for kind, file in zip((stdout, stderr), outputs, strict=True):
                fds.append(_descriptor(kind, file.fileno(), files))
            code = run_with_streams(
                RUN_COMMAND,
                *map(str, case.args),
                fds=fds,
                warnings=None,
                env=self.environment,
                cwd=self.folder,
            )
            for file in outputs:
                file.seek(0)
            printed, said = (file.read() for file in outputs)
        result: object = case.same(printed) if printed else ""
        if name in IN_A_FILE and (self.folder / IN_A_FILE[name][0]).exists():
            made, same = IN_A_FILE[name]
            result = same((self.folder / made).read_text("utf-8"))
        return Ended(code, result, said)


def _temporary() -> IO[str]:
    return tempfile.TemporaryFile("w+", encoding="utf-8")


def _descriptor(kind: str, usual: int, files: ExitStack) -> int | None:
    if kind == "closed":
        return None
    if kind == "full":
        return files.enter_context(open("/dev/full", "w")).fileno()
    if kind == "broken":
        read_end, write_end = os.pipe()
        os.close(read_end)
        files.callback(os.close, write_end)
        return write_end
    return usual


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory, chatty: Path) -> Runner:
    return Runner(tmp_path_factory.mktemp("streams"), chatty)


@pytest.fixture(scope="module")
def chatty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from models.make_tiny import make_llama_bpe

    path = tmp_path_factory.mktemp("models") / "chatty.gguf"
    make_llama_bpe(path, chat_template=TEMPLATE)
    return path


def check(runner: Runner, name: str, case: Case) -> None:
    """Assert that a command does the same in each combination of streams, as far as it can."""
    usual = runner.run(name, case, "open", "open", "open")
    assert usual.code in (0, 1, 2), usual.stderr
    assert usual.result or not case.prints
    assert "Traceback" not in usual.stderr
    for stdin, stdout, stderr in ONE_OUTPUT if case.starts else COMBINATIONS:
        where = f"stdin {stdin}, stdout {stdout}, stderr {stderr}"
        ended = runner.run(name, case, stdin, stdout, stderr)
        assert "Traceback" not in ended.stderr, where
        assert "Exception ignored" not in ended.stderr, where
        if case.reads and stdin == "closed":
            assert ended.code == 1, where
            if stderr == "open":
                assert "stdin: it is closed" in ended.stderr, where
        elif case.prints and stdout != "open":
            assert ended.code == 1, where
            if stderr == "open" and stdout != "broken":  # ``| head`` is no news
                assert "stdout: " in ended.stderr, where
        else:
            assert (ended.code, ended.result) == (usual.code, usual.result), where


@pytest.mark.parametrize("name", CASES)
def test_any_two_streams(name: str, runner: Runner) -> None:
    check(runner, name, CASES[name])
