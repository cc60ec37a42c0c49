"""Which slot a new row gets, and what moves or is forgotten for it.

The running rows' slots are kept next to each other: with one KV stream a slot, llama.cpp evaluates
only *consecutive* slots in one graph, and a hole among them would cost a second pass over the
weights at every step. What stands in the way moves to another slot, or is forgotten: what was
needed least recently first, and what is pinned never.
"""

from __future__ import annotations

from localgen.engine.backend import Backend
from localgen.engine.slots import CachedSequence, Slots


class SlotAllocator:
    """Chooses among ``slots``, and moves what is in them."""

    def __init__(self, backend: Backend, slots: Slots) -> None:
        self._backend = backend
        self._slots = slots

    # --- a slot for a row ---

    def slot_beside(
        self, source: CachedSequence | None, n_shared: int, *, copies: bool
    ) -> int | None:
        """The free slot where a new row goes, next to the running ones; None if there is none.

        source: the entry whose first ``n_shared`` tokens the row begins with. copies: whether it is
        worth a copy, and so to be left where it is.
        """
        places = self._places()
        if not places:
            return None
        if source is not None and source.slot in places and _is_used_up(source, n_shared):
            return source.slot
        keep = source if copies else None
        slot = min(places, key=lambda slot: self._cost(slot, keep))
        if self._is_kept(slot, None) and self._cheapest_slot(slot, keep) is None:
            # What is pinned there has nowhere else to go but where the source is.
            return min(places, key=lambda slot: self._cost(slot, None))
        return slot

    def _places(self) -> list[int]:
        """Free slots that leave the running rows without a hole."""
        rows = self._slots.rows
        running = [slot for slot, row in enumerate(rows) if row is not None]
        if len(running) + self._slots.n_pinned >= len(rows):
            return []
        free = [slot for slot, row in enumerate(rows) if row is None]
        if not running:
            return free
        low, high = running[0], running[-1]
        inside = [slot for slot in free if low < slot < high]
        return inside or [slot for slot in free if slot in (low - 1, high + 1)]

    def _cost(self, slot: int, keep: CachedSequence | None) -> tuple[bool, bool, int]:
        """How little one wants to lose what is in a free slot."""
        entry = self._slots.entries[slot]
        if entry is None:
            return (False, False, -1)
        return (entry is keep, entry.is_pinned, entry.last_used)

    def _is_kept(self, slot: int, spare: CachedSequence | None) -> bool:
        entry = self._slots.entries[slot]
        return entry is not None and (entry.is_pinned or entry is spare)

    # --- what was there ---

    def empty(self, slot: int, spare: CachedSequence | None = None) -> None:
        """Empty a free slot; what is pinned or more recent than another entry moves there."""
        entries = self._slots.entries
        entry = entries[slot]
        entries[slot] = None
        if entry is None:
            return
        target = self._cheapest_slot(slot, spare)
        if target is None and entry.is_pinned:
            target = self._cheapest_slot(slot, None)
        there = None if target is None else entries[target]
        if there is not None and not entry.is_pinned and there.last_used > entry.last_used:
            target = None
        if target is not None:
            if there is not None:
                there.slot = None
            self._backend.kv_copy(slot, target)
            entries[target] = entry
        entry.slot = target
        self._backend.kv_truncate(slot, 0)

    def _cheapest_slot(self, besides: int, spare: CachedSequence | None) -> int | None:
        slots = [
            slot
            for slot, row in enumerate(self._slots.rows)
            if row is None and slot != besides and not self._is_kept(slot, spare)
        ]
        return min(slots, key=lambda slot: self._cost(slot, None)) if slots else None

    # --- holes ---

    def close_holes(self) -> bool:
        """Move running rows until their slots are consecutive; whether one was moved."""
        if self._slots.shares_cells:
            return False  # with one KV stream for all it makes no difference
        rows = self._slots.rows
        moved = False
        while (hole := self._hole()) is not None:
            source, target = hole
            self.empty(target)
            self._backend.kv_copy(source, target)
            self._backend.kv_truncate(source, 0)
            row = rows[source]
            assert row is not None
            row.slot = target
            rows[source], rows[target] = None, row
            moved = True
        return moved

    def _hole(self) -> tuple[int, int] | None:
        """The running row in the highest slot, and the lowest free slot between running ones."""
        rows = self._slots.rows
        running = [slot for slot, row in enumerate(rows) if row is not None]
        if not running or running[-1] - running[0] == len(running) - 1:
            return None
        if len(running) + self._slots.n_pinned == len(rows):
            return None  # what is pinned in the hole has nowhere else to go
        return running[-1], next(
            slot for slot in range(running[0], running[-1]) if rows[slot] is None
        )


def _is_used_up(entry: CachedSequence, n_shared: int) -> bool:
    """Whether a row may go on in the entry's own slot: little is lost of it."""
    return not entry.is_pinned and 2 * n_shared >= len(entry.token_ids)
