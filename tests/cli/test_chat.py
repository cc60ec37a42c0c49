"""``localgen chat``: questions from a pipe, and a chat in a real terminal."""

from __future__ import annotations

import io
import json
import subprocess
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pexpect
import pytest

from localgen import ContextFullError, DecodeError, GenerationConfig
from localgen.cli.chat import Chat, _context_full, _with_sampling
from localgen.cli.conversation import Conversation, MessageTooLongError
from localgen.cli.options import as_reasoning
from models.make_tiny import make_llama_bpe
from tests.cli.test_generate import COMMAND, ENVIRONMENT, localgen_command
from tests.conftest import CHILD_SECONDS
from tests.fakes import FakeBackend, fake_model, spelling
from tests.generation.replying import TEMPLATE as REPLYING
from tests.generation.replying import replying_model

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
THINKS = REPLYING.replace("{#-", "{{ enable_thinking }}{#- <think>")
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
    """Each line is a question; stdout has only the answers, the same for the same seed."""
    first = chat("hello\nthe end\n", *SHORT, "--seed", "3")
    assert (first.returncode, "limit" in first.stderr) == (0, True)
    assert first.stdout.count("\n") >= 2
    assert chat("hello\nthe end\n", *SHORT, "--seed", "3").stdout == first.stdout


def test_commands(chat: Any, tmp_path: Path) -> None:
    """The saved chat shows what the commands did."""
    path = tmp_path / "chat.json"
    lines = ["/help", "/system Be kind.", "one", "two", "/undo", "/retry", "/stats", "/what"]
    lines += [f"/save {path}", f"/save {path}", "/exit", "never read"]
    result = chat("\n".join(lines), *SHORT)
    assert result.returncode == 1  # for /what
    assert f"saved to {path}\nsaved to {path} (replaced the old file)" in result.stderr
    messages = json.loads(path.read_text("utf-8"))["messages"]
    assert [each["role"] for each in messages] == ["system", "user", "assistant"]
    assert [each["content"] for each in messages[:2]] == ["Be kind.", "one"]
    for words in ("/retry", "removed: two", "context: ", "prompt tokens", "command /what"):
        assert words in result.stderr
    again = chat("/stats\n", "--load", path)
    assert (again.returncode, again.stdout) == (0, "")
    assert "context: " in again.stderr


def test_errors_do_not_end_the_chat(chat: Any, tmp_path: Path) -> None:
    """After a question that is too long or a missing file, the chat continues."""
    lines = ["/retry", f"/load {tmp_path / 'none'}", "/save", "x " * 500, "hello"]
    (tmp_path / "taken").touch()
    lines += [f"/save {tmp_path}", f"/save {tmp_path / 'taken' / 'chat.json'}"]
    result = chat("\n".join(lines), *SHORT)
    assert result.returncode == 1
    missing = f"{tmp_path / 'none'}: No such file or directory\n"
    too_long = "tokens, and --n-ctx is 256. Shorten the message, or use a larger --n-ctx.\n"
    for words in ("no question", missing, "needs a file name", too_long, "limit"):
        assert words in result.stderr
    assert f"localgen: {tmp_path}: it is a folder. Name a file in it\n" in result.stderr
    taken = tmp_path / "taken"
    assert f"localgen: {taken / 'chat.json'}: {taken} is not a folder" in result.stderr
    assert result.stdout.strip()


def test_system_message_is_shown_and_removed(chat: Any) -> None:
    """A bare /system only shows it."""
    lines = ["/system", "/system Be kind.", "/system", "/system -", "/system"]
    said = chat("\n".join(lines)).stderr
    assert said.count("Be kind.") == 1
    assert said.count("no system message") == 2
    assert said.count("system message removed") == 1


