"""What is in each slot of the KV cache: a running row, what a finished one left, or nothing."""

from __future__ import annotations

from dataclasses import dataclass

from localgen.engine.backend import Backend, TokenIds
from localgen.engine.sequence import Sequence


@dataclass(slots=True, eq=False)
class CachedSequence:
    """What a finished row left in ``slot``: the KV of ``token_ids`` (n,); ``slot`` is None when it
    was lost."""

    token_ids: TokenIds
    slot: int | None
    last_used: int
    is_pinned: bool = False


class Slots:
    """``rows`` and ``entries`` of one backend, by slot: a slot has one of them at most, and what is
    in one names that slot.

    shares_cells: whether there is one KV stream for all slots, or one for each.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.rows: list[Sequence | None] = []
        self.entries: list[CachedSequence | None] = []
        self.shares_cells = False

    @property
    def kept(self) -> list[CachedSequence]:
        """The entries, least recently used first."""
        found = [entry for entry in self.entries if entry is not None]
        return sorted(found, key=lambda entry: entry.last_used)

    @property
    def running(self) -> list[Sequence]:
        """The rows, in slot order."""
        return [row for row in self.rows if row is not None]

    @property
    def n_running(self) -> int:
        return sum(row is not None for row in self.rows)

    @property
    def n_pinned(self) -> int:
        return sum(entry.is_pinned for entry in self.kept)

    @property
    def longest_pinned(self) -> int:
        """The tokens of the longest pinned entry."""
        return max((len(entry.token_ids) for entry in self.kept if entry.is_pinned), default=0)

    def first_empty(self) -> int:
        taken = zip(self.rows, self.entries, strict=True)
        return next(
            slot for slot, (row, entry) in enumerate(taken) if row is None and entry is None
        )

    def drop(self, entry: CachedSequence) -> None:
        """Forget an entry, if it is there."""
        if entry.slot is not None:
            self._backend.kv_truncate(entry.slot, 0)
            self.entries[entry.slot] = None
            entry.slot = None

    def remake(
        self,
        kept: list[Sequence | CachedSequence],
        n_slots: int,
        n_tokens: int,
        n_cells: int | None,
    ) -> None:
        """Make the slots anew (see ``Backend.reserve``), with ``kept`` in the first of them as far
        as there are as many; what else there was is forgotten."""
        kept = kept[:n_slots]
        slots = [slot for item in kept if (slot := item.slot) is not None]
        entries = self.kept
        self.rows, self.entries = [], []
        self.shares_cells = n_cells is not None
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
        self.rows = [None] * self._backend.n_slots
        self.entries = [None] * self._backend.n_slots
        for slot, item in enumerate(kept):
            item.slot = slot
            if isinstance(item, CachedSequence):
                self.entries[slot] = item
            else:
                self.rows[slot] = item

    def forget_entries(self) -> None:
        """Take it that nothing of what was left is there any more."""
        for entry in self.kept:
            entry.slot = None
        self.entries = [None] * len(self.entries)

    def forget(self) -> None:
        """Take it that every slot is empty."""
        self.forget_entries()
        self.entries = [None] * self._backend.n_slots
        self.rows = [None] * self._backend.n_slots
