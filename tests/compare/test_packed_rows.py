"""Packed predictions: what is kept, by hand, and what is estimated, against the exact figures."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localgen.compare.metrics import TokenMetrics, token_metrics
from localgen.compare.packed_rows import pack_rows, packed_metrics, packed_type

LN = math.log


def pack(logits: Any, targets: Any, n_top: int, n_samples: int, seed: int = 0) -> Any:
    dtype = packed_type(logits.shape[1], n_top, n_samples)
    return pack_rows(logits, targets, dtype, np.random.default_rng(seed))


def as_logits(*rows: list[float]) -> Any:
    return np.log(np.array(rows, np.float64)).astype(np.float32) + 3.0


def models(n: int = 40, n_vocab: int = 2000, spread: float = 0.3) -> tuple[Any, Any, Any]:
    """Return logits, the same with noise, and tokens."""
    rng = np.random.default_rng(4)
    reference = rng.normal(0, 3, (n, n_vocab)).astype(np.float32)
    candidate = reference + rng.normal(0, spread, reference.shape).astype(np.float32)
    return reference, candidate, rng.integers(0, n_vocab, n).astype(np.int32)


def test_what_is_kept() -> None:
    """Of 0.5, 0.1, 0.3, 0.1 the two most likely tokens, and the rest as a tail of 0.2."""
    (row,) = pack(as_logits([0.1, 0.5, 0.1, 0.3]), [2], n_top=2, n_samples=4)
    assert row["top_ids"].tolist() == [1, 3]
    assert row["best"] == 1
    assert row["tail"] == pytest.approx(0.2, rel=1e-5)
    assert row["target"] == pytest.approx(LN(0.1), rel=1e-5)
    assert row["low"] + row["step"] * row["top"] == pytest.approx([LN(0.5), LN(0.3)], rel=1e-4)
    # The two tokens of the tail are equally likely: each is in half of an even sample.
    assert row["sample_ids"].tolist() == [0, 0, 2, 2]
    assert row["low"] + row["step"] * row["sample"] == pytest.approx([LN(0.1)] * 4, rel=1e-4)


def test_metrics_by_hand() -> None:
    """The tail's two tokens are equally likely in both models, so its sample has nothing to add:
    KLD = 0.5 ln(0.5/0.4) + 0.3 ln(0.3/0.2) + 0.2 ln(0.2/0.4)."""
    packed = pack(as_logits([0.1, 0.5, 0.1, 0.3]), [2], n_top=2, n_samples=4)
    found = packed_metrics(packed, as_logits([0.2, 0.4, 0.2, 0.2]), np.array([2], np.int32))
    kld = 0.5 * LN(0.5 / 0.4) + 0.3 * LN(0.3 / 0.2) + 0.2 * LN(0.2 / 0.4)
    assert found.kld == pytest.approx([kld], rel=1e-3)
    assert found.kld_variance == pytest.approx([0], abs=1e-9)
    assert found.nll_reference == pytest.approx([-LN(0.1)], rel=1e-5)
    assert found.nll == pytest.approx([-LN(0.2)], rel=1e-5)
    assert found.delta_p == pytest.approx([0.1], rel=1e-4)
    assert found.same_top.tolist() == [1.0]


def test_a_sample_of_the_tail_by_hand() -> None:
    """A tail of 0.15 and 0.05 that is 0.1 and 0.1 in the other model diverges by
    0.75 ln(0.75/0.5) + 0.25 ln(0.25/0.5), of which an even sample of four has each part."""
    packed = pack(as_logits([0.15, 0.5, 0.05, 0.3]), [1], n_top=2, n_samples=4)
    assert packed["sample_ids"].tolist() == [[0, 0, 0, 2]]
    found = packed_metrics(packed, as_logits([0.1, 0.5, 0.1, 0.3]), np.array([1], np.int32))
    within = 0.75 * LN(0.75 / 0.5) + 0.25 * LN(0.25 / 0.5)
    assert found.kld == pytest.approx([0.2 * within], rel=1e-3)


def test_all_but_the_divergence_is_exact() -> None:
    """Also for a text's token that is neither among the top nor in the sample."""
    reference, candidate, targets = models()
    targets[0] = reference[0].argmax()
    exact = token_metrics(reference, candidate, targets)
    found = packed_metrics(pack(reference, targets, 8, 4), candidate, targets)
    for name in ("nll_reference", "nll", "delta_p", "confidence_reference", "confidence"):
        assert getattr(found, name) == pytest.approx(getattr(exact, name), rel=1e-4, abs=1e-7)
    for name in ("same_top", "is_right_reference", "is_right"):
        assert getattr(found, name).tolist() == getattr(exact, name).tolist()
    assert 0 < found.same_top.mean() < 1


