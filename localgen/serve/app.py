"""The ASGI application: the paths of the API, and which endpoint answers each."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from localgen.config import ModelConfig
from localgen.serve.admission import Admission
from localgen.serve.answering import Endpoint
from localgen.serve.config import ServeConfig
from localgen.serve.endpoints.chat import chat_completions
from localgen.serve.endpoints.completions import completions
from localgen.serve.endpoints.health import health, write_metrics
from localgen.serve.endpoints.models import get_model, list_models
from localgen.serve.endpoints.responses import responses
from localgen.serve.endpoints.text import apply_template, detokenize, tokenize
from localgen.serve.metrics import Metrics
from localgen.serve.middleware import middleware
from localgen.serve.openapi import openapi_document
from localgen.serve.page.endpoints import page_routes
from localgen.serve.pool import ModelPool
from localgen.serve.problems import refusal_of
from localgen.serve.refusals import Refusal
from localgen.serve.sse import json_bytes

# Of /tokenize and its like, which take a CPU and memory, but no place of a text that is generated.
_TEXTS_AT_A_TIME = 2


def create_app(pool: ModelPool, config: ServeConfig) -> Starlette:
    """Return the server of a ``ModelPool``'s models as an ASGI application."""
    admission = Admission(
        config.max_running or ModelConfig().max_sequences,
        config.max_waiting,
        config.deadline_seconds,
    )
    text_admission = Admission(_TEXTS_AT_A_TIME, config.max_waiting, config.deadline_seconds)
    metrics = Metrics(pool, admission)
    app = Starlette(
        routes=[
            *page_routes(),
            Route("/v1/chat/completions", Endpoint(chat_completions), methods=["POST"]),
            Route("/v1/completions", Endpoint(completions), methods=["POST"]),
            Route("/v1/responses", Endpoint(responses), methods=["POST"]),
            Route("/tokenize", Endpoint(tokenize), methods=["POST"]),
            Route("/detokenize", Endpoint(detokenize), methods=["POST"]),
            Route("/apply-template", Endpoint(apply_template), methods=["POST"]),
            Route("/openapi.json", openapi_document),
            Route("/v1/models", list_models),
            Route("/v1/models/{id:path}", get_model),
            Route("/health", health),
            Route("/metrics", write_metrics),
        ],
        middleware=middleware(config, admission, metrics),
        exception_handlers={404: _no_such_path, 405: _no_such_method, Refusal: _refusal},
    )
    app.state.pool = pool
    app.state.config = config
    app.state.admission = admission
    app.state.text_admission = text_admission
    app.state.metrics = metrics
    return app


async def _refusal(_: Request, error: Exception) -> Response:
    return _refused(refusal_of(error))


async def _no_such_path(request: Request, _: Exception) -> Response:
    return _refused(Refusal(404, f"there is no {request.url.path!r:.200} here", code="not_found"))


async def _no_such_method(request: Request, error: Exception) -> Response:
    message = f"{request.method} is not a method of {request.url.path}"
    response = _refused(Refusal(405, message, code="method_not_allowed"))
    response.headers.update(getattr(error, "headers", None) or {})
    return response


def _refused(refusal: Refusal) -> Response:
    return Response(
        json_bytes(refusal.body()),
        refusal.status,
        refusal.headers(),
        media_type="application/json",
    )
