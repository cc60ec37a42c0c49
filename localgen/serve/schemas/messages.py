"""The messages of a chat, as requests write them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from localgen.serve.schemas.common import RequestModel, text_or_list


class TextPart(RequestModel):
    type: Literal["text"]
    text: str


class RefusalPart(RequestModel):
    """A refusal of an earlier answer, which is text to the model."""

    type: Literal["refusal"]
    refusal: str


Content = Annotated[
    Annotated[str, Tag("text")] | Annotated[list[TextPart], Tag("list")],
    Discriminator(text_or_list),
]
AnswerPart = Annotated[TextPart | RefusalPart, Discriminator("type")]
AnswerContent = Annotated[
    Annotated[str, Tag("text")] | Annotated[list[AnswerPart], Tag("list")],
    Discriminator(text_or_list),
]


class InstructionMessage(RequestModel):
    """What the model is told to do; "developer" is another name of "system"."""

    role: Literal["system", "developer"]
    content: Content
    name: str | None = None


class UserMessage(RequestModel):
    role: Literal["user"]
    content: Content
    name: str | None = None


class CalledFunction(RequestModel):
    name: str
    arguments: str = Field(description="JSON text, as it came.")


class MessageToolCall(RequestModel):
    """A call that an earlier answer asked for. index: of streamed pieces; it is not read."""

    id: str
    type: Literal["function"] = "function"
    function: CalledFunction
    index: int | None = None


class AssistantMessage(RequestModel):
    """An earlier answer."""

    role: Literal["assistant"]
    content: AnswerContent | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = Field(None, description="Another name of reasoning_content.")
    tool_calls: list[MessageToolCall] | None = None
    name: str | None = None
    audio: None = None
    function_call: None = None
    annotations: list[dict[str, Any]] | None = Field(
        None, description="Of an earlier answer; the model does not see them."
    )


class ToolMessage(RequestModel):
    """The result of a call."""

    role: Literal["tool"]
    content: Content
    tool_call_id: str
    name: str | None = None


ChatMessage = Annotated[
    InstructionMessage | UserMessage | AssistantMessage | ToolMessage,
    Discriminator("role"),
]
