"""Which slot a row gets, what it goes on from, and what is forgotten for it; on a fake backend."""

from __future__ import annotations

import numpy as np
import pytest

from localgen import BackendError, KvBudgetError
from localgen.engine.kv_cache import KvCache
from localgen.engine.sequence import CachedSequence, Sequence
from localgen.engine.uniforms import UniformStream
from tests.fakes import FakeBackend

LETTERS = b"abcdefghijklmnopqrstuvwxyz"


class NoSampler:
    """No test here samples."""

    needs_mask = False

    def sample(self, logits, sequence):
        raise AssertionError

    scores = distribution = sample


def row(text: bytes, *, n_new: int = 1, pins: bool = False) -> Sequence:
    return Sequence(
        index=0,
        prompt_ids=np.frombuffer(text, np.uint8).astype(np.int32),
        max_new_tokens=n_new,
        eos_token_ids=frozenset(),
        sampler=NoSampler(),
        uniform=UniformStream(0, 0),
        pins=pins,
    )


def caches(n_slots: int, n_tokens: int = 64, **options) -> tuple[FakeBackend, KvCache]:
    """A backend, and a KvCache that has made ``n_slots`` slots of it."""
    backend = FakeBackend(**options)
    cache = KvCache(backend, n_slots)
    cache.make_room([row(bytes([65 + i]) * (n_tokens - 1)) for i in range(n_slots)])
    assert (backend.n_slots, backend.n_ctx_seq) == (n_slots, n_tokens)
    return backend, cache


def admitted(cache: KvCache, text: bytes, **options) -> Sequence:
    """A row that was given a slot."""
    new = row(text, **options)
    assert cache.admit(new)
    return new


def computed(cache: KvCache, new: Sequence) -> Sequence:
    """The same row, its prompt in the KV cache as after forward passes."""
    cache._backend.kv[new.seq_id] = new.prompt_ids.tolist()  # type: ignore[attr-defined]
    new.n_kv = new.n_prompt
    return new


def left(cache: KvCache, text: bytes, **options) -> CachedSequence:
    """What a row with that prompt leaves."""
    new = computed(cache, admitted(cache, text, **options))
    cache.release(new)
    assert isinstance(new.cached, CachedSequence)
    return new.cached


def texts(cache: KvCache) -> list[bytes]:
    return [bytes(entry.token_ids.tolist()) for entry in cache.cached]


def held(backend: FakeBackend, slot: int | None) -> bytes:
    assert slot is not None
    return bytes(backend.kv[slot])


def test_what_was_needed_least_recently_is_forgotten():
    """A row that shares nothing takes the slot of the oldest entry; use makes one young again."""
    _, cache = caches(3)
    for text in (b"a" * 20, b"b" * 20, b"c" * 20):
        left(cache, text)
    left(cache, b"a" * 20 + b"!")
    left(cache, b"d" * 20)
    assert texts(cache) == [b"c" * 20, b"a" * 20 + b"!", b"d" * 20]


def test_an_empty_slot_is_taken_before_an_entry_is_forgotten():
    """Nothing is lost while there is room."""
    _, cache = caches(2)
    left(cache, b"a" * 20)
    left(cache, b"b" * 20)
    assert texts(cache) == [b"a" * 20, b"b" * 20]


def test_goes_on_in_place():
    """A prompt that contains most of an entry takes over its slot, without a copy."""
    backend, cache = caches(2)
    entry = left(cache, LETTERS)
    slot = entry.seq_id
    new = admitted(cache, LETTERS + b"!")
    assert (new.seq_id, new.n_kv, new.n_cached) == (slot, 26, 26)
    assert entry.seq_id is None
    assert backend.count("kv_copy") == 0


def test_the_last_token_of_a_prompt_is_computed():
    """Its logits are needed: an equal prompt reuses all tokens but one."""
    _, cache = caches(1)
    left(cache, LETTERS)
    assert admitted(cache, LETTERS).n_cached == 25


def test_a_beginning_is_copied():
    """A prompt with less than half of an entry copies it, and the entry stays as it is."""
    backend, cache = caches(2)
    entry = left(cache, LETTERS * 2)
    new = admitted(cache, LETTERS[:20] + b"!!")
    assert new.n_cached == new.n_kv == 20
    assert new.seq_id != entry.seq_id
    assert held(backend, new.seq_id) == LETTERS[:20]
    assert held(backend, entry.seq_id) == LETTERS * 2
    assert backend.count("kv_copy") == 1


