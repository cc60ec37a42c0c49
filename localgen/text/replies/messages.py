"""Replies → messages of a conversation, as chat templates read them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from localgen.text.replies.formats import ReplyFormat
from localgen.text.replies.results import ToolCall

OwnMessage = dict[str, Any]


def reply_message(text: str, reasoning: str | None, calls: Sequence[ToolCall]) -> OwnMessage:
    """Return a reply as one message.

    A call whose arguments could not be read has none there: templates need an object.
    """
    message: OwnMessage = {"role": "assistant", "content": text}
    if reasoning is not None:
        message["reasoning_content"] = reasoning
    if calls:
        message["tool_calls"] = [_call(each) for each in calls]
    return message


def result_message(call: ToolCall, text: str) -> OwnMessage:
    """Return the message with the result of a call."""
    return {"role": "tool", "name": call.name, "tool_call_id": call.id, "content": text}


def round_messages(
    text: str,
    reasoning: str | None,
    results: Sequence[tuple[ToolCall, str]],
    form: ReplyFormat,
    template: str,
) -> list[OwnMessage]:
    """Return a reply with calls, and their results, as messages that a template renders whole."""
    answers = [result_message(call, result) for call, result in results]
    calls = [call for call, _ in results]
    if "tool_calls" not in template:  # it renders the content alone
        written = "\n".join(filter(None, [text, spelled(calls, form)]))
        return [reply_message(written, reasoning, ()), *answers]
    if not form.one_call_a_message:
        return [reply_message(text, reasoning, calls), *answers]
    messages = [reply_message(text, None, ())] if text else []
    for call, answer in zip(calls, answers, strict=True):
        messages += [reply_message("", reasoning, [call]), answer]
        reasoning = None
    return messages


def spelled(calls: Sequence[ToolCall], form: ReplyFormat) -> str:
    """Return calls as a model writes them, with the marks of its format."""
    begin = form.begins[0] if form.begins else ""
    raw = [call.raw for call in calls]
    if form.ends:
        return "\n".join(f"{begin}\n{each}\n{form.ends[0]}" for each in raw)
    return f"{begin}[{', '.join(raw)}]"


def _call(call: ToolCall) -> dict[str, Any]:
    function = {"name": call.name, "arguments": call.arguments or {}}
    return {"id": call.id, "type": "function", "function": function}
