"""The updates of a reply → the events of a response."""

from __future__ import annotations

from collections.abc import Sequence

from localgen.completion import Completion
from localgen.engine.sequence import FinishReason
from localgen.generation.row_stream import RowUpdate
from localgen.serve.response_events import ResponseWriter
from localgen.serve.response_items import Event
from localgen.serve.response_logprobs import TextTokens
from localgen.serve.schemas.response_output import ResponseObject, ResponseUsage
from localgen.serve.token_texts import TokenBytes
from localgen.serve.usage import ReasoningCount, usage
from localgen.text.replies.results import ReplyDelta

# OpenAI's reason for a limit; it has none for the server's own limit of time.
_INCOMPLETE: dict[FinishReason, str] = {
    "length": "max_output_tokens",
    "time": "max_output_tokens",
    "cancelled": "max_output_tokens",
}


class ResponseRow:
    """Writes a response. n_top: likeliest tokens of each; None without log-probabilities."""

    def __init__(
        self, response: ResponseObject, n_top: int | None, token_bytes: TokenBytes
    ) -> None:
        self._writer = ResponseWriter(response)
        self._tokens = TextTokens(n_top, token_bytes)
        self._reasoning = ReasoningCount()
        self._has_begun = False

    @property
    def response(self) -> ResponseObject:
        """The response so far."""
        return self._writer.response

    def begin(self) -> list[Event]:
        """Return the events before the first piece, the first time."""
        has_begun, self._has_begun = self._has_begun, True
        return [] if has_begun else self._writer.begin()

    def add(self, update: RowUpdate) -> list[Event]:
        """Return the events of what is new."""
        self._reasoning.add(update)
        ends = update.finish_reason == "eos"
        self._tokens.add(update.logprobs[:-1] if ends else update.logprobs)
        if update.deltas and all(delta.kind != "text" for delta in update.deltas):
            self._tokens.take()  # of reasoning and calls, which have no log-probabilities
        return [each for delta in update.deltas for each in self._delta(delta)]

    def end(self, done: Completion) -> list[Event]:
        """Return the last events."""
        because = _INCOMPLETE.get(done.finish_reason)
        return self._writer.end(_usage(done, self._reasoning.n_tokens), because)

    def fail(self, message: str, done: Sequence[Completion]) -> list[Event]:
        """Return the last events of a reply that an error ended. done: what there is, if it has
        begun."""
        counts = _usage(done[0], self._reasoning.n_tokens) if done else None
        return [*self.begin(), *self._writer.fail("server_error", message, counts)]

    def _delta(self, delta: ReplyDelta) -> list[Event]:
        if delta.kind != "text":
            return self._writer.add(delta)
        is_first = not self._writer.is_in_text
        tokens = self._tokens.take_first(delta.text) if is_first else self._tokens.take()
        return self._writer.add(delta, tokens)


def _usage(done: Completion, n_reasoning: int) -> ResponseUsage:
    counts = usage([done], 1, n_reasoning)
    n_cached = counts["prompt_tokens_details"]["cached_tokens"]
    return {
        "input_tokens": counts["prompt_tokens"],
        "input_tokens_details": {
            "cached_tokens": n_cached,
            "cache_write_tokens": counts["prompt_tokens"] - n_cached,
        },
        "output_tokens": counts["completion_tokens"],
        "output_tokens_details": {"reasoning_tokens": n_reasoning},
        "total_tokens": counts["total_tokens"],
    }
