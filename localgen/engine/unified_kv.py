"""When rows share the cells of their beginning, how many cells they need then, and who has them.

With a KV stream of its own a row looks at as many cells as the longest row has tokens. With one
stream for all it looks at the cells of all rows, but a beginning that they share is there once,
and attention goes over it for all rows in one matrix product, which takes less time a row. So
sharing is the faster one where the beginning is long, the ends are short and the rows are many.
"""

from __future__ import annotations

from collections.abc import Sequence as Rows
from dataclasses import dataclass

import numpy as np

from localgen.engine.backend import Backend, TokenIds
from localgen.engine.sequence import Sequence
from localgen.engine.slots import CachedSequence, Slots

_MIN_BEGINNING = 32
# Sharing is chosen if all cells are at most this many times those of the longest row, and at most
# half as many times as there are rows: benchmarks/layouts.py measures both sides.
_MOST_CELLS = 6
_CELLS = 256


@dataclass(frozen=True, slots=True)
class Plan:
    """The beginning (n,) that rows share, the cells and slots for all, and the entries to keep, the
    one that rows can go on from first; ``first_kept_shares``: it holds all of the beginning."""

    beginning: TokenIds
    n_cells: int
    n_slots: int
    kept: list[CachedSequence]
    first_kept_shares: bool


def plan_sharing(
    waiting: Rows[Sequence], entries: Rows[CachedSequence], max_slots: int
) -> Plan | None:
    """How these rows would share cells, beside the pinned ones of ``entries``; None if each of them
    is better off with a KV stream of its own."""
    beginning = _common_beginning(waiting)
    if len(beginning) < _MIN_BEGINNING:
        return None
    matching = max(
        entries, key=lambda entry: common_length(entry.token_ids, beginning), default=None
    )
    if matching is not None and common_length(matching.token_ids, beginning) < _MIN_BEGINNING:
        matching = None
    kept = [] if matching is None else [matching]
    kept += [entry for entry in entries if entry.is_pinned and entry is not matching]
    shares = matching is not None and common_length(matching.token_ids, beginning) == len(beginning)
    lengths = [len(row.tokens) for row in waiting]
    n_cells = len(beginning) + sum(lengths) - len(lengths) * len(beginning)
    most = min(_MOST_CELLS, len(lengths) / 2) * max(lengths)
    if n_cells > most:
        return None
    n_cells += sum(len(entry.token_ids) for entry in kept)
    if shares:
        n_cells -= len(beginning)
    n_slots = min(len(lengths) + len(kept), max_slots)
    return Plan(beginning, -(-n_cells // _CELLS) * _CELLS, n_slots, kept, shares)


class SharedCells:
    """The cells of one KV stream, of which all slots take theirs.

    beginning: the tokens (n,) whose cells are there once. They are counted by what each row may
    come to need, so that llama.cpp never runs out of them.
    """

    def __init__(self, backend: Backend, slots: Slots, plan: Plan) -> None:
        self._backend = backend
        self._slots = slots
        self.beginning = plan.beginning
        # Those that hold, or will hold, the very cells of the beginning.
        self._holders: set[Sequence | CachedSequence] = set()
        self._holders.update(plan.kept[:1] if plan.first_kept_shares else ())

    @property
    def n_taken(self) -> int:
        """At most: each row may come to its end, and the beginning is always kept room for."""
        items: list[Sequence | CachedSequence] = [*self._slots.kept, *self._slots.running]
        return len(self.beginning) + sum(map(self._n_own, items))

    def take(self, row: Sequence, source: Sequence | CachedSequence | None) -> bool:
        """Have the cells that a row may need, on top of what it shares with ``source``; False if
        they are not to be had now. Where there is no room beside ``source``, that is forgotten."""
        # Rows that ended early and entries that gave up their slot hold no cells any more.
        self._holders = {item for item in self._holders if item.slot is not None}
        begins_so = common_length(row.prompt_ids, self.beginning) == len(self.beginning)
        shares = begins_so and (source in self._holders or not self._holders)
        needed = len(row.tokens) - (len(self.beginning) if shares else 0)
        if not self._free(needed, source):
            if not isinstance(source, CachedSequence) or source.is_pinned:
                return False
            self._slots.drop(source)
            return self.take(row, None)
        if shares:
            self._holders.add(row)
        return True

    def leave(self, row: Sequence, entry: CachedSequence) -> None:
        """A row is over and left ``entry``, which holds the beginning if the row came so far."""
        if row in self._holders and row.n_kv >= len(self.beginning):
            self._holders.add(entry)
        self._holders.discard(row)

    def notice_loss(self) -> None:
        """All cells are empty: one row computes the beginning again, for all that share it."""
        running = self._slots.running
        self._holders.intersection_update(running)
        sharing = [row for row in running if row in self._holders]
        for row in sharing[1:]:
            row.awaits = (sharing[0], len(self.beginning))

    def forget(self) -> None:
        """Take it that no slot holds anything."""
        self._holders.clear()

    def _free(self, needed: int, source: Sequence | CachedSequence | None) -> bool:
        """Forget what was used least recently until there are as many cells; False if that does not
        help."""
        idle = [entry for entry in self._slots.kept if not entry.is_pinned and entry is not source]
        n_free = self._backend.n_ctx_seq - self.n_taken
        if n_free + sum(map(self._n_own, idle)) < needed:
            return False
        for entry in idle:
            if n_free >= needed:
                break
            n_free += self._n_own(entry)
            self._slots.drop(entry)
        return True

    def _n_own(self, item: Sequence | CachedSequence) -> int:
        n_tokens = len(item.token_ids if isinstance(item, CachedSequence) else item.tokens)
        return n_tokens - (len(self.beginning) if item in self._holders else 0)


def _common_beginning(rows: Rows[Sequence]) -> TokenIds:
    first = rows[0].prompt_ids
    n_common = min(common_length(first, row.prompt_ids) for row in rows)
    return first[:n_common]


def common_length(a: TokenIds, b: TokenIds) -> int:
    """How many tokens ``a`` and ``b`` begin with in common."""
    n = min(len(a), len(b))
    if not n or a[0] != b[0]:
        return 0
    differing = np.flatnonzero(a[:n] != b[:n])
    return int(differing[0]) if len(differing) else n
