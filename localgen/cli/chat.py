"""``localgen chat``: chat with a model in the terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from localgen._util.checks import check_choice
from localgen._util.console import input_lines
from localgen._util.format import counted
from localgen._util.home import expand_user
from localgen._util.suggestions import did_you_mean
from localgen.cli.constraint_flags import cut_message
from localgen.cli.conversation import OVERFLOW, Conversation, MessageTooLongError
from localgen.cli.messages import error_message
from localgen.cli.option_groups import with_options
from localgen.cli.options import (
    GenerationOptions,
    LoadingOptions,
    ModelName,
    ReasoningText,
    UseProfile,
    as_reasoning,
    model_or_default,
)
from localgen.cli.queued_keys import ctrl_d_queued
from localgen.cli.reply_printer import print_reply
from localgen.cli.stats_line import stats_line
from localgen.cli.termination import TERMINATION
from localgen.completion import Completion
from localgen.config import GenerationConfig, replace_options
from localgen.errors import ContextFullError, LocalgenError, TemplateError
from localgen.generation.resolve import check_streams
from localgen.generation.streaming import ChatStream
from localgen.model import LocalModel
from localgen.samplers import fitting_defaults

# If neither the command line nor the model's file sets any sampling option.
_DEFAULT_SAMPLING = {"temperature": 0.7, "top_p": 0.9}
_HELP = """\
/help            show this help
/system [TEXT]   show or set the system message; "/system -" removes it
/retry           answer the last question again
/undo            remove the last question and its answer
/clear           remove everything but the system message
/save FILE       save the chat to FILE
/load FILE       load the chat in FILE
/stats           show the speed of the last answer and how full the context is
/exit            leave; Ctrl-D does the same
Enter sends, Alt-Enter starts a new line. Ctrl-C stops an answer; the chat keeps what it has.
To send a message that starts with a slash, type two: //usr/bin."""

_TEMPLATES_OWN = "the model's template may add its own"


@with_options
def chat(
    *,
    model: ModelName = None,
    system: Annotated[str | None, typer.Option(help="Set the system message.")] = None,
    overflow: Annotated[
        str,
        typer.Option(
            help="Choose what to do when the context is full: stop, or drop-oldest, which drops "
            "the oldest question and answer."
        ),
    ] = "stop",
    load: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Resume a chat that /save wrote.")
    ] = None,
    reasoning: ReasoningText = None,
    history: Annotated[
        bool, typer.Option(help="Remember what is typed, for the arrow keys in later chats.")
    ] = True,
    sampling: GenerationOptions,
    loading: LoadingOptions,
    profile: UseProfile = True,
) -> None:
    """Chat with a model; /help in the chat lists the commands.

    If stdin is not a terminal, each line is a question, and the exit code is 1 if any of them
    failed.
    """
    config = sampling.config()
    check_streams(config)
    loading.config()
    wanted = as_reasoning(reasoning)
    check_choice("overflow", overflow, OVERFLOW)
    source = model_or_default(model)
    with LocalModel.from_pretrained(source, use_profile=profile, **loading.given()) as loaded:
        config = _with_sampling(config, loaded)
        conversation = Conversation(
            loaded, config, system=system, overflow=overflow, reasoning=wanted
        )
        if load is not None:
            conversation.load(load)
        TERMINATION.stop()  # in a chat, Ctrl-C only ends an answer
        terminal = Chat(loaded, conversation, history)
        terminal.run()
    if terminal.n_errors and not sys.stdin.isatty():
        raise typer.Exit(1)


def _with_sampling(config: GenerationConfig, model: LocalModel) -> GenerationConfig:
    """Return ``config``; if it sets no sampling but a seed, with the file's or a chat's default."""
    if config.do_sample is not None or set(config.changed_sampling_options) - {"seed"}:
        return config
    of_file = fitting_defaults(model.sampling_defaults, asdict(config))
    return replace_options(config, {"do_sample": True, **(of_file or _DEFAULT_SAMPLING)})


