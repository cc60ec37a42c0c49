"""Drafts are made where measured times say that they pay, and lose little where they do not."""

from __future__ import annotations

import pytest

from localgen.engine.draft_gain import DraftGain
from localgen.engine.pass_costs import PassCosts


class Linear(PassCosts):
    """A pass takes a second, and each further token ``more``."""

    def __init__(self, more: float) -> None:
        super().__init__()
        self.more = more

    def seconds(self, n_tokens: int) -> float:
        return 1.0 + self.more * (n_tokens - 1)


def gain(more: float, draft: float) -> DraftGain:
    found = DraftGain()
    found.costs = Linear(more)
    found.drafted(draft)
    return found


def test_a_forecast_is_tokens_per_second_against_none() -> None:
    """At an acceptance of 0.5, one token gives 1.5 tokens and two give 1.75."""
    found = gain(0.0, 0.25)
    found.acceptance = 0.5
    assert found.forecast(1) == pytest.approx(1.5 / 1.25)
    found.pass_seconds = 0.1
    assert found.forecast(1) == pytest.approx(1.75 / 1.2)


def test_a_draft_model_as_slow_as_its_target_never_pays() -> None:
    assert not gain(0.0, 1.0).pays(1)
    assert gain(0.0, 0.1).pays(1)


def test_passes_that_grow_with_each_token_leave_nothing_to_gain() -> None:
    assert not gain(1.0, 0.0).pays(1)


@pytest.mark.parametrize("n_sequences", [1, 4])
def test_the_loss_stays_a_small_share_whatever_is_forecast(n_sequences: int) -> None:
    """Drafts that are never accepted, with a forecast that always promises a gain."""
    found = gain(0.0, 0.2)
    lost, n_passes = 0.0, 5000
    for _ in range(n_passes):
        if found.pays(n_sequences):
            found.spent(0.2)
            lost += 0.2
        found.passed(n_sequences, 0, 0)
    assert 0 < lost <= 0.02 * n_passes + 5


def test_drafts_are_tried_again_after_many_passes_without() -> None:
    found = gain(0.0, 0.5)
    found.acceptance = 0.0
    assert not found.pays(1)
    assert not found.may_retry(1)
    n_passes = 0
    while not found.may_retry(1):
        found.passed(1, 0, 0)
        n_passes += 1
        assert n_passes < 1000
    assert n_passes > 100


def test_acceptance_counts_tokens_up_to_the_first_rejected_one() -> None:
    found = gain(0.0, 0.1)
    found.acceptance = 0.5
    found.verified(5, 0)
    assert found.acceptance == pytest.approx(0.45)
    found.verified(1, 1)
    assert found.acceptance == pytest.approx(0.505)


def test_a_long_prompt_is_computed_only_for_a_text_that_may_pay_it_back() -> None:
    found = gain(0.0, 0.1)
    assert found.is_worth_starting(100, 200, 1)
    assert not found.is_worth_starting(10_000, 20, 1)
