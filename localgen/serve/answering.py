"""What every endpoint that generates does around it: its turn, its model, and a client that leaves.

A client that goes away cancels the task of its request, and with it the rows of its call.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from localgen.serve.problems import refusal_of


@dataclass(frozen=True, slots=True)
class Served:
    """A model that a request may use now.

    name: the model's, as answers have it. seconds: the most that the request may take, if limited.
    """

    model: Any
    name: str
    seconds: float | None

    def options(self) -> dict[str, Any]:
        """Return the options that follow from the server's own limits."""
        return {} if self.seconds is None else {"max_time": self.seconds}


@asynccontextmanager
async def serving(request: Request, name: str | None, n_rows: int) -> AsyncIterator[Served]:
    """Wait until a request of ``n_rows`` texts may run, and lend it its model."""
    pool = request.app.state.pool
    known = pool.find(name)  # before it waits, so that a wrong name is answered at once
    async with pool.use(name) as model:
        yield Served(model, known.name, None)


def new_id(prefix: str) -> str:
    """Return an id that nothing else has, such as "chatcmpl-…"."""
    return f"{prefix}-{secrets.token_hex(12)}"


class Endpoint:
    """An ASGI application of one path: ``answer(request, send)`` writes the whole response.

    Errors before its first byte become error objects, and a client that goes away ends it.
    """

    def __init__(self, answer: Callable[[Request, Send], Awaitable[None]]) -> None:
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        has_begun = False

        async def sending(message: Any) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            await request.body()
            async with ended_when_left(receive):
                await self._answer(request, sending)
        except Exception as error:
            if has_begun:
                raise
            await refusal_of(error).answer(send)


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
