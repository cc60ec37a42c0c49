"""Counts of tokens, as answers have them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from localgen.completion import Completion
from localgen.generation.row_stream import RowUpdate


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
