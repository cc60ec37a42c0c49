"""Every error → OpenAI's error object; never a stack trace, a path or a message of C code."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from localgen.errors import (
    BackendError,
    ClosedError,
    ContextFullError,
    DecodeError,
    KvBudgetError,
    ModelFileError,
    NotEnoughMemoryError,
    TemplateError,
    WorkerCrashedError,
)
from localgen.serve.refusals import INVALID, SERVER, Refusal, stopping

logger = logging.getLogger(__name__)

_RETRY_SECONDS = 10.0
# Not a status that clients retry.
_CRASHES = "this request is refused: each time that the model computed it, its process crashed"


def refusal_of(error: Exception) -> Refusal:
    """Return the answer to a client for an error; log the error unless the client caused it."""
    if isinstance(error, Refusal):
        return error
    if isinstance(error, ContextFullError):
        return _context_full(error)
    if isinstance(error, (TemplateError, ValueError)):
        return Refusal(400, str(error))
    if isinstance(error, ClosedError):
        return stopping()
    if isinstance(error, WorkerCrashedError) and error.is_refused:
        return Refusal(400, _CRASHES, code="request_crashes_model")
    logger.error("a request failed: %s", type(error).__name__, exc_info=error)
    return _fault(error)


def _context_full(error: ContextFullError) -> Refusal:
    return Refusal(
        400,
        f"This model's maximum context length is {error.n_ctx} tokens. However, your prompt has "
        f"{error.n_prompt} tokens. Shorten it, or start the server with a larger --n-ctx.",
        code="context_length_exceeded",
    )


@dataclass(frozen=True, slots=True)
class _Fault:
    """What is said of an error of the server, the model or the machine."""

    status: int
    code: str
    message: str
    param: str | None = None
    retry_after: float | None = None


# The first kind that an error is.
_FAULTS: dict[type[Exception], _Fault] = {
    KvBudgetError: _Fault(
        400,
        "context_length_exceeded",
        "the request needs more memory for its context than this server has: ask for fewer tokens",
    ),
    NotEnoughMemoryError: _Fault(
        503,
        "no_memory",
        "the model does not fit the memory that is available now",
        "model",
        _RETRY_SECONDS,
    ),
    ModelFileError: _Fault(
        503,
        "model_not_loaded",
        "this model cannot be loaded; the log of the server has the reason",
        "model",
    ),
    WorkerCrashedError: _Fault(
        503,
        "model_crashed",
        "the model's process crashed at this request and starts again; send the request again",
        retry_after=1.0,
    ),
    DecodeError: _Fault(500, "decode", "the model failed to compute this text"),
    BackendError: _Fault(500, "backend", "this server cannot compute that; its log has the reason"),
    Exception: _Fault(500, "internal_error", "the server failed at this request"),
}


def _fault(error: Exception) -> Refusal:
    found = next(fault for kind, fault in _FAULTS.items() if isinstance(error, kind))
    return Refusal(
        found.status,
        found.message,
        type=INVALID if found.status == 400 else SERVER,
        param=found.param,
        code=found.code,
        retry_after=found.retry_after,
    )
