"""Counts of tokens, as answers have them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from localgen.completion import Completion


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
