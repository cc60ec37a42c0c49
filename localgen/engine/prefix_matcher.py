"""What a row's prompt goes on from, and how that comes into the row's slot: in place, or copied."""

from __future__ import annotations

from localgen.engine.backend import Backend
from localgen.engine.sequence import Sequence, slot_of
from localgen.engine.slot_allocator import SlotAllocator
from localgen.engine.slots import CachedSequence, Slots
from localgen.engine.unified_kv import common_length

# Who begins like a prompt, and for how many tokens.
Match = tuple[Sequence | CachedSequence | None, int]
NO_MATCH: Match = (None, 0)

# A copy moves a whole slot, so fewer shared tokens than these are computed again instead.
_MIN_SHARED = 16
_SHARED_PART = 64
_RECURRENT = "the model's state is recurrent: it can only go on from its end"


class PrefixMatcher:
    """Finds what is in ``slots`` already, and brings it where it is needed."""

    def __init__(self, backend: Backend, slots: Slots, placement: SlotAllocator) -> None:
        self._backend = backend
        self._slots = slots
        self._placement = placement

    def best_match(self, row: Sequence) -> Match:
        """Who begins most like the row's prompt; at least the last token of a prompt is computed,
        for its logits."""
        prompt = row.prompt_ids[:-1]
        best = NO_MATCH
        items: list[Sequence | CachedSequence] = [*self._slots.kept, *self._slots.running]
        for item in items:
            if item is row:
                continue
            is_entry = isinstance(item, CachedSequence)
            tokens = item.token_ids if isinstance(item, CachedSequence) else item.prompt_ids
            n_shared = common_length(prompt, tokens)
            if not self._backend.can_truncate and not (is_entry and n_shared == len(tokens)):
                if n_shared >= _MIN_SHARED:
                    row.not_reused = _RECURRENT
                continue
            # Of equals an entry wins over a running row: it is there.
            if n_shared > best[1] and (is_entry or self.is_worth_a_copy(n_shared)):
                best = (item, n_shared)
        return best

    def is_worth_a_copy(self, n_shared: int) -> bool:
        if self._slots.shares_cells:
            return n_shared >= _MIN_SHARED  # a copy moves nothing
        return n_shared >= max(_MIN_SHARED, self._backend.n_ctx_seq // _SHARED_PART)

    def take_over(self, row: Sequence, source: CachedSequence, n_shared: int) -> None:
        """Fill the row's slot from an entry: in place, by a copy, or not at all."""
        slot = slot_of(row)
        if source.slot == slot and not source.is_pinned:
            self._slots.entries[slot] = None
            source.slot = None
            self._keep_beginning(row, n_shared)
            return
        copies = self.is_worth_a_copy(n_shared)
        # An entry in the row's own slot moves away, and its copy comes back from there.
        self._placement.empty(slot, spare=source if copies and source.slot != slot else None)
        if copies and source.slot is not None:
            self._copy(row, source.slot, n_shared)

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
            left, n_shared = self.best_match(row)
            if isinstance(left, CachedSequence):
                if left.slot is not None and self.is_worth_a_copy(n_shared):
                    self._copy(row, left.slot, n_shared)
            elif left is not None and left.awaits is None and left.fork_of is None:
                row.awaits = (left, n_shared)  # which itself waits for nobody

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
