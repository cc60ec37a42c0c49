"""Forced and allowed tokens by hand."""

from __future__ import annotations

from typing import Any

import numpy as np

from localgen.engine.sampling.forced import only_allowed, only_forced
from tests.engine.sampling.sequences import EOS, after, row

INF = np.inf
NO = -INF


def test_only_allowed_keeps_scores():
    logits = row(1, NO, 3, 4)
    assert only_allowed(logits, np.array([2, 1, 2])).tolist() == [NO, NO, 3, NO]
    assert logits.tolist() == [1, NO, 3, 4]


def test_allowed_tokens_that_were_all_removed_are_forced():
    """transformers' rule: the constraint holds, with equal scores; one that is left is enough."""
    assert only_allowed(row(1, NO, NO, 4), np.array([1, 2])).tolist() == [NO, 0, 0, NO]
    assert np.isnan(only_allowed(row(1, np.nan, NO), np.array([1, 2]))[1])


def test_a_beam_of_which_nothing_is_left():
    """It dies: other beams may go on. ``beam_strategy`` lets them be forced where none does."""
    assert only_allowed(row(NO, 2), np.array([0]), forces=False).tolist() == [NO, NO]
    options: dict[str, Any] = {"prefix_allowed_tokens_fn": lambda _id, _ids: [EOS], "min_length": 9}
    assert after([3], **options) == [NO, NO, 0, NO, NO, NO]
    assert after([3], **options, num_beams=2) == [NO] * 6


def test_only_forced():
    assert only_forced(row(1, NO, 3), (1, 2)).tolist() == [NO, 0, 0]


def test_the_token_after_a_prompt_of_one():
    """A longer prompt has begun already, and so has an output."""
    assert after([3], forced_bos_token_id=5) == [NO] * 5 + [0]
    assert after([3], [4], forced_bos_token_id=5) == [1] * 6
    assert after([3, 4], forced_bos_token_id=5) == [1] * 6


def test_the_last_token_that_fits():
    """The one after which the sequence's length would end it, whatever was banned before."""
    options: dict[str, Any] = {"forced_eos_token_id": [EOS, 4], "n_most": 3, "min_new_tokens": 3}
    assert after([3], [5], **options) == [1, 1, NO, 1, 1, 1]
    assert after([3], [5, 5], **options) == [NO, NO, 0, NO, 0, NO]
    assert after([3], forced_eos_token_id=1, n_most=1) == [NO, 0, NO, NO, NO, NO]


def test_suppressed_tokens_come_after_forced_ones():
    """As in transformers, which is why options that force only suppressed ones are refused."""
    options: dict[str, Any] = {
        "forced_eos_token_id": [EOS, 4],
        "suppress_tokens": [EOS],
        "n_most": 1,
    }
    assert after([3], **options) == [NO, NO, NO, NO, 0, NO]


def test_a_forced_token_need_not_be_allowed():
    """Forced tokens come after the function's, as in transformers."""
    options: dict[str, Any] = {
        "prefix_allowed_tokens_fn": lambda _id, _ids: [1],
        "forced_bos_token_id": 5,
    }
    assert after([3], **options) == [NO] * 5 + [0]
    assert after([3], [5], **options) == [NO, 1, NO, NO, NO, NO]
