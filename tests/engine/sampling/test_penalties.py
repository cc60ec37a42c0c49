"""Penalties and biases by hand."""

from __future__ import annotations

import numpy as np
import pytest

from localgen.engine.sampling.penalties import counts_penalized, decayed, repetition_penalized
from tests.engine.sampling.sequences import after, processed, row, sequence_after

INF = np.inf


@pytest.mark.parametrize(
    ("penalty", "expected"), [(2.0, [1.0, -2.0, 0.0]), (0.5, [4.0, -0.5, 0.0])]
)
def test_repetition_penalized(penalty, expected):
    """A seen token gets less likely above 1 and likelier below 1, whatever its logit's sign."""
    values = row(2.0, -1.0, 0.0)
    assert repetition_penalized(values, penalty).tolist() == expected


def test_repetition_penalized_leaves_a_removed_token_removed():
    """-inf stays -inf: a token that another processor removed does not come back."""
    assert repetition_penalized(row(-INF), 1.5).tolist() == [-INF]


def test_counts_penalized():
    """Frequency goes by the count, presence once, and a count of zero changes nothing."""
    penalized = counts_penalized(row(1.0, 1.0, 1.0), row(0, 1, 3), 0.25, 0.5)
    assert penalized.tolist() == [1.0, 0.25, -0.25]


def test_the_encoder_penalty_favors_the_prompt():
    """The inverse of the repetition penalty, on the prompt's tokens only: new ones do not count,
    and one that comes twice counts once."""
    assert after([3, 4, 3], [5], encoder_repetition_penalty=2.0) == [1, 1, 1, 2, 2, 1]
    assert after([3], encoder_repetition_penalty=0.5) == [1, 1, 1, 0.5, 1, 1]
    logits = row(-4, 0, -INF)
    favored = processed(logits, sequence_after([0, 1, 2]), encoder_repetition_penalty=2.0)
    assert favored.tolist() == [-2, 0, -INF]


def test_both_penalties_on_the_prompt_cancel_out():
    """The encoder's comes first, as in transformers; the other one counts new tokens too."""
    options = {"encoder_repetition_penalty": 2.0, "repetition_penalty": 2.0}
    assert after([3, 4], [5], **options) == [1, 1, 1, 1, 1, 0.5]


@pytest.mark.parametrize(
    ("factor", "n_over", "expected"),
    [
        (2.0, 1, [8, -1 + 1, 0]),  # 4 + 4 * (2 - 1)
        (2.0, 3, [32, -1 + 7, 0]),
        (0.5, 1, [2, -1.5, 0]),
        (1.0, 9, [4, -1, 0]),
    ],
)
def test_decayed(factor, n_over, expected):
    """The end gets likelier by its absolute logit, so that a negative one rises too."""
    assert decayed(row(4, -1, 0), factor, n_over).tolist() == expected


def test_decay_without_end():
    """A power beyond any float makes the end certain; zero stays zero, a removed end removed."""
    raised = decayed(row(4, -1, 0, -INF, INF), 1e6, 500).tolist()
    assert raised == [INF, np.finfo(np.float32).max, 0, -INF, INF]


def test_the_decay_begins_after_that_many_new_tokens():
    """The prompt does not count; the first token after the start has one factor."""
    option = {"exponential_decay_length_penalty": (1, 3.0)}
    assert after([3, 4, 5], [3], **option)[2] == 1
    assert after([3, 4, 5], [3, 3], **option) == [1, 1, 3, 1, 1, 1]
    assert after([3, 4, 5], [3, 3, 3], eos=(2, 4), **option) == [1, 1, 9, 1, 9, 1]
    assert after([3], [3, 3, 3], eos=(), **option) == [1] * 6


def test_a_ban_meets_a_logit_of_infinity():
    """Not a number, and no warning of NumPy: ``remove_invalid_values`` makes 0 of it."""
    sequence, banned = sequence_after([3]), {"sequence_bias": {(1,): -INF}}
    assert np.isnan(processed(row(1, INF), sequence, **banned)[1])
    assert processed(row(1, INF), sequence, **banned, remove_invalid_values=True)[1] == 0