def test_a_few_tokens_are_not_worth_a_copy():
    """Fewer than 16 shared tokens are computed again, unless the slot holds little else."""
    backend, cache = caches(2)
    left(cache, LETTERS)
    assert admitted(cache, LETTERS[:8] + b"!!").n_cached == 0
    assert backend.count("kv_copy") == 0
    _, cache = caches(2)
    left(cache, b"tiny")
    assert admitted(cache, b"tiny!").n_cached == 4


def test_the_longest_beginning_wins():
    """Of several entries, the one that shares most is gone on from."""
    _, cache = caches(3)
    for length in (18, 26, 22):
        left(cache, LETTERS[:length] + b"?" * 30)
    assert admitted(cache, LETTERS + b"!!").n_cached == 26


def test_a_running_prompt_is_awaited_then_copied():
    """Two rows with one beginning: the second waits until the first has computed it."""
    backend, cache = caches(2)
    first = admitted(cache, LETTERS + b"1")
    second = admitted(cache, LETTERS + b"2")
    cache.copy_when_ready(second)
    assert second.waits_for == (first, 26)
    computed(cache, first)
    cache.copy_when_ready(second)
    assert second.waits_for is None
    assert second.n_cached == 26
    assert held(backend, second.seq_id) == LETTERS


def test_an_awaited_row_that_ends_early_leaves_what_it_has():
    """The row that waited copies what is there, and computes the rest."""
    backend, cache = caches(2)
    first, second = admitted(cache, LETTERS + b"1"), admitted(cache, LETTERS + b"2")
    assert first.seq_id is not None
    backend.kv[first.seq_id] = list(LETTERS[:18])
    first.n_kv = 18
    cache.release(first)
    cache.copy_when_ready(second)
    assert (second.waits_for, second.n_cached) == (None, 18)


def test_one_that_waits_itself_is_no_source_of_a_beginning() -> None:
    """Regression: the twin shares more with the second row than what the first one left, and has
    nothing yet: all of the second was computed, for which shared cells had no room."""
    _, cache = caches(3)
    first, second = admitted(cache, LETTERS + b"1"), admitted(cache, LETTERS + b"2")
    twin = row(LETTERS + b"2")
    twin.prompt_of = second
    assert cache.admit(twin)
    cache.release(computed(cache, first))
    cache.copy_when_ready(second)
    assert (second.waits_for, second.n_cached) == (None, 26)


def test_a_pinned_entry_is_never_forgotten():
    """Other rows come and go; what is pinned moves if its slot is needed, but stays."""
    backend, cache = caches(3)
    pinned = left(cache, LETTERS, pins=True)
    for i in range(12):
        text = bytes([65 + i]) * 20
        rows = [computed(cache, admitted(cache, text + b"%d" % j)) for j in range(2)]
        assert not cache.admit(row(b"no slot is left for this"))
        assert held(backend, pinned.seq_id) == LETTERS
        for done in rows if i % 2 else rows[::-1]:
            cache.release(done)
    assert pinned.is_pinned
    assert cache.n_pinned == 1


def test_a_pinned_entry_is_copied_and_never_taken_over():
    """A prompt that goes on from it gets a copy, however much of it that is."""
    backend, cache = caches(2)
    pinned = left(cache, LETTERS, pins=True)
    new = admitted(cache, LETTERS + b"!")
    assert new.n_cached == 26
    assert held(backend, pinned.seq_id) == held(backend, new.seq_id) == LETTERS


def test_a_pinned_entry_outlives_the_source_of_a_copy():
    """With two slots, one pinned and one with a long text: a prompt that begins like the text.

    The row once took the pinned slot, and what was pinned had nowhere to go, and was lost.
    """
    backend, cache = caches(2)
    pinned = left(cache, b"p" * 20, pins=True)
    left(cache, LETTERS * 2)
    new = admitted(cache, LETTERS[:20] + b"!!")
    assert held(backend, pinned.seq_id) == b"p" * 20
    assert new.n_cached == 20


def test_a_pinned_entry_between_running_rows_stays():
    """A hole among running rows that holds what is pinned is closed only if that can move.

    It once was forgotten: a prefix that was computed while two calls ran was lost at once.
    """
    backend, cache = caches(3)
    rows = [computed(cache, admitted(cache, text * 20, pins=text == b"b"))
            for text in (b"a", b"b", b"c")]  # fmt: skip
    cache.release(rows[1])
    pinned = rows[1].cached
    assert pinned is not None
    assert not cache.close_holes()
    assert held(backend, pinned.seq_id) == b"b" * 20
    cache.release(rows[0])
    new = admitted(cache, b"d")
    cache.close_holes()
    assert {new.seq_id, rows[2].seq_id} in ({0, 1}, {1, 2})
    assert held(backend, pinned.seq_id) == b"b" * 20


