"""What every endpoint that generates does around it: its turn, its model, and a client that leaves.

A client that goes away cancels the task of its request, and with it the rows of its call.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.types import Message, Receive, Scope, Send

from localgen.completion import Stats
from localgen.generation.row_stream import RowStream
from localgen.serve.admission import Turn
from localgen.serve.problems import refusal_of
from localgen.serve.refusals import Refusal
from localgen.serve.request_record import record_of
from localgen.serve.sse import STREAM_TYPE, event

_SECONDS_BETWEEN_LOOKS = 0.5


@dataclass(slots=True)
class Served:
    """A model that a request may use now.

    name: the model's, as answers have it. turn: that of the request, which limits its time.
    """

    model: Any
    name: str
    turn: Turn
    _rows: RowStream | None = None

    def rows(self, prompts: Sequence[Any], **options: Any) -> RowStream:
        """Return ``model.astream_rows()`` within the time that the request has, counted."""
        seconds = self.turn.seconds_left()
        if seconds is not None:
            options["max_time"] = seconds
        rows: RowStream = self.model.astream_rows(prompts, **options)
        self._rows = rows
        return rows

    async def free_places(self) -> None:
        """Free the places of the request once its rows are computed: a client may read slowly."""
        while self._rows is None or not self._rows.is_over:
            await asyncio.sleep(_SECONDS_BETWEEN_LOOKS)
        self.turn.free_places()

    def stats(self) -> list[Stats]:
        """Return the statistics of the rows so far."""
        return [] if self._rows is None else [each.stats for each in self._rows.completions]


@asynccontextmanager
async def serving(request: Request, name: str | None, n_rows: int) -> AsyncIterator[Served]:
    """Wait until a request of ``n_rows`` texts may run, and lend it its model."""
    state = request.app.state
    known = state.pool.find(name)  # before it waits, so that a wrong name is answered at once
    async with state.admission.turn(request, n_rows) as turn, state.pool.use(name) as model:
        served = Served(model, known.name, turn)
        freeing = asyncio.create_task(served.free_places())
        try:
            yield served
        finally:
            freeing.cancel()
            record_of(request.scope).count(known.name, served.stats())


def new_id(prefix: str) -> str:
    """Return an id that nothing else has, such as "chatcmpl-…"."""
    return f"{prefix}-{secrets.token_hex(12)}"


def note_failure(request: Request, refusal: Refusal) -> None:
    """Keep, for the log and the metrics, why a stream ended whose status was sent before."""
    record_of(request.scope).failure = refusal.status, refusal.code or refusal.type


def error_event(refusal: Refusal) -> bytes:
    """Return the last event of a stream that failed."""
    return event(refusal.body())


class Endpoint:
    """An ASGI application of one path: ``answer(request, send)`` writes the whole response.

    An error before its first byte becomes an error object with a status; in a stream, whose status
    was sent, it becomes the last event, by ``last_event``. A client that goes away ends it.
    """

    def __init__(
        self,
        answer: Callable[[Request, Send], Awaitable[None]],
        last_event: Callable[[Refusal], bytes] = error_event,
    ) -> None:
        self._answer = answer
        self._last_event = last_event

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        sent = _Sent(send)
        try:
            await request.body()
            async with ended_when_left(receive):
                await self._answer(request, sent)
        except ClientDisconnect:  # in the middle of its request
            return
        except Exception as error:
            refusal = refusal_of(error)
            if not sent.has_begun:
                await refusal.answer(send)
            elif sent.is_stream:
                note_failure(request, refusal)
                last = self._last_event(refusal)
                await send({"type": "http.response.body", "body": last})
            else:
                raise


class _Sent:
    """Sends messages, and knows how far the response is."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.has_begun = self.is_stream = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.has_begun = True
            self.is_stream = STREAM_TYPE in message["headers"]
        await self._send(message)


@asynccontextmanager
async def ended_when_left(receive: Receive) -> AsyncIterator[None]:
    """Cancel the block, and end quietly, if the client goes away. The body must have been read."""
    task = asyncio.current_task()
    assert task is not None
    has_left = False

    async def watch() -> None:
        nonlocal has_left
        while (await receive())["type"] != "http.disconnect":
            pass
        has_left = True
        task.cancel()

    watcher = asyncio.create_task(watch())
    try:
        yield
    except asyncio.CancelledError:
        if not has_left:
            raise
        if hasattr(task, "uncancel"):  # Python 3.11
            task.uncancel()
    finally:
        watcher.cancel()
