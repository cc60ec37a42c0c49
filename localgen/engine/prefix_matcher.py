"""Find the tokens that a prompt need not compute; pure functions on what the KV cache holds."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from localgen.engine.backend import TokenIds
from localgen.engine.sequence import CachedSequence, Sequence

# A copy moves a whole sequence, so fewer shared tokens than these are computed again instead.
_MIN_SHARED = 16
_SHARED_PART = 64
RECURRENT = "the model's state is recurrent: it can only be continued from its end"


class Match(NamedTuple):
    """Which item shares a prefix, of how many tokens; and why a near match was rejected."""

    source: Sequence | CachedSequence | None = None
    n_shared: int = 0
    miss_reason: str | None = None


NO_MATCH = Match()


def common_length(a: TokenIds, b: TokenIds) -> int:
    """Return how many tokens ``a`` and ``b`` begin with in common."""
    n = min(len(a), len(b))
    if not n or a[0] != b[0]:
        return 0
    differing = np.flatnonzero(a[:n] != b[:n])
    return int(differing[0]) if len(differing) else n


def is_worth_a_copy(n_shared: int, n_ctx_seq: int, *, is_unified: bool) -> bool:
    """Return whether copying ``n_shared`` tokens of KV takes less than computing them."""
    if is_unified:
        return n_shared >= _MIN_SHARED  # a copy moves nothing
    return n_shared >= max(_MIN_SHARED, n_ctx_seq // _SHARED_PART)


def best_match(
    sequence: Sequence,
    candidates: Iterable[Sequence | CachedSequence],
    *,
    n_ctx_seq: int,
    is_unified: bool,
    can_truncate: bool,
) -> Match:
    """Return which candidate begins most like a sequence's tokens.

    The tokens whose logits are wanted are left to compute, at least the last one. Of equals, what
    is cached wins over what still runs.
    """
    tokens = sequence.tokens[: sequence.output_from]
    best, miss_reason = NO_MATCH, None
    for item in candidates:
        if item is sequence:
            continue
        is_cached = isinstance(item, CachedSequence)
        held = item.token_ids if isinstance(item, CachedSequence) else item.tokens[: item.n_tokens]
        n_shared = common_length(tokens, held)
        if not can_truncate and n_shared != _n_held(item):
            if n_shared >= _MIN_SHARED:
                miss_reason = RECURRENT
            continue
        worth = is_worth_a_copy(n_shared, n_ctx_seq, is_unified=is_unified)
        if n_shared > best.n_shared and (is_cached or worth):
            best = Match(item, n_shared)
    return best._replace(miss_reason=miss_reason)


def _n_held(item: Sequence | CachedSequence) -> int:
    """Tokens that the KV of an item knows right now."""
    return len(item.token_ids) if isinstance(item, CachedSequence) else item.n_kv
