"""The pure functions of filters.py, on distributions small enough to check by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from localgen.engine.backend import Logits
from localgen.engine.sampling import filters


def row(*values: float) -> Logits:
    return np.array(values, np.float32)


def of_weights(*weights: float) -> Logits:
    """Logits whose softmax has these proportions."""
    return np.log(row(*weights))


# --- candidates ---


@pytest.mark.parametrize("n_vocab", [1, 5, 31, 32, 33, 64, 200, 50257, 65536, 65600, 65601, 70001])
def test_reaching_finds_every_id(n_vocab):
    """No id is lost or invented between the matrix, its left-over end and the direct search."""
    logits = np.random.RandomState(n_vocab).standard_normal(n_vocab).astype(np.float32)
    maxima = filters.column_maxima(logits)
    for bound in (-9.0, 0.0, 1.0, 2.0, 3.0, 3.5, float(logits.max()), 9.0):
        found = filters.reaching(logits, maxima, bound)
        assert sorted(found.tolist()) == np.flatnonzero(logits >= bound).tolist()


@pytest.mark.parametrize("n_vocab", [64, 130, 50257])
def test_column_maxima_hold_every_logit_that_matters(n_vocab):
    """The largest logit, and a NaN anywhere, show in the maxima: they stand in for a full look."""
    for place in {0, n_vocab // 2, n_vocab - 1}:
        logits = np.zeros(n_vocab, np.float32)
        logits[place] = 5.0
        assert filters.column_maxima(logits).max() == 5.0
        logits[place] = np.nan
        assert np.isnan(filters.column_maxima(logits).max())


def test_top_k_candidates_hold_the_ties_of_the_kth():
    """3, 2, 2, 2, 1 with k=2: the three 2s tie for the second place, and all are candidates."""
    candidates = filters.top_k_candidates(row(2, 1, 3, 2, 2, 0), 2)
    assert set(candidates.tolist()) >= {0, 2, 3, 4}
    assert 5 not in candidates


def test_top_k_candidates_of_a_large_row():
    """In a row of 64 by 2000 with the five largest in one column, all five are found."""
    logits = np.zeros(128_000, np.float32)
    largest = [7, 2007, 4007, 6007, 126_007]
    logits[largest] = [5, 4, 3, 2, 1]
    assert set(filters.top_k_candidates(logits, 5).tolist()) >= set(largest)


@pytest.mark.parametrize("n_vocab", [40, 2048, 2051, 66_000])
@pytest.mark.parametrize("k", [1, 4, 5, 16, 17, 40])
def test_top_k_candidates_hold_the_k_largest(n_vocab, k):
    """Whichever maxima the bound comes from, no logit that ties with the k-th is lost, and in a
    large row few others come with them."""
    logits = np.random.RandomState(k).randint(0, 5000, n_vocab).astype(np.float32)
    candidates = filters.top_k_candidates(logits, k)
    wanted = np.flatnonzero(logits >= np.sort(logits)[-k])
    assert set(candidates.tolist()) >= set(wanted.tolist())
    assert len(candidates) <= 2 * len(wanted) + n_vocab // 1000


def test_candidates_leave_out_removed_tokens():
    """When fewer than k are left, the others are not sorted only to be thrown away."""
    logits = np.full(70_003, -np.inf, np.float32)
    logits[[3, 70_000]] = 1.0
    assert sorted(filters.top_k_candidates(logits, 50).tolist()) == [3, 70_000]
    assert sorted(filters.top_k_candidates(logits, 5000).tolist()) == [3, 70_000]


def test_min_p_candidates():
    """Weights 1, 1/2, 1/4, 1/8 of the best: min_p 0.25 keeps three, and at temperature 2 (where
    the weights are 1, 0.71, 0.5, 0.35) four."""
    logits = of_weights(1, 8, 4, 2)
    maxima = filters.column_maxima(logits)
    assert filters.min_p_candidates(logits, maxima, math.log(8), 1.0, 0.25).tolist() == [1, 2, 3]
    assert filters.min_p_candidates(logits, maxima, math.log(8), 2.0, 0.25).tolist() == [
        0,
        1,
        2,
        3,
    ]


@pytest.mark.parametrize("top_p", [1e-12, 0.5, 0.95, 0.99999, 1 - 1e-9])
@pytest.mark.parametrize("spread", [0.0, 1.0, 5.0])
def test_top_p_candidates_are_complete(top_p, spread):
    """The likeliest ids that hold top_p, found by a full sort, are all candidates."""
    logits = np.random.RandomState(1).standard_normal(5003).astype(np.float32) * np.float32(spread)
    maxima, best = filters.column_maxima(logits), float(logits.max())
    ids, total = filters.top_p_candidates(logits, maxima, best, 1.0, top_p)
    order = np.argsort(-logits, kind="stable")
    running = np.exp(logits[order].astype(np.float64) - logits.max()).cumsum()
    assert total == pytest.approx(running[-1], rel=1e-5)
    n_kept = int(running.searchsorted(top_p * running[-1])) + 1
    if spread:
        assert set(order[:n_kept].tolist()) <= set(ids.tolist())
    else:
        assert len(ids) >= n_kept  # all tie, so any will do


# --- filters ---


@pytest.mark.parametrize(
    ("k", "expected"),
    [(1, 1), (2, 4), (3, 4), (4, 4), (5, 5), (9, 5)],
)
def test_n_top_k_keeps_ties_of_the_kth(k, expected):
    """transformers removes what is below the k-th, so the ties of the k-th stay."""
    assert filters.n_top_k(row(3, 2, 2, 2, 1), k) == expected


@pytest.mark.parametrize(
    ("top_p", "expected"),
    [(1e-12, 1), (0.49, 1), (0.5, 1), (0.51, 2), (0.75, 2), (0.76, 3), (1.0, 4)],
)
def test_n_top_p_keeps_the_fewest_that_reach_it(top_p, expected):
    """Halves are exact in binary: 1/2, 1/4, 1/8, 1/8; at least one token always stays."""
    running = filters.cumulative_sum(row(1.0, 0.5, 0.25, 0.25))
    assert filters.n_top_p(running, 2.0, top_p) == expected


def test_n_top_p_beyond_its_candidates():
    """If rounding puts the last sum below top_p * total, all candidates stay and no more."""
    assert filters.n_top_p(filters.cumulative_sum(row(1.0, 0.5)), 2.0, 0.9) == 2


@pytest.mark.parametrize(("min_p", "expected"), [(1.0, 2), (0.5, 3), (0.4, 3), (0.25, 4), (0.1, 4)])
def test_n_min_p_keeps_at_least_that_part_of_the_best(min_p, expected):
    """A token at exactly min_p times the best stays, and ties of the best always."""
    assert filters.n_min_p(row(1.0, 1.0, 0.5, 0.25), min_p) == expected


def test_typical_by_hand():
    """p = 1/2, 1/4, 1/8, 1/8: the entropy is 1.75 bits and the surprises are 1, 2, 3, 3 bits.

    The distances are 0.75, 0.25, 1.25, 1.25: the second token comes first, then the first, and
    then the two last together, because they tie.
    """
    weights = row(1.0, 0.5, 0.25, 0.25)
    assert filters.typical(weights, 0.2).tolist() == [1]
    assert filters.typical(weights, 0.25).tolist() == [1]
    assert filters.typical(weights, 0.3).tolist() == [0, 1]
    assert filters.typical(weights, 0.8).tolist() == [0, 1, 2, 3]


def test_typical_keeps_at_least_so_many():
    """The most typical ones, and the ties of the last."""
    weights = np.array([8.0, 4.0, 2.0, 1.0, 1.0])
    fewest = filters.typical(weights, 1e-6)
    assert len(fewest) == 1
    assert set(fewest) < set(filters.typical(weights, 1e-6, 2))
    assert len(filters.typical(weights, 1e-6, 4)) == 5  # the last two are equal


def test_typical_needs_no_order_and_never_counts_a_removed_token():
    """Without another filter it sees the row as it is, with weights of zero in between."""
    weights = row(0.25, 0.0, 1.0, 0.5, 0.25)
    assert filters.typical(weights, 0.3).tolist() == [2, 3]
    assert filters.typical(row(0.0, 1.0), 0.9).tolist() == [1]


# --- choosing ---


def test_row_weights():
    """exp((logit - best) / temperature), also across the pieces that a long row is cut into."""
    assert filters.row_weights(of_weights(4, 2, 1), math.log(4), 1.0) == pytest.approx(
        [1, 0.5, 0.25]
    )
    assert filters.row_weights(of_weights(4, 1), math.log(4), 0.5) == pytest.approx([1, 1 / 16])
    long_row = np.linspace(-5, 0, 140_000, dtype=np.float32)
    np.testing.assert_array_equal(filters.row_weights(long_row, 0.0, 1.0), np.exp(long_row))


@pytest.mark.parametrize(
    ("uniform", "expected"),
    [(0.0, 0), (0.4999, 0), (0.5, 1), (0.74, 1), (0.75, 3), (1 - 2**-53, 3)],
)
def test_draw_by_hand(uniform, expected):
    """Weights 2, 1, 0, 1 of 4: the cuts are at 1/2 and 3/4, and a weight of 0 is never drawn."""
    assert filters.draw(row(2, 1, 0, 1), uniform) == expected


def test_draw_never_takes_a_removed_token():
    """Not at either end of the row, where rounding could push a target past the last weight."""
    for n in (3, 2000):
        weights = np.zeros(n, np.float32)
        weights[1] = 0.1
        for uniform in (0.0, 0.5, 1 - 2**-53, 1.0):
            assert filters.draw(weights, uniform) == 1


@pytest.mark.parametrize("n", [5, 512, 513, 5000])
def test_draw_gives_probabilities(n):
    """Evenly spaced uniforms draw each token as often as its probability says, within one."""
    weights = np.random.RandomState(n).exponential(size=n).astype(np.float32)
    weights[n // 2] = 0.0
    expected = weights / weights.sum(dtype=np.float64)
    n_draws = 4 * n
    draws = [filters.draw(weights, (i + 0.5) / n_draws) for i in range(n_draws)]
    counts = np.bincount(draws, minlength=n)
    assert np.abs(counts - expected * n_draws).max() < 1.001
    assert draws == sorted(draws)


def test_draw_from_many_is_the_same_inverse_transform():
    """The search by blocks finds the position that running sums over everything find."""
    weights = np.random.RandomState(0).exponential(size=20_000).astype(np.float32)
    running = weights.cumsum(dtype=np.float64)
    for uniform in np.linspace(0, 1, 997, endpoint=False):
        whole = int(running.searchsorted(uniform * running[-1], side="right"))
        assert abs(filters.draw(weights, uniform) - whole) <= 1  # the blocks' sums are float32


# --- log-probabilities ---


def test_log_softmax_and_log_sum_exp():
    """Proportions 1, 2, 5 of 8, with logits so large that exp alone would overflow."""
    logits = of_weights(1, 2, 5) + np.float32(200)
    expected = [math.log(1 / 8), math.log(2 / 8), math.log(5 / 8)]
    assert filters.log_softmax(logits) == pytest.approx(expected, abs=1e-4)
    assert filters.log_softmax(np.stack([logits, logits]))[1] == pytest.approx(expected, abs=1e-4)
    assert filters.log_sum_exp(logits) == pytest.approx(200 + math.log(8), abs=1e-4)
