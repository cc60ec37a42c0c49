"""Decide how many sequences the KV cache is made for, and of how many tokens each."""

from __future__ import annotations

from localgen.engine.backend import Backend
from localgen.engine.sequence import Sequence
from localgen.engine.slots import Slots
from localgen.errors import KvBudgetError, StateError

# The KV cache is made for this many sequences at least, if they take no more than this part of the
# budget.
_SPARE_SLOTS = 4
_SPARE_PART = 4


def check_fits(
    backend: Backend,
    n_tokens: int,
    max_slots: int,
    *,
    n_together: int = 1,
    n_cells: int | None = None,
    n_pinned: int = 0,
    longest_pinned: int = 0,
) -> None:
    """Raise KvBudgetError if ``n_together`` sequences of ``n_tokens`` could never run beside the
    pinned ones.

    n_cells: how many cells are enough for all of these if they share them; None if they do not.
    """
    shares = n_cells is not None and backend.can_share_cells and backend.cells_fit(n_cells)
    if shares and n_together + n_pinned <= max_slots:
        return
    n_fit = backend.n_slots_that_fit(max(n_tokens, longest_pinned))
    if min(n_fit, max_slots) < n_together + n_pinned:
        what = f"a sequence of {n_tokens} tokens does"
        if n_together > 1:
            what = f"{n_together} sequences of {n_tokens} tokens that run together do"
        advice = "use fewer tokens, a larger kv_budget or kv_type='q8_0'"
        if n_fit >= n_together + n_pinned:
            advice = "use a larger max_sequences"
        raise KvBudgetError(
            f"{what} not fit: the KV budget has room for {n_fit} of that length, max_sequences is "
            f"{max_slots}, and {n_pinned} are pinned; {advice}, or release a prefix"
        )


class Capacity:
    """The size of a KV cache with a stream for each sequence, all of one length.

    max_slots: the most sequences. reuses: whether prompts may begin with what is cached. Where
    sequences share the cells of one stream, the streams are to be made instead.
    """

    def __init__(self, backend: Backend, slots: Slots, max_slots: int, *, reuses: bool) -> None:
        self._backend = backend
        self._slots = slots
        self._max_slots = max_slots
        self._most_spare = min(_SPARE_SLOTS, max_slots) if reuses else 1

    def check_fits(self, n_tokens: int, n_together: int = 1, n_cells: int | None = None) -> None:
        """Raise KvBudgetError if ``n_together`` sequences of ``n_tokens`` could not run beside what
        is pinned; see the function."""
        if n_cells is not None:
            n_cells += sum(len(each.token_ids) for each in self._slots.cached if each.is_pinned)
        check_fits(
            self._backend,
            n_tokens,
            self._max_slots,
            n_together=n_together,
            n_cells=n_cells,
            n_pinned=self._slots.n_pinned,
            longest_pinned=self._slots.longest_pinned,
        )

    def for_waiting(self, waiting: list[Sequence]) -> tuple[int, int] | None:
        """Return (sequences, tokens of each) to make room for ``waiting`` beside what runs and is
        pinned, as far as the budget allows; None if the present size will do."""
        slots = self._slots
        sequences = [*waiting, *slots.running]
        n_slots, n_tokens = self._backend.n_slots, self._backend.n_ctx_seq
        if slots.is_unified:  # streams have to be made, long enough for what is cached
            n_slots, n_tokens = 0, max((len(c.token_ids) for c in slots.cached), default=0)
        wanted = min(len(sequences) + slots.n_pinned, self._max_slots)
        lengths = {max(sequence.n_room, n_tokens) for sequence in sequences}
        if wanted <= n_slots and lengths == {n_tokens}:
            return None
        # The longest that leaves enough for those that run, and for the first of those that wait,
        # which no other may overtake, with its group.
        needed = max(each.n_room for each in waiting[0].group or waiting[:1])
        n_first = max(len(waiting[0].group), 1)
        lengths = {length for length in lengths if length >= needed}
        if not slots.n_running:
            lengths.add(max(needed, slots.longest_pinned))
        for length in sorted(lengths, reverse=True):
            n_fit = self._backend.n_slots_that_fit(length)
            if n_fit >= slots.n_running + slots.n_pinned + n_first:
                n_new = min(max(wanted, self._n_spare(n_fit)), n_fit)
                return (n_new, length) if length > n_tokens or n_new > n_slots else None
        return None

    def for_saved(self, lengths: list[int]) -> tuple[int, int, int]:
        """Return (sequences, tokens of each) to make room for saved sequences of these lengths
        beside what runs and is pinned, and how many of the first of them are left out.

        Raises StateError if not even the last one fits.
        """
        n_kept = self._slots.n_running + self._slots.n_pinned
        n_now = self._backend.n_ctx_seq
        if self._slots.is_unified:  # streams are made, which need not be as long
            running = (sequence.n_room for sequence in self._slots.running)
            n_now = max(self._slots.longest_pinned, *running, 0)
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

    def _n_spare(self, n_fit: int) -> int:
        """Return for how many sequences to make room even if there are fewer, so that what they
        leave stays when others come: making the KV cache anew takes longer than a short prompt."""
        return min(self._most_spare, n_fit // _SPARE_PART)
