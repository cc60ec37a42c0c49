"""Whatever a draft is drawn from, what is accepted is distributed as the target's own tokens."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from localgen.engine.acceptance import Distribution, distribution, is_kept, residual

WEIGHTS = st.dictionaries(st.integers(0, 7), st.floats(0.01, 1.0), min_size=1)


def of(weights: dict[int, float]) -> Distribution:
    ids = np.array([*weights], np.int64)
    return distribution(ids, np.array([*weights.values()]))


def test_a_token_is_kept_with_probability_p_over_q() -> None:
    p, q = of({0: 0.2, 1: 0.8}), of({0: 0.8, 1: 0.2})
    assert is_kept(p, q, 0, 0.2499)
    assert not is_kept(p, q, 0, 0.2501)
    assert is_kept(p, q, 1, 0.9999)


def test_a_token_that_the_target_cannot_choose_is_never_kept() -> None:
    assert not is_kept(of({1: 1.0}), of({0: 1.0}), 0, 0.0)


def test_the_residual_is_what_p_has_more_than_q() -> None:
    found = residual(of({0: 0.5, 1: 0.3, 2: 0.2}), of({0: 0.2, 1: 0.7, 3: 0.1}))
    assert found.ids.tolist() == [0, 1, 2]
    assert found.probabilities == pytest.approx([0.6, 0.0, 0.4])


def test_the_residual_of_equal_distributions_is_that_distribution() -> None:
    p = of({0: 0.5, 4: 0.5})
    assert residual(p, p).probabilities.tolist() == [0.5, 0.5]


def test_ids_in_any_order_keep_their_probabilities() -> None:
    found = of({5: 3.0, 2: 1.0})
    assert found.ids.tolist() == [2, 5]
    assert found.probabilities.tolist() == [0.25, 0.75]
    assert found.of_one(5) == 0.75
    assert found.of(np.array([0, 2, 7])).tolist() == [0.0, 0.25, 0.0]


@given(WEIGHTS, WEIGHTS)
def test_accepted_tokens_are_distributed_as_the_targets(
    p_weights: dict[int, float], q_weights: dict[int, float]
) -> None:
    """Summed over all draws, for each token: q * min(1, p / q) + rejected * residual = p."""
    p, q = of(p_weights), of(q_weights)
    every = np.arange(8)
    kept = np.minimum(p.of(every), q.of(every))
    found = kept + (1.0 - kept.sum()) * residual(p, q).of(every)
    np.testing.assert_allclose(found, p.of(every), atol=1e-9)
