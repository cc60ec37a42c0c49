"""AccessLog: request ids, a line in the log for each request, and its part in the metrics."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from localgen.serve.body_limit import BODY
from localgen.serve.client import client_of
from localgen.serve.headers import header, with_headers
from localgen.serve.request_record import RequestRecord, start_record
from localgen.worker.calls import call_label

logger = logging.getLogger(__name__)

_MOST_LOGGED = 20_000  # characters of a body


class AccessLog:
    """The outermost ASGI middleware.

    Each answer has X-Request-Id. is_logged: write a line for each request, without what it says;
    ``log_prompts`` adds the body, of which a middleware further inside keeps a copy. ended: called
    with the scope and the record of each request that is over.
    """

    def __init__(
        self, app: Any, *, is_logged: bool, log_prompts: bool, ended: Callable[[Any, Any], None]
    ) -> None:
        self._app = app
        self._is_logged = is_logged
        self._log_prompts = log_prompts
        self._ended = ended

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        record = start_record(scope, header(scope, b"x-request-id"))
        own = [(b"x-request-id", record.id.encode()), (b"x-content-type-options", b"nosniff")]

        async def note(message: Any) -> None:
            if message["type"] == "http.response.start":
                record.status = message["status"]
                message = with_headers(message, own)
            await send(message)

        label = call_label.set(record.id)
        try:
            await self._app(scope, receive, note)
        except Exception:
            record.status = 500
            raise
        finally:
            call_label.reset(label)
            self._ended(scope, record)
            if self._is_logged:
                self._log(scope, record)

    def _log(self, scope: Any, record: RequestRecord) -> None:
        logger.info("%s", line_of(scope, record))
        body = scope.get(BODY)
        if self._log_prompts and body:
            text = body.decode("utf-8", errors="replace")[:_MOST_LOGGED]
            logger.info("%s body %s", record.id, text.encode("unicode_escape").decode())


def line_of(scope: Any, record: RequestRecord) -> str:
    """Return the line of a request: id, client, method, path, status, error of a stream, model,
    tokens, seconds."""
    # The path as it was sent: decoded, it could hold the end of a line.
    path = scope.get("raw_path", b"").split(b"?")[0].decode("ascii", errors="replace")[:200]
    tokens = ""
    if record.stats:
        tokens = (
            f" model={record.model} prompt={record.n_prompt} cached={record.n_cached} "
            f"new={record.n_new}"
        )
    error = "" if record.failure is None else f" error={record.failure[1]}"
    waited = f" waited={record.waited:.3f}s" if record.waited >= 1e-3 else ""
    return (
        f"{record.id} {client_of(scope)} {scope['method']} {path} {record.status}{error}{tokens}"
        f"{waited} {record.seconds:.3f}s"
    )
