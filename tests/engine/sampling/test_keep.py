"""Filters for any order, on distributions that a person can compute."""

from __future__ import annotations

import math

import numpy as np
import pytest

from localgen.engine.backend import Logits
from localgen.engine.sampling import keep


def logs(*probabilities: float) -> Logits:
    with np.errstate(divide="ignore"):
        return np.log(np.array(probabilities)).astype(np.float32)


HALVES = logs(0.125, 0.5, 0.25, 0.125)


def test_top_k_keeps_ties() -> None:
    assert keep.top_k(HALVES, 1).tolist() == [1]
    assert keep.top_k(HALVES, 3).tolist() == [0, 1, 2, 3]
    assert keep.top_k(HALVES, 9).tolist() == [0, 1, 2, 3]


def test_top_p_keeps_the_fewest_that_reach_it() -> None:
    assert keep.top_p(HALVES, 0.0).tolist() == [1]
    assert keep.top_p(HALVES, 0.6).tolist() == [1, 2]
    assert len(keep.top_p(HALVES, 0.8)) == 3


def test_top_p_of_many_tokens_is_that_of_few() -> None:
    """Beyond 2,048 tokens only candidates are sorted."""
    row = np.random.RandomState(1).standard_normal(5000).astype(np.float32) * 3
    p = keep.probabilities(row)
    order = np.argsort(-p)
    n_kept = int((p[order].cumsum() < 0.7).sum()) + 1
    assert keep.top_p(row, 0.7).tolist() == np.sort(order[:n_kept]).tolist()


def test_min_p_is_a_share_of_the_likeliest() -> None:
    assert keep.min_p(HALVES, 0.4).tolist() == [1, 2]
    assert keep.min_p(HALVES, 1.0).tolist() == [1]


def test_epsilon_keeps_the_likeliest_at_least() -> None:
    assert keep.epsilon(HALVES, 0.2).tolist() == [1, 2]
    assert keep.epsilon(HALVES, 0.9).tolist() == [1]
    assert keep.epsilon(HALVES, 0.9, at_least=2).tolist() == [1, 2]


def test_eta_is_lower_where_the_entropy_is_high() -> None:
    """The entropy of HALVES is 1.75 log 2, so the cutoff is sqrt(0.4) · 2^-1.75 = 0.188."""
    assert keep.eta(HALVES, 0.4).tolist() == [1, 2]
    # sqrt(0.16) · 2^-1.75 = 0.119
    assert keep.eta(HALVES, 0.16).tolist() == [0, 1, 2, 3]


def test_top_h_keeps_a_share_of_the_entropy() -> None:
    """In units of log 2 the terms are 0.5, 0.5, 0.375 and 0.375, of 1.75."""
    assert keep.top_h(HALVES, 0.2).tolist() == [1]  # always one
    assert keep.top_h(HALVES, 0.5).tolist() == [1]
    assert keep.top_h(HALVES, 0.6).tolist() == [1, 2]
    assert len(keep.top_h(HALVES, 0.8)) == 3


def test_top_h_looks_at_a_hundred_tokens() -> None:
    assert len(keep.top_h(np.zeros(300, np.float32), 0.999)) == 99


def test_top_n_sigma_measures_the_scores() -> None:
    """Mean 1, standard deviation sqrt(3): removed tokens do not count."""
    scores = np.array([4, 0, 0, 0, -np.inf, -np.inf], np.float32)
    assert keep.top_n_sigma(scores, 1.0).tolist() == [0]
    assert keep.top_n_sigma(scores, 2.4).tolist() == [0, 1, 2, 3]
    assert keep.top_n_sigma(np.zeros(3, np.float32), 0.1).tolist() == [0, 1, 2]


def test_xtc_leaves_the_last_that_is_likely_enough() -> None:
    assert keep.xtc(HALVES, 0.2).tolist() == [0, 2, 3]
    assert keep.xtc(HALVES, 0.3).tolist() == [0, 1, 2, 3]  # one alone stays
    assert len(keep.xtc(HALVES, 0.1)) == 1  # of the two last, either
    assert keep.xtc(HALVES, 0.1, at_least=2).tolist() == [0, 1, 2, 3]


def test_xtc_counts_no_banned_token() -> None:
    """Regression: with a threshold of 0 the last of all was a banned one, and the only one kept."""
    banned = np.array([-np.inf, 0.0, 1.0, -np.inf], np.float32)
    assert keep.xtc(banned, 0.0).tolist() == [0, 1, 3]


def test_dynamic_temperature_follows_the_entropy() -> None:
    """The entropy of HALVES is 7/8 of the largest of four tokens."""
    assert keep.dynamic_temperature(HALVES, 1.0, 0.5, 1.0) == pytest.approx(0.5 + 7 / 8)
    assert keep.dynamic_temperature(HALVES, 1.0, 0.5, 2.0) == pytest.approx(0.5 + 49 / 64)
    assert keep.dynamic_temperature(HALVES, 0.5, 2.0, 1.0) == pytest.approx(2.5 * 7 / 8)
    assert keep.dynamic_temperature(logs(1.0), 0.5, 0.1, 1.0) == 1.0
    sure = np.array([50, 0], np.float32)
    assert keep.dynamic_temperature(sure, 0.5, 0.5, 1.0) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("n", [1, 2, 5])
def test_every_filter_keeps_at_least_as_many_as_asked(n: int) -> None:
    """Beams need one more than there are ends of a sequence."""
    row = np.random.RandomState(0).standard_normal(50).astype(np.float32) * 5
    filters = (keep.top_p, keep.min_p, keep.typical, keep.epsilon, keep.eta, keep.top_h)
    for each in (*filters, keep.top_n_sigma):
        kept = each(row, 1e-9 if each in (keep.top_p, keep.typical, keep.top_h) else 0.999, n)
        assert len(kept) >= min(n, 50), each
        assert kept.tolist() == sorted(set(kept.tolist()))
    assert len(keep.top_k(row, 1, n)) == n


def test_a_removed_token_is_never_kept() -> None:
    row = np.where(np.arange(40) % 2, 0, -np.inf).astype(np.float32)
    kept = {*range(1, 40, 2)}
    assert {*keep.top_p(row, 0.99).tolist()} <= kept
    assert {*keep.epsilon(row, 0.01).tolist()} == kept
    assert {*keep.eta(row, 0.01).tolist()} == kept
    assert {*keep.top_h(row, 0.9).tolist()} <= kept
    assert {*keep.top_k(row, 30).tolist()} == kept
    assert math.isfinite(keep.entropy(row))
