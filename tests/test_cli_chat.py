"""``localgen chat``: questions from a pipe, and a chat in a real terminal."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pexpect
import pytest

from models.make_tiny import make_llama_bpe
from tests.conftest import CHILD_SECONDS
from tests.test_cli import COMMAND, ENVIRONMENT, localgen_command

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SMALL = ("--n-ctx", "256", "--n-threads", "1")
SHORT = ("--max-new-tokens", "8", "--min-new-tokens", "8")
ENDLESS = ("--max-new-tokens", "400", "--min-new-tokens", "400")


@pytest.fixture(scope="module")
def chatty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model with a chat template."""
    path = tmp_path_factory.mktemp("models") / "chatty.gguf"
    make_llama_bpe(path, chat_template=TEMPLATE)
    return path


@pytest.fixture
def chat(chatty: Path) -> Any:
    """``chat(lines, *args)`` runs ``localgen chat`` with ``lines`` on stdin."""

    def run(lines: str, *args: object) -> subprocess.CompletedProcess[str]:
        return localgen_command("chat", "-m", chatty, *SMALL, *args, input=lines)

    return run


def test_questions_from_a_pipe(chat: Any) -> None:
    """Each line is a question; stdout has the answers alone, the same for the same seed."""
    first = chat("hello\nthe end\n", *SHORT, "--seed", "3")
    assert (first.returncode, "limit" in first.stderr) == (0, True)
    assert first.stdout.count("\n") >= 2
    assert chat("hello\nthe end\n", *SHORT, "--seed", "3").stdout == first.stdout


def test_commands(chat: Any, tmp_path: Path) -> None:
    """What the commands do is seen in the chat that is saved."""
    path = tmp_path / "chat.json"
    lines = ["/help", "/system Be kind.", "one", "two", "/undo", "/retry", "/stats", "/what"]
    lines += [f"/save {path}", f"/save {path}", "/exit", "never read"]
    result = chat("\n".join(lines), *SHORT)
    assert result.returncode == 1  # for /what
    assert f"saved to {path}\nsaved to {path}, in place of what was there" in result.stderr
    messages = json.loads(path.read_text("utf-8"))["messages"]
    assert [each["role"] for each in messages] == ["system", "user", "assistant"]
    assert [each["content"] for each in messages[:2]] == ["Be kind.", "one"]
    for words in ("/retry", "taken back: two", "context: ", "prompt tokens", "no command /what"):
        assert words in result.stderr
    again = chat("/stats\n", "--load", path)
    assert (again.returncode, again.stdout) == (0, "")
    assert "context: " in again.stderr


def test_errors_do_not_end_the_chat(chat: Any, tmp_path: Path) -> None:
    """A question that is too long, a file that is missing, nothing to retry: the chat goes on."""
    lines = ["/retry", f"/load {tmp_path / 'none'}", "/save", "x " * 500, "hello"]
    lines += [f"/save {tmp_path}", f"/save {tmp_path / 'none' / 'chat.json'}"]
    result = chat("\n".join(lines), *SHORT)
    assert result.returncode == 1
    missing = f"{tmp_path / 'none'}: No such file or directory\n"
    for words in ("no question", missing, "needs the name", "--n-ctx", "limit"):
        assert words in result.stderr
    assert f"localgen: {tmp_path}: Is a directory\n" in result.stderr
    assert f"localgen: {tmp_path / 'none' / 'chat.json'}: its folder is not" in result.stderr
    assert result.stdout.strip()


def test_full_context(chat: Any) -> None:
    """The oldest messages are forgotten where that was chosen, and it is said."""
    lines = "\n".join(f"{i} {'hello ' * 20}" for i in range(5))
    stopped = chat(lines, *SHORT)
    assert "n-ctx" in stopped.stderr
    dropped = chat(lines, *SHORT, "--overflow", "drop-oldest")
    assert "oldest messages are forgotten" in dropped.stderr
    assert dropped.stdout.count("\n") > stopped.stdout.count("\n")


def test_wrong_options(chat: Any, tiny_bpe_path: Path) -> None:
    """A wrong choice is said before the model is loaded; a model without a template says so."""
    assert chat("", "--overflow", "never").returncode == 2
    result = chat("hello\n", "-m", tiny_bpe_path)
    assert result.returncode == 1
    assert "no chat template" in result.stderr


@pytest.fixture
def terminal(chatty: Path, tmp_path: Path) -> Iterator[pexpect.spawn]:
    """A chat whose answers do not end by themselves, in a terminal."""
    args = [*COMMAND[1:], "chat", "-m", chatty, "--n-ctx", "512", "--n-threads", "1", *ENDLESS]
    environment = {**ENVIRONMENT, "XDG_STATE_HOME": str(tmp_path), "TERM": "xterm"}
    args = list(map(str, args))
    child = pexpect.spawn(COMMAND[0], args, timeout=CHILD_SECONDS, env=environment)
    yield child
    child.close(force=True)


def test_a_chat_in_a_terminal(terminal: pexpect.spawn, tmp_path: Path) -> None:
    """Ctrl-C stops an answer and keeps the chat, a paste may have lines, Ctrl-D leaves."""
    terminal.expect("/help lists")
    terminal.expect(r"\[0/512\] >")
    terminal.send("\x1b[200~first line\nsecond line\x1b[201~")
    terminal.expect("second line")
    terminal.send("\r")
    terminal.expect("\n[^\n]{20}")
    terminal.send("\x03")
    terminal.expect(r"\[[1-9]\d*/512\] >")
    terminal.send(f"/save {tmp_path / 'chat.json'}\r")
    terminal.expect("saved to")
    terminal.expect("512. >")
    terminal.send("\x03")
    terminal.expect("Ctrl-D or /exit")
    terminal.send("\x04")
    terminal.expect(pexpect.EOF)
    terminal.close()
    assert terminal.exitstatus == 0
    question, answer = json.loads((tmp_path / "chat.json").read_text("utf-8"))["messages"]
    assert question["content"] == "first line\nsecond line"
    assert answer["content"]
    history = tmp_path / "localgen" / "chat_history"
    assert "second line" in history.read_text("utf-8")
    assert history.stat().st_mode & 0o77 == 0
