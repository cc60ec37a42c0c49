"""What token healing allows, told from tokens alone; it knows nothing of how healing does it."""

from __future__ import annotations

from collections.abc import Callable


def n_alike(one: list[int], other: list[int]) -> int:
    """Return how many tokens both begin with."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(one), len(other)))


def is_allowed(
    token_ids: list[int], backed_up: list[int], token_bytes: Callable[[int], bytes]
) -> bool:
    """Return whether tokens begin with those that were backed up, or with some of these and a token
    that spells the rest."""
    n_own = n_alike(token_ids, backed_up)
    rest = b"".join(map(token_bytes, backed_up[n_own:]))
    following = b"".join(map(token_bytes, token_ids[n_own : n_own + 1]))
    return following.startswith(rest)