@dataclass
class Chat:
    """The terminal's side of a conversation; ``last`` is the last answer, unless removed."""

    model: LocalModel
    conversation: Conversation
    keeps_history: bool = True
    last: Completion | None = None
    n_errors: int = 0

    def run(self) -> None:
        """Read and answer until the end of the input."""
        commands: dict[str, Callable[[str], None]] = {
            "help": lambda _: _say(_HELP),
            "system": self._system,
            "retry": self._retry,
            "undo": self._undo,
            "clear": self._clear,
            "save": self._save,
            "load": self._load,
            "stats": self._stats,
        }
        for text in _inputs(self._fill, keeps_history=self.keeps_history):
            name, _, rest = text.removeprefix("/").partition(" ")
            if not text.startswith("/"):
                self._ask(text)
            elif name.startswith("/"):
                self._ask(text.removeprefix("/"))
            elif name in ("exit", "quit"):
                return
            elif name in commands:
                try:
                    commands[name](rest.strip())
                except (LocalgenError, OSError, ValueError) as error:
                    self._report(error)
            else:
                meant = did_you_mean(name, [*commands, "exit", "quit"], shown="/{}".format) or "."
                self._report(
                    ValueError(
                        f"unknown command /{name}{meant} Type /help for the "
                        f"commands, or // to send a message that starts with a slash."
                    )
                )

    def _ask(self, text: str) -> None:
        """Answer a question. Whatever ends the answer, the chat keeps what was generated."""
        before, stream = self.conversation.messages, None
        failure: Exception | None = None
        try:
            stream, n_dropped = self.conversation.ask(text)
            if n_dropped:
                dropped = counted(n_dropped, "old message")
                _say(f"localgen: the context is full; dropped {dropped}")
            print_reply(stream.deltas())
        except KeyboardInterrupt:
            if stream is not None:
                stream.close()
        except ContextFullError as error:
            failure = LocalgenError(_context_full(error))
        except (LocalgenError, ValueError) as error:
            failure = error
        if stream is None:
            self.conversation.messages = before
        else:
            self._keep(stream)
        if failure is not None:
            self._report(failure)

    def _keep(self, stream: ChatStream) -> None:
        """Add an answer to the chat, or remove its question if nothing was generated."""
        print(flush=True)
        done = stream.completion
        self.conversation.keep(stream)
        self.last = done if done.text else None
        cut = cut_message(done, self.conversation.config)
        if cut is not None:
            self._report(ValueError(cut))
        elif done.finish_reason == "length":
            _say("localgen: the answer reached the limit (--max-new-tokens or --n-ctx)")

    def _report(self, error: Exception) -> None:
        self.n_errors += 1
        _say(f"localgen: {error_message(error)}")

    def _system(self, text: str) -> None:
        if not text:
            found = self.conversation.system
            _say(f"system message: {found}" if found else f"no system message ({_TEMPLATES_OWN})")
        elif text == "-":
            self.conversation.set_system("")
            _say(f"system message removed ({_TEMPLATES_OWN})")
        else:
            self.conversation.set_system(text)
            _say("system message set")

    def _retry(self, _: str) -> None:
        self._ask(self._remove_last("there is no question to answer"))

    def _undo(self, _: str) -> None:
        _say(f"removed: {self._remove_last('there is nothing to undo')}")

    def _remove_last(self, if_empty: str) -> str:
        """Remove the last question and its answer; return the question.

        Raises ValueError with the message ``if_empty`` if there is none.
        """
        question = self.conversation.undo()
        if question is None:
            raise ValueError(if_empty)
        self.last = None
        return question

    def _clear(self, _: str) -> None:
        self.conversation.clear()
        self.last = None

    def _save(self, name: str) -> None:
        path = _file(name, "/save")
        replaced = " (replaced the old file)" if path.exists() else ""
        self.conversation.save(path)
        _say(f"saved to {name}{replaced}")

    def _load(self, name: str) -> None:
        self.conversation.load(_file(name, "/load"))
        self.last = None
        _say(f"loaded {counted(len(self.conversation.messages), 'message')}")

    def _stats(self, _: str) -> None:
        if self.last is not None:
            _say(stats_line(self.last.stats))
        _say(f"context: {self._fill()} tokens")

    def _fill(self) -> str:
        """Return how full the context is, as "tokens/n_ctx"."""
        try:
            n_tokens = str(self.conversation.n_tokens)
        except TemplateError:  # the next question reports it
            n_tokens = "?"
        return f"{n_tokens}/{self.model.config.n_ctx}"


def _context_full(error: ContextFullError) -> str:
    """Return what happened and what helps here."""
    sizes = f"{error.n_prompt} tokens, and --n-ctx is {error.n_ctx}"
    if isinstance(error, MessageTooLongError):
        return f"the message has {sizes}. Shorten the message, or use a larger --n-ctx."
    if sys.stdin.isatty():
        advice = "Remove messages (/undo, /clear), or restart with"
    else:
        advice = "Shorten the message, or use"
    return (
        f"the context is full: the chat has {sizes}. {advice} --overflow drop-oldest or a larger "
        f"--n-ctx."
    )


def _file(name: str, command: str) -> Path:
    if not name:
        raise ValueError(f"{command} needs a file name")
    quoted = len(name) > 1 and name[0] == name[-1] and name[0] in "'\""
    return expand_user(name[1:-1] if quoted else name)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _inputs(meter: Callable[[], str], *, keeps_history: bool) -> Iterator[str]:
    """Yield what the user sends, without empty inputs, until the input ends."""
    is_typed = sys.stdin.isatty() and sys.stdout.isatty()
    lines = _typed(meter, keeps_history=keeps_history) if is_typed else input_lines(sys.stdin)
    for text in lines:
        if text.strip():
            yield text.strip()


def _typed(meter: Callable[[], str], *, keeps_history: bool) -> Iterator[str]:
    """Yield inputs from a line editor with a history; a paste may have many lines."""
    from prompt_toolkit import PromptSession  # noqa: PLC0415  # only for a chat in a terminal
    from prompt_toolkit.history import InMemoryHistory  # noqa: PLC0415
    from prompt_toolkit.key_binding import KeyBindings  # noqa: PLC0415

    from localgen.cli.chat_history import kept_history  # noqa: PLC0415

    keys = KeyBindings()

    @keys.add("enter")
    def _send(event: Any) -> None:
        event.current_buffer.validate_and_handle()

    @keys.add("escape", "enter")
    def _new_line(event: Any) -> None:
        event.current_buffer.insert_text("\n")

    session: PromptSession[str] = PromptSession(
        history=kept_history(_say) if keeps_history else InMemoryHistory(),
        multiline=True,
        key_bindings=keys,
        prompt_continuation="  ",
    )
    _say("Type a message. /help lists the commands, Ctrl-D leaves.")
    with ctrl_d_queued(sys.stdin):
        while True:
            try:
                yield session.prompt(f"[{meter()}] > ")
            except KeyboardInterrupt:
                _say("Press Ctrl-D or type /exit to leave.")
            except EOFError:
                return
