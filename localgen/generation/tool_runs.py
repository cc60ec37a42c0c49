"""Lets a model call Python functions: a reply, the calls in it, their results, the next reply."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from localgen._util.checks import check_int
from localgen.completion import Completion
from localgen.generation.tool_choice import without_choice
from localgen.text.replies.formats import ReplyFormat
from localgen.text.replies.messages import OwnMessage, round_messages
from localgen.text.replies.results import ToolCall
from localgen.text.tool_schema import tool_schema

_MAX_RAW_CHARS = 500

Function = Callable[..., Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolResult:
    """What came of one call.

    call: as the model wrote it. text: what the model was told: the value as text or JSON, or what
    went wrong. value: what the function returned, None if it did not. error: the exception that it
    raised, or the reason why it was not called; None if there is neither.
    """

    call: ToolCall
    text: str
    value: Any = None
    error: Exception | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolRun:
    """What ``run_tools()`` returns.

    messages: the whole conversation, with the replies, the calls and their results; pass it on to
    continue. completions: the replies. results: of all calls, in order. is_finished: whether the
    last reply is the answer; False if it still called tools in the last round.
    """

    messages: list[OwnMessage]
    completions: tuple[Completion, ...]
    results: tuple[ToolResult, ...]
    is_finished: bool

    @property
    def completion(self) -> Completion:
        """The last reply."""
        return self.completions[-1]

    @property
    def text(self) -> str:
        """The text of the last reply."""
        return self.completion.text


def functions_by_name(tools: Sequence[Function]) -> dict[str, Function]:
    """Return functions by the names that the model sees.

    Raises TypeError for anything but functions, and ValueError for none and for names that clash.
    """
    if isinstance(tools, str | Mapping) or not isinstance(tools, Sequence):
        raise TypeError(f"tools must be a list of Python functions, got {tools!r:.80}")
    found: dict[str, Function] = {}
    for tool in tools:
        if isinstance(tool, Mapping):
            raise TypeError(
                f"run_tools() calls its tools, so each must be a Python function, got the schema "
                f"{tool!r:.80}; chat() takes schemas, and returns the calls"
            )
        if inspect.iscoroutinefunction(tool) or inspect.isasyncgenfunction(tool):
            raise TypeError(
                f"run_tools() cannot await {tool.__name__}(): pass a function that is not async"
            )
        name = tool_schema(tool)["function"]["name"]
        if name in found:
            raise ValueError(f"two tools are named {name!r}: rename one of the functions")
        found[name] = tool
    if not found:
        raise ValueError("run_tools() needs at least one tool; chat() works without")
    return found


def check_one_reply(options: Mapping[str, Any]) -> None:
    """Raise ValueError for options of ``chat()`` that give several replies, or part of one."""
    n_replies = options.get("num_return_sequences")
    if n_replies is None:
        n_replies = getattr(options.get("generation_config"), "num_return_sequences", 1)
    if n_replies != 1:
        raise ValueError(f"run_tools() follows one reply, got num_return_sequences={n_replies!r}")
    if options.get("continue_final_message"):
        raise ValueError(
            "run_tools() cannot continue a message; end the conversation with one to answer"
        )


@dataclass(slots=True, kw_only=True)
class ToolRunner:
    """Runs one conversation.

    chat: returns the reply to messages, with options. form, template: the format of the calls, and
    the source of the chat template.
    """

    chat: Callable[[list[OwnMessage], Mapping[str, Any]], Completion]
    options: Mapping[str, Any]
    functions: Mapping[str, Function]
    form: ReplyFormat
    template: str
    messages: list[OwnMessage]
    max_rounds: int
    _completions: list[Completion] = field(default_factory=list, init=False)
    _results: list[ToolResult] = field(default_factory=list, init=False)
    _is_finished: bool = field(default=False, init=False)

    def run(self) -> ToolRun:
        """Return the finished run; an exception has what there was as ``tool_run``."""
        check_int("max_rounds", self.max_rounds, 1)
        try:
            for _ in range(self.max_rounds):
                self._round()
                if self._is_finished:
                    break
        except BaseException as error:
            with suppress(AttributeError):
                error.tool_run = self._so_far()  # type: ignore[attr-defined]
            raise
        return self._so_far()

    def _round(self) -> None:
        done = self.chat(self.messages, self.options)
        self.options = without_choice(self.options)
        self._completions.append(done)
        if not done.tool_calls:
            self.messages = [*self.messages, done.message]
            self._is_finished = True
            return
        results: list[ToolResult] = []
        try:
            for call in done.tool_calls:
                results.append(called(call, self.functions))
        finally:  # Ctrl-C in a tool: what others did before is kept
            self._results += results
            answers = [(each.call, each.text) for each in results]
            self.messages = [
                *self.messages,
                *round_messages(done.text, done.reasoning, answers, self.form, self.template),
            ]

    def _so_far(self) -> ToolRun:
        return ToolRun(
            messages=self.messages,
            completions=tuple(self._completions),
            results=tuple(self._results),
            is_finished=self._is_finished,
        )


def called(call: ToolCall, functions: Mapping[str, Function]) -> ToolResult:
    """Return the result of a call, whatever becomes of it."""
    function = functions.get(call.name)
    if call.error is not None or call.arguments is None:
        text = f"The call was not executed: {call.error}. It was: {call.raw[:_MAX_RAW_CHARS]}"
        return ToolResult(call=call, text=text, error=ValueError(text))
    if function is None:
        text = f"There is no tool named {call.name!r}. The tools are: {', '.join(functions)}"
        return ToolResult(call=call, text=text, error=LookupError(text))
    try:
        bound = inspect.signature(function).bind(**call.arguments)
        value = function(*bound.args, **bound.kwargs)
        return ToolResult(call=call, text=as_text(value), value=value)
    except Exception as error:  # the model gets to know, and may do better
        return ToolResult(call=call, text=as_text(f"{type(error).__name__}: {error}"), error=error)


def as_text(value: Any) -> str:
    """Return what a model sees of a tool's value: a text itself, JSON, or else ``str(value)``.

    What UTF-8 cannot encode, as in the names of some files, is escaped.
    """
    try:
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):
        text = str(value)
    return text.encode(errors="backslashreplace").decode()
