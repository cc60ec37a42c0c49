"""What each slot of the KV cache holds: running rows, and what finished ones left for reuse.

A row that comes finds the slot whose tokens begin like its prompt: it goes on in that slot, or
copies it. What is needed least recently is forgotten first; a pinned entry never is.

Rows that begin alike and end soon share the cells of their beginning (one KV stream for all slots,
llama.cpp's ``kv_unified``); all others have a KV stream of their own, which does not make them look
at each other's cells. See ``cell_sharing``.

The slots of rows with streams are kept next to each other: with one KV stream a slot, llama.cpp
evaluates only *consecutive* slots in one graph, and a hole among them would cost a second pass over
the weights at every step. What stands in the way moves to another slot, or is forgotten.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice

import numpy as np

from localgen.engine.backend import Backend, Saved, State, TokenIds
from localgen.engine.cell_sharing import Plan, common_length, plan_sharing
from localgen.engine.sequence import Sequence
from localgen.errors import BackendError, StateError

_NO_TOKENS = np.empty(0, np.int32)
# A copy moves a whole slot, so fewer shared tokens than these are computed again instead.
_MIN_SHARED = 16
_SHARED_PART = 64
# Slots that there are at least, if they take no more than this part of the budget.
_SPARE_SLOTS = 4
_SPARE_PART = 4

_DETERMINISTIC = "deterministic=True: a prompt is always computed in the same passes"
_RECURRENT = "the model's state is recurrent: it can only go on from its end"


@dataclass(slots=True, eq=False)
class Entry:
    """What a finished row left in ``slot``: the KV of ``token_ids`` (n,); ``slot`` is None when it
    was lost."""

    token_ids: TokenIds
    slot: int | None
    last_used: int
    n_pins: int = 0


class KvCache:
    """The slots of one backend.

    max_slots: the most that may be made. reuses: whether prompts may begin with what is cached.
    """

    def __init__(self, backend: Backend, max_slots: int, *, reuses: bool = True) -> None:
        self._backend = backend
        self._max_slots = max_slots
        self._reuses = reuses
        self._rows: list[Sequence | None] = []
        self._entries: list[Entry | None] = []
        self._clock = 0
        self._epoch = backend.epoch
        self._changed = False
        # The beginning whose cells rows share, None with a stream a slot; and those that hold, or
        # will hold, these very cells.
        self._beginning: TokenIds | None = None
        self._sharing: set[Sequence | Entry] = set()

    # --- room ---

    @property
    def entries(self) -> list[Entry]:
        """What there is for reuse, least recently used first."""
        found = [entry for entry in self._entries if entry is not None]
        return sorted(found, key=lambda entry: entry.last_used)

    @property
    def n_running(self) -> int:
        return sum(row is not None for row in self._rows)

    @property
    def n_pinned(self) -> int:
        return sum(entry.n_pins > 0 for entry in self.entries)

    @property
    def _longest_pinned(self) -> int:
        return max((len(entry.token_ids) for entry in self.entries if entry.n_pins), default=0)

    def check_fits(self, n_tokens: int) -> None:
        """BackendError if a row of ``n_tokens`` could never run."""
        # All slots are of one size.
        n_fit = self._backend.n_slots_that_fit(max(n_tokens, self._longest_pinned))
        if min(n_fit, self._max_slots) < 1 + self.n_pinned:
            raise BackendError(
                f"a sequence of {n_tokens} tokens does not fit: the KV budget has room for {n_fit} "
                f"of that length, max_sequences is {self._max_slots}, and {self.n_pinned} are "
                f"pinned; use fewer tokens, a larger kv_budget or kv_type='q8_0', or release a "
                f"prefix"
            )

    def make_room(self, waiting: Iterable[Sequence]) -> None:
        """Make slots for the rows that wait, as far as the budget and the running rows allow."""
        waiting = list(islice(waiting, self._max_slots))
        if self._share_cells(waiting):
            return
        rows = [*waiting, *(row for row in self._rows if row is not None)]
        n_slots, n_tokens = self._backend.n_slots, self._backend.n_ctx_seq
        if self._beginning is not None:  # streams have to be made, long enough for what is cached
            n_slots, n_tokens = 0, max((len(e.token_ids) for e in self.entries), default=0)
        wanted = min(len(rows) + self.n_pinned, self._max_slots)
        lengths = {max(len(row.tokens), n_tokens) for row in rows}
        if wanted <= n_slots and lengths == {n_tokens}:
            return
        # The longest that leaves enough slots for those that run, and at least one for a new row:
        # the first of those that wait, which no other may overtake.
        needed = len(waiting[0].tokens)
        lengths = {length for length in lengths if length >= needed}
        if not self.n_running:
            lengths.add(max(needed, self._longest_pinned))
        for length in sorted(lengths, reverse=True):
            n_fit = self._backend.n_slots_that_fit(length)
            if n_fit > self.n_running + self.n_pinned:
                n_new = min(max(wanted, self._n_spare(n_fit)), n_fit)
                if length > n_tokens or n_new > n_slots:
                    self._remake(n_new, length)
                return

    def _share_cells(self, waiting: list[Sequence]) -> bool:
        """Whether rows share cells: chosen where none runs, and the KV cache then made so."""
        if self.n_running:
            return self._beginning is not None
        if not self._reuses or not self._backend.can_share_cells:
            return False
        plan = plan_sharing(waiting, self.entries, self._max_slots)
        if plan is None or not self._backend.cells_fit(plan.n_cells):
            return False
        has_room = self._backend.n_slots >= plan.n_slots
        has_cells = self._backend.n_ctx_seq >= plan.n_cells
        same = self._beginning is not None and np.array_equal(self._beginning, plan.beginning)
        if not (has_room and has_cells and same):
            self._remake(plan.n_slots, max(len(row.tokens) for row in waiting), plan)
        return True

    def _n_spare(self, n_fit: int) -> int:
        """Slots that are made even for fewer rows, so that what these leave is kept when others
        come: making slots anew takes longer than a short prompt."""
        return min(_SPARE_SLOTS, self._max_slots, n_fit // _SPARE_PART) if self._reuses else 1

    def _remake(self, n_slots: int, n_tokens: int, plan: Plan | None = None) -> None:
        """Make the slots anew: running rows first, then what is pinned, then what is recent; with a
        plan, for rows that share cells, and with what it keeps."""
        running = [row for row in self._rows if row is not None]
        idle = sorted(self.entries, key=lambda entry: (entry.n_pins > 0, entry.last_used))[::-1]
        kept: list[Sequence | Entry] = []
        kept += running
        if plan is None:
            kept += [entry for entry in idle if len(entry.token_ids) <= n_tokens]
        else:
            kept += plan.kept
        kept = kept[:n_slots]
        slots = [slot for item in kept if (slot := item.slot) is not None]
        entries = self.entries
        self._rows, self._entries = [], []
        self._beginning, self._sharing = None, set()
        n_cells = None
        if plan is not None:
            self._beginning, n_cells = plan.beginning, plan.n_cells
            self._sharing.update(plan.kept[:1] if plan.first_kept_shares else ())
        try:
            self._backend.reserve(n_slots, n_tokens, slots, n_cells=n_cells)
        except BaseException:
            kept = []
            raise
        finally:
            # Not for a moment is an entry that is kept without a slot: other threads may look.
            for entry in entries:
                if entry not in kept:
                    entry.slot = None
        self._rows = [None] * self._backend.n_slots
        self._entries = [None] * self._backend.n_slots
        for slot, item in enumerate(kept):
            item.slot = slot
            if isinstance(item, Entry):
                self._entries[slot] = item
            else:
                self._rows[slot] = item
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
        for entry in self.entries:
            entry.slot = None
        self._entries = [None] * len(self._entries)
        running = [row for row in self._rows if row is not None]
        for row in running:
            row.n_kv, row.n_cached, row.awaits = 0, 0, None
        if self._beginning is not None:
            # Again one computes the beginning, for all.
            self._sharing.intersection_update(running)
            sharing = [row for row in running if row in self._sharing]
            for row in sharing[1:]:
                row.awaits = (sharing[0], len(self._beginning))
        return True

    def forget(self) -> None:
        """Take it that every slot is empty."""
        for entry in self.entries:
            entry.slot = None
        self._epoch = self._backend.epoch
        self._entries = [None] * self._backend.n_slots
        self._rows = [None] * self._backend.n_slots
        self._sharing.clear()

    # --- rows come and go ---

    def admit(self, row: Sequence, *, reuse: bool = True) -> bool:
        """Give a waiting row a slot, with as much of its prompt as is there already or will soon
        be if ``reuse``; False if there is no slot for it now."""
        if len(row.tokens) > self._backend.n_ctx_seq:
            return False
        forks = row.fork_of is not None and is_computing_prompt(row.fork_of)
        match = (None, 0) if forks or not reuse else self._best_match(row)
        source, n_shared = match
        slot = self._free_slot(source, n_shared)
        if slot is None:
            return False
        if self._beginning is not None:
            if not self._take_cells(row, row.fork_of if forks else source):
                return False
            if isinstance(source, Entry) and source.slot is None:
                source, n_shared = None, 0  # there was no room for both
        self._clock += 1
        row.slot, row.n_kv = slot, 0
        row.kv_unified = self._beginning is not None
        if isinstance(source, Entry):
            source.last_used = self._clock
            self._take_over(row, source, n_shared)
        else:
            self._forget(slot)
            if source is not None:
                row.awaits = (source, n_shared)
        self._rows[slot] = row
        return True

    def copy_when_ready(self, row: Sequence) -> None:
        """Copy the beginning that a row awaits, if the row that computes it is that far."""
        if row.awaits is None:
            return
        source, n_shared = row.awaits
        if source.slot is not None and source.n_kv >= n_shared:
            self._copy(row, source.slot, n_shared)
            row.awaits = None
        elif source.slot is None:
            row.awaits = None
            left, n_shared = self._best_match(row)
            if isinstance(left, Entry):
                if left.slot is not None and n_shared >= self._worthwhile:
                    self._copy(row, left.slot, n_shared)
            elif left is not None and left.awaits is None and left.fork_of is None:
                row.awaits = (left, n_shared)  # which itself waits for nobody

    def fork(self, source: Sequence, target: Sequence) -> None:
        """Give ``target``, which has the same prompt, all that ``source`` has computed."""
        self._backend.kv_copy(slot_of(source), slot_of(target))
        target.n_kv = source.n_kv
        target.n_cached = source.n_prompt

    def release(self, row: Sequence) -> None:
        """A row is over: what it computed stays for others."""
        slot = slot_of(row)
        self._rows[slot] = None
        row.slot = None
        if not row.n_kv or not (self._reuses or row.pins):
            self._backend.kv_truncate(slot, 0)
            return
        self._clock += 1
        entry = Entry(row.tokens[: row.n_kv].copy(), slot, self._clock, int(row.pins))
        self._entries[slot] = entry
        row.kept = entry
        if row in self._sharing and row.n_kv >= len(self._shared_tokens):
            self._sharing.add(entry)
        self._sharing.discard(row)

    def unpin(self, entry: Entry) -> None:
        """Let an entry be forgotten again."""
        entry.n_pins = max(0, entry.n_pins - 1)

    def close_holes(self) -> bool:
        """Move running rows until their slots are consecutive; whether one was moved."""
        if self._beginning is not None:
            return False  # with one KV stream for all it makes no difference
        moved = False
        while (hole := self._hole()) is not None:
            source, target = hole
            self._forget(target)
            self._backend.kv_copy(source, target)
            self._backend.kv_truncate(source, 0)
            row = self._rows[source]
            assert row is not None
            row.slot = target
            self._rows[source], self._rows[target] = None, row
            moved = True
        return moved

    # --- shared cells ---

    @property
    def _shared_tokens(self) -> TokenIds:
        return _NO_TOKENS if self._beginning is None else self._beginning

    def _take_cells(self, row: Sequence, source: Sequence | Entry | None) -> bool:
        """Have the cells that a row may need, on top of what it shares with ``source``; False if
        they are not to be had now."""
        # Rows that ended early and entries that gave up their slot hold no cells any more.
        self._sharing = {item for item in self._sharing if item.slot is not None}
        begins_so = common_length(row.prompt_ids, self._shared_tokens) == len(self._shared_tokens)
        shares = begins_so and (source in self._sharing or not self._sharing)
        needed = len(row.tokens) - (len(self._shared_tokens) if shares else 0)
        if not self._free_cells(needed, source):
            if not isinstance(source, Entry) or source.n_pins:
                return False
            self._drop(source)
            return self._take_cells(row, None)
        if shares:
            self._sharing.add(row)
        return True

    def _free_cells(self, needed: int, source: Sequence | Entry | None) -> bool:
        """Forget what was used least recently until there are as many cells; False if that does not
        help."""
        idle = [entry for entry in self.entries if not entry.n_pins and entry is not source]
        n_free = self._backend.n_ctx_seq - self._n_cells_taken
        if n_free + sum(map(self._n_own_cells, idle)) < needed:
            return False
        for entry in idle:
            if n_free >= needed:
                break
            n_free += self._n_own_cells(entry)
            self._drop(entry)
        return True

    @property
    def _n_cells_taken(self) -> int:
        """At most: each row may come to its end, and the beginning is always kept room for."""
        items: list[Sequence | Entry] = [*self.entries]
        items += [row for row in self._rows if row is not None]
        return len(self._shared_tokens) + sum(map(self._n_own_cells, items))

    def _n_own_cells(self, item: Sequence | Entry) -> int:
        n_tokens = len(item.token_ids if isinstance(item, Entry) else item.tokens)
        return n_tokens - (len(self._shared_tokens) if item in self._sharing else 0)

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
        n_slots, n_tokens, n_left_out = self._room_for([len(each.token_ids) for each in saved])
        saved = saved[n_left_out:]
        n_lost = self.n_running + len(self.entries) + len(saved) - n_slots
        lost = [entry for entry in self.entries if not entry.n_pins][: max(0, n_lost)]
        states = [self._state(entry) for entry in lost]
        for entry in lost:
            self._drop(entry)
        as_it_is = (n_slots, n_tokens) == (self._backend.n_slots, self._backend.n_ctx_seq)
        if not as_it_is or self._beginning is not None:
            self._remake(n_slots, n_tokens)
        first = self._clock + 1
        self._clock += len(saved)
        entries = [Entry(each.token_ids, None, first + i) for i, each in enumerate(saved)]
        if not self._fill(entries, [each.state for each in saved]):
            n_free = self._backend.n_slots - self.n_running - len(self.entries)
            self._fill(lost[-n_free:], states[-n_free:])
            raise StateError("a saved sequence was refused: it is not this model's, or damaged")
        return len(saved)

    def _room_for(self, lengths: list[int]) -> tuple[int, int, int]:
        """How many slots, of how many tokens each, take sequences of these lengths, and how many
        of the first of them have to be left out."""
        n_kept = self.n_running + self.n_pinned
        n_now = self._backend.n_ctx_seq
        if self._beginning is not None:  # slots with streams are made, which need not be as long
            running = (len(row.tokens) for row in self._rows if row is not None)
            n_now = max(self._longest_pinned, *running, 0)
        for n_left_out in range(len(lengths)):
            n_tokens = max(n_now, *lengths[n_left_out:])
            n_fit = self._backend.n_slots_that_fit(n_tokens)
            n_needed = n_kept + len(lengths) - n_left_out
            if n_needed > min(n_fit, self._max_slots):
                continue
            if n_tokens == self._backend.n_ctx_seq:
                n_needed = max(n_needed, self._backend.n_slots)
            return max(n_needed, self._n_spare(n_fit)), n_tokens, n_left_out
        raise StateError(
            f"a saved sequence of {lengths[-1]} tokens does not fit beside {n_kept} that run or "
            f"are pinned: use a larger kv_budget or max_sequences"
        )

    def _fill(self, entries: list[Entry], states: list[State]) -> bool:
        """Give each entry an empty slot with its state; False, with none of them there, if one is
        refused."""
        for entry, state in zip(entries, states, strict=True):
            slot = self._empty_slot()
            if not self._backend.set_kv_state(slot, state, len(entry.token_ids)):
                for placed in entries:
                    self._drop(placed)
                return False
            entry.slot, self._entries[slot] = slot, entry
        return True

    def _settle(self) -> None:
        self._backend.settle()
        self._changed = self.notice_loss()

    def _empty_slot(self) -> int:
        taken = zip(self._rows, self._entries, strict=True)
        return next(
            slot for slot, (row, entry) in enumerate(taken) if row is None and entry is None
        )

    def _state(self, entry: Entry) -> State:
        assert entry.slot is not None
        return self._backend.kv_state(entry.slot)

    def _drop(self, entry: Entry) -> None:
        """Forget an entry, if it is there."""
        if entry.slot is not None:
            self._backend.kv_truncate(entry.slot, 0)
            self._entries[entry.slot] = None
            entry.slot = None
            self._sharing.discard(entry)

    # --- matching ---

    def _best_match(self, row: Sequence) -> tuple[Sequence | Entry | None, int]:
        """Who begins most like the row's prompt, and for how many tokens; at least the last token
        of a prompt is computed, for its logits."""
        if not self._reuses:
            row.not_reused = _DETERMINISTIC
            return None, 0
        prompt = row.prompt_ids[:-1]
        best: tuple[Sequence | Entry | None, int] = (None, 0)
        for item in (*self.entries, *self._rows):
            if item is None or item is row:
                continue
            is_entry = isinstance(item, Entry)
            tokens = item.token_ids if is_entry else item.prompt_ids  # type: ignore[union-attr]
            n_shared = common_length(prompt, tokens)
            if not self._backend.can_truncate and not (is_entry and n_shared == len(tokens)):
                if n_shared >= _MIN_SHARED:
                    row.not_reused = _RECURRENT
                continue
            # Of equals an entry wins over a running row: it is there.
            if n_shared > best[1] and (n_shared >= self._worthwhile or is_entry):
                best = (item, n_shared)
        return best

    @property
    def _worthwhile(self) -> int:
        if self._beginning is not None:
            return _MIN_SHARED  # a copy moves nothing
        return max(_MIN_SHARED, self._backend.n_ctx_seq // _SHARED_PART)

    def _free_slot(self, source: Sequence | Entry | None, n_shared: int) -> int | None:
        """The slot where a new row goes: next to the running ones."""
        places = self._places()
        if not places:
            return None
        if isinstance(source, Entry) and source.slot in places and _is_used_up(source, n_shared):
            return source.slot
        keep = source if isinstance(source, Entry) and n_shared >= self._worthwhile else None
        slot = min(places, key=lambda slot: self._cost(slot, keep))
        if self._is_kept(slot, None) and self._cheapest_slot(slot, keep) is None:
            # What is pinned there has nowhere else to go but where the source is.
            return min(places, key=lambda slot: self._cost(slot, None))
        return slot

    def _places(self) -> list[int]:
        """Free slots that leave the running rows without a hole."""
        running = [slot for slot, row in enumerate(self._rows) if row is not None]
        if len(running) + self.n_pinned >= len(self._rows):
            return []
        free = [slot for slot, row in enumerate(self._rows) if row is None]
        if not running:
            return free
        low, high = running[0], running[-1]
        inside = [slot for slot in free if low < slot < high]
        return inside or [slot for slot in free if slot in (low - 1, high + 1)]

    def _cost(self, slot: int, keep: Entry | None) -> tuple[bool, bool, int]:
        """How little one wants to lose what is in a free slot."""
        entry = self._entries[slot]
        if entry is None:
            return (False, False, -1)
        return (entry is keep, entry.n_pins > 0, entry.last_used)

    def _take_over(self, row: Sequence, source: Entry, n_shared: int) -> None:
        """Fill the row's slot from an entry: in place, by a copy, or not at all."""
        slot = slot_of(row)
        if source.slot == slot and not source.n_pins:
            self._entries[slot] = None
            source.slot = None
            self._keep_beginning(row, n_shared)
        elif source.slot == slot or n_shared < self._worthwhile:
            self._forget(slot)
            moved = source.slot
            if moved is not None and n_shared >= self._worthwhile:
                self._copy(row, moved, n_shared)
        else:
            self._forget(slot, spare=source)
            if source.slot is not None:
                self._copy(row, source.slot, n_shared)

    def _copy(self, row: Sequence, slot: int, n_shared: int) -> None:
        self._backend.kv_copy(slot, slot_of(row))
        self._keep_beginning(row, n_shared)

    def _keep_beginning(self, row: Sequence, n_shared: int) -> None:
        """The row's slot holds tokens of which the first ``n_shared`` are the row's."""
        if self._backend.kv_truncate(slot_of(row), n_shared):
            row.n_kv = row.n_cached = n_shared
            row.not_reused = None
        else:
            self._backend.kv_truncate(slot_of(row), 0)
            row.n_kv, row.not_reused = 0, _RECURRENT

    def _forget(self, slot: int, spare: Entry | None = None) -> None:
        """Empty a free slot; what is pinned or more recent than another entry moves there."""
        entry = self._entries[slot]
        self._entries[slot] = None
        if entry is None:
            return
        target = self._cheapest_slot(slot, spare)
        if target is None and entry.n_pins:
            target = self._cheapest_slot(slot, None)
        there = None if target is None else self._entries[target]
        if there is not None and not entry.n_pins and there.last_used > entry.last_used:
            target = None
        if target is not None:
            if there is not None:
                there.slot = None
            self._backend.kv_copy(slot, target)
            self._entries[target] = entry
        entry.slot = target
        self._backend.kv_truncate(slot, 0)

    def _cheapest_slot(self, besides: int, spare: Entry | None) -> int | None:
        slots = [
            slot
            for slot, row in enumerate(self._rows)
            if row is None and slot != besides and not self._is_kept(slot, spare)
        ]
        return min(slots, key=lambda slot: self._cost(slot, None)) if slots else None

    def _is_kept(self, slot: int, spare: Entry | None) -> bool:
        entry = self._entries[slot]
        return entry is not None and (entry.n_pins > 0 or entry is spare)

    def _hole(self) -> tuple[int, int] | None:
        """The running row in the highest slot, and the lowest free slot between running ones."""
        running = [slot for slot, row in enumerate(self._rows) if row is not None]
        if not running or running[-1] - running[0] == len(running) - 1:
            return None
        if len(running) + self.n_pinned == len(self._rows):
            return None  # what is pinned in the hole has nowhere else to go
        return running[-1], next(
            slot for slot in range(running[0], running[-1]) if self._rows[slot] is None
        )


def _is_used_up(entry: Entry, n_shared: int) -> bool:
    """Whether a row may go on in the entry's own slot: little is lost of it."""
    return not entry.n_pins and 2 * n_shared >= len(entry.token_ids)


def is_computing_prompt(row: Sequence) -> bool:
    """Whether the row runs, and has not given a token yet."""
    return row.slot is not None and not row.n_new


def slot_of(row: Sequence) -> int:
    assert row.slot is not None
    return row.slot
