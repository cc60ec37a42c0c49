"""How far a text may go is found on a twin, token by token, where a matcher knows single tokens."""

from __future__ import annotations

import pytest

from localgen.generation.step_matcher import StepMatcher


class CountingUp(StepMatcher):
    """Allows each time the token one above the last."""

    def __init__(self, last: int = 0) -> None:
        self.last = last

    def allows(self, token_id: int) -> bool:
        return token_id == self.last + 1

    def accept(self, token_id: int) -> None:
        assert self.allows(token_id)
        self.last = token_id

    def fork(self) -> CountingUp:
        return CountingUp(self.last)


@pytest.mark.parametrize(
    ("token_ids", "n"), [([], 0), ([1], 1), ([2], 0), ([1, 2, 3], 3), ([1, 2, 2], 2), ([3, 1], 0)]
)
def test_the_tokens_up_to_the_first_that_may_not_come_are_counted(
    token_ids: list[int], n: int
) -> None:
    matcher = CountingUp()
    assert matcher.n_allowed(token_ids) == n
    assert matcher.last == 0, "the matcher itself has followed none of them"
