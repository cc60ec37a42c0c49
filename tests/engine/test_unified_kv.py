"""Rows that begin alike share the cells of their beginning, where that is the faster way."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from localgen import Completion
from localgen.engine.backend import PassStopped
from localgen.engine.unified_kv import Claim, SharedCells, plan_sharing
from tests.engine.test_kv_cache import caches, left, row
from tests.fakes import FakeBackend, FakeModel, fake_model, reference_greedy

BEGINNING = bytes(range(64, 128))
ENDS = [b"%d." % i for i in range(8)]
OTHER = b"something that begins in another way"


def rows(n: int, n_new: int = 6, beginning: bytes = BEGINNING) -> list[Any]:
    return [row(beginning + end, n_new=n_new) for end in ENDS[:n]]


def complete(model: FakeModel, prompts: list[bytes], n_new: int = 6) -> list[Completion]:
    """Greedy rows, which are those that each prompt gives alone."""
    done = model.complete([list(prompt) for prompt in prompts], max_new_tokens=n_new)
    for prompt, completion in zip(prompts, done, strict=True):
        assert completion.token_ids == reference_greedy(list(prompt), n_new)
    return done


def alike(n: int) -> list[bytes]:
    return [BEGINNING + end for end in ENDS[:n]]


# --- the choice ---


def test_how_many_cells() -> None:
    """The beginning once, and what each row may need after it, in whole blocks of 256."""
    plan = plan_sharing(rows(8), [], 32)
    assert plan is not None
    assert bytes(plan.prefix.tolist()) == BEGINNING
    assert plan.n_cells == 256  # for 64 + 8 * 8
    assert (plan.n_slots, plan.kept, plan.first_kept_shares) == (8, [], False)
    long = plan_sharing(rows(8, n_new=40), [], 32)
    assert long is not None
    assert long.n_cells == 512  # for 64 + 8 * 42


@pytest.mark.parametrize(
    "waiting",
    [
        rows(1),  # there is nobody to share with
        rows(8, n_new=200),  # the ends are long: 1,680 cells, and a row has 266
        rows(8, beginning=BEGINNING[:30]),  # the beginning is short
        [*rows(7), row(OTHER)],  # one begins in another way
    ],
)
def test_rows_with_streams(waiting: list[Any]) -> None:
    """Where sharing would not pay, or not all can share, each row has its own KV stream."""
    assert plan_sharing(waiting, [], 32) is None


def test_what_is_cached_of_the_beginning() -> None:
    """The entry that rows go on from is kept, and so is what is pinned; its cells are counted."""
    _, cache = caches(4, n_tokens=100)
    cached = left(cache, BEGINNING + b"!")
    pinned = left(cache, OTHER, pins=True)
    left(cache, b"forgotten")
    plan = plan_sharing(rows(4, n_new=2), cache.cached, 8)
    assert plan is not None
    assert plan.kept == [cached, pinned]
    assert plan.first_kept_shares
    assert plan.n_slots == 6
    assert plan.n_cells == 256  # for 64 + 4 * 4 + 1 + 36


# --- rows ---


@pytest.fixture
def model() -> FakeModel:
    return fake_model(max_sequences=8)


def n_cells(model: FakeModel) -> int | None:
    backend: FakeBackend = model.backend
    return backend.n_cells


def test_shared_and_apart(model: FakeModel) -> None:
    """The layout follows the work, and what is cached comes along."""
    done = complete(model, alike(8))
    assert n_cells(model) == 256
    assert all(each.stats.kv_unified for each in done)
    assert [each.stats.n_cached for each in done] == [0] + [64] * 7
    (alone,) = complete(model, [BEGINNING + ENDS[7] + b" and more"])
    assert n_cells(model) is None
    assert not alone.stats.kv_unified
    assert alone.stats.n_cached > 64
    done = complete(model, alike(8))
    assert n_cells(model) == 256
    assert [each.stats.n_cached >= 64 for each in done] == [True] * 8


def test_the_same_again(model: FakeModel) -> None:
    """Rows that begin as those before them need no new context."""
    complete(model, alike(8))
    n_made = model.backend.count("reserve")
    for _ in range(3):
        complete(model, alike(8))
    assert model.backend.count("reserve") == n_made


def test_more_rows_than_slots() -> None:
    """As a row ends, its cells go to one that waits."""
    model = fake_model(max_sequences=4, budget=4 * 128)
    done = complete(model, [BEGINNING + b"%d!" % i for i in range(12)])
    assert n_cells(model) == 256
    assert sum(each.stats.n_cached for each in done) >= 11 * 64


def test_a_stranger_waits(model: FakeModel) -> None:
    """A row that needs more cells than are free comes when the others are over."""
    prompts = [list(prompt) for prompt in alike(6)]
    stranger = list(OTHER * 8)
    many = iter(model.complete_iter(prompts, max_new_tokens=6))
    next(many)
    assert n_cells(model) is not None
    (done,) = model.complete([stranger], max_new_tokens=6)
    assert done.token_ids == reference_greedy(stranger, 6)
    for index, each in many:
        assert each.token_ids == reference_greedy(prompts[index], 6)


def test_samples_of_one_prompt(model: FakeModel) -> None:
    """All of a prompt is shared by its samples, which differ."""
    prompt = list(BEGINNING * 2)
    done = model.complete([prompt], num_return_sequences=6, temperature=2.0, max_new_tokens=8)
    assert all(each.stats.kv_unified for each in done)
    assert [each.stats.n_cached for each in done] == [0] + [128] * 5
    (again,) = model.complete([prompt], seed=[done[3].stats.seed], max_new_tokens=8)
    assert again.stats.n_cached == 127


def test_a_pinned_beginning(model: FakeModel) -> None:
    """A prefix's branches take no cells for it, and it is there afterwards."""
    with model.prefill(BEGINNING.decode()) as prefix:
        done = prefix.complete([end.decode() for end in ENDS[:7]], max_new_tokens=4)
        assert isinstance(done, list)
        assert n_cells(model) == 256
        assert all(each.stats.n_cached == 64 for each in done)
        assert prefix.is_cached
        complete(model, [OTHER])
        assert prefix.is_cached
        assert n_cells(model) is None


