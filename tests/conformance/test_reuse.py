"""What is cached gives what is computed afresh, and the stats say how much was cached."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from localgen import Completion, LocalModel
from tests.conformance.compare import OPTIONS, Alone, prompt
from tests.conformance.invariants import backend_of, check_contents, check_idle, n_pinned, watch

N_NEW = 10
GREEDY: dict[str, Any] = {"max_new_tokens": N_NEW, "do_sample": False, "logprobs": 2}
CACHED = prompt(4, 80)
OTHERS = [prompt(row, 60) for row in (5, 6, 7)]


@pytest.fixture
def counted(path: Path) -> Iterator[LocalModel]:
    """A model with three slots, which counts the tokens of its forward passes.

    The slots are made at once: those of a sliding window cannot be carried into more of them.
    """
    with LocalModel.from_pretrained(path, max_sequences=3, **OPTIONS) as model:
        model.complete([[9]] * 3, max_new_tokens=1)
        watch(model)
        yield model
        check_contents(model)


def is_recurrent(model: LocalModel) -> bool:
    return not backend_of(model).can_truncate


def complete(model: LocalModel, prompts: list[list[int]], alone: Alone) -> list[Completion]:
    """Greedy rows that are right, and whose ``n_cached`` is the truth."""
    before = backend_of(model).n_decoded
    rows = model.complete(prompts, **GREEDY)
    for row, ids in zip(rows, prompts, strict=True):
        assert row.prompt_token_ids == ids
        alone.check_row(row, N_NEW)
    n_due = sum(row.stats.n_prompt - row.stats.n_cached + row.stats.n_new - 1 for row in rows)
    assert backend_of(model).n_decoded - before == n_due
    return rows


FOLLOWERS: dict[str, tuple[list[int], int]] = {
    "longer": ([*CACHED, *prompt(8, 20)], 80),
    "equal": (CACHED, 79),
    "a beginning": (CACHED[:50], 49),
    "a short beginning": (CACHED[:20], 19),
    "a branch": ([*CACHED[:50], *prompt(8, 30)], 50),
    "a branch near the start": ([*CACHED[:18], *prompt(8, 30)], 18),
    "nothing in common": (prompt(9, 50), 0),
}


@pytest.mark.parametrize("name", FOLLOWERS)
def test_cached_prefix_equals_fresh_prefill(name: str, counted: LocalModel, alone: Alone) -> None:
    """Protects a prompt from what is there of another; as much as can be is taken from there."""
    ids, n_shared = FOLLOWERS[name]
    complete(counted, [CACHED], alone)
    (row,) = complete(counted, [ids], alone)
    if is_recurrent(counted):
        assert row.stats.n_cached == 0
        assert (row.stats.cache_miss_reason is not None) == (n_shared > 0)
    else:
        assert row.stats.n_cached == n_shared


def test_answer_and_question_go_on_from_the_turn_before(counted: LocalModel, alone: Alone) -> None:
    """Protects a chat: each turn computes the new question only, on a recurrent model too."""
    ids, n_there = CACHED, 0
    for turn in range(4):
        (row,) = complete(counted, [ids], alone)
        assert row.stats.n_cached == n_there
        n_there = len(ids) + len(row.token_ids) - 1
        ids = [*ids, *row.token_ids, *prompt(turn + 10, 12)]


def test_several_entries_are_told_apart(counted: LocalModel, alone: Alone) -> None:
    """Protects each prompt from the entries of others; in a batch, too."""
    complete(counted, OTHERS, alone)
    longer = [[*ids, *prompt(20 + i, 7)] for i, ids in enumerate(OTHERS)]
    rows = complete(counted, longer[::-1], alone)
    if not is_recurrent(counted):
        assert [row.stats.n_cached for row in rows] == [60, 60, 60]


def test_an_evicted_entry_is_computed_again(counted: LocalModel, alone: Alone) -> None:
    """Protects a prompt whose entry had to go: nothing of another is taken for it."""
    complete(counted, [CACHED], alone)
    complete(counted, OTHERS, alone)
    (row,) = complete(counted, [[*CACHED, 9, 9]], alone)
    assert row.stats.n_cached == 0


def test_prompts_of_one_call_share_their_beginning(counted: LocalModel, alone: Alone) -> None:
    """Protects rows that wait for the one that computes what they have in common."""
    rows = complete(counted, [[*CACHED, *prompt(30 + i, 5)] for i in range(3)], alone)
    if not is_recurrent(counted):
        assert [row.stats.n_cached for row in rows] == [0, 80, 80]


def test_rows_that_share_cells(path: Path, alone: Alone) -> None:
    """Rows with a long beginning in common give what they give alone, before and after others."""
    with LocalModel.from_pretrained(path, max_sequences=8, **OPTIONS) as model:
        watch(model)
        for first in (30, 50, 30):
            rows = complete(model, [[*CACHED, *prompt(first + i, 5)] for i in range(8)], alone)
            can_share = backend_of(model).can_share_cells
            assert [row.stats.kv_unified for row in rows] == [can_share] * 8
            (other,) = complete(model, [[*CACHED, *prompt(first + 3, 5), 9]], alone)
            assert not other.stats.kv_unified
            if can_share:
                assert other.stats.n_cached >= 80
        check_contents(model)
        check_idle(model)


def test_a_pinned_prefix_stays_and_is_reused(counted: LocalModel, alone: Alone) -> None:
    """Protects prefill(): after any number of other calls, what follows it is all that is computed.

    Of a recurrent state, too: the prefix ends just where the prompts go on.
    """
    with counted.prefill(CACHED) as prefix:
        for i in range(3):
            complete(counted, [prompt(40 + i, 50), prompt(50 + i, 30)], alone)
            rows = complete(counted, [[*CACHED, *prompt(60 + i, 4)]], alone)
            assert prefix.is_cached
            assert rows[0].stats.n_cached == len(CACHED)
        assert n_pinned(counted) == 1
    assert n_pinned(counted) == 0
    assert not prefix.is_cached
    complete(counted, [[*CACHED, 9]], alone)
    check_idle(counted)


def test_a_pinned_prefix_survives_a_longer_context(counted: LocalModel, alone: Alone) -> None:
    """Protects entries that are carried into new slots; where that cannot be, the prefix says so.

    Of a sliding window llama.cpp can save only the end, so nothing is carried over.
    """
    with counted.prefill(CACHED) as prefix:
        complete(counted, [prompt(70, 600)], alone)
        (row,) = complete(counted, [[*CACHED, 9, 8]], alone)
        assert prefix.is_cached == (row.stats.n_cached == 80) == backend_of(counted).can_save


def test_score_is_that_of_an_empty_cache(counted: LocalModel, alone: Alone) -> None:
    """Protects scores: they reuse nothing, and what they leave is right for others."""
    complete(counted, [CACHED], alone)
    for ids in (CACHED, [*CACHED[:50], 9, 9], prompt(3, 1)):
        np.testing.assert_allclose(counted.score(ids), alone.scores(ids), atol=1e-2)
        complete(counted, [[*ids, 7]], alone)


def test_cached_prefix_equals_fresh_prefill_without_reuse(path: Path, alone: Alone) -> None:
    """Protects deterministic=True: bitwise the same log-probabilities, whatever ran before."""
    options = {**OPTIONS, "max_sequences": 3, "deterministic": True}
    with LocalModel.from_pretrained(path, **options) as model:
        watch(model)
        first = model.complete([CACHED], **GREEDY)[0]
        complete(model, [*OTHERS, CACHED[:50]], alone)
        again = model.complete([*OTHERS, CACHED, CACHED[:50]], **GREEDY)[3]
        assert again.stats.n_cached == 0
        assert again.logprobs == first.logprobs
