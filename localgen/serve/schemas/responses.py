"""What a request to /v1/responses may have."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from localgen.serve.schemas.common import (
    FunctionSchema,
    JsonObjectResponse,
    JsonSchemaFormat,
    OnlyFalse,
    RequestModel,
    TextResponse,
)
from localgen.serve.schemas.response_input import Input
from localgen.serve.schemas.sampling import SamplingFields, WithoutEffect


class ResponseFunctionTool(FunctionSchema):
    """A function that the model may call."""

    type: Literal["function"]


class NamedTool(RequestModel):
    """The function that the model must call."""

    type: Literal["function"]
    name: str


class AllowedTools(RequestModel):
    """The functions that the model may, or must, choose from."""

    type: Literal["allowed_tools"]
    mode: Literal["auto", "required"]
    tools: list[NamedTool] = Field(min_length=1)


def _choice_type(value: Any) -> Any:
    if isinstance(value, str):
        return "mode"
    return value.get("type") if isinstance(value, dict) else getattr(value, "type", None)


ResponseToolChoice = Annotated[
    Annotated[Literal["none", "auto", "required"], Tag("mode")]
    | Annotated[NamedTool, Tag("function")]
    | Annotated[AllowedTools, Tag("allowed_tools")],
    Discriminator(_choice_type),
]


class JsonSchemaText(JsonSchemaFormat):
    """JSON that satisfies a schema."""

    type: Literal["json_schema"]


TextFormat = Annotated[TextResponse | JsonObjectResponse | JsonSchemaText, Discriminator("type")]


class TextOptions(RequestModel):
    """What the text of the answer must be."""

    format: TextFormat | None = None
    verbosity: Literal["medium"] | None = None


class ReasoningOptions(RequestModel):
    """How much the model reasons. A summary is never made: the reasoning itself is returned."""

    effort: Literal["none", "low", "medium", "high"] | None = Field(
        None, description="Where the chat template has it."
    )
    summary: Literal["auto"] | None = None
    generate_summary: Literal["auto"] | None = None


class ResponsesStreamOptions(RequestModel):
    """Options of a stream."""

    include_obfuscation: OnlyFalse | None = None


Metadata = Annotated[
    dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]],
    Field(max_length=16),
]
Includable = Literal["message.output_text.logprobs", "reasoning.encrypted_content"]


class ResponsesRequest(SamplingFields, WithoutEffect):
    """A conversation that the model answers. Nothing of it is stored."""

    model: str | None = Field(None, description="The only one, if left out.")
    input: Input
    instructions: str | None = None
    tools: list[ResponseFunctionTool] | None = None
    tool_choice: ResponseToolChoice | None = None
    parallel_tool_calls: bool | None = None
    text: TextOptions | None = None
    max_output_tokens: int | None = Field(None, ge=1)
    reasoning: ReasoningOptions | None = None
    include: list[Includable] | None = Field(
        None, description="Reasoning is never encrypted: its item has it as content."
    )
    top_logprobs: int | None = Field(None, ge=0, le=20)
    stream: bool | None = None
    stream_options: ResponsesStreamOptions | None = None
    metadata: Metadata | None = None
    prompt_cache_retention: Literal["in_memory"] | None = None
    truncation: Literal["disabled"] | None = Field(None, description="Prompts are never cut.")

    # vLLM and llama.cpp
    chat_template_kwargs: dict[str, Any] | None = Field(
        None, description="Variables of the chat template."
    )

    # localgen
    reasoning_budget: int | None = Field(
        None, ge=0, description="Tokens after which the reasoning is ended."
    )
    reply_format: str | None = Field(
        None, description="How the model marks reasoning and calls, if its template hides it."
    )

    # What needs a store, or a server that does more than generate.
    background: OnlyFalse | None = Field(None, description="Only false.")
    previous_response_id: None = Field(
        None, description="Nothing is stored: send the items of earlier answers as input."
    )
    conversation: None = None
    prompt: None = None
    max_tool_calls: None = Field(None, description="Only functions of the client are called.")

    response_format: None = Field(None, description="Its name here is text.format.")
