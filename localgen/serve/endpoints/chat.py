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
from localgen.serve.answering import new_id, serving
from localgen.serve.chat_choices import ChatChoice, choices_of
from localgen.serve.chat_requests import chat_rows, check_chat
from localgen.serve.reading import read_body
from localgen.serve.schemas.chat import ChatRequest
from localgen.serve.sse import send_chunks, send_json
from localgen.serve.usage import usage


async def chat_completions(request: Request, send: Send) -> None:
    """Answer a conversation."""
    given = await read_body(request, ChatRequest)
    check_chat(given, request.app.state.config)
    n_rows = given.n or 1
    async with serving(request, given.model, n_rows) as served:
        rows = await chat_rows(given, served)
        n_top = (given.top_logprobs or 0) if given.logprobs else None
        choices = choices_of(n_rows, n_top, served.model.tokenizer.token_bytes)
        answer = _Answer(served.name, n_rows, choices)
        async with aclosing(rows):
            if given.stream:
                wants_usage = given.stream_options and given.stream_options.include_usage
                await send_chunks(send, answer.chunks(rows, with_usage=bool(wants_usage)))
            else:
                await send_json(send, await answer.whole(rows))


@dataclass(slots=True)
class _Answer:
    """The answer to one request. model: its name."""

    model: str
    n_rows: int
    choices: Sequence[ChatChoice]

    async def whole(self, rows: RowStream) -> dict[str, Any]:
        """Return the answer when the rows have ended."""
        answer = self._object("chat.completion")
        async for updates in rows:
            for update in updates:
                self.choices[update.row].add(update)
        choices = [choice.whole for choice in self.choices]
        return {**answer, "choices": choices, "usage": self._usage(rows)}

    async def chunks(
        self, rows: RowStream, *, with_usage: bool
    ) -> AsyncIterator[list[dict[str, Any]]]:
        """Yield the chunks of a stream, those of one or more steps together."""
        chunk = self._object("chat.completion.chunk")
        if with_usage:
            chunk["usage"] = None
        begun = [choice.begin() for choice in self.choices]
        async for updates in rows:
            new = [each for update in updates for each in self.choices[update.row].add(update)]
            yield [{**chunk, "choices": [each]} for each in [*begun, *new]]
            begun = []
        if with_usage:
            yield [{**chunk, "choices": [], "usage": self._usage(rows)}]

    def _object(self, kind: str) -> dict[str, Any]:
        return {
            "id": new_id("chatcmpl"),
            "object": kind,
            "created": int(time.time()),
            "model": self.model,
            "system_fingerprint": None,
        }

    def _usage(self, rows: RowStream) -> dict[str, Any]:
        n_reasoning = sum(choice.n_reasoning for choice in self.choices)
        return usage(rows.completions, self.n_rows, n_reasoning)
