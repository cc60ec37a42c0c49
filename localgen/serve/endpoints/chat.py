"""/v1/chat/completions."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.types import Send

from localgen.generation.row_stream import RowStream
from localgen.serve.answering import Served, new_id, serving
from localgen.serve.chat_choices import ChatChoice, choices_of
from localgen.serve.chat_requests import chat_options, chat_rows, check_chat
from localgen.serve.reading import read_body
from localgen.serve.schemas.chat import ChatRequest
from localgen.serve.sse import EventStream, event, event_stream, send_chunks, send_json
from localgen.serve.usage import RunningUsage, UsageTimes, usage, usage_times

Chunk = dict[str, Any]


async def chat_completions(request: Request, send: Send) -> None:
    """Answer a conversation."""
    given = await read_body(request, ChatRequest)
    config = request.app.state.config
    check_chat(given, config)
    async with (
        event_stream(send, config.keep_alive_seconds if given.stream else None) as stream,
        serving(request, given.model, given.n or 1) as served,
    ):
        answer = await _begin(given, served)
        async with aclosing(answer.rows):
            if given.stream:
                times = usage_times(given.stream_options)
                await answer.send_chunks(stream, times)
            else:
                await send_json(send, await answer.whole())


async def _begin(given: ChatRequest, served: Served) -> _Answer:
    rows = await chat_rows(given, chat_options(given, served.model), served)
    n_top = (given.top_logprobs or 0) if given.logprobs else None
    choices = choices_of(given.n or 1, n_top, served.model.tokenizer.token_bytes)
    return _Answer(served.name, rows, choices)


@dataclass(slots=True)
class _Answer:
    """The answer to one request. model: its name."""

    model: str
    rows: RowStream
    choices: Sequence[ChatChoice]

    async def whole(self) -> dict[str, Any]:
        """Return the answer when the rows have ended."""
        answer = self._object("chat.completion")
        async for updates in self.rows:
            for update in updates:
                self.choices[update.row].add(update)
        choices = [choice.whole for choice in self.choices]
        return {**answer, "choices": choices, "usage": self._usage()}

    async def send_chunks(self, stream: EventStream, times: UsageTimes) -> None:
        """Send the chunks of a stream, those of one or more steps together."""
        chunk = self._object("chat.completion.chunk")
        if times != "never":
            chunk["usage"] = None
            stream.last_words = lambda: [event(self._last(chunk))]
        await send_chunks(stream, self._chunks(chunk, times))

    async def _chunks(self, chunk: Chunk, times: UsageTimes) -> AsyncIterator[list[Chunk]]:
        running = RunningUsage(self.rows, len(self.choices))
        begun = [choice.begin() for choice in self.choices]
        async for updates in self.rows:
            new = [each for update in updates for each in self.choices[update.row].add(update)]
            if times == "always":
                chunk["usage"] = running.add(updates, self._n_reasoning)
            yield [{**chunk, "choices": [each]} for each in [*begun, *new]]
            begun = []
        if times != "never":
            yield [self._last(chunk)]

    def _last(self, chunk: Chunk) -> Chunk:
        """Return the chunk with the usage."""
        return {**chunk, "choices": [], "usage": self._usage()}

    def _object(self, kind: str) -> dict[str, Any]:
        return {
            "id": new_id("chatcmpl"),
            "object": kind,
            "created": int(time.time()),
            "model": self.model,
            "system_fingerprint": None,
        }

    def _usage(self) -> dict[str, Any]:
        return usage(self.rows.completions, len(self.choices), self._n_reasoning)

    @property
    def _n_reasoning(self) -> int:
        return sum(choice.n_reasoning for choice in self.choices)
