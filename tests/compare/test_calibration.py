"""The expected calibration error, by hand and against a plain loop."""

from __future__ import annotations

import math

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from localgen.compare.calibration import N_BINS, calibration
from localgen.compare.metrics import quality, token_metrics

TOKENS = st.lists(st.tuples(st.floats(1e-6, 1.0), st.booleans()), min_size=1, max_size=40)


def test_by_hand() -> None:
    """Two tokens at 0.95, one of them right: a gap of 0.45. Two at 0.55, both right: 0.45 again."""
    found = calibration(np.array([0.95, 0.95, 0.55, 0.55]), np.array([1.0, 0.0, 1.0, 1.0]))
    assert found.ece == pytest.approx(0.45)
    assert (found.confidence, found.accuracy) == pytest.approx((0.75, 0.75))


def test_certain_and_right_is_no_error() -> None:
    """Also at the upper edge of the last bin."""
    assert calibration(np.ones(3), np.ones(3)).ece == 0.0
    assert calibration(np.ones(3), np.zeros(3)).ece == 1.0


def test_the_error_by_chance() -> None:
    """As simulated: 300 tokens that are right as often as they are confident, 2,000 times."""
    rng = np.random.default_rng(4)
    confidence = rng.uniform(0.02, 1.0, 300)
    draws = rng.random((2000, 300)) < confidence
    simulated = np.mean([calibration(confidence, right.astype(float)).ece for right in draws])
    found = calibration(confidence, np.ones(300)).ece_by_chance
    assert found == pytest.approx(simulated, rel=0.02)
    assert calibration(np.ones(3), np.ones(3)).ece_by_chance == 0.0


@given(TOKENS)
def test_it_is_that_of_a_plain_loop(tokens: list[tuple[float, bool]]) -> None:
    bins: dict[int, list[tuple[float, bool]]] = {}
    for confidence, is_right in tokens:
        bins.setdefault(max(0, math.ceil(confidence * N_BINS) - 1), []).append(
            (confidence, is_right)
        )
    expected = sum(
        len(each)
        / len(tokens)
        * abs(sum(p for p, _ in each) / len(each) - sum(r for _, r in each) / len(each))
        for each in bins.values()
    )
    found = calibration(
        np.array([p for p, _ in tokens]), np.array([r for _, r in tokens], np.float64)
    )
    assert found.ece == pytest.approx(expected, abs=1e-12)
    assert abs(found.confidence - found.accuracy) <= found.ece + 1e-12


def test_the_confidence_of_logits() -> None:
    """The candidate is 0.8 sure of token 2, which is right, and 0.5 of token 1, which is not."""
    reference = np.log(np.array([[0.2, 0.2, 0.6], [0.7, 0.2, 0.1]], np.float32))
    candidate = np.log(np.array([[0.1, 0.1, 0.8], [0.3, 0.5, 0.2]], np.float32)) + 3
    tokens = token_metrics(reference, candidate, np.array([2, 0], np.int32))
    assert tokens.confidence == pytest.approx([0.8, 0.5])
    assert tokens.confidence_reference == pytest.approx([0.6, 0.7])
    assert tokens.is_right.tolist() == [1.0, 0.0]
    assert tokens.is_right_reference.tolist() == [1.0, 1.0]
    found = quality(tokens)
    assert found.ece == pytest.approx((0.2 + 0.5) / 2)  # each is alone in its bin
    assert (found.confidence, found.accuracy) == pytest.approx((0.65, 0.5))
