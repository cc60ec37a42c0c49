"""Counts of tokens, as answers have them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal

from localgen.completion import Completion
from localgen.generation.row_stream import RowStream, RowUpdate
from localgen.serve.refusals import Refusal
from localgen.serve.schemas.common import StreamOptions

UsageTimes = Literal["never", "last", "always"]


def usage(done: Sequence[Completion], n: int, n_reasoning: int = 0) -> dict[str, Any]:
    """Return the usage of a call with ``n`` rows of each prompt, which count their prompt once."""
    firsts = [each.stats for each in done[::n]]
    n_prompt = sum(each.n_prompt for each in firsts)
    n_new = sum(len(each.token_ids) for each in done)
    return counts(n_prompt, n_new, sum(each.n_cached for each in firsts), n_reasoning)


def counts(n_prompt: int, n_new: int, n_cached: int, n_reasoning: int = 0) -> dict[str, Any]:
    """Return a usage object."""
    return {
        "prompt_tokens": n_prompt,
        "completion_tokens": n_new,
        "total_tokens": n_prompt + n_new,
        "prompt_tokens_details": {"cached_tokens": n_cached},
        "completion_tokens_details": {"reasoning_tokens": n_reasoning},
    }


def check_stream_options(options: StreamOptions | None, *, is_stream: bool) -> None:
    """Raise Refusal for options without a stream, or that do not go together."""
    if options is None:
        return
    if not is_stream:
        raise Refusal(400, "stream_options needs stream=true", param="stream_options")
    if options.continuous_usage_stats and not options.include_usage:
        message = "continuous_usage_stats needs include_usage=true"
        raise Refusal(400, message, param="stream_options.continuous_usage_stats")


def usage_times(options: StreamOptions | None) -> UsageTimes:
    """Return which chunks of a stream have the usage."""
    if options is None or not options.include_usage:
        return "never"
    return "always" if options.continuous_usage_stats else "last"


class RunningUsage:
    """Counts the tokens of rows while they run: to read what they have so far takes as long as all
    of it. n: rows of each prompt."""

    def __init__(self, rows: RowStream, n: int) -> None:
        self._rows = rows
        self._n = n
        self._n_new = 0
        self._prompt: tuple[int, int] | None = None

    def add(self, updates: Iterable[RowUpdate], n_reasoning: int = 0) -> dict[str, Any]:
        """Take what is new, and return the usage so far."""
        self._n_new += sum(len(each.token_ids) for each in updates)
        if self._prompt is None:
            firsts = [each.stats for each in self._rows.completions[:: self._n]]
            self._prompt = (
                sum(each.n_prompt for each in firsts),
                sum(each.n_cached for each in firsts),
            )
        n_prompt, n_cached = self._prompt
        return counts(n_prompt, self._n_new, n_cached, n_reasoning)


class ReasoningCount:
    """Counts the tokens of the reasoning in a reply."""

    def __init__(self) -> None:
        self.n_tokens = 0
        self._n_unplaced = 0  # tokens whose text has not come

    def add(self, update: RowUpdate) -> None:
        """Count the tokens of an update as reasoning if that is what they turn out to be."""
        self._n_unplaced += len(update.token_ids)
        kinds = [delta.kind for delta in update.deltas]
        if kinds:
            self.n_tokens += self._n_unplaced if kinds[0] == "reasoning" else 0
            self._n_unplaced = 0
