"""Accuracies and paired differences: by hand, and against published cases."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localgen.compare.task_metrics import accuracy, mcnemar, paired_difference


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
