"""BodyLimit: a request's body, complete, in time and not too large, or a Refusal; pure ASGI."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from localgen._util.format import as_size
from localgen.serve.config import ServeConfig
from localgen.serve.headers import has_header, header
from localgen.serve.refusals import Refusal, stopping

BODY = "localgen.body"
# What works while the server stops: whoever watches it sees that.
_ALWAYS_SERVED = frozenset({"/health", "/metrics"})
# A body that is too large is read and thrown away up to so many times the limit: many clients read
# no answer before they have sent everything.
_TIMES_THROWN_AWAY = 8


class _LeftError(Exception):
    """The client left before its request was complete."""


class BodyLimit:
    """Reads the body of a request before the app sees it, so that a slow one takes no place.

    is_stopping: whether the server refuses new requests.
    """

    def __init__(self, app: Any, config: ServeConfig, is_stopping: Callable[[], bool]) -> None:
        self._app = app
        self._most_bytes = config.max_body_bytes
        self._most_seconds = config.body_timeout
        self._keeps_body = config.log_prompts
        self._is_stopping = is_stopping

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            if self._is_stopping() and scope["path"] not in _ALWAYS_SERVED:
                raise stopping()
            body = await self._body(scope, receive)
        except Refusal as refusal:
            await refusal.answer(send)
        except _LeftError:
            return
        else:
            if self._keeps_body:
                scope[BODY] = body
            await self._app(scope, _replaying(body, receive), send)

    async def _body(self, scope: Any, receive: Any) -> bytes:
        """Return the whole body. Raises Refusal, 413, 408 or 400."""
        length, is_chunked = (
            header(scope, b"content-length"),
            has_header(scope, b"transfer-encoding"),
        )
        if length is None and not is_chunked:
            return b""
        if length is not None and is_chunked:  # a proxy may believe one, and this server the other
            raise Refusal(
                400,
                "the request has both Content-Length and Transfer-Encoding; send one of them",
                code="ambiguous_length",
                closes=True,
            )
        is_too_large = length is not None and int(length) > self._most_bytes
        if is_too_large and has_header(scope, b"expect"):
            raise self._too_large()  # the client has asked before it sends it
        try:
            body = await asyncio.wait_for(self._read(receive), self._most_seconds)
        except asyncio.TimeoutError:
            raise Refusal(
                408,
                f"the request's body did not arrive within {self._most_seconds:g} seconds",
                code="body_timeout",
                closes=True,
            ) from None
        if body is None:
            raise self._too_large()
        return body

    async def _read(self, receive: Any) -> bytes | None:
        """Return the body; None if it is too large."""
        chunks: list[bytes] = []
        n_bytes, more = 0, True
        while more and n_bytes <= _TIMES_THROWN_AWAY * self._most_bytes:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise _LeftError
            chunk, more = message.get("body", b""), message.get("more_body", False)
            n_bytes += len(chunk)
            if n_bytes > self._most_bytes:
                chunks.clear()
            else:
                chunks.append(chunk)
        return b"".join(chunks) if n_bytes <= self._most_bytes else None

    def _too_large(self) -> Refusal:
        return Refusal(
            413,
            f"the request's body is larger than the {as_size(self._most_bytes)} that this server "
            f"takes (--max-body-bytes {self._most_bytes})",
            code="request_too_large",
            closes=True,
        )


def _replaying(body: bytes, receive: Any) -> Any:
    """Return an ASGI ``receive`` that gives a body, then what comes after it."""
    is_given = False

    async def replay() -> Any:
        nonlocal is_given
        if is_given:
            return await receive()
        is_given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay
