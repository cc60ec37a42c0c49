"""What a reply is taken apart into: deltas while it comes, the reply when it is there."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal, NoReturn

Kind = Literal["text", "reasoning", "tool_name", "tool_arguments", "tool_call"]

CUT_OFF = "the call was cut off"
NO_NAME = "the call names no tool"


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """A call of a tool that a model asked for.

    id: the model's own, or one made for it. name: of the tool, "" if the model wrote none.
    arguments: None if they are no JSON object, or were cut off. raw: the call as the model wrote
    it, without the marks around it. error: what is wrong with the call, or None. is_cut_off:
    whether the reply ended before the call did.
    """

    id: str
    name: str
    arguments: dict[str, Any] | None
    raw: str
    error: str | None = None
    is_cut_off: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyDelta:
    """The next piece of a reply.

    kind: "text", "reasoning", "tool_name" (in one piece), "tool_arguments" (pieces of JSON text) or
    "tool_call", after the last piece of a call. text: the piece; "" for a "tool_call". index: which
    call of the reply it belongs to, from 0; None for text and reasoning. tool_call: the whole call,
    of a "tool_call".
    """

    kind: Kind
    text: str = ""
    index: int | None = None
    tool_call: ToolCall | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A reply taken apart; ``reasoning`` is None if there is none."""

    text: str
    reasoning: str | None
    tool_calls: tuple[ToolCall, ...]


@dataclass(slots=True)
class ReplyBuilder:
    """Puts deltas together, so that a stream and a whole reply cannot disagree."""

    _pieces: dict[str, list[str]] = field(default_factory=dict)
    _calls: list[ToolCall] = field(default_factory=list)

    def add(self, deltas: Iterable[ReplyDelta]) -> None:
        for delta in deltas:
            if delta.tool_call is not None:
                self._calls.append(delta.tool_call)
            elif delta.index is None:
                self._pieces.setdefault(delta.kind, []).append(delta.text)

    @property
    def reply(self) -> Reply:
        """The reply as far as it came."""
        reasoning = "".join(self._pieces.get("reasoning", ()))
        return Reply(
            text="".join(self._pieces.get("text", ())),
            reasoning=reasoning or None,
            tool_calls=tuple(self._calls),
        )


def checked_call(
    *, call_id: str, name: str, arguments: str, raw: str, is_cut_off: bool, error: str | None = None
) -> ToolCall:
    """Return a call, with ``arguments`` read from JSON text if nothing is wrong with it."""
    found: dict[str, Any] | None = None
    if is_cut_off:
        error = CUT_OFF
    elif error is None:
        found, error = _object(arguments)
    if error is None and not name:
        error = NO_NAME
    return ToolCall(
        id=call_id,
        name=name,
        arguments=None if error else found,
        raw=raw,
        error=error,
        is_cut_off=is_cut_off,
    )


def json_value(text: str) -> Any:
    """Return the value of JSON text. Raises ValueError, also for NaN and for what is too deep."""
    try:
        return json.loads(text, strict=False, parse_constant=_refuse)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _object(text: str) -> tuple[dict[str, Any] | None, str | None]:
    """Return the JSON object in ``text``, which may be quoted as a string, or what is wrong."""
    if not text.strip():
        return {}, None
    try:
        value = json_value(text)
        if isinstance(value, str):
            value = json_value(value)
    except ValueError as error:
        return None, f"the arguments are not JSON: {error}"
    if value is None:
        return {}, None
    if not isinstance(value, dict):
        return None, f"the arguments are not a JSON object but {type(value).__name__}"
    try:  # which tools and templates could not write
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return None, "the arguments have half of a character of two escapes"
    return value, None
