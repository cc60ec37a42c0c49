"""The one owner of what each seq_id of the backend holds.

A seq_id holds a running sequence, what a finished one left, or nothing. Whatever is held names the
seq_id that holds it, and the backend's KV cache holds its tokens. Every change of that is a method
here; others read, and propose.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Items

from localgen.engine.backend import Backend, State
from localgen.engine.sequence import CachedSequence, Sequence

Item = Sequence | CachedSequence


class Slots:
    """What the seq_ids 0 to ``len(items)`` - 1 hold.

    is_unified: whether all of them share the cells of one KV stream.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._items: list[Item | None] = []
        self.is_unified = False

    # --- reading ---

    @property
    def items(self) -> Items[Item | None]:
        """What each seq_id holds; not to be changed, and valid until the next change."""
        return self._items

    @property
    def cached(self) -> list[CachedSequence]:
        """What finished sequences left, least recently used first."""
        found = [item for item in self._items if isinstance(item, CachedSequence)]
        return sorted(found, key=lambda cached: cached.last_used)

    @property
    def running(self) -> list[Sequence]:
        """The running sequences, in seq_id order."""
        return [item for item in self._items if isinstance(item, Sequence)]

    @property
    def n_running(self) -> int:
        return sum(isinstance(item, Sequence) for item in self._items)

    @property
    def n_pinned(self) -> int:
        return sum(cached.is_pinned for cached in self.cached)

    @property
    def longest_pinned(self) -> int:
        """The tokens of the longest pinned sequence."""
        return max((len(each.token_ids) for each in self.cached if each.is_pinned), default=0)

    # --- sequences come and go ---

    def place(self, sequence: Sequence, seq_id: int) -> None:
        """Let a sequence run under an empty seq_id."""
        assert self._items[seq_id] is None
        self._items[seq_id] = sequence
        sequence.seq_id, sequence.n_kv = seq_id, 0

    def take_over(self, sequence: Sequence, cached: CachedSequence) -> None:
        """Let a sequence run under the seq_id of what was cached, with what is there."""
        seq_id = self._seq_id_of(cached)
        cached.seq_id = None
        self._items[seq_id] = None
        self.place(sequence, seq_id)

    def leave(self, sequence: Sequence, cached: CachedSequence | None) -> None:
        """End a sequence; what it computed stays as ``cached``, or is dropped if that is None."""
        seq_id = self._seq_id_of(sequence)
        sequence.seq_id = None
        self._items[seq_id] = cached
        if cached is None:
            self._backend.kv_truncate(seq_id, 0)
        else:
            cached.seq_id = seq_id

    def drop(self, cached: CachedSequence) -> None:
        """Drop what is cached, if it still is."""
        if cached.seq_id is not None:
            self._backend.kv_truncate(cached.seq_id, 0)
            self._items[cached.seq_id] = None
            cached.seq_id = None

    # --- what they hold ---

    def copy(self, source: Item, sequence: Sequence) -> None:
        """Give a running sequence all KV of another item; ``truncate`` says how much is its own."""
        self._backend.kv_copy(self._seq_id_of(source), self._seq_id_of(sequence))

    def truncate(self, sequence: Sequence, n_tokens: int) -> bool:
        """Keep the KV of a running sequence's first ``n_tokens``; False, with all of it dropped, if
        the model can drop it only whole."""
        seq_id = self._seq_id_of(sequence)
        if self._backend.kv_truncate(seq_id, n_tokens):
            sequence.n_kv = n_tokens
            return True
        self._backend.kv_truncate(seq_id, 0)
        sequence.n_kv = 0
        return False

    def move(self, item: Item, target: int) -> None:
        """Move an item with its KV to another seq_id; what was cached there is dropped."""
        source = self._seq_id_of(item)
        there = self._items[target]
        if isinstance(there, CachedSequence):
            there.seq_id = None
        else:
            assert there is None
        self._backend.kv_copy(source, target)
        self._backend.kv_truncate(source, 0)
        # In this order the item has a seq_id at every moment: other threads may look.
        self._items[target], item.seq_id = item, target
        self._items[source] = None

    def state_of(self, cached: CachedSequence) -> State:
        """Return the KV of what is cached, as bytes."""
        return self._backend.kv_state(self._seq_id_of(cached))

    def restore(self, cached: CachedSequence, state: State) -> bool:
        """Put a saved state under an empty seq_id; False if the backend refuses it."""
        seq_id = self._items.index(None)
        if not self._backend.set_kv_state(seq_id, state, len(cached.token_ids)):
            return False
        self._items[seq_id], cached.seq_id = cached, seq_id
        return True

    # --- everything at once ---

    def remake(
        self,
        kept: list[Item],
        n_slots: int,
        n_tokens: int,
        n_cells: int | None,
        should_stop: Callable[[], bool] | None,
    ) -> None:
        """Make the KV cache anew (see ``Backend.reserve``), with as much of ``kept`` as it has
        seq_ids for, in this order; all else is dropped."""
        kept = kept[:n_slots]
        seq_ids = [self._seq_id_of(item) for item in kept]
        before = self.cached
        self._items = []
        self.is_unified = n_cells is not None
        try:
            self._backend.reserve(
                n_slots, n_tokens, seq_ids, n_cells=n_cells, should_stop=should_stop
            )
        except BaseException:
            kept = []
            raise
        finally:
            # What is kept has a seq_id at every moment: other threads may look.
            for cached in before:
                if cached not in kept:
                    cached.seq_id = None
        self._items = [None] * self._backend.n_slots
        for seq_id, item in enumerate(kept):
            item.seq_id = seq_id
            self._items[seq_id] = item

    def lose_cached(self) -> None:
        """Note that the backend lost all KV: running sequences hold none, nothing is cached."""
        for cached in self.cached:
            self._items[self._seq_id_of(cached)] = None
            cached.seq_id = None
        for sequence in self.running:
            sequence.n_kv, sequence.n_cached, sequence.waits_for = 0, 0, None

    def clear(self) -> None:
        """Note that every seq_id is empty, and no sequence runs any more."""
        for item in self._items:
            if item is not None:
                item.seq_id = None
            if isinstance(item, Sequence):
                item.n_kv = 0
        self._items = [None] * self._backend.n_slots

    def _seq_id_of(self, item: Item) -> int:
        seq_id = item.seq_id
        assert seq_id is not None
        assert self._items[seq_id] is item
        return seq_id