def test_everything_is_lost_in_between(model: FakeModel) -> None:
    """Again one row computes the beginning, for all."""
    backend: FakeBackend = model.backend
    lost: list[bool] = []

    def lose() -> None:
        if backend.count("decode") == 9 and not lost:
            lost.append(True)
            backend.forget()
            backend.n_cache_resets += 1
            raise RuntimeError("lost")

    backend.on_decode = lose
    with pytest.raises(RuntimeError):
        model.complete([list(prompt) for prompt in alike(8)], max_new_tokens=20)
    complete(model, alike(8), n_new=20)


def test_a_session_among_shared_cells(model: FakeModel, tmp_path: Any) -> None:
    """What is saved of rows that shared cells is whole, and can be loaded beside such rows."""
    complete(model, alike(8))
    n_saved = model.save_session(tmp_path / "s")
    other = fake_model(max_sequences=12)
    complete(other, [BEGINNING[::-1] + end for end in ENDS])
    assert other.load_session(tmp_path / "s") == n_saved
    (done,) = complete(other, [BEGINNING + ENDS[7] + b"more"])
    assert done.stats.n_cached >= 66


def test_without_the_memory() -> None:
    """Where the cells do not fit the budget, rows have streams, a few at a time."""
    model = fake_model(max_sequences=8, budget=200)
    done = complete(model, alike(8))
    assert n_cells(model) is None
    assert not any(each.stats.kv_unified for each in done)


def test_models_that_cannot(tmp_path: Any) -> None:
    """A recurrent state is no cells, and a deterministic row shares nothing."""
    for model in (
        fake_model(max_sequences=8, can_truncate=False),
        fake_model(max_sequences=8, deterministic=True),
    ):
        done = complete(model, alike(8))
        assert not any(each.stats.kv_unified for each in done)


def test_plan_of_equal_prompts() -> None:
    """Prompts that are the same share all of it."""
    plan = plan_sharing([row(BEGINNING) for _ in range(4)], [], 8)
    assert plan is not None
    np.testing.assert_array_equal(plan.prefix, list(BEGINNING))


