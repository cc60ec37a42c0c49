"""The items that a request to /v1/responses may have as its input."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from localgen.serve.schemas.common import RequestModel, text_or_list

ItemStatus = Literal["in_progress", "completed", "incomplete"]


class InputText(RequestModel):
    """Text of a message, or of a tool's result."""

    type: Literal["input_text"]
    text: str


class OutputText(RequestModel):
    """Text of an earlier answer, as it came; only the text is read."""

    type: Literal["output_text"]
    text: str
    annotations: list[dict[str, Any]] | None = None
    logprobs: list[dict[str, Any]] | None = None


class RefusalText(RequestModel):
    """The refusal of an earlier answer, which other servers write."""

    type: Literal["refusal"]
    refusal: str


ContentPart = Annotated[InputText | OutputText | RefusalText, Discriminator("type")]


Content = Annotated[
    Annotated[str, Tag("text")] | Annotated[list[ContentPart], Tag("list")],
    Discriminator(text_or_list),
]
ToolOutput = Annotated[
    Annotated[str, Tag("text")] | Annotated[list[InputText], Tag("list")],
    Discriminator(text_or_list),
]


class MessageItem(RequestModel):
    """A message of the conversation; ``type`` may be left out."""

    type: Literal["message"] = "message"
    role: Literal["user", "assistant", "system", "developer"]
    content: Content
    id: str | None = None
    status: ItemStatus | None = None
    phase: Literal["commentary", "final_answer"] | None = None


class FunctionCallItem(RequestModel):
    """A call that an earlier answer asked for."""

    type: Literal["function_call"]
    call_id: str
    name: str
    arguments: str
    id: str | None = None
    status: ItemStatus | None = None


class FunctionCallOutputItem(RequestModel):
    """The result of a call."""

    type: Literal["function_call_output"]
    call_id: str
    output: ToolOutput
    id: str | None = None
    status: ItemStatus | None = None


class SummaryText(RequestModel):
    """A part of a summary of reasoning."""

    type: Literal["summary_text"]
    text: str


class ReasoningText(RequestModel):
    """A part of the reasoning."""

    type: Literal["reasoning_text"]
    text: str


class ReasoningItem(RequestModel):
    """The reasoning of an earlier answer.

    ``content`` is read, or else ``summary``; an encrypted one of another server cannot be.
    """

    type: Literal["reasoning"]
    summary: list[SummaryText] = Field(default=[])
    content: list[ReasoningText] | None = None
    encrypted_content: None = None
    id: str | None = None
    status: ItemStatus | None = None


def _item_type(value: Any) -> Any:
    if isinstance(value, dict):
        return value.get("type", "message")
    return getattr(value, "type", "message")


InputItem = Annotated[
    Annotated[MessageItem, Tag("message")]
    | Annotated[FunctionCallItem, Tag("function_call")]
    | Annotated[FunctionCallOutputItem, Tag("function_call_output")]
    | Annotated[ReasoningItem, Tag("reasoning")],
    Discriminator(_item_type),
]
Input = Annotated[
    Annotated[str, Tag("text")] | Annotated[list[InputItem], Field(min_length=1), Tag("list")],
    Discriminator(text_or_list),
]
