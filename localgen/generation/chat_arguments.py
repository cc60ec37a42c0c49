"""The arguments of a chat, listed once for all methods that answer conversations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, fields, replace
from typing import Any, Generic, TypeAlias, TypeVar

from localgen.text.chat_arguments import Message, as_conversations
from localgen.text.replies.reasoning import Reasoning
from localgen.text.tool_schema import Tool

Conversation: TypeAlias = Sequence[Message]
Messages = TypeVar("Messages")


@dataclass(frozen=True, slots=True)
class ChatArguments(Generic[Messages]):
    """The arguments of ``chat_prompt()``: a conversation, or several, how it becomes a prompt, and
    what its reply may be. ``LocalModel.chat`` documents them."""

    messages: Messages
    _: KW_ONLY
    tools: Sequence[Tool] | None = None
    documents: Sequence[Mapping[str, Any]] | None = None
    chat_template: str | None = None
    continue_final_message: bool = False
    template_variables: Mapping[str, Any] | None = None
    split_special_tokens: bool = True
    reply_format: str | None = None
    tool_choice: str | None = None
    parallel_tool_calls: bool | None = None
    reasoning: Reasoning | None = None

    def of_each(self: ChatArguments[Any]) -> tuple[list[ChatArguments[Conversation]], bool]:
        """Return the arguments for each conversation, and whether there were several.

        Raises TypeError or ValueError for messages that are no conversation.
        """
        chats, several = as_conversations(self.messages)
        return [replace(self, messages=chat) for chat in chats], several


@dataclass(frozen=True, slots=True)
class ChatCall(Generic[Messages]):
    """A chat, and the options of the calls that generate its replies."""

    chat: ChatArguments[Messages]
    options: Mapping[str, Any]


def chat_call(
    messages: Messages,
    *,
    tools: Sequence[Tool] | None = None,
    documents: Sequence[Mapping[str, Any]] | None = None,
    chat_template: str | None = None,
    continue_final_message: bool = False,
    template_variables: Mapping[str, Any] | None = None,
    split_special_tokens: bool = True,
    reply_format: str | None = None,
    tool_choice: str | None = None,
    parallel_tool_calls: bool | None = None,
    reasoning: Reasoning | None = None,
    **options: Any,
) -> ChatCall[Messages]:
    """Return the call of ``chat()`` and its variants, whose arguments these are.

    They are those of ``ChatArguments``, and options: only a function's signature can say both.
    """
    given = locals()
    chat = ChatArguments(**{each.name: given[each.name] for each in fields(ChatArguments)})
    return ChatCall(chat, options)