def test_texts_that_begin_with_a_slash(chat: Any, tmp_path: Path) -> None:
    """A path is not a command; two slashes send it. Quotes around a file name are removed."""
    path = tmp_path / "a chat.json"
    result = chat(f"/usr/bin is what?\n//usr/bin is what?\n/save '{path}'", *SHORT)
    assert "unknown command /usr/bin. Type /help for the commands, or //" in result.stderr
    assert json.loads(path.read_text("utf-8"))["messages"][0]["content"] == "/usr/bin is what?"


def test_full_context(chat: Any) -> None:
    """With drop-oldest the oldest messages are dropped, with a message."""
    # Of two lengths: where a question just fits, its answer may be a part of a character, which is
    # no answer and is not kept. The next question of that length would fit as well.
    lines = "\n".join(f"{i} {'hello ' * (20 + 6 * (i % 2))}" for i in range(10))
    seeded = (*SHORT, "--seed", "3")
    stopped = chat(lines, *seeded)
    assert "the context is full: the chat has " in stopped.stderr
    assert "Shorten the message, or use --overflow drop-oldest or a larger" in stopped.stderr
    dropped = chat(lines, *seeded, "--overflow", "drop-oldest")
    assert "the context is full; dropped 2 old messages" in dropped.stderr
    assert dropped.stdout.count("\n") > stopped.stdout.count("\n")


