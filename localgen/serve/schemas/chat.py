"""The request of /v1/chat/completions."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from localgen.serve.schemas.common import FunctionTool, StreamOptions, ToolChoice
from localgen.serve.schemas.messages import ChatMessage
from localgen.serve.schemas.sampling import SamplingFields, WithoutEffect


class ChatRequest(SamplingFields, WithoutEffect):
    """A conversation that the model answers."""

    model: str | None = Field(None, description="The only one, if left out.")
    messages: list[ChatMessage] = Field(min_length=1)
    n: int | None = Field(None, ge=1)
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=20)
    tools: list[FunctionTool] | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    reasoning_effort: Literal["none", "low", "medium", "high"] | None = Field(
        None, description="Where the chat template has it."
    )
    modalities: list[Literal["text"]] | None = None
    verbosity: Literal["medium"] | None = Field(None, description='Only "medium".')

    # vLLM and llama.cpp
    chat_template_kwargs: dict[str, Any] | None = Field(
        None, description="Variables of the chat template."
    )
    documents: list[dict[str, Any]] | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = Field(
        None, description="Continue the last message, and do not begin another one."
    )

    # localgen
    reasoning_budget: int | None = Field(
        None, ge=0, description="Tokens after which the reasoning is ended."
    )
    reply_format: str | None = Field(
        None, description="How the model marks reasoning and calls, if its template hides it."
    )
