"""Messages and tools of a request → what chat templates read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from localgen.serve.refusals import Refusal
from localgen.serve.schemas.common import FunctionTool
from localgen.serve.schemas.messages import (
    AssistantMessage,
    ChatMessage,
    RefusalPart,
    TextPart,
    ToolMessage,
)

Message = dict[str, Any]


def template_messages(given: Sequence[ChatMessage]) -> list[Message]:
    """Return messages as templates read them. Raises Refusal for the result of an unknown call."""
    names: dict[str, str] = {}  # of the calls so far, by their ids
    messages = []
    for index, message in enumerate(given):
        if isinstance(message, AssistantMessage):
            messages.append(_answer(message))
            names |= {call.id: call.function.name for call in message.tool_calls or ()}
        elif isinstance(message, ToolMessage):
            messages.append(_result(index, message, names))
        else:
            role = "system" if message.role == "developer" else message.role
            messages.append(
                _named({"role": role, "content": text_of(message.content)}, message.name)
            )
    return messages


def _named(message: Message, name: str | None) -> Message:
    return message if name is None else {**message, "name": name}


def text_of(content: str | Sequence[TextPart | RefusalPart]) -> str:
    """Return the text of a message."""
    if isinstance(content, str):
        return content
    return "\n".join(part.text if isinstance(part, TextPart) else part.refusal for part in content)


def _answer(given: AssistantMessage) -> Message:
    content = given.content if given.content is not None else given.refusal
    message: Message = {
        "role": "assistant",
        "content": None if content is None else text_of(content),
    }
    reasoning = given.reasoning_content if given.reasoning_content is not None else given.reasoning
    if reasoning is not None:
        message["reasoning_content"] = reasoning
    if given.tool_calls:
        message["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.function.name, "arguments": call.function.arguments},
            }
            for call in given.tool_calls
        ]
    elif content is None:
        message["content"] = ""
    return _named(message, given.name)


def _result(index: int, given: ToolMessage, names: dict[str, str]) -> Message:
    if given.tool_call_id not in names:
        raise Refusal(
            400,
            f"messages[{index}].tool_call_id is {given.tool_call_id!r:.80}, and no assistant "
            f"message before it has a tool call of that id",
            param=f"messages[{index}].tool_call_id",
            code="invalid_value",
        )
    return {
        "role": "tool",
        "tool_call_id": given.tool_call_id,
        "name": given.name or names[given.tool_call_id],
        "content": text_of(given.content),
    }


def template_tools(given: Sequence[FunctionTool] | None) -> list[Message] | None:
    """Return tools as templates show them; None if there are none."""
    return [{"type": "function", "function": _function(each)} for each in given or ()] or None


def _function(tool: FunctionTool) -> Message:
    function: Message = {"name": tool.function.name}
    if tool.function.description is not None:
        function["description"] = tool.function.description
    parameters = tool.function.parameters
    function["parameters"] = (
        {"type": "object", "properties": {}} if parameters is None else parameters
    )
    return function
