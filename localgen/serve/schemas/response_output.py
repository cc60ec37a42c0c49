"""The answer of /v1/responses: its items, and what else it tells."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import with_config
from typing_extensions import NotRequired, TypedDict

from localgen.serve.schemas.answers import EXACT, Logprob
from localgen.serve.schemas.response_input import ItemStatus


@with_config(EXACT)
class OutputTextPart(TypedDict):
    """The text of a message."""

    type: Literal["output_text"]
    text: str
    annotations: list[Any]
    logprobs: list[Logprob]


@with_config(EXACT)
class OutputMessage(TypedDict):
    """A message of the model."""

    id: str
    type: Literal["message"]
    role: Literal["assistant"]
    status: ItemStatus
    content: list[OutputTextPart]


@with_config(EXACT)
class ReasoningTextPart(TypedDict):
    """A part of the reasoning."""

    type: Literal["reasoning_text"]
    text: str


@with_config(EXACT)
class OutputReasoning(TypedDict):
    """What the model thought before it answered."""

    id: str
    type: Literal["reasoning"]
    status: ItemStatus
    summary: list[Any]
    content: list[ReasoningTextPart]


@with_config(EXACT)
class OutputFunctionCall(TypedDict):
    """A call of a function that the model asks for."""

    id: str
    type: Literal["function_call"]
    status: ItemStatus
    call_id: str
    name: str
    arguments: str


OutputItem = OutputMessage | OutputReasoning | OutputFunctionCall


@with_config(EXACT)
class InputTokensDetails(TypedDict):
    """cached_tokens: those of the prompt that did not have to be computed. cache_write_tokens: the
    others, which the next prompt that begins like this one need not compute."""

    cached_tokens: int
    cache_write_tokens: int


@with_config(EXACT)
class OutputTokensDetails(TypedDict):
    """reasoning_tokens: those of the reasoning."""

    reasoning_tokens: int


@with_config(EXACT)
class ResponseUsage(TypedDict):
    """How many tokens the prompt and the answer have."""

    input_tokens: int
    input_tokens_details: InputTokensDetails
    output_tokens: int
    output_tokens_details: OutputTokensDetails
    total_tokens: int


@with_config(EXACT)
class ResponseError(TypedDict):
    """Why a response failed."""

    code: str
    message: str


@with_config(EXACT)
class IncompleteDetails(TypedDict):
    """Why a response is not complete."""

    reason: str


@with_config(EXACT)
class ResponseObject(TypedDict):
    """A response, and the options that it was made with."""

    id: str
    object: Literal["response"]
    created_at: int
    completed_at: int | None
    status: Literal["in_progress", "completed", "incomplete", "failed"]
    error: ResponseError | None
    incomplete_details: IncompleteDetails | None
    model: str
    output: list[OutputItem]
    usage: ResponseUsage | None
    instructions: str | None
    tools: list[dict[str, Any]]
    tool_choice: str | dict[str, Any]
    parallel_tool_calls: bool
    text: dict[str, Any]
    reasoning: dict[str, Any]
    temperature: float
    top_p: float
    top_logprobs: int
    max_output_tokens: int | None
    truncation: Literal["disabled"]
    store: Literal[False]
    background: Literal[False]
    previous_response_id: None
    service_tier: Literal["default"]
    metadata: dict[str, str]
    user: NotRequired[str]
    safety_identifier: NotRequired[str]
    prompt_cache_key: NotRequired[str]
