"""Accuracies and paired differences: by hand, and against published cases."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localgen.compare.task_metrics import SIGNIFICANT, accuracy, mcnemar, paired_difference


def test_an_accuracy_and_its_standard_error() -> None:
    assert list(accuracy([True, True, True, False])) == pytest.approx([0.75, 0.25])
    assert accuracy([True]) == (1.0, 0.0)


@pytest.mark.parametrize(
    ("n_lost", "n_gained", "p_value"),
    [
        (0, 0, 1.0),  # nothing differs
        (1, 0, 1.0),  # one coin
        (0, 5, 2 / 32),
        (2, 8, 2 * (1 + 10 + 45) / 1024),
        (4, 4, 1.0),
    ],
)
def test_mcnemars_test_is_that_of_a_fair_coin(n_lost: int, n_gained: int, p_value: float) -> None:
    assert mcnemar(n_lost, n_gained) == pytest.approx(p_value)
    assert mcnemar(n_gained, n_lost) == pytest.approx(p_value)


def test_many_questions_are_no_overflow() -> None:
    assert 0 < mcnemar(900, 1200) < 1e-9


def answers(n_both: int, n_gained: int, n_lost: int, n_neither: int) -> tuple[list[bool], ...]:
    level = [True] * (n_both + n_gained) + [False] * (n_lost + n_neither)
    reference = [True] * n_both + [False] * n_gained + [True] * n_lost + [False] * n_neither
    return reference, level


def test_the_interval_of_a_published_case() -> None:
    """Newcombe's example: 36 pairs right in both, 12 and 2 in one, none in neither."""
    reference, level = answers(36, 12, 2, 0)
    found = paired_difference(reference, level, [""] * 50, [""] * 50)
    assert found.difference == pytest.approx(0.2)
    assert [found.low, found.high] == pytest.approx([0.0569, 0.3404], abs=1e-4)
    assert (found.n_gained, found.n_lost, found.flips) == (12, 2, 0.0)


@pytest.mark.parametrize(
    ("n_lost", "n_gained", "p_value", "decision"),
    [
        (5, 0, 2 / 32, False),
        (6, 0, 2 / 64, True),
        (8, 1, 2 * (1 + 9) / 512, True),
        (8, 2, 2 * (1 + 10 + 45) / 1024, False),
        # The sums of the binomial coefficients of 19 up to the 4th and the 5th.
        (15, 4, 2 * (1 + 19 + 171 + 969 + 3876) / 2**19, True),
        (14, 5, 2 * (1 + 19 + 171 + 969 + 3876 + 11628) / 2**19, False),
    ],
)
def test_the_p_value_decides_at_the_border(
    n_lost: int, n_gained: int, p_value: float, decision: bool
) -> None:
    for pair in ((n_lost, n_gained), (n_gained, n_lost)):
        reference, level = answers(26, pair[1], pair[0], 15)
        found = paired_difference(reference, level, [""] * len(level), [""] * len(level))
        assert found.p_value == pytest.approx(p_value)
        assert found.is_significant is decision is (p_value < SIGNIFICANT)


def test_an_interval_may_exclude_zero_where_the_test_does_not_reject() -> None:
    """26 right in both, 14 lost, 5 gained, 15 in neither: what Q2_K of SmolLM2 did in the demo.

    By hand: Wilson's intervals are 0.393 to 0.638 for 31 of 60 and 0.541 to 0.773 for 40 of 60, the
    association 26 * 15 - 14 * 5 - 30 = 290 and the correlation 290 / sqrt(31 * 29 * 40 * 20) =
    0.342, so the interval is -0.15 - 0.132 to -0.15 + 0.142.
    """
    reference, level = answers(26, 5, 14, 15)
    found = paired_difference(reference, level, [""] * 60, [""] * 60)
    assert [found.low, found.high] == pytest.approx([-0.282, -0.008], abs=1e-3)
    assert found.high < 0
    assert not found.is_significant


def test_flips_count_changed_answers_right_or_wrong() -> None:
    right = [True, False, False]
    found = paired_difference(right, right, ["0", "1", "2"], ["0", "2", "1"])
    assert [found.flips, found.difference, found.p_value] == pytest.approx([2 / 3, 0.0, 1.0])
    assert found.low < 0 < found.high


@settings(max_examples=50)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=40))
def test_an_interval_holds_its_difference_and_turns_around(pairs: list[tuple[bool, bool]]) -> None:
    ours, theirs = [a for a, _ in pairs], [b for _, b in pairs]
    texts = [""] * len(pairs)
    found = paired_difference(theirs, ours, texts, texts)
    back = paired_difference(ours, theirs, texts, texts)
    assert -1 - 1e-9 <= found.low <= found.difference <= found.high <= 1 + 1e-9
    assert math.isclose(found.low, -back.high, abs_tol=1e-9)