def test_cancelled_and_asked_again(model: FakeModel) -> None:
    """Protects from rows that are over and still counted as holding the beginning's cells: the same
    rows would then wait for ever."""
    beginning = bytes(range(33, 127)) * 4
    prompts = [list(beginning + end) for end in ENDS[:4]]
    backend: FakeBackend = model.backend
    cancel = threading.Event()
    backend.on_decode = cancel.set
    done = model.complete(prompts, max_new_tokens=4, cancel=cancel)
    assert {each.finish_reason for each in done} == {"cancelled"}
    backend.on_decode = lambda: None
    again = model.complete(prompts, max_new_tokens=4)
    assert all(each.stats.kv_unified for each in again)
    for prompt, each in zip(prompts, again, strict=True):
        assert each.token_ids == reference_greedy(prompt, 4)


# --- cells that are claimed ---


def shared_cells(n_new: int = 6) -> SharedCells:
    """Of four sequences that share the prefix, of 64 cells."""
    plan = plan_sharing(rows(4, n_new), [], 8)
    assert plan is not None
    return SharedCells(plan)


def test_claim_drops_what_was_used_least_recently() -> None:
    """No more than it needs, and never what is pinned."""
    _, cache = caches(5)
    pinned = left(cache, b"p" * 20, pins=True)
    kept = [left(cache, letter * 20) for letter in (b"a", b"b", b"c")]
    shared = shared_cells()
    new, items = row(b"x" * 29), [pinned, *reversed(kept)]
    n_taken = 64 + 4 * 20
    enough = shared.claim(new, None, items, n_taken + 30)
    assert enough is not None
    assert enough.drops == []
    for n_missing, n_drops in [(1, 1), (20, 1), (21, 2)]:
        claim = shared.claim(new, None, items, n_taken + 30 - n_missing)
        assert claim is not None
        assert claim.drops == kept[:n_drops]
        assert not claim.shares
    assert shared.claim(row(b"x" * 29), None, [pinned], 64 + 20 + 29) is None


def test_source_is_dropped_where_there_is_no_room_beside_it() -> None:
    """A pinned one is not, and the sequence waits."""
    for pins in (False, True):
        _, cache = caches(5)
        source = left(cache, b"s" * 20, pins=pins)
        claim = shared_cells().claim(row(b"s" * 20 + b"x" * 9), source, [source], 64 + 30)
        if pins:
            assert claim is None
        else:
            assert claim is not None
            assert claim.drops == [source]


def test_cells_that_are_lost_are_computed_once_again() -> None:
    """The first sequence that shares the prefix computes it, and the others wait for it."""
    shared = shared_cells()
    alone, *sharing = (row(beginning + ENDS[0]) for beginning in (OTHER, *[BEGINNING] * 3))
    for each in sharing:
        each.seq_id = 0
        shared.take(each, Claim([], shares=True))
    shared.lose_all([alone, *sharing[1:]])
    assert alone.waits_for is None
    assert sharing[1].waits_for is None
    assert sharing[2].waits_for == (sharing[1], 64)
    # The one that is over holds nothing any more.
    n_tokens = len(alone.tokens), len(sharing[1].tokens)
    assert shared.n_taken([sharing[0]]) == 64 + len(sharing[0].tokens)
    assert shared.n_taken([alone, sharing[1]]) == sum(n_tokens)


def test_cells_that_are_lost_while_sequences_run(model: FakeModel) -> None:
    """A pass that was stopped may lose everything: all sequences go on, with the same tokens, and
    still share the cells of the prefix."""
    backend: FakeBackend = model.backend
    n_lost = 0

    def lose() -> None:
        nonlocal n_lost
        if backend.count("decode") in (9, 12):
            n_lost += 1
            backend.lose_all()
            raise PassStopped

    backend.on_decode = lose
    done = complete(model, alike(8), n_new=20)
    assert n_lost == 2
    assert all(each.stats.kv_unified for each in done)


def test_cells_that_are_lost_where_a_prompt_is_the_prefix(model: FakeModel) -> None:
    """Regression: such a sequence got its whole prompt copied and no logits, and the engine span
    for ever; its last token is computed by itself."""
    backend: FakeBackend = model.backend

    def lose() -> None:
        if backend.count("decode") == 2:
            backend.lose_all()
            raise PassStopped

    backend.on_decode = lose
    done = complete(model, [*alike(7), BEGINNING], n_new=6)
    assert all(each.stats.kv_unified for each in done)
