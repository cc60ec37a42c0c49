"""Mirostat's definitions by hand; against llama.cpp: tests/llama/test_sampling.py."""

from __future__ import annotations

import math

import numpy as np
import pytest

from localgen.engine.backend import Logits
from localgen.engine.sampling import mirostat
from localgen.engine.sampling.mirostat import MirostatTracker


def logs(*probabilities: float) -> Logits:
    return np.log(np.array(probabilities)).astype(np.float32)


HALVES = logs(0.125, 0.5, 0.25, 0.125)


def test_version_2_keeps_what_surprises_no_more_than_mu() -> None:
    """Surprises are 1, 2, 3 and 3 bits."""
    assert mirostat.version_2(HALVES, 2.5).tolist() == [1, 2]
    assert mirostat.version_2(HALVES, 3.1).tolist() == [0, 1, 2, 3]
    assert mirostat.version_2(HALVES, 0.1).tolist() == [1]
    removed = np.append(HALVES, np.float32(-np.inf))
    assert mirostat.version_2(removed, 99.0).tolist() == [0, 1, 2, 3]


def test_version_1_estimates_a_zipf_exponent() -> None:
    """p ~ rank^-2: the exponent is 2, so k = sqrt(2^mu / (1 - 1/n))."""
    scores = (-2 * np.log(np.arange(1, 51))).astype(np.float32)
    assert mirostat.version_1(scores, 6.0, 50).tolist() == list(range(8))
    assert mirostat.version_1(scores, 4.5, 50).tolist() == list(range(4))
    assert mirostat.version_1(scores, -9.0, 50).tolist() == [0]
    assert len(mirostat.version_1(scores, 500.0, 50)) == 50


def test_version_1_where_its_formula_has_no_value() -> None:
    flat = np.full(8, 0.125)
    assert mirostat.n_kept(flat, 3.0, 8) == 8
    assert mirostat.n_kept(flat, 2.0, 8) == 1
    assert mirostat.n_kept(np.array([1.0, 0.0]), 3.0, 8) == 1
    zipf = 1 / np.arange(1, 9)  # an exponent of 1: k = 2^mu / log(n)
    assert mirostat.n_kept(zipf / zipf.sum(), 3.0, 8) == int(8 / math.log(8))


def test_mu_moves_against_the_surprise() -> None:
    tracker = MirostatTracker(5.0, 0.1)
    assert tracker.mu == 10.0
    tracker.chose(0.125)  # 3 bits, 2 below the target
    assert tracker.mu == 10.0
    tracker.accept(7)
    assert tracker.mu == pytest.approx(10.2)
    tracker.accept(7)  # forced: nothing was chosen
    assert tracker.mu == pytest.approx(10.2)


def test_mu_follows_rollback_and_copies() -> None:
    tracker = MirostatTracker(5.0, 0.1)
    mus = [tracker.mu]
    for probability in (0.5, 0.25, 1.0):
        tracker.chose(probability)
        tracker.accept(1)
        mus.append(tracker.mu)
    copy = tracker.copy()
    tracker.rollback(2)
    assert tracker.mu == mus[1]
    assert copy.mu == mus[3]
    tracker.chose(0.25)
    tracker.rollback(0)  # what was chosen is not accepted
    tracker.accept(1)
    assert tracker.mu == mus[1]
