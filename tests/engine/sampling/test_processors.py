"""The pure functions of processors.py by hand, and the list that an option is added to."""

from __future__ import annotations

import numpy as np
import pytest

from localgen.config import SamplingOptions
from localgen.engine.backend import Logits
from localgen.engine.sampling import processors


def row(*values: float) -> Logits:
    return np.array(values, np.float32)


@pytest.mark.parametrize(
    ("penalty", "expected"), [(2.0, [1.0, -2.0, 0.0]), (0.5, [4.0, -0.5, 0.0])]
)
def test_repetition_penalized(penalty, expected):
    """A seen token gets less likely above 1 and likelier below 1, whatever its logit's sign."""
    values = row(2.0, -1.0, 0.0)
    assert processors.repetition_penalized(values, penalty).tolist() == expected


def test_repetition_penalized_leaves_a_removed_token_removed():
    """-inf stays -inf: a token that another processor removed does not come back."""
    assert processors.repetition_penalized(row(-np.inf), 1.5).tolist() == [-np.inf]


def test_counts_penalized():
    """Frequency goes by the count, presence once, and a count of zero changes nothing."""
    penalized = processors.counts_penalized(row(1.0, 1.0, 1.0), row(0, 1, 3), 0.25, 0.5)
    assert penalized.tolist() == [1.0, 0.25, -0.25]


@pytest.mark.parametrize(
    ("tokens", "size", "expected"),
    [
        ([1, 2, 3, 1, 2], 3, [3]),  # "1 2" was followed by 3
        ([1, 2, 1, 3, 1], 2, [2, 3]),  # 1 was followed by 2, then by 3
        ([4, 5, 4], 1, [4, 5, 4]),  # every single token is a 1-gram that is there
        ([7, 7, 7], 3, [7]),  # windows may overlap
        ([1, 2, 3], 3, []),  # "2 3" was followed by nothing yet
        ([1, 2], 3, []),  # shorter than one window
        ([1], 2, []),
    ],
)
def test_ngram_repeats(tokens, size, expected):
    """Exactly the tokens that would complete an n-gram that is already there."""
    assert processors.ngram_repeats(np.array(tokens, np.int32), size).tolist() == expected


def test_defaults_need_no_processor():
    """With the default options a row of logits is used as the model gave it."""
    assert processors.make_processors(SamplingOptions()) == []


def test_masks_remove_what_one_of_them_forbids():
    logits = row(1.0, 2.0, 3.0)
    masks = [np.array([True, True, False]), np.array([False, True, True])]
    processors.apply_masks(logits, masks)
    assert logits.tolist() == [-np.inf, 2.0, -np.inf]
