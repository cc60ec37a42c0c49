"""Questions about the tokens so far, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from localgen.engine.sampling.history import ends_with, followers, ngram_repeats


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
    assert ngram_repeats(np.array(tokens, np.int32), size).tolist() == expected


@pytest.mark.parametrize(
    ("tokens", "size", "expected"),
    [
        ([8, 1, 2], 3, [3]),  # "1 2" is followed by 3 in the prompt
        ([1, 2, 3, 1, 2, 9, 2], 2, [3]),  # not by 9, which only the new tokens have
        ([1, 2, 3, 1], 1, [1, 2, 3]),
        ([1, 2, 3, 4], 2, []),  # 4 is not in the prompt
        ([3], 3, []),  # too short to end in "1 2"
        ([1, 2], 9, []),
    ],
)
def test_ngram_repeats_among_other_tokens(tokens, size, expected):
    """Only n-grams of the prompt count, wherever the sequence repeats their beginning."""
    prompt = np.array([1, 2, 3], np.int32)
    found = ngram_repeats(np.array(tokens, np.int32), size, among=prompt)
    assert found.tolist() == expected


def test_followers():
    tokens = np.array([1, 2, 1, 2, 5], np.int32)
    assert followers(tokens, np.array([1, 2])).tolist() == [1, 5]
    assert followers(tokens, np.array([5])).tolist() == []
    assert followers(tokens[:1], np.array([1])).tolist() == []


@pytest.mark.parametrize(
    ("ending", "expected"),
    [([], True), ([3], True), ([2, 3], True), ([1, 3], False), ([1, 2, 3], True), ([0] * 4, False)],
)
def test_ends_with(ending, expected):
    assert ends_with(np.array([1, 2, 3], np.int32), ending) is expected
