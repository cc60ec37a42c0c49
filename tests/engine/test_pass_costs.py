"""Drafts get as many places in a pass as give the most tokens per second."""

from __future__ import annotations

import json
from typing import Any

import pytest

from localgen.engine.pass_costs import PassCosts, best_lengths, equal_lengths


def costs(seconds: dict[int, float]) -> PassCosts:
    found = PassCosts()
    for n_tokens, each in seconds.items():
        found.measured(n_tokens, each)
    return found


FREE = costs(dict.fromkeys(range(1, 40), 1.0))
LINEAR = costs({n: float(n) for n in range(1, 40)})


def test_drafts_that_cost_nothing_are_whole() -> None:
    assert best_lengths([[0.9, 0.5, 0.1], [0.3]], FREE) == [3, 1]


def test_drafts_that_cost_a_pass_each_are_left_out() -> None:
    assert best_lengths([[0.99, 0.99]], LINEAR) == [0]


def test_the_longest_draft_that_pays_by_hand() -> None:
    """Chances 0.8, 0.64, 0.51: 1 token a second, 1.8 / 1.5, 2.44 / 2, 2.95 / 2.5."""
    half = costs({1: 1.0, 2: 1.5, 3: 2.0, 4: 2.5})
    assert best_lengths([[0.8, 0.8, 0.8]], half) == [2]


def test_a_second_token_that_does_not_pay_may_lead_to_a_third_that_does() -> None:
    """Kernels that take four tokens at once: 2 cost as much as 4."""
    steps = costs({1: 1.0, 2: 1.95, 3: 2.0, 4: 2.0, 5: 4.0})
    assert best_lengths([[0.9, 0.9, 0.9, 0.9]], steps) == [3]


def test_the_likeliest_tokens_of_all_sequences_come_first() -> None:
    """Two places are worth it: both go to the sure sequence."""
    cost = costs({3: 1.0, 4: 1.1, 5: 1.2, 6: 9.0})
    assert best_lengths([[0.2, 0.2], [0.9, 0.9], []], cost) == [0, 2, 0]


def test_a_pass_that_is_large_by_others_makes_places_cheap() -> None:
    cost = costs({1: 1.0, 2: 2.0, 9: 4.0, 10: 4.1})
    assert best_lengths([[0.5]], cost) == [0]
    assert best_lengths([[0.5]], cost, n_others=8) == [1]


def test_equal_lengths_by_hand() -> None:
    """Of two sequences one matches: 2 tokens a second, 2.9 / 1.4, 3.7 / 1.8, 4.4 / 2.5."""
    cost = costs({2: 1.0, 4: 1.4, 6: 1.8, 8: 2.5})
    assert equal_lengths([[0.9, 0.9, 0.9], []], cost) == [1, 1]
    assert equal_lengths([[0.9, 0.9, 0.9]] * 2, cost) == [2, 2]
    assert equal_lengths([[0.1], []], cost) == [0, 0]


def test_drafts_beside_others_are_a_part_of_their_own() -> None:
    """Nine others and one that drafts: 10 tokens in 4 s, and then 9 of the draft in 4 s more."""
    free = costs({1: 4.0, 10: 4.0, 20: 4.0})
    assert equal_lengths([[1.0] * 9], free, n_others=9) == [0]
    assert equal_lengths([[1.0] * 30], free, n_others=9) == [30]
    assert equal_lengths([[1.0] * 9], free) == [9]


def test_times_between_measured_ones_are_estimated() -> None:
    known = costs({2: 2.0, 6: 4.0})
    assert known.seconds(4) == pytest.approx(3.0)
    assert known.seconds(12) > 4.0
    assert known.seconds(1) < 2.0


def test_one_slow_pass_hardly_counts() -> None:
    known = costs({1: 1.0})
    known.measured(1, 100.0)
    assert known.seconds(1) < 1.5


def test_where_all_passes_get_slower_ratios_stay() -> None:
    """Passes with drafts are not run for a while, in which the context grows."""
    known = costs({1: 1.0, 4: 2.0})
    for _ in range(100):
        known.measured(1, 3.0)
    assert known.seconds(1) == pytest.approx(3.0, rel=0.01)
    assert 3.0 < known.seconds(4) < 6.1


def test_times_that_change_are_followed() -> None:
    known = costs({1: 1.0, 4: 2.0})
    for _ in range(60):
        known.measured(1, 2.0)
        known.measured(4, 3.0)
    assert known.seconds(1) == pytest.approx(2.0, rel=0.05)
    assert known.seconds(4) == pytest.approx(3.0, rel=0.05)


def test_kept_ratios_are_used_with_the_first_pass_of_another_run() -> None:
    before = costs({1: 1.0, 8: 2.0})
    for _ in range(3):
        before.measured(1, 1.0)
        before.measured(8, 2.0)
    after = PassCosts.from_data(json.loads(json.dumps(before.as_data())))
    assert after.seconds(8) / after.seconds(1) == pytest.approx(2.0)
    after.measured(1, 10.0)
    assert after.seconds(8) == pytest.approx(20.0)


def test_what_was_hardly_measured_is_not_kept() -> None:
    """It may have been slow by chance, and would not be tried again."""
    known = costs({1: 1.0, 8: 900.0})
    for _ in range(3):
        known.measured(1, 1.0)
    assert set(known.as_data()) == {"1"}


def test_nothing_is_kept_again_unless_something_was_measured() -> None:
    known = PassCosts.from_data({"1": 1.0, "8": 2.0})
    assert not known.as_data()
    known.measured(1, 1.0)
    assert known.as_data() == {"1": 1.0, "8": 2.0}


@pytest.mark.parametrize("data", [{"a": 1.0}, {"0": 1.0}, {"1": "x"}, {"1": -1.0}, {"1": 1e308}])
def test_damaged_ratios_are_refused(data: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"pass|int"):
        PassCosts.from_data(data)
