"""Chunks of an answer → a stream of events that ends as OpenAI's do, also after an error."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

from starlette.types import Send

from localgen.serve.problems import refusal_of
from localgen.serve.sse import DONE, EventStream, event


async def send_chunks(send: Send, chunks: AsyncIterator[Sequence[dict[str, Any]]]) -> None:
    """Send chunks as they come.

    An error before the first one raises, so that it gets a status of its own; a later one becomes
    an event, since the status was sent, and the stream ends without the mark of a whole one.
    """
    stream = EventStream(send)
    try:
        async for some in chunks:
            await stream.write(map(event, some))
        await stream.write([DONE])
    except Exception as error:
        if not stream.has_begun:
            raise
        await stream.write([event(refusal_of(error).body())])
    await stream.end()
