"""The KV cache: which seq_id a sequence gets, what it continues from, what it leaves for others.

A new sequence finds what begins like its prompt: it continues in its place, or copies it
(``prefix_matcher``). What was used least recently is dropped first; what is pinned never is.

Sequences that begin alike and end soon share the cells of their prefix (one KV stream for all,
llama.cpp's ``kv_unified``); all others have a KV stream of their own, so that they do not attend to
each other's cells. See ``unified_kv``. The seq_ids of sequences with streams are kept next to each
other: see ``slot_allocator``.

What is held where is ``Slots``' to change; the modules named above propose, and this one decides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from collections.abc import Sequence as Items
from itertools import count, islice

import numpy as np

from localgen.engine import slot_allocator
from localgen.engine.backend import Backend, Saved, State
from localgen.engine.capacity import Capacity
from localgen.engine.prefix_matcher import (
    NO_MATCH,
    RECURRENT,
    Match,
    best_match,
    common_length,
    is_worth_a_copy,
)
from localgen.engine.sequence import CachedSequence, Sequence
from localgen.engine.slots import Item, Slots
from localgen.engine.unified_kv import Claim, Plan, SharedCells, n_cells_of, plan_sharing
from localgen.engine.work import work_of
from localgen.errors import StateError

_DETERMINISTIC = "deterministic=True: a prompt is always computed in the same passes"


class KvCache:
    """The KV cache of one backend.

    max_slots: the most sequences it may be made for. reuses: whether prompts may begin with what is
    cached.
    """

    def __init__(self, backend: Backend, max_slots: int, *, reuses: bool = True) -> None:
        self._backend = backend
        self._max_slots = max_slots
        self._reuses = reuses
        self._slots = Slots(backend)
        self._capacity = Capacity(backend, self._slots, max_slots, reuses=reuses)
        # None with a stream for each sequence.
        self._shared: SharedCells | None = None
        self._times = count(1)
        self._n_resets = backend.n_cache_resets
        self._changed = False

    @property
    def cached(self) -> list[CachedSequence]:
        """What can be reused, least recently used first."""
        return self._slots.cached

    @property
    def n_running(self) -> int:
        return self._slots.n_running

    @property
    def n_pinned(self) -> int:
        return self._slots.n_pinned

    # --- room ---

    def check_fits(self, n_tokens: int, group: Items[Sequence] = ()) -> None:
        """Raise KvBudgetError if a sequence of ``n_tokens`` could never run, with its group if it
        has one."""
        if group:
            n_cells = n_cells_of(group) if self._reuses else None
            self._capacity.check_fits(n_tokens, len(group), n_cells)
        else:
            self._capacity.check_fits(n_tokens)

    def make_room(
        self, waiting: Iterable[Sequence], should_stop: Callable[[], bool] | None = None
    ) -> None:
        """Make room for the sequences that wait, as far as budget and running sequences allow.

        Raises PassStopped if ``should_stop()`` while the KV cache is made anew; all of it is lost
        then. It is not asked while something is pinned.
        """
        waiting = list(islice(waiting, self._max_slots))
        suits = self._suits(waiting, should_stop)
        if self._share_cells(waiting, should_stop, suits=suits):
            return
        size = self._capacity.for_waiting(waiting)
        if size is None and not suits:
            size = self._backend.n_slots, self._backend.n_ctx_seq
        if size is not None:
            self._remake(*size, should_stop=should_stop)

    def make_suitable(self, should_stop: Callable[[], bool] | None = None) -> None:
        """Make the KV cache anew if that repays soon: what runs has changed, or become longer.

        Where sequences share cells it stays, since what they share would be stored for each.
        Raises PassStopped if ``should_stop()`` before that; what runs would be lost after it.
        """
        if self._shared is None and self.n_running and not self._suits([], should_stop):
            n_slots, n_tokens = self._backend.n_slots, self._backend.n_ctx_seq
            self._remake(n_slots, n_tokens)

    def _suits(self, waiting: list[Sequence], should_stop: Callable[[], bool] | None) -> bool:
        """Whether the KV cache suits what runs and waits; see ``Backend.suits``."""
        if not self._backend.adapts:
            return True
        sequences = [(each, self._n_done(each)) for each in (*self._slots.running, *waiting)]
        return self._backend.suits(work_of(sequences, self._backend.n_batch), should_stop)

    def _n_done(self, sequence: Sequence) -> int:
        """How many tokens of a sequence are there already, or will be copied."""
        if sequence.prompt_of is not None and not sequence.n_kv and not sequence.n_new:
            return sequence.n_tokens
        if sequence.seq_id is not None:
            return sequence.waits_for[1] if sequence.waits_for else sequence.n_kv
        if not self._reuses:
            return 0
        lengths = (common_length(each.token_ids, sequence.token_ids) for each in self._slots.cached)
        return max(lengths, default=0)

    def _share_cells(
        self, waiting: list[Sequence], should_stop: Callable[[], bool] | None, *, suits: bool
    ) -> bool:
        """Whether sequences share cells: decided while none runs, and the cache is then made so."""
        if self.n_running:
            return self._shared is not None
        if not self._reuses or not self._backend.can_share_cells:
            return False
        plan = self._plan(waiting)
        if plan is None:
            return False
        has_room = self._backend.n_slots >= plan.n_slots
        has_cells = self._backend.n_ctx_seq >= plan.n_cells
        shared = self._shared
        same = shared is not None and np.array_equal(shared.prefix, plan.prefix)
        if not (has_room and has_cells and same and suits):
            n_tokens = max(len(each.tokens) for each in waiting)
            self._remake(plan.n_slots, n_tokens, plan, should_stop)
        return True

    def _plan(self, waiting: list[Sequence]) -> Plan | None:
        """Return how the sequences that wait share cells, or only the group that waits first."""
        first = [each for each in waiting if each in waiting[0].group]
        for sharing in (waiting, first) if 0 < len(first) < len(waiting) else (waiting,):
            plan = plan_sharing(sharing, self.cached, self._max_slots)
            if plan is not None and self._backend.cells_fit(plan.n_cells):
                return plan
        return None

    def _remake(
        self,
        n_slots: int,
        n_tokens: int,
        plan: Plan | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> None:
        """Make the KV cache anew: running sequences first, then what is pinned, then what is
        recent; with a plan, for sequences that share cells, and with what it keeps."""
        kept: list[Item] = [*self._slots.running]
        if plan is None:
            idle = sorted(self.cached, key=lambda cached: (cached.is_pinned, cached.last_used))
            kept += [cached for cached in idle[::-1] if len(cached.token_ids) <= n_tokens]
        else:
            kept += plan.kept
        self._shared = None if plan is None else SharedCells(plan)
        n_cells = None if plan is None else plan.n_cells
        if self.n_pinned:
            should_stop = None  # it would be lost
        self._slots.remake(kept, n_slots, n_tokens, n_cells, should_stop)
        self.notice_loss()
        self._changed = True
        for sequence in self._slots.running:
            self._note_attention(sequence)

    def _note_attention(self, sequence: Sequence) -> None:
        sequence.note_attention(self._backend.flash_attention, self._backend.attention_obstacle)

    def notice_loss(self) -> bool:
        """Drop everything if the backend did: running sequences then have nothing in the KV cache.

        Returns whether it did, or sequences got other seq_ids, since the last call.
        """
        changed, self._changed = self._changed, False
        if self._n_resets == self._backend.n_cache_resets:
            return changed
        self._n_resets = self._backend.n_cache_resets
        self._slots.lose_cached()
        if self._shared is not None:
            self._shared.lose_all(self._slots.running)
        return True

    def catch_up(self) -> None:
        """Drop everything if the backend did, and keep that for the next ``notice_loss``."""
        self._changed = self.notice_loss()

    def clear(self) -> None:
        """Note that the backend was emptied, and no sequence runs any more."""
        self._n_resets = self._backend.n_cache_resets
        self._slots.clear()
        if self._shared is not None:
            self._shared.clear()

    # --- sequences come and go ---

    def admit(self, sequence: Sequence, *, reuse: bool = True) -> bool:
        """Give a waiting sequence a seq_id, with as much of its tokens as is there already or will
        soon be if ``reuse``; False if there is none for it now."""
        n_room = sequence.n_room if self._shared is None else len(sequence.tokens)
        if n_room > self._backend.n_ctx_seq:
            return False
        prompt_of = sequence.prompt_of
        shares_prompt = prompt_of is not None and prompt_of.is_computing_prompt
        match = NO_MATCH
        if reuse and not shares_prompt:
            match = self._best_match(sequence, self._slots.running)
        cached = match.source if isinstance(match.source, CachedSequence) else None
        copies = self._is_worth_a_copy(match.n_shared)
        seq_id = slot_allocator.seq_id_for(self._slots.items, cached, match.n_shared, copies=copies)
        if seq_id is None:
            return False
        if self._shared is not None:
            claim = self._claim(
                self._shared, sequence, prompt_of if shares_prompt else match.source
            )
            if claim is None:
                return False
            if cached is not None and cached.seq_id is None:
                match, cached = NO_MATCH, None  # there was no room for both
        sequence.kv_unified = self._shared is not None
        self._note_attention(sequence)
        sequence.waits_for = None
        if cached is not None:
            cached.last_used = next(self._times)
            self._continue_from(sequence, seq_id, cached, match.n_shared)
            return True
        self._vacate(seq_id)
        self._slots.place(sequence, seq_id)
        if isinstance(match.source, Sequence):
            sequence.waits_for = (match.source, match.n_shared)
        return True

    def admit_group(self, group: Iterable[Sequence]) -> bool:
        """Give each of these sequences a seq_id, as ``admit``; False, with none of them given one,
        if there are not enough for all now."""
        group = list(group)
        if self._backend.n_slots - self.n_running - self.n_pinned < len(group):
            return False
        for index, sequence in enumerate(group):
            if not self.admit(sequence):
                for admitted in group[:index]:
                    self._withdraw(admitted)
                return False
        return True

    def _withdraw(self, sequence: Sequence) -> None:
        """Take back the seq_id of a sequence that was just admitted."""
        self._slots.leave(sequence, None)
        sequence.n_kv, sequence.n_cached, sequence.waits_for = 0, 0, None

    def _claim(self, shared: SharedCells, sequence: Sequence, source: Item | None) -> Claim | None:
        """Take the cells that a sequence needs, dropping what has to go; None if it must wait."""
        items = self._slots.items
        claim = shared.claim(sequence, source, items, self._backend.n_ctx_seq)
        if claim is not None:
            for cached in claim.drops:
                self._slots.drop(cached)
            shared.take(sequence, claim)
        return claim

    def _best_match(self, sequence: Sequence, running: Iterable[Sequence]) -> Match:
        if not self._reuses:
            sequence.cache_miss_reason = _DETERMINISTIC
            return NO_MATCH
        match = best_match(
            sequence,
            [*self._slots.cached, *running],
            n_ctx_seq=self._backend.n_ctx_seq,
            is_unified=self._slots.is_unified,
            can_truncate=self._backend.can_truncate,
        )
        if match.miss_reason is not None:
            sequence.cache_miss_reason = match.miss_reason
        return match

    def _is_worth_a_copy(self, n_shared: int) -> bool:
        return is_worth_a_copy(n_shared, self._backend.n_ctx_seq, is_unified=self._slots.is_unified)

    def _continue_from(
        self, sequence: Sequence, seq_id: int, cached: CachedSequence, n_shared: int
    ) -> None:
        """Let a sequence run under ``seq_id``, from what is cached: in place, by a copy, or not."""
        if cached.seq_id == seq_id and not cached.is_pinned:
            self._slots.take_over(sequence, cached)
            self._keep_prefix(sequence, n_shared)
            return
        copies = self._is_worth_a_copy(n_shared)
        # What is cached under the sequence's own seq_id moves away, and is copied from there.
        self._vacate(seq_id, spare=cached if copies and cached.seq_id != seq_id else None)
        self._slots.place(sequence, seq_id)
        if copies and cached.seq_id is not None:
            self._copy(sequence, cached, n_shared)

    def copy_when_ready(self, sequence: Sequence) -> None:
        """Copy the prefix that a sequence waits for, once the one that computes it has it."""
        if sequence.waits_for is None:
            return
        source, n_shared = sequence.waits_for
        if source.seq_id is not None and source.n_kv >= n_shared:
            self._copy(sequence, source, n_shared)
            sequence.waits_for = None
        elif source.seq_id is None:
            sequence.waits_for = None
            # One that waits itself may share more, and has nothing yet.
            ready = [each for each in self._slots.running if _has_own_kv(each)]
            left, n_shared, _ = self._best_match(sequence, ready)
            if isinstance(left, CachedSequence):
                if left.seq_id is not None and self._is_worth_a_copy(n_shared):
                    self._copy(sequence, left, n_shared)
            elif left is not None:
                sequence.waits_for = (left, n_shared)

    def _copy(self, sequence: Sequence, source: Item, n_shared: int) -> None:
        self._slots.copy(source, sequence)
        self._keep_prefix(sequence, n_shared)

    def _keep_prefix(self, sequence: Sequence, n_shared: int) -> None:
        """Cut a sequence's KV to the first ``n_shared`` tokens, which are its own."""
        is_kept = self._slots.truncate(sequence, n_shared)
        if sequence.n_new:
            return  # it has come back: what it found of its prompt is known
        if is_kept:
            sequence.n_cached = min(n_shared, sequence.n_prompt)
            sequence.cache_miss_reason = None
        else:
            sequence.cache_miss_reason = RECURRENT

    def share_prompt(self, source: Sequence, target: Sequence) -> None:
        """Give ``target``, which has the same prompt, all that ``source`` has computed."""
        self._slots.copy(source, target)
        target.n_kv = source.n_kv
        target.n_cached = source.n_prompt

    def replace(self, sequence: Sequence, source: Sequence) -> None:
        """Give a running sequence, whose tokens are those of another one now, the KV of that one
        instead of its own."""
        self._slots.copy(source, sequence)
        sequence.n_kv, sequence.waits_for = source.n_kv, None
        for other in self._slots.running:
            if other.waits_for is not None and other.waits_for[0] is sequence:
                n_shared = common_length(other.tokens[: other.waits_for[1]], sequence.tokens)
                other.waits_for = (sequence, n_shared)

    def truncate(self, sequence: Sequence, n_tokens: int) -> None:
        """Return the KV of a sequence's tokens after the first ``n_tokens``; of a recurrent model,
        all of it, to be computed again."""
        self._slots.truncate(sequence, n_tokens)

    def release(self, sequence: Sequence) -> None:
        """End a sequence: what it computed stays for others. One that does not run is left."""
        if sequence.seq_id is None:
            return
        if not sequence.n_kv or not (self._reuses or sequence.pins):
            self._slots.leave(sequence, None)
            return
        tokens = sequence.tokens[: sequence.n_kv].copy()
        cached = CachedSequence(tokens, None, next(self._times), sequence.pins)
        self._slots.leave(sequence, cached)
        sequence.cached = cached
        if self._shared is not None:
            self._shared.leave(sequence, cached)
            # A part of the prefix counts beside the prefix itself, for which there is always room.
            has_room = self._shared.n_taken(self._slots.items) <= self._backend.n_ctx_seq
            if not has_room and not cached.is_pinned:
                self._slots.drop(cached)

    def _vacate(self, seq_id: int, spare: CachedSequence | None = None) -> None:
        """Empty a free seq_id; what is pinned or more recent than something else moves there."""
        cached = self._slots.items[seq_id]
        if not isinstance(cached, CachedSequence):
            return
        target = slot_allocator.relocation_target(self._slots.items, seq_id, spare)
        if target is None:
            self._slots.drop(cached)
        else:
            self._slots.move(cached, target)

    def close_holes(self) -> bool:
        """Move running sequences until their seq_ids are consecutive; return whether one moved."""
        if self._slots.is_unified:
            return False  # with one KV stream for all it makes no difference
        moved = False
        while (found := slot_allocator.hole(self._slots.items)) is not None:
            sequence, target = found
            self._vacate(target)
            self._slots.move(sequence, target)
            moved = True
        return moved

    # --- sessions ---

    def save(self) -> list[Saved]:
        """Return what is cached, in the order of ``cached``."""
        self._flush_copies()
        return [Saved(cached.token_ids, self._slots.state_of(cached)) for cached in self.cached]

    def restore(self, saved: list[Saved]) -> int:
        """Cache what was saved, the least recently used first; return how many sequences.

        Where there is no room for all, those used least recently are dropped, and left out of
        ``saved``. Raises StateError if not even the last one fits, or the backend refuses one: then
        all is as before, except for what was dropped to make longer room.
        """
        if not saved:
            return 0
        self._flush_copies()
        lengths = [len(each.token_ids) for each in saved]
        n_slots, n_tokens, n_left_out = self._capacity.for_saved(lengths)
        saved = saved[n_left_out:]
        n_lost = self.n_running + len(self.cached) + len(saved) - n_slots
        lost = [cached for cached in self.cached if not cached.is_pinned][: max(0, n_lost)]
        states = [self._slots.state_of(cached) for cached in lost]
        for cached in lost:
            self._slots.drop(cached)
        as_it_is = (n_slots, n_tokens) == (self._backend.n_slots, self._backend.n_ctx_seq)
        if not as_it_is or self._shared is not None:
            self._remake(n_slots, n_tokens)
        restored = [CachedSequence(each.token_ids, None, next(self._times)) for each in saved]
        if not self._fill(restored, [each.state for each in saved]):
            n_free = self._backend.n_slots - self.n_running - len(self.cached)
            self._fill(lost[-n_free:], states[-n_free:])
            raise StateError("a saved sequence was refused: it is not this model's, or damaged")
        return len(saved)

    def _fill(self, restored: list[CachedSequence], states: list[State]) -> bool:
        """Cache each state under an empty seq_id; False, with none of them cached, if one is
        refused."""
        for cached, state in zip(restored, states, strict=True):
            if not self._slots.restore(cached, state):
                for placed in restored:
                    self._slots.drop(placed)
                return False
        return True

    def _flush_copies(self) -> None:
        self._backend.flush_copies()
        self.catch_up()


def _has_own_kv(sequence: Sequence) -> bool:
    """Whether a running sequence computes its prompt, or has begun to, instead of waiting."""
    return bool(sequence.n_kv) or (sequence.waits_for is None and sequence.prompt_of is None)
