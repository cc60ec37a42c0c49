"""Input items of /v1/responses → messages as /v1/chat/completions takes them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from localgen.serve.refusals import Refusal
from localgen.serve.schemas.response_input import (
    Content,
    FunctionCallItem,
    FunctionCallOutputItem,
    Input,
    InputItem,
    InputText,
    MessageItem,
    OutputText,
    ReasoningItem,
    RefusalText,
    ToolOutput,
)

ChatMessage = dict[str, Any]


def chat_messages(given: Input, instructions: str | None) -> list[ChatMessage]:
    """Return the messages that an input stands for, after one with the instructions.

    What the assistant wrote in one turn, which is several items, becomes one message. Raises
    Refusal for the result of a call that is not in the input.
    """
    messages = [] if instructions is None else [{"role": "system", "content": instructions}]
    if isinstance(given, str):
        return [*messages, {"role": "user", "content": given}]
    return [*messages, *_Conversation(given).messages]


class _Conversation:
    """Puts the items together."""

    def __init__(self, items: Iterable[InputItem]) -> None:
        self.messages: list[ChatMessage] = []
        self._turn: ChatMessage | None = None  # the assistant's, which more items may belong to
        self._last: InputItem | None = None
        self._names: dict[str, str] = {}  # of the calls so far, by their ids
        for index, item in enumerate(items):
            self._add(index, item)
            self._last = item

    def _add(self, index: int, item: InputItem) -> None:
        if isinstance(item, FunctionCallOutputItem):
            self._add_result(index, item)
        elif isinstance(item, FunctionCallItem):
            self._add_call(item)
        elif isinstance(item, ReasoningItem):
            self._add_reasoning(item)
        elif item.role == "assistant":
            self._add_answer(item)
        else:
            self._append({"role": item.role, "content": _content(item.content)})

    def _append(self, message: ChatMessage) -> None:
        self._turn = None
        self.messages.append(message)

    def _assistant(self) -> ChatMessage:
        """Return the message of the assistant's turn, which begins if none is open."""
        if self._turn is None:
            self._append({"role": "assistant", "content": ""})
            self._turn = self.messages[-1]
        return self._turn

    def _add_answer(self, item: MessageItem) -> None:
        if isinstance(self._last, MessageItem):  # two messages, and not two parts of one answer
            self._turn = None
        self._assistant()["content"] += _joined(item.content)

    def _add_reasoning(self, item: ReasoningItem) -> None:
        parts: Sequence[Any] = item.content or item.summary
        if text := "".join(part.text for part in parts):
            turn = self._assistant()
            turn["reasoning_content"] = turn.get("reasoning_content", "") + text

    def _add_call(self, item: FunctionCallItem) -> None:
        self._names[item.call_id] = item.name
        function = {"name": item.name, "arguments": item.arguments}
        call = {"id": item.call_id, "type": "function", "function": function}
        self._assistant().setdefault("tool_calls", []).append(call)

    def _add_result(self, index: int, item: FunctionCallOutputItem) -> None:
        if item.call_id not in self._names:
            raise Refusal(
                400,
                f"no function_call before input[{index}] has the call_id {item.call_id!r:.80}: "
                f"send the call, too, since nothing is stored here",
                param=f"input[{index}].call_id",
            )
        self._append(
            {
                "role": "tool",
                "tool_call_id": item.call_id,
                "name": self._names[item.call_id],
                "content": _content(item.output),
            }
        )


def _content(content: Content | ToolOutput) -> Any:
    """Return text as it is, and parts as those of a chat message."""
    if isinstance(content, str):
        return content
    return [{"type": "text", "text": _text(part)} for part in content]


def _joined(content: str | Sequence[InputText | OutputText | RefusalText]) -> str:
    return content if isinstance(content, str) else "".join(map(_text, content))


def _text(part: InputText | OutputText | RefusalText) -> str:
    return part.refusal if isinstance(part, RefusalText) else part.text
