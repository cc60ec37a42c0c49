"""The KV cache: which slot a row gets, what it goes on from there, and what it leaves for others.

A row that comes finds the slot whose tokens begin like its prompt: it goes on in that slot, or
copies it (``matching``). What is needed least recently is forgotten first; a pinned entry never is.

Rows that begin alike and end soon share the cells of their beginning (one KV stream for all slots,
llama.cpp's ``kv_unified``); all others have a KV stream of their own, which does not make them look
at each other's cells. See ``cell_sharing``. The slots of rows with streams are kept next to each
other: see ``placement``.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import count, islice

import numpy as np

from localgen.engine.backend import Backend, Saved, State
from localgen.engine.capacity import Capacity
from localgen.engine.prefix_matcher import NO_MATCH, Match, PrefixMatcher
from localgen.engine.sequence import Sequence, is_computing_prompt, slot_of
from localgen.engine.slot_allocator import SlotAllocator
from localgen.engine.slots import CachedSequence, Slots
from localgen.engine.unified_kv import Plan, SharedCells, plan_sharing
from localgen.errors import StateError

_DETERMINISTIC = "deterministic=True: a prompt is always computed in the same passes"


class KvCache:
    """The slots of one backend.

    max_slots: the most that may be made. reuses: whether prompts may begin with what is cached.
    """

    def __init__(self, backend: Backend, max_slots: int, *, reuses: bool = True) -> None:
        self._backend = backend
        self._max_slots = max_slots
        self._reuses = reuses
        self._slots = Slots(backend)
        self._placement = SlotAllocator(backend, self._slots)
        self._matching = PrefixMatcher(backend, self._slots, self._placement)
        self._sizing = Capacity(backend, self._slots, max_slots, reuses=reuses)
        # None with a stream a slot.
        self._shared: SharedCells | None = None
        self._times = count(1)
        self._epoch = backend.epoch
        self._changed = False

    @property
    def entries(self) -> list[CachedSequence]:
        """What there is for reuse, least recently used first."""
        return self._slots.kept

    @property
    def n_running(self) -> int:
        return self._slots.n_running

    @property
    def n_pinned(self) -> int:
        return self._slots.n_pinned

    # --- room ---

    def check_fits(self, n_tokens: int) -> None:
        """KvBudgetError if a row of ``n_tokens`` could never run."""
        self._sizing.check_fits(n_tokens)

    def make_room(self, waiting: Iterable[Sequence]) -> None:
        """Make slots for the rows that wait, as far as the budget and the running rows allow."""
        waiting = list(islice(waiting, self._max_slots))
        if self._share_cells(waiting):
            return
        size = self._sizing.for_rows(waiting)
        if size is not None:
            self._remake(*size)

    def _share_cells(self, waiting: list[Sequence]) -> bool:
        """Whether rows share cells: chosen where none runs, and the KV cache then made so."""
        if self.n_running:
            return self._shared is not None
        if not self._reuses or not self._backend.can_share_cells:
            return False
        plan = plan_sharing(waiting, self.entries, self._max_slots)
        if plan is None or not self._backend.cells_fit(plan.n_cells):
            return False
        has_room = self._backend.n_slots >= plan.n_slots
        has_cells = self._backend.n_ctx_seq >= plan.n_cells
        shared = self._shared
        same = shared is not None and np.array_equal(shared.beginning, plan.beginning)
        if not (has_room and has_cells and same):
            self._remake(plan.n_slots, max(len(row.tokens) for row in waiting), plan)
        return True

    def _remake(self, n_slots: int, n_tokens: int, plan: Plan | None = None) -> None:
        """Make the slots anew: running rows first, then what is pinned, then what is recent; with a
        plan, for rows that share cells, and with what it keeps."""
        kept: list[Sequence | CachedSequence] = [*self._slots.running]
        if plan is None:
            idle = sorted(self.entries, key=lambda entry: (entry.is_pinned, entry.last_used))
            kept += [entry for entry in idle[::-1] if len(entry.token_ids) <= n_tokens]
        else:
            kept += plan.kept
        self._shared = None if plan is None else SharedCells(self._backend, self._slots, plan)
        self._slots.remake(kept, n_slots, n_tokens, None if plan is None else plan.n_cells)
        self.notice_loss()
        self._changed = True

    def notice_loss(self) -> bool:
        """Forget all if the backend did: running rows then have nothing in the KV cache.

        Whether it did, or rows were given other slots, since this was last asked.
        """
        changed, self._changed = self._changed, False
        if self._epoch == self._backend.epoch:
            return changed
        self._epoch = self._backend.epoch
        self._slots.forget_entries()
        for row in self._slots.running:
            row.n_kv, row.n_cached, row.awaits = 0, 0, None
        if self._shared is not None:
            self._shared.notice_loss()
        return True

    def forget(self) -> None:
        """Take it that every slot is empty."""
        self._epoch = self._backend.epoch
        self._slots.forget()
        if self._shared is not None:
            self._shared.forget()

    # --- rows come and go ---

    def admit(self, row: Sequence, *, reuse: bool = True) -> bool:
        """Give a waiting row a slot, with as much of its prompt as is there already or will soon
        be if ``reuse``; False if there is no slot for it now."""
        if len(row.tokens) > self._backend.n_ctx_seq:
            return False
        forks = row.fork_of is not None and is_computing_prompt(row.fork_of)
        source, n_shared = NO_MATCH if forks or not reuse else self._best_match(row)
        entry = source if isinstance(source, CachedSequence) else None
        copies = self._matching.is_worth_a_copy(n_shared)
        slot = self._placement.slot_beside(entry, n_shared, copies=copies)
        if slot is None:
            return False
        if self._shared is not None:
            if not self._shared.take(row, row.fork_of if forks else source):
                return False
            if entry is not None and entry.slot is None:
                source, entry = None, None  # there was no room for both
        row.slot, row.n_kv = slot, 0
        row.kv_unified = self._shared is not None
        if entry is not None:
            entry.last_used = next(self._times)
            self._matching.take_over(row, entry, n_shared)
        else:
            self._placement.empty(slot)
            if isinstance(source, Sequence):
                row.awaits = (source, n_shared)
        self._slots.rows[slot] = row
        return True

    def _best_match(self, row: Sequence) -> Match:
        if not self._reuses:
            row.not_reused = _DETERMINISTIC
            return NO_MATCH
        return self._matching.best_match(row)

    def copy_when_ready(self, row: Sequence) -> None:
        """Copy the beginning that a row awaits, if the row that computes it is that far."""
        self._matching.copy_when_ready(row)

    def fork(self, source: Sequence, target: Sequence) -> None:
        """Give ``target``, which has the same prompt, all that ``source`` has computed."""
        self._backend.kv_copy(slot_of(source), slot_of(target))
        target.n_kv = source.n_kv
        target.n_cached = source.n_prompt

    def release(self, row: Sequence) -> None:
        """A row is over: what it computed stays for others."""
        slot = slot_of(row)
        self._slots.rows[slot] = None
        row.slot = None
        if not row.n_kv or not (self._reuses or row.pins):
            self._backend.kv_truncate(slot, 0)
            return
        tokens = row.tokens[: row.n_kv].copy()
        entry = CachedSequence(tokens, slot, next(self._times), row.pins)
        self._slots.entries[slot] = entry
        row.kept = entry
        if self._shared is not None:
            self._shared.leave(row, entry)

    def unpin(self, entry: CachedSequence) -> None:
        """Let an entry be forgotten again; for any thread, at any time."""
        entry.is_pinned = False

    def close_holes(self) -> bool:
        """Move running rows until their slots are consecutive; whether one was moved."""
        return self._placement.close_holes()

    # --- sessions ---

    def save(self) -> list[Saved]:
        """What ``entries`` hold, in their order."""
        self._settle()
        return [Saved(entry.token_ids, self._state(entry)) for entry in self.entries]

    def restore(self, saved: list[Saved]) -> int:
        """Make entries of what was saved, the least recently used first; returns how many.

        Where there is no room for all, those used least recently are forgotten, and left out of
        ``saved``. Raises StateError if not even the last one fits, or the backend refuses one: then
        all is as before, but for entries whose slots had to go to longer ones.
        """
        if not saved:
            return 0
        self._settle()
        n_slots, n_tokens, n_left_out = self._sizing.for_saved([len(s.token_ids) for s in saved])
        saved = saved[n_left_out:]
        n_lost = self.n_running + len(self.entries) + len(saved) - n_slots
        lost = [entry for entry in self.entries if not entry.is_pinned][: max(0, n_lost)]
        states = [self._state(entry) for entry in lost]
        for entry in lost:
            self._slots.drop(entry)
        as_it_is = (n_slots, n_tokens) == (self._backend.n_slots, self._backend.n_ctx_seq)
        if not as_it_is or self._shared is not None:
            self._remake(n_slots, n_tokens)
        entries = [CachedSequence(each.token_ids, None, next(self._times)) for each in saved]
        if not self._fill(entries, [each.state for each in saved]):
            n_free = self._backend.n_slots - self.n_running - len(self.entries)
            self._fill(lost[-n_free:], states[-n_free:])
            raise StateError("a saved sequence was refused: it is not this model's, or damaged")
        return len(saved)

    def _fill(self, entries: list[CachedSequence], states: list[State]) -> bool:
        """Give each entry an empty slot with its state; False, with none of them there, if one is
        refused."""
        for entry, state in zip(entries, states, strict=True):
            slot = self._slots.first_empty()
            if not self._backend.set_kv_state(slot, state, len(entry.token_ids)):
                for placed in entries:
                    self._slots.drop(placed)
                return False
            entry.slot, self._slots.entries[slot] = slot, entry
        return True

    def _settle(self) -> None:
        self._backend.settle()
        self._changed = self.notice_loss()

    def _state(self, entry: CachedSequence) -> State:
        assert entry.slot is not None
        return self._backend.kv_state(entry.slot)