@pytest.mark.parametrize(
    ("error", "is_terminal", "advice"),
    [
        (ContextFullError(9, 8), True, "Remove messages (/undo, /clear), or restart with --overf"),
        (ContextFullError(9, 8), False, "Shorten the message, or use --overflow drop-oldest or"),
        (MessageTooLongError(9, 8), True, "Shorten the message, or use a larger --n-ctx."),
    ],
)
def test_what_helps_in_a_full_context(
    error: ContextFullError, is_terminal: bool, advice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Regression: a pipe was told to type /undo, and so was a chat with a single long message."""
    monkeypatch.setattr("sys.stdin.isatty", lambda: is_terminal, raising=False)
    assert f"9 tokens, and --n-ctx is 8. {advice}" in _context_full(error)


@pytest.mark.parametrize(
    "config",
    [
        GenerationConfig(do_sample=False),
        GenerationConfig(do_sample=True),
        GenerationConfig(temperature=0.3),
    ],
)
def test_sampling_that_was_chosen_is_kept(config: GenerationConfig) -> None:
    """Only a chat in which nothing was chosen, or just a seed, samples as a chat does."""
    model = fake_model()
    assert _with_sampling(config, model) is config
    seeded = _with_sampling(GenerationConfig(seed=4), model)
    assert (seeded.do_sample, seeded.temperature, seeded.top_p) == (True, 0.7, 0.9)
    assert seeded.seed == 4


def test_wrong_options(chat: Any, tiny_bpe_path: Path) -> None:
    """A wrong choice is refused before the model loads; a missing template is an error."""
    assert chat("", "--overflow", "never").returncode == 2
    assert "cannot be streamed" in chat("", "--num-beams", "2").stderr
    result = chat("hello\n", "-m", tiny_bpe_path)
    assert result.returncode == 1
    assert "no chat template" in result.stderr


# --- on a fake model that fails on demand ---

PLAIN = "{% for m in messages %}{{ m.content }}?{% endfor %}"
Said = tuple[list[str], str, str]  # the messages' contents, stdout and stderr
Talk = Callable[..., Said]


@pytest.fixture
def backend() -> FakeBackend:
    backend = FakeBackend(spelling("yes, it is"))
    backend.vocab.chat_templates = {"default": PLAIN}  # type: ignore[misc]
    return backend


@pytest.fixture
def talk(
    backend: FakeBackend, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Talk:
    """``talk(line, …)`` runs a chat with these lines as input."""

    def run(*lines: str) -> Said:
        model = fake_model(backend=backend)
        chat = Chat(model, Conversation(model, GenerationConfig(max_new_tokens=20)))
        monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(lines)))
        chat.run()
        said = capsys.readouterr()
        return [message["content"] for message in chat.conversation.messages], said.out, said.err

    return run


def test_reasoning_is_limited_in_every_answer(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with replying_model("<think>Hm. Hm. Hm. Hm.", template=THINKS) as model:
        config = GenerationConfig(max_new_tokens=20)
        conversation = Conversation(model, config, reasoning=3)
        monkeypatch.setattr("sys.stdin", io.StringIO("one\n"))
        Chat(model, conversation).run()
        assert capsys.readouterr().err.startswith("Hm.\n")
        told = bytes(model.chat_prompt(conversation.messages[:1], reasoning=3).token_ids)
        assert b"True" in told


def test_reasoning_that_the_template_cannot_do_is_an_error_before_the_first_question(
    backend: FakeBackend,
) -> None:
    with pytest.raises(ValueError, match="no variable that turns reasoning off"):
        Conversation(fake_model(backend=backend), GenerationConfig(), reasoning="off")


@pytest.mark.parametrize(
    ("typed", "value"), [(None, None), ("off", "off"), ("high", "high"), ("0", 0), ("512", 512)]
)
def test_what_is_typed_for_reasoning(typed: str | None, value: Any) -> None:
    assert as_reasoning(typed) == value


@pytest.mark.parametrize("typed", ["no", "-1", "1.5", ""])
def test_what_is_typed_for_reasoning_and_is_none(typed: str) -> None:
    with pytest.raises(ValueError, match="reasoning must be"):
        as_reasoning(typed)


def once(number: int, error: BaseException) -> Callable[..., None]:
    """Return a function that raises ``error`` in its ``number``-th call."""
    calls = count(1)

    def call(*_: object, **__: object) -> None:
        if next(calls) == number:
            raise error

    return call


def test_an_error_in_an_answer_does_not_end_the_chat(talk: Talk, backend: FakeBackend) -> None:
    """Regression: it did, with a traceback; the part of the answer that came stays in the chat."""
    backend.on_decode = once(4, DecodeError("boom"))
    messages, out, err = talk("one", "/stats", "two")
    assert messages == ["one", "yes", "two", "yes, it is"]
    assert out == "yes\nyes, it is\n"
    assert err.startswith("localgen: boom\nlocalgen: 4 prompt tokens")


def test_an_error_before_an_answer_removes_the_question(talk: Talk, backend: FakeBackend) -> None:
    backend.on_decode = once(1, DecodeError("boom"))
    messages, _, err = talk("one", "/stats", "two")
    assert messages == ["two", "yes, it is"]
    assert err == "localgen: boom\ncontext: 0/512 tokens\n"


@pytest.mark.parametrize("number", range(1, 4))
def test_ctrl_c_before_the_first_token(number: int, talk: Talk, backend: FakeBackend) -> None:
    """Regression: it ended the chat while the question was rendered and tokenized.

    Here in the first (room), second (prompt) or third call (the next question's).
    """
    interrupts, tokenize = once(number, KeyboardInterrupt()), backend.vocab.tokenize

    def interrupted(*args: Any, **options: Any) -> Any:
        interrupts()
        return tokenize(*args, **options)

    backend.vocab.tokenize = interrupted  # type: ignore[method-assign]
    messages, _, err = talk("one", "two")
    assert messages == (["one", "yes, it is"] if number == 3 else ["two", "yes, it is"])
    assert err == ""


def test_ctrl_c_between_a_question_and_its_answer(
    talk: Talk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The question, which is among the messages by then, is removed."""
    ask, interrupt = Conversation.ask, once(2, KeyboardInterrupt())

    def interrupted(self: Conversation, text: str) -> Any:
        asked = ask(self, text)
        interrupt()
        return asked

    monkeypatch.setattr(Conversation, "ask", interrupted)
    assert talk("one", "two", "three")[0] == ["one", "yes, it is", "three", "yes, it is"]


def test_ctrl_c_in_an_answer(talk: Talk, backend: FakeBackend) -> None:
    """The part of the answer that came stays in the chat."""
    backend.on_decode = once(4, KeyboardInterrupt())
    assert talk("one", "two")[:2] == (
        ["one", "yes", "two", "yes, it is"],
        "yes\nyes, it is\n",
    )


@pytest.mark.parametrize(
    ("is_terminal", "out", "err"),
    [(False, "ok\n", "hm\n"), (True, "\x1b[2mhm\x1b[0m\n\nok\n", "")],
)
def test_reasoning_is_shown_apart(
    is_terminal: bool,
    out: str,
    err: str,
    talk: Talk,
    backend: FakeBackend,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On stderr if stdout is no terminal, and dimmed in one; the chat keeps the answer alone."""
    monkeypatch.setattr("localgen.cli.reply_printer.is_terminal", lambda _: is_terminal)
    backend.vocab.chat_templates = {"default": PLAIN + "{#- <think> #}"}  # type: ignore[misc]
    backend.script = spelling("<think>hm</think>ok")
    assert talk("one") == (["one", "ok"], out, err)


def test_a_call_of_a_tool_is_said(talk: Talk, backend: FakeBackend) -> None:
    backend.vocab.chat_templates = {"default": PLAIN + "{#- <tool_call> #}"}  # type: ignore[misc]
    backend.script = spelling("<tool_call>{}")
    assert "calls the tool ''" in talk("one")[2]


@pytest.mark.parametrize("command", ["/undo", "/clear"])
def test_stats_of_an_answer_that_was_removed(command: str, talk: Talk) -> None:
    """Its speed is no longer shown."""
    _, _, err = talk("one", command, "/stats")
    assert err.splitlines()[-1] == "context: 0/512 tokens"
    assert "prompt tokens" not in err


def test_a_loaded_chat_replaces_this_one(talk: Talk, tmp_path: Path) -> None:
    """Its length is said, and the last answer's speed is forgotten with the answer."""
    path = tmp_path / "chat.json"
    lines = ["one", f"/save {path}", "two", "three", f"/load {path}", "/stats"]
    messages, _, err = talk(*lines)
    assert messages == ["one", "yes, it is"]
    assert "loaded 2 messages" in err
    assert "prompt tokens" not in err


def test_a_template_that_fails_does_not_end_the_chat(talk: Talk, backend: FakeBackend) -> None:
    """How full the context is cannot be known then."""
    failing = "{{ raise_exception('no') if messages else '' }}" + PLAIN
    backend.vocab.chat_templates = {"default": failing}  # type: ignore[misc]
    messages, _, err = talk("/system Be kind.", "/stats", "one")
    assert [text for text in messages if text != "Be kind."] == []
    assert "context: ?/512 tokens" in err
    assert "no" in err.splitlines()[-1]


# --- in a terminal ---


@pytest.fixture
def terminal(chatty: Path, tmp_path: Path) -> Iterator[pexpect.spawn]:
    """A chat in a terminal, whose answers do not end by themselves."""
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
    terminal.expect("Ctrl-D or type /exit")
    terminal.expect("512. >")  # between two prompts, the terminal itself would take Ctrl-D
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


def test_a_chat_that_keeps_nothing(chatty: Path, tmp_path: Path) -> None:
    """--no-history does not save what is typed; a message may be typed in several lines."""
    args = [*COMMAND[1:], "chat", "-m", chatty, *SMALL, *SHORT, "--no-history"]
    environment = {**ENVIRONMENT, "XDG_STATE_HOME": str(tmp_path), "TERM": "xterm"}
    child = pexpect.spawn(COMMAND[0], list(map(str, args)), timeout=CHILD_SECONDS, env=environment)
    child.expect(r"\[0/256\] >")
    child.send("/system Be\x1b\rkind.\r")  # Alt-Enter starts a line
    child.expect("system message set")
    child.send("/system\r")
    child.expect("system message: Be\r\nkind.")
    child.send("hello\r")
    child.expect(r"\[[1-9]\d*/256\] >")
    child.send("\x04")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0
    assert not list(tmp_path.iterdir())
