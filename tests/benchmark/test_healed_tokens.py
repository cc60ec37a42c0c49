"""What token healing allows, by hand."""

from __future__ import annotations

import pytest

from localgen.benchmark.healed_tokens import is_allowed, n_alike

PIECES = [b"stra", b"w", b"wberry", b"r", b"strawberry"]
BACKED_UP = [0, 1]


def test_how_many_are_alike() -> None:
    assert n_alike([1, 2, 3], [1, 2, 4]) == 2
    assert n_alike([1, 2], [1, 2, 4]) == 2
    assert n_alike([], [1]) == 0


@pytest.mark.parametrize(
    ("token_ids", "allowed"),
    [
        ([0, 1, 3], True),  # the prompt's own tokens, and anything after
        ([0, 2], True),  # a token that spells the rest and goes on
        ([4], True),  # in the place of both
        ([0, 3], False),
        ([3], False),
        ([0], False),  # it ends before the rest
    ],
)
def test_what_is_allowed(token_ids: list[int], allowed: bool) -> None:
    assert is_allowed(token_ids, BACKED_UP, PIECES.__getitem__) == allowed
