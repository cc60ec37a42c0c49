"""Server-sent events: objects → the bytes of a stream, and the responses of an ASGI server."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from starlette.types import Send

DONE = b"data: [DONE]\n\n"
# Clients ignore it; proxies, which close silent connections, do not.
COMMENT = b": keep-alive\n\n"
STREAM_TYPE = (b"content-type", b"text/event-stream; charset=utf-8")
_STREAM_HEADERS = [
    STREAM_TYPE,
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),  # a proxy such as nginx passes each event on at once
]
_JSON_HEADERS = [(b"content-type", b"application/json")]
# Items that are encoded in a millisecond.
_FEW = 2048
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode


def json_bytes(value: Any) -> bytes:
    """Return a value as JSON; half a character of two escapes becomes "?"."""
    return _encode(value).encode("utf-8", errors="replace")


def long_json_bytes(value: Mapping[str, Any]) -> bytes:
    """Return ``json_bytes()`` of an object whose lists may be long, made in parts: while one is
    made, no other thread runs."""
    parts = []
    for name, item in value.items():
        parts += [b",", json_bytes(name), b":"]
        if not isinstance(item, list):
            parts.append(json_bytes(item))
            continue
        few = (item[start : start + _FEW] for start in range(0, len(item), _FEW))
        parts += [b"[", b",".join(json_bytes(each)[1:-1] for each in few), b"]"]
    return b"{" + b"".join(parts)[1:] + b"}"


def event(value: Any, name: str | None = None) -> bytes:
    """Return an event, with a name if there is one."""
    data = b"data: %b\n\n" % json_bytes(value)
    return data if name is None else b"event: %b\n%b" % (name.encode(), data)


async def send_json(send: Send, value: Any) -> None:
    """Send a complete response."""
    await send_body(send, json_bytes(value))


async def send_body(send: Send, body: bytes) -> None:
    """Send a complete response of JSON."""
    headers = [*_JSON_HEADERS, (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def send_chunks(stream: EventStream, chunks: AsyncIterator[Sequence[Any]]) -> None:
    """Send chunks as they come, those of one item together, and the mark of a whole stream."""
    async for some in chunks:
        await stream.write(map(event, some))
    await stream.write([DONE])
    await stream.end()


class EventStream:
    """A response of events, which begins with the first one.

    last_words: returns what is sent before the event of an error, if the response has begun.
    """

    def __init__(self, send: Send) -> None:
        self._send = send
        self._writing = asyncio.Lock()
        self._written_at = time.monotonic()
        self.has_begun = False
        self.last_words: Callable[[], Iterable[bytes]] | None = None

    async def write(self, events: Iterable[bytes]) -> None:
        """Send events together, if there are any."""
        if data := b"".join(events):
            await self._write(data, more=True)

    async def end(self) -> None:
        """End the response."""
        await self._write(b"", more=False)

    async def keep_alive(self, seconds: float) -> None:
        """Send a comment each time that nothing was sent for so many seconds, until cancelled."""
        while True:
            silent = time.monotonic() - self._written_at
            if silent < seconds:
                await asyncio.sleep(seconds - silent)
            elif self._writing.locked():  # for a client that reads slowly
                await asyncio.sleep(seconds)
            else:
                await self._write(COMMENT, more=True)

    async def _write(self, data: bytes, *, more: bool) -> None:
        async with self._writing:
            if not self.has_begun:
                start = {"type": "http.response.start", "status": 200, "headers": _STREAM_HEADERS}
                await self._send(start)
                self.has_begun = True
            await self._send({"type": "http.response.body", "body": data, "more_body": more})
            self._written_at = time.monotonic()


@asynccontextmanager
async def event_stream(send: Send, seconds: float | None) -> AsyncIterator[EventStream]:
    """Lend a stream, with a comment after each ``seconds`` of silence (None is never), and with its
    last words if the block raises."""
    stream = EventStream(send)
    keeper = None if seconds is None else asyncio.create_task(stream.keep_alive(seconds))
    try:
        yield stream
    except Exception:
        if stream.has_begun and stream.last_words is not None:
            await stream.write(stream.last_words())
        raise
    finally:
        if keeper is not None:
            keeper.cancel()
