"""The answers of /v1/chat/completions and /v1/completions, whole and in chunks."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, with_config
from typing_extensions import NotRequired, TypedDict

# An answer has the fields that are declared, and no others.
EXACT = ConfigDict(extra="forbid")
FinishReason = Literal["stop", "length", "tool_calls"]


@with_config(EXACT)
class TopLogprob(TypedDict):
    """One of the likeliest tokens at a place."""

    token: str
    logprob: float
    bytes: list[int]


@with_config(EXACT)
class Logprob(TypedDict):
    """A token of the text, and the likeliest ones at its place."""

    token: str
    logprob: float
    bytes: list[int]
    top_logprobs: list[TopLogprob]


@with_config(EXACT)
class PromptTokensDetails(TypedDict):
    """cached_tokens: those that did not have to be computed."""

    cached_tokens: int


@with_config(EXACT)
class CompletionTokensDetails(TypedDict):
    """reasoning_tokens: those of the reasoning."""

    reasoning_tokens: int


@with_config(EXACT)
class Usage(TypedDict):
    """How many tokens the prompts and the answers have."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails
    completion_tokens_details: CompletionTokensDetails


class Answer(TypedDict):
    """What all answers have; created: seconds since 1970."""

    id: str
    created: int
    model: str
    system_fingerprint: None


# --- chats ---


@with_config(EXACT)
class AnswerFunction(TypedDict):
    """The function of a call; arguments: JSON text."""

    name: str
    arguments: str


@with_config(EXACT)
class AnswerToolCall(TypedDict):
    """A call of a tool that the model asks for."""

    id: str
    type: Literal["function"]
    function: AnswerFunction


@with_config(EXACT)
class AnswerMessage(TypedDict):
    """The message of the model."""

    role: Literal["assistant"]
    content: str | None
    refusal: None
    reasoning_content: NotRequired[str]
    tool_calls: NotRequired[list[AnswerToolCall]]


@with_config(EXACT)
class ChatLogprobs(TypedDict):
    """The log-probabilities of a message."""

    content: list[Logprob]
    refusal: None


@with_config(EXACT)
class ChatChoiceAnswer(TypedDict):
    """One of the answers to a conversation."""

    index: int
    message: AnswerMessage
    logprobs: ChatLogprobs | None
    finish_reason: FinishReason


@with_config(EXACT)
class ChatAnswer(Answer):
    """The answers to a conversation."""

    object: Literal["chat.completion"]
    choices: list[ChatChoiceAnswer]
    usage: Usage


@with_config(EXACT)
class FunctionPiece(TypedDict):
    """A piece of a function's arguments, or the function's name."""

    name: NotRequired[str]
    arguments: str


@with_config(EXACT)
class ToolCallPiece(TypedDict):
    """A piece of a call. index: which call; id and type: of its first piece."""

    index: int
    id: NotRequired[str]
    type: NotRequired[Literal["function"]]
    function: FunctionPiece


@with_config(EXACT)
class MessagePiece(TypedDict):
    """A piece of a message; the first one has its role."""

    role: NotRequired[Literal["assistant"]]
    content: NotRequired[str]
    reasoning_content: NotRequired[str]
    tool_calls: NotRequired[list[ToolCallPiece]]


@with_config(EXACT)
class ChunkChoice(TypedDict):
    """What is new in one of the answers."""

    index: int
    delta: MessagePiece
    logprobs: ChatLogprobs | None
    finish_reason: FinishReason | None


@with_config(EXACT)
class ChatChunk(Answer):
    """A piece of a streamed answer. usage: of the last one, if asked for."""

    object: Literal["chat.completion.chunk"]
    choices: list[ChunkChoice]
    usage: NotRequired[Usage | None]


# --- completions ---


@with_config(EXACT)
class TextLogprobs(TypedDict):
    """The log-probabilities of a text, and where each token begins; the first token has none."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None] | None
    text_offset: list[int]


@with_config(EXACT)
class TextChoiceAnswer(TypedDict):
    """One of the texts."""

    index: int
    text: str
    logprobs: TextLogprobs | None
    finish_reason: FinishReason


@with_config(EXACT)
class CompletionAnswer(Answer):
    """The texts that continue prompts."""

    object: Literal["text_completion"]
    choices: list[TextChoiceAnswer]
    usage: Usage


@with_config(EXACT)
class TextChunkChoice(TypedDict):
    """What is new in one of the texts."""

    index: int
    text: str
    logprobs: TextLogprobs | None
    finish_reason: FinishReason | None


@with_config(EXACT)
class CompletionChunk(Answer):
    """A piece of a streamed answer. usage: of the last one, if asked for."""

    object: Literal["text_completion"]
    choices: list[TextChunkChoice]
    usage: NotRequired[Usage | None]
