"""/v1/completions."""

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
from localgen.serve.blame import blaming_fields, rows_blaming_fields
from localgen.serve.chat_requests import check_chars, check_rows
from localgen.serve.config import ServeConfig
from localgen.serve.prompt_echo import Echo, echoes_of
from localgen.serve.reading import read_body
from localgen.serve.refusals import Refusal
from localgen.serve.sampling_fields import Options, sampling_options
from localgen.serve.schemas.completions import CompletionRequest
from localgen.serve.sse import EventStream, event, event_stream, send_chunks, send_json
from localgen.serve.text_choices import TextChoice
from localgen.serve.usage import (
    RunningUsage,
    UsageTimes,
    check_stream_options,
    counts,
    usage,
    usage_times,
)

_MAX_TOKENS = 16  # as in OpenAI's API


async def completions(request: Request, send: Send) -> None:
    """Continue prompts."""
    given = await read_body(request, CompletionRequest)
    n = given.n or 1
    n_rows = n * len(given.prompt)
    config = request.app.state.config
    _check(given, n_rows, config)
    async with (
        event_stream(send, config.keep_alive_seconds if given.stream else None) as stream,
        serving(request, given.model, n_rows) as served,
    ):
        answer, rows = await _begin(given, n, served)
        if rows is None:
            await answer.send(send, stream, None)
            return
        async with aclosing(rows):
            await answer.send(send, stream, rows)


async def _begin(
    given: CompletionRequest, n: int, served: Served
) -> tuple[_Answer, RowStream | None]:
    """Return the answer before anything was generated, and the rows, if there are to be any."""
    options = _options(given, n, served.model)
    prompts = await _prompts(given, served.model)
    with blaming_fields(given, "prompt", (ValueError,)):
        echoes = await echoes_of(given, prompts, served.model)
    answer = _Answer(served, given, n, _choices(given, n, echoes, served))
    if given.max_tokens == 0:
        return answer, None
    return answer, rows_blaming_fields(served.rows(prompts, **options), given, "prompt")


def _check(given: CompletionRequest, n_rows: int, config: ServeConfig) -> None:
    check_rows(n_rows, config, "prompt" if len(given.prompt) > 1 else "n")
    check_chars((text for text in given.prompt if isinstance(text, str)), config, "prompt")
    if given.best_of is not None and given.best_of != (given.n or 1):
        raise Refusal(400, "best_of is only accepted with the value of n", param="best_of")
    if given.max_tokens == 0 and not given.echo:
        raise Refusal(400, "max_tokens must be above 0 without echo", param="max_tokens")
    check_stream_options(given.stream_options, is_stream=bool(given.stream))


def _options(given: CompletionRequest, n: int, model: Any) -> Options:
    limit = _MAX_TOKENS if given.max_tokens is None else given.max_tokens
    other: Options = {
        "max_new_tokens": max(1, limit),  # with 0, nothing is generated
        "logprobs": given.logprobs,
        "token_healing": bool(given.token_healing),
    }
    return sampling_options(
        given,
        n=n,
        max_sequences=model.config.max_sequences,
        eos_token_ids=model.tokenizer.eos_token_ids,
        other=other,
    )


async def _prompts(given: CompletionRequest, model: Any) -> list[str | list[int]]:
    """Return the prompts; as token ids where the request says how they are encoded."""
    needs_ids = given.add_special_tokens is not None or (given.echo and given.logprobs is not None)
    if not needs_ids:
        return list(given.prompt)
    adds = given.add_special_tokens is not False

    def encoded(prompt: str | list[int]) -> list[int]:
        if isinstance(prompt, list):
            return prompt
        ids: list[int] = model.tokenizer.encode(prompt, add_special_tokens=adds)
        return ids

    with blaming_fields(given, "prompt", (ValueError, TypeError)):
        return list(await model.in_thread(lambda: [encoded(prompt) for prompt in given.prompt]))


def _choices(
    given: CompletionRequest, n: int, echoes: Sequence[Echo | None], served: Served
) -> list[TextChoice]:
    token_bytes = served.model.tokenizer.token_bytes
    return [
        TextChoice(index, given.logprobs, token_bytes, echoes[index // n])
        for index in range(n * len(given.prompt))
    ]


@dataclass(slots=True)
class _Answer:
    """The answer to one request."""

    served: Served
    given: CompletionRequest
    n: int
    choices: Sequence[TextChoice]

    async def send(self, send: Send, stream: EventStream, rows: RowStream | None) -> None:
        """Send it. rows: None if nothing is generated."""
        if self.given.stream:
            chunk = self._object()
            times = usage_times(self.given.stream_options)
            if times != "never":
                chunk["usage"] = None
                stream.last_words = lambda: [event(self._last(chunk, rows))]
            await send_chunks(stream, self.chunks(chunk, rows, times))
        else:
            await send_json(send, await self.whole(rows))

    async def whole(self, rows: RowStream | None) -> dict[str, Any]:
        """Return the answer when the rows have ended."""
        answer = self._object()
        if rows is not None:
            async for updates in rows:
                for update in updates:
                    self.choices[update.row].add(update)
        choices = [choice.whole for choice in self.choices]
        return {**answer, "choices": choices, "usage": self._usage(rows)}

    async def chunks(
        self, chunk: dict[str, Any], rows: RowStream | None, times: UsageTimes
    ) -> AsyncIterator[list[dict[str, Any]]]:
        """Yield the chunks of a stream, those of one or more steps together."""
        begun = [each for choice in self.choices for each in choice.begin(ends=rows is None)]
        if rows is None:
            yield [{**chunk, "choices": [each]} for each in begun]
        else:
            running = RunningUsage(rows, self.n)
            async for updates in rows:
                new = [each for update in updates for each in self.choices[update.row].add(update)]
                if times == "always":
                    chunk["usage"] = running.add(updates)
                yield [{**chunk, "choices": [each]} for each in [*begun, *new]]
                begun = []
        if times != "never":
            yield [self._last(chunk, rows)]

    def _last(self, chunk: dict[str, Any], rows: RowStream | None) -> dict[str, Any]:
        """Return the chunk with the usage."""
        return {**chunk, "choices": [], "usage": self._usage(rows)}

    def _object(self) -> dict[str, Any]:
        return {
            "id": new_id("cmpl"),
            "object": "text_completion",
            "created": int(time.time()),
            "model": self.served.name,
            "system_fingerprint": None,
        }

    def _usage(self, rows: RowStream | None) -> dict[str, Any]:
        if rows is not None:
            return usage(rows.completions, self.n)
        return counts(sum(choice.n_prompt for choice in self.choices[:: self.n]), 0, 0)
