"""Removed tokens by hand; see ``test_chain`` for more of them."""

from __future__ import annotations

import numpy as np
import pytest

from tests.engine.sampling.sequences import EOS, after


def removed(*args, **options) -> list[int]:
    return np.flatnonzero(np.isneginf(after(*args, **options))).tolist()


def test_ngrams_of_the_prompt():
    """Tokens that would repeat an n-gram of the prompt; what was generated may be repeated."""
    assert removed([3, 4, 5], [3], encoder_no_repeat_ngram_size=2) == [4]
    assert removed([3, 4, 5], [1, 0, 1], encoder_no_repeat_ngram_size=2) == []
    assert removed([3, 4, 5], [1], encoder_no_repeat_ngram_size=1) == [3, 4, 5]
    assert removed([3, 4, 3], encoder_no_repeat_ngram_size=2) == [4]
    assert removed([3], [4], encoder_no_repeat_ngram_size=5) == []


def test_min_length_counts_the_prompt():
    assert removed([3, 4], [5], min_length=4) == [EOS]
    assert removed([3, 4], [5], min_length=3) == []
    assert removed([3, 4], [5], min_length=4, eos=(2, 0)) == [0, 2]
    assert removed([3, 4], [5], min_length=4, eos=()) == []


@pytest.mark.parametrize(("n_least", "expected"), [(None, [EOS]), (0, []), (1, []), (2, [EOS])])
def test_min_new_tokens_wins_over_min_length(n_least, expected):
    """As in transformers, where it replaces the other one, 0 included."""
    assert removed([3, 4], [5], min_length=99, min_new_tokens=n_least) == expected


def test_tokens_that_do_not_begin_the_output():
    assert removed([3, 4], begin_suppress_tokens=[0, EOS]) == [0, EOS]
    assert removed([3, 4], [5], begin_suppress_tokens=[0, EOS]) == []
    assert removed([3, 4], begin_suppress_tokens=[]) == []


def test_the_output_begins_after_a_forced_token():
    """The forced token may be one that must not begin the output; the next one may not."""
    options = {"begin_suppress_tokens": [0, 1], "forced_bos_token_id": 0}
    assert removed([3], **options) == [1, 2, 3, 4, 5]
    assert removed([3], [0], **options) == [0, 1]
    assert removed([3], [0, 5], **options) == []
    assert removed([3, 4], **options) == [0, 1]  # nothing is forced after two tokens
