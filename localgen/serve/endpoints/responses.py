"""/v1/responses: OpenAI's Responses API without a store."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import aclosing

from starlette.requests import Request
from starlette.types import Send

from localgen.generation.row_stream import RowStream
from localgen.serve.answering import note_failure, serving
from localgen.serve.chat_requests import chat_options, chat_rows, check_chat
from localgen.serve.problems import refusal_of
from localgen.serve.reading import read_body
from localgen.serve.refusals import Refusal
from localgen.serve.response_items import Event
from localgen.serve.response_object import new_response
from localgen.serve.response_request import ResponsesChat, as_chat
from localgen.serve.response_row import ResponseRow
from localgen.serve.sampling_fields import sampling_in_use
from localgen.serve.schemas.responses import ResponsesRequest
from localgen.serve.sse import EventStream, event, event_stream, send_json


async def responses(request: Request, send: Send) -> None:
    """Answer a conversation."""
    given = await read_body(request, ResponsesRequest)
    seconds = request.app.state.config.keep_alive_seconds if given.stream else None
    async with event_stream(send, seconds) as stream:
        answer = _Answer(given, send, stream)
        try:
            await answer.write(request)
        except Exception as error:
            refusal = refusal_of(error)
            await answer.fail(refusal)
            note_failure(request, refusal)


class _Answer:
    """Writes the answer to one request."""

    def __init__(self, given: ResponsesRequest, send: Send, stream: EventStream) -> None:
        self._given = given
        self._send = send
        self._stream = stream
        self._row: ResponseRow | None = None
        self._rows: RowStream | None = None

    async def write(self, request: Request) -> None:
        """Write the answer."""
        chat = as_chat(self._given)
        check_chat(chat, request.app.state.config)
        async with serving(request, self._given.model, 1) as served:
            n_top = (chat.top_logprobs or 0) if chat.logprobs else None
            options = chat_options(chat, served.model)
            in_use = sampling_in_use(options, served.model)
            response = new_response(self._given, served.name, in_use)
            self._row = ResponseRow(response, n_top, served.model.tokenizer.token_bytes)
            rows = self._rows = await chat_rows(chat, options, served)
            async with aclosing(rows):
                async for events in _events(self._row, rows):
                    if self._given.stream:
                        await self._stream.write(_named(events))
                if self._given.stream:
                    await self._stream.end()
                else:
                    await send_json(self._send, response)

    async def fail(self, refusal: Refusal) -> None:
        """Write an error as the last event of a stream; raise it if no stream has begun."""
        refusal.rename(ResponsesChat.spellings)
        if self._row is None or not self._stream.has_begun:
            raise refusal
        done = self._rows.completions if self._rows is not None else []
        await self._stream.write(_named(self._row.fail(str(refusal), done)))
        await self._stream.end()


async def _events(row: ResponseRow, rows: RowStream) -> AsyncIterator[list[Event]]:
    """Yield the events of a response, those of one or more steps together."""
    async for updates in rows:
        yield [*row.begin(), *(each for update in updates for each in row.add(update))]
    (done,) = rows.completions
    yield row.end(done)


def _named(events: Iterable[Event]) -> Iterator[bytes]:
    return (event(each, each["type"]) for each in events)
