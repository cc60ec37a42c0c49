"""The knapsack against all choices, one by one."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localgen.mixtures import knapsack
from localgen.mixtures.knapsack import Frontier

# {size: loss} of each group's options; halves add up without rounding.
HALVES = st.integers(0, 40).map(lambda n: n / 2)
GROUPS = st.lists(
    st.dictionaries(st.integers(1, 20), HALVES, min_size=1, max_size=4),
    min_size=1,
    max_size=4,
)  # fmt: skip


def totals(groups: list[dict[int, float]], options: list[int]) -> tuple[int, float]:
    chosen = [list(group.items())[i] for group, i in zip(groups, options, strict=True)]
    return sum(size for size, _ in chosen), sum(loss for _, loss in chosen)


def frontier(groups: list[dict[int, float]]) -> Frontier:
    return Frontier([list(group) for group in groups], [list(group.values()) for group in groups])


def every(groups: list[dict[int, float]]) -> list[tuple[int, float]]:
    choices = itertools.product(*(range(len(group)) for group in groups))
    return [totals(groups, list(options)) for options in choices]


@settings(max_examples=40)
@given(groups=GROUPS, size=st.integers(0, 90))
def test_the_least_loss_for_a_size(groups: list[dict[int, float]], size: int) -> None:
    fitting = [loss for n, loss in every(groups) if n <= size]
    found = frontier(groups).best(size)
    assert (found is None) == (not fitting)
    if found is not None:
        n, loss = totals(groups, found)
        assert n <= size
        assert loss == min(fitting)


@settings(max_examples=40)
@given(groups=GROUPS, loss=st.integers(0, 200).map(lambda n: n / 2))
def test_the_least_size_for_a_loss(groups: list[dict[int, float]], loss: float) -> None:
    fitting = [n for n, lost in every(groups) if lost <= loss]
    found = frontier(groups).smallest(loss)
    assert (found is None) == (not fitting)
    if found is not None:
        n, lost = totals(groups, found)
        assert lost <= loss
        assert n == min(fitting)


def test_large_sizes_are_rounded_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """In units of 100, 201 is 3: two of them do not fit in 402, but in 600."""
    monkeypatch.setattr(knapsack, "_MOST_UNITS", 10)
    groups = [{500: 0.0, 201: 5.0}, {500: 0.0, 201: 7.0}]
    assert frontier(groups).best(402) is None
    assert frontier(groups).best(600) == [1, 1]
    assert frontier(groups).best(800) == [1, 0]
    assert frontier(groups).best(10**9) == [0, 0]