def test_a_sample_has_no_bias() -> None:
    """The mean over many samples is the exact divergence, within four standard errors of its own;
    without the sample it would be far too small. The variance that is reported is not too small.
    """
    reference, candidate, targets = models(n=10)
    exact = token_metrics(reference, candidate, targets).kld.mean()
    found = [
        packed_metrics(pack(reference, targets, 64, 8, seed), candidate, targets)
        for seed in range(60)
    ]
    means = np.array([each.kld.mean() for each in found])
    assert abs(means.mean() - exact) < 4 * means.std() / math.sqrt(len(means))
    stated = [math.sqrt(each.kld_variance.sum()) / len(targets) for each in found]
    assert means.std() < 1.3 * np.mean(stated)
    assert 1.3 * np.mean(stated) < 0.2 * exact


def test_a_vocabulary_without_a_tail() -> None:
    """If all tokens are kept, nothing is estimated."""
    reference, candidate, targets = models(n_vocab=100)
    exact = token_metrics(reference, candidate, targets)
    found = packed_metrics(pack(reference, targets, 512, 64), candidate, targets)
    assert found.kld == pytest.approx(exact.kld, abs=1e-5)
    assert not found.kld_variance.any()


def test_a_model_beside_itself() -> None:
    """What is left is the rounding to 16 bits."""
    reference, _, targets = models()
    found = packed_metrics(pack(reference, targets, 64, 16), reference, targets)
    assert np.abs(found.kld).max() < 1e-6
    assert found.same_top.all()


def test_logits_that_are_all_equal() -> None:
    """There is no step to divide by, and any token may be the most likely: it is the first."""
    flat = np.full((2, 100), 7, np.float32)
    targets = np.array([3, 99], np.int32)
    packed = pack(flat, targets, 8, 4)
    assert packed["best"].tolist() == [0, 0]
    found = packed_metrics(packed, flat, targets)
    assert found.kld == pytest.approx([0, 0], abs=1e-6)
    assert found.same_top.tolist() == [1.0, 1.0]


def test_a_certain_model_has_no_tail_and_a_certain_candidate_is_finite() -> None:
    """All other probabilities are too small for a float."""
    certain = np.full((1, 100), -1000, np.float32)
    certain[0, 5] = 0
    other = np.zeros((1, 100), np.float32)
    targets = np.array([5], np.int32)
    found = packed_metrics(pack(certain, targets, 8, 4), other, targets)
    assert found.kld == pytest.approx([LN(100)], rel=1e-5)
    found = packed_metrics(pack(other, targets, 8, 4), certain, targets)
    assert np.isfinite(found.kld).all()
    assert found.kld[0] > 50


@pytest.mark.parametrize(("n_vocab", "n_bytes"), [(49152, 2), (65536, 2), (65537, 4), (262144, 4)])
def test_bytes_of_a_position(n_vocab: int, n_bytes: int) -> None:
    """A twentieth of float32 logits at most, whatever the vocabulary."""
    found = packed_type(n_vocab, 512, 64)
    assert found.itemsize == 4 * 4 + n_bytes + (512 + 64) * (n_bytes + 2)
    assert found.itemsize * 20 < 4 * n_vocab


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.integers(1, 8), st.integers(0, 10**6), st.floats(0.01, 30))
def test_a_divergence_is_never_negative(
    n_top: int, n_samples: int, seed: int, spread: float
) -> None:
    rng = np.random.default_rng(seed)
    reference, candidate = (rng.normal(0, spread, (3, 30)).astype(np.float32) for _ in range(2))
    targets = rng.integers(0, 30, 3).astype(np.int32)
    found = packed_metrics(pack(reference, targets, n_top, n_samples, seed), candidate, targets)
    assert isinstance(found, TokenMetrics)
    assert np.isfinite(found.kld).all()
    assert (found.kld > -1e-6).all()
    assert (found.kld_variance >= 0).all()
