"""Server-sent events: objects → the bytes of a stream, and the responses of an ASGI server."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any

from starlette.types import Send

DONE = b"data: [DONE]\n\n"
STREAM_TYPE = (b"content-type", b"text/event-stream; charset=utf-8")
_STREAM_HEADERS = [
    STREAM_TYPE,
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),  # a proxy such as nginx passes each event on at once
]
_JSON_HEADERS = [(b"content-type", b"application/json")]
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode


def json_bytes(value: Any) -> bytes:
    """Return a value as JSON; half a character of two escapes becomes "?"."""
    return _encode(value).encode("utf-8", errors="replace")


def event(value: Any, name: str | None = None) -> bytes:
    """Return an event, with a name if there is one."""
    data = b"data: %b\n\n" % json_bytes(value)
    return data if name is None else b"event: %b\n%b" % (name.encode(), data)


async def send_json(send: Send, value: Any) -> None:
    """Send a complete response."""
    body = json_bytes(value)
    headers = [*_JSON_HEADERS, (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def send_chunks(send: Send, chunks: AsyncIterator[Sequence[Any]]) -> None:
    """Send chunks as they come, those of one item together, and the mark of a whole stream."""
    stream = EventStream(send)
    async for some in chunks:
        await stream.write(map(event, some))
    await stream.write([DONE])
    await stream.end()


class EventStream:
    """A response of events, which begins with the first one."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.has_begun = False

    async def write(self, events: Iterable[bytes]) -> None:
        """Send events together, if there are any."""
        if data := b"".join(events):
            await self._start()
            await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def end(self) -> None:
        """End the response."""
        await self._start()
        await self._send({"type": "http.response.body", "body": b""})

    async def _start(self) -> None:
        if not self.has_begun:
            self.has_begun = True
            start = {"type": "http.response.start", "status": 200, "headers": _STREAM_HEADERS}
            await self._send(start)
