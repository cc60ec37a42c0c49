"""What processors share: their type, and questions about the tokens so far."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Items

import numpy as np

from localgen.config import SamplingOptions
from localgen.engine.backend import Logits, TokenIds
from localgen.engine.sequence import Sequence

# Edits a row of logits (n_vocab,) in place.
Processor = Callable[[Logits, Sequence], None]
# Returns the processor of an option, or None where the option is off.
Maker = Callable[[SamplingOptions], Processor | None]


def tokens_of(sequence: Sequence) -> TokenIds:
    """Return prompt and new tokens (n,)."""
    return sequence.tokens[: sequence.n_tokens]


def ends_with(tokens: TokenIds, ending: Items[int]) -> bool:
    """Return whether ``ending`` is what ``tokens`` (n,) end with."""
    return not ending or tokens[-len(ending) :].tolist() == list(ending)


def followers(tokens: TokenIds, ending: TokenIds) -> TokenIds:
    """Return the tokens that come after ``ending`` (m,) wherever ``tokens`` (n,) have it."""
    n_windows = len(tokens) - len(ending)
    if n_windows <= 0:
        return tokens[:0]
    matches = np.ones(n_windows, np.bool_)
    for offset, token_id in enumerate(ending):
        matches &= tokens[offset : offset + n_windows] == token_id
    return tokens[len(ending) :][matches]


def ngram_repeats(tokens: TokenIds, size: int, among: TokenIds | None = None) -> TokenIds:
    """Return the ids that would complete, after ``tokens`` (n,), an n-gram of ``size`` that they
    already have, or that ``among`` (m,) has."""
    n_ending = size - 1
    if len(tokens) < n_ending:
        return tokens[:0]
    return followers(tokens if among is None else among, tokens[len(tokens) - n_ending :])