def test_unpinned_may_be_forgotten():
    """After ``unpin`` an entry is like any other."""
    _, cache = caches(1)
    pinned = left(cache, LETTERS, pins=True)
    assert not cache.admit(row(b"x"))
    pinned.is_pinned = False
    admitted(cache, b"x")
    assert pinned.seq_id is None


def test_running_slots_stay_consecutive():
    """llama.cpp needs a pass for each run of slots: a row in the middle that ends is replaced."""
    backend, cache = caches(4)
    rows = [computed(cache, admitted(cache, bytes([65 + i]) * 20)) for i in range(4)]
    cache.release(rows[1])
    assert cache.close_holes()
    assert [rows[i].seq_id for i in (0, 3, 2)] == [0, 1, 2]
    assert held(backend, 1) == b"D" * 20
    assert texts(cache) == [], "what was in the hole had no other free slot to go to"
    cache.release(rows[0])
    assert not cache.close_holes()
    new = admitted(cache, b"x")
    assert new.seq_id in (0, 3)


def test_a_new_row_fills_a_hole():
    """A row that waits saves moving another."""
    _, cache = caches(4)
    rows = [computed(cache, admitted(cache, bytes([65 + i]) * 20)) for i in range(3)]
    cache.release(rows[1])
    assert admitted(cache, b"x").seq_id == 1
    assert not cache.close_holes()


def test_growth_carries_entries_over():
    """A longer row remakes the slots; running rows, pinned and recent entries come along."""
    backend, cache = caches(4, n_tokens=32)
    pinned = left(cache, b"p" * 20, pins=True)
    old, young = left(cache, b"o" * 20), left(cache, b"y" * 20)
    running = computed(cache, admitted(cache, b"r" * 20))
    backend.budget = 3 * 100
    waiting = row(b"x" * 99)
    cache.make_room([waiting])
    assert (backend.n_slots, backend.n_ctx_seq) == (3, 100)
    assert old.seq_id is None
    for slot, text in ((running.seq_id, b"r"), (pinned.seq_id, b"p"), (young.seq_id, b"y")):
        assert held(backend, slot) == text * 20
    assert cache.admit(waiting)
    assert pinned.seq_id is not None


def test_growth_waits_for_running_rows():
    """A row that would leave no slot for one that runs has to wait for it."""
    backend, cache = caches(2, n_tokens=32, budget=64)
    running = computed(cache, admitted(cache, b"r" * 20))
    waiting = row(b"x" * 63)
    cache.make_room([waiting])
    assert not cache.admit(waiting)
    cache.release(running)
    cache.make_room([waiting])
    assert cache.admit(waiting)
    assert (backend.n_slots, backend.n_ctx_seq) == (1, 64)


def test_slots_are_made_shorter_where_that_makes_room():
    """Pinned entries in slots made for a long row leave none over; shorter slots are more.

    The row once waited for ever, and the thread that drove it with it.
    """
    backend = FakeBackend(budget=210)
    cache = KvCache(backend, 4)
    cache.make_room([row(b"x" * 69)] * 3)
    assert (backend.n_slots, backend.n_ctx_seq) == (3, 70)
    pinned = [left(cache, text * 20, pins=True) for text in (b"a", b"b", b"c")]
    waiting = row(b"x" * 40)
    cache.check_fits(41)
    cache.make_room([waiting])
    assert cache.admit(waiting)
    assert backend.n_ctx_seq == 41
    assert [held(backend, entry.seq_id)[:1] for entry in pinned] == [b"a", b"b", b"c"]


def test_what_never_fits_is_refused_with_the_numbers():
    """The error names the length, the room, the limit, and how much is pinned."""
    _, cache = caches(2, n_tokens=32, budget=64)
    with pytest.raises(KvBudgetError, match=r"65 tokens.*room for 0 .*max_sequences is 2, and 0"):
        cache.check_fits(65)
    left(cache, LETTERS, pins=True)
    cache.check_fits(32)
    with pytest.raises(KvBudgetError, match=r"33 tokens.*room for 1 .*and 1 are pinned"):
        cache.check_fits(33)
    left(cache, LETTERS, pins=True)
    with pytest.raises(KvBudgetError, match=r"max_sequences is 2, and 2 are pinned"):
        cache.check_fits(1)


def test_a_failure_to_remake_leaves_no_entry_behind():
    """Where the memory for new slots is refused, nothing claims to be in them."""
    backend, cache = caches(2, n_tokens=32)
    pinned = left(cache, LETTERS, pins=True)

    def refuse(*args, **options):
        backend.kv = {}
        raise BackendError("no memory")

    backend.reserve = refuse  # type: ignore[method-assign]
    with pytest.raises(BackendError, match="no memory"):
        cache.make_room([row(b"x" * 63)])
    cache.clear()
    assert pinned.seq_id is None
    assert cache.cached == []


