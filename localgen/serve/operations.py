"""The operations that the OpenAPI document describes; nothing is served from here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from localgen.serve.schemas.answers import (
    ChatAnswer,
    ChatChunk,
    CompletionAnswer,
    CompletionChunk,
)
from localgen.serve.schemas.chat import ChatRequest
from localgen.serve.schemas.completions import CompletionRequest
from localgen.serve.schemas.response_output import ResponseObject
from localgen.serve.schemas.response_stream import ResponseEvent
from localgen.serve.schemas.responses import ResponsesRequest
from localgen.serve.schemas.server import ErrorAnswer, HealthAnswer, ModelAnswer, ModelList
from localgen.serve.schemas.text import (
    DetokenizeAnswer,
    DetokenizeRequest,
    TemplateAnswer,
    TemplateRequest,
    TokenizeAnswer,
    TokenizeRequest,
)

# What any request may be refused with: its key, its Host or Origin, or the server's state.
_ANY = (401, 403, 500, 503)
# What a request with a body may be refused with, too.
_BODY = (400, 404, 408, 413, *_ANY)
_GENERATES = (*_BODY, 429)
_DONE = "[DONE]"
_STREAMED = "The answer, or its events if `stream` is true."


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """What one method of a path takes and gives.

    request: the type of the body; None without one. answer: the type of the JSON answer; None if
    there is none. text: the media type of an answer that is text. events: the type of the data of
    server-sent events; ends_with: the data of the last event, if that is no JSON. errors: statuses.
    other: the types of errors that are not error objects, by their statuses. in_path: the name of
    a part of the path.
    """

    name: str
    path: str
    summary: str
    description: str
    method: str = "post"
    request: Any = None
    answer: Any = None
    text: str | None = None
    events: Any = None
    ends_with: str | None = None
    errors: tuple[int, ...] = _BODY
    other: Mapping[int, Any] = field(default_factory=dict)
    in_path: str | None = None


OPERATIONS = (
    Operation(
        name="createChatCompletion",
        path="/v1/chat/completions",
        summary="Answer a conversation",
        description=_STREAMED,
        request=ChatRequest,
        answer=ChatAnswer,
        events=ChatChunk | ErrorAnswer,
        ends_with=_DONE,
        errors=_GENERATES,
    ),
    Operation(
        name="createCompletion",
        path="/v1/completions",
        summary="Continue prompts",
        description=_STREAMED,
        request=CompletionRequest,
        answer=CompletionAnswer,
        events=CompletionChunk | ErrorAnswer,
        ends_with=_DONE,
        errors=_GENERATES,
    ),
    Operation(
        name="createResponse",
        path="/v1/responses",
        summary="Answer a conversation, and store nothing",
        description=_STREAMED,
        request=ResponsesRequest,
        answer=ResponseObject,
        events=ResponseEvent,
        errors=_GENERATES,
    ),
    Operation(
        name="tokenize",
        path="/tokenize",
        summary="Return the token ids of a text",
        description="The token ids.",
        request=TokenizeRequest,
        answer=TokenizeAnswer,
    ),
    Operation(
        name="detokenize",
        path="/detokenize",
        summary="Return the text of token ids",
        description="The text.",
        request=DetokenizeRequest,
        answer=DetokenizeAnswer,
    ),
    Operation(
        name="applyTemplate",
        path="/apply-template",
        summary="Return a conversation as the model gets it",
        description="The text.",
        request=TemplateRequest,
        answer=TemplateAnswer,
    ),
    Operation(
        name="listModels",
        path="/v1/models",
        method="get",
        summary="List the models",
        description="The models.",
        answer=ModelList,
        errors=_ANY,
    ),
    Operation(
        name="retrieveModel",
        path="/v1/models/{id}",
        method="get",
        summary="Describe a model",
        description="The model.",
        answer=ModelAnswer,
        errors=(*_ANY, 404),
        in_path="id",
    ),
    Operation(
        name="health",
        path="/health",
        method="get",
        summary="Tell whether requests are served",
        description="Requests are served.",
        answer=HealthAnswer,
        errors=(403, 500),
        other={503: HealthAnswer},
    ),
    Operation(
        name="metrics",
        path="/metrics",
        method="get",
        summary="Return the metrics of the server",
        description="The metrics, in Prometheus's text format.",
        text="text/plain",
        errors=_ANY,
    ),
)