def test_a_loss_is_noticed():
    """When the backend has lost all, entries are gone and running rows start from nothing."""
    backend, cache = caches(2)
    entry = left(cache, LETTERS)
    running = computed(cache, admitted(cache, b"?" * 40))
    backend.forget()
    backend.n_cache_resets += 1
    assert cache.notice_loss()
    assert not cache.notice_loss()
    assert (running.n_kv, running.n_cached, cache.cached) == (0, 0, [])
    assert entry.seq_id is None


def test_a_recurrent_state_only_goes_on():
    """Its beginning cannot be had: a prompt that goes on from all of an entry reuses it, another
    says why not."""
    _, cache = caches(2, can_truncate=False)
    left(cache, LETTERS)
    longer = admitted(cache, LETTERS + b"!")
    assert (longer.n_cached, longer.cache_miss_reason) == (26, None)
    _, cache = caches(2, can_truncate=False)
    left(cache, LETTERS)
    other = admitted(cache, LETTERS[:20] + b"!")
    assert other.n_cached == 0
    assert "recurrent" in str(other.cache_miss_reason)


def test_without_reuse_nothing_is_kept_but_what_is_pinned():
    """``deterministic``: a prompt is computed from its start, whatever is there."""
    backend = FakeBackend()
    cache = KvCache(backend, 3, reuses=False)
    cache.make_room([row(b"x" * 63)] * 3)
    done = computed(cache, admitted(cache, LETTERS))
    cache.release(done)
    assert (cache.cached, backend.kv[0]) == ([], [])
    left(cache, LETTERS, pins=True)
    assert admitted(cache, LETTERS + b"!").n_cached == 0


# --- groups ---


def group(*texts: bytes, n_new: int = 8) -> list[Sequence]:
    """Rows that get a slot together or not at all."""
    members = [row(text, n_new=n_new) for text in texts]
    for each in members:
        each.group = tuple(members)
    return members


def test_a_group_gets_slots_for_all_or_none() -> None:
    _, cache = caches(4)
    first, second = group(b"a", b"a", b"a"), group(b"b", b"b")
    assert cache.admit_group(first)
    assert not cache.admit_group(second)
    assert [each.seq_id for each in second] == [None, None]
    assert cache.n_running == 3
    cache.release(first[0])
    assert cache.admit_group(second)


def test_room_is_made_for_a_whole_group() -> None:
    """With one sequence of 64 tokens running and memory for three, two more of a group do not fit
    beside two others."""
    backend = FakeBackend(budget=4 * 40)
    backend.can_share_cells = False
    cache = KvCache(backend, 8)
    members = group(*[b"a" * 32] * 4)
    cache.make_room([*members, row(b"b" * 60, n_new=4)])
    assert (backend.n_slots, backend.n_ctx_seq) == (4, 40)
    assert cache.admit_group(members)


def test_groups_share_cells_however_short_their_prefix_is() -> None:
    """Cells for all that each may come to need: no copy takes any of its own."""
    backend = FakeBackend()
    cache = KvCache(backend, 8)
    members = group(*[b"ab" * 10] * 4, n_new=110)
    cache.make_room(members)
    assert backend.n_cells == 768  # for 4 * 130
    assert cache.admit_group(members)


def test_what_leaves_early_is_dropped_where_it_has_no_room() -> None:
    """Regression: the first part of a shared prefix was kept beside the room for all of it."""
    backend = FakeBackend()
    cache = KvCache(backend, 8)
    members = group(*[b"a" * 200] * 4, n_new=2)
    cache.make_room(members)
    assert backend.n_cells == 256  # for 200 + 4 * 2
    assert cache.admit_group(members)
    backend.kv[0] = [97] * 100
    members[0].n_kv = 100  # it was cancelled there
    for each in members:
        cache.release(each)
    assert not cache.cached


def test_a_replaced_sequence_holds_what_the_other_does() -> None:
    """And one that waits for it copies only what is still the same."""
    backend, cache = caches(4)
    one, other, waiting = (admitted(cache, text) for text in (b"abcdef", b"abcxyz", b"abcdefg"))
    for each in (one, other):
        computed(cache, each)
    waiting.waits_for = (one, 6)
    one.tokens[:6] = other.tokens[:6]
    cache.replace(one, other)
    assert held(backend, one.seq_id) == b"abcxyz"
    assert one.n_kv == 6
    cache.copy_when_ready(waiting)
    assert held(backend, waiting.seq_id) == b"abc"
