"""Which tokens go into the next forward pass; it knows rows and slots, not logits.

Rows that decode come first, one token each; the room that is left goes to prompts in the order
in which they came, in chunks where a prompt is longer than the room. A waiting row enters as soon
as a slot is free. A row whose prompt begins like that of a row just being computed waits for that
one, and then copies it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

import numpy as np

from localgen.engine.backend import Backend, Batch
from localgen.engine.kv_cache import KvCache
from localgen.engine.sequence import Sequence, is_computing_prompt, slot_of


class Scheduler:
    """The rows of all calls: those that run, in slot order, and those that wait.

    one_by_one: a forward pass holds tokens of one row only, so that no row's logits depend on what
    else runs.
    """

    def __init__(self, backend: Backend, kv_cache: KvCache, *, one_by_one: bool = False) -> None:
        self._backend = backend
        self._kv_cache = kv_cache
        self._one_by_one = one_by_one
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []
        self._in_flight: list[tuple[Sequence, int]] = []
        # The batch of a step in which every running row decodes: until a row comes or goes, the
        # next step has the same rows, one position further.
        self._steady: Batch | None = None
        self.has_prompt_tokens = False

    def add(self, rows: Iterable[Sequence]) -> None:
        """Let rows wait for a slot."""
        self.waiting.extend(rows)
        self._steady = None

    def start_afresh(self, unfinished: list[Sequence]) -> None:
        """Run these rows, of which nothing is in the KV cache any more, from their beginning."""
        for row in unfinished:
            row.slot, row.n_kv, row.n_cached, row.awaits = None, 0, 0, None
        self.waiting = deque(sorted(unfinished, key=lambda row: row.order))
        self.running = []
        self._steady = None

    def schedule(self) -> tuple[Batch, list[Sequence]] | None:
        """The next batch, and the rows whose logits it gives, in the order of its outputs; None if
        there is nothing to run.

        The batch is valid until the next call.
        """
        if self._kv_cache.notice_loss():
            self._steady = None
        if self._steady is not None:
            # Plain stores: after a forward pass the caches are cold, NumPy's machinery included.
            token_ids, positions = self._steady.token_ids, self._steady.positions
            for index, row in enumerate(self.running):
                token_ids[index] = row.last_token
                positions[index] = row.n_kv
            return self._steady, self.running
        self._admit()
        self._in_flight = takes = self._takes()
        if not takes:
            return None
        self.has_prompt_tokens = any(take > 1 or row.first_token_at is None for row, take in takes)
        batch, outputs = _batch(takes)
        if not self.has_prompt_tokens and outputs == self.running:
            self._steady = batch
        return batch, outputs

    def decoded(self) -> None:
        """Record that the batch that ``schedule`` gave last is in the KV cache."""
        for row, take in self._in_flight:
            row.n_kv += take

    def not_decoded(self) -> None:
        """Record that the batch that ``schedule`` gave last is not in the KV cache."""
        self._steady = None

    def fork(self, row: Sequence) -> list[Sequence]:
        """Give the rows that share this one's prompt, just computed, their own copy of it."""
        if row.n_new:
            return []
        forks = [other for other in self.running if other.fork_of is row and not other.n_kv]
        for other in forks:
            self._kv_cache.fork(row, other)
        return forks

    def retire(self, finished: Iterable[Sequence]) -> None:
        """Take rows that are over out, and close the holes that no waiting row will fill."""
        self._steady = None
        over = set(finished)
        if any(row.slot is None for row in over):
            self.waiting = deque(row for row in self.waiting if row not in over)
        for row in [row for row in self.running if row in over]:
            self.running.remove(row)
            self._kv_cache.release(row)
        if not self.waiting and self._kv_cache.close_holes():
            self.running.sort(key=slot_of)

    def _admit(self) -> None:
        if self.waiting:
            self._kv_cache.make_room(self.waiting)
        # In order: a long row that does not fit yet is not overtaken for ever by short ones.
        while self.waiting and self._kv_cache.admit(self.waiting[0]):
            self.running.append(self.waiting.popleft())
        self._kv_cache.close_holes()
        self.running.sort(key=slot_of)
        for row in self.running:
            self._kv_cache.copy_when_ready(row)

    def _takes(self) -> list[tuple[Sequence, int]]:
        """How many tokens of which running row go in, in slot order."""
        if self._one_by_one:
            return self._take_first()
        room = self._backend.n_batch
        takes: dict[Sequence, int] = {}
        prompts = []
        for row in self.running:
            if row.n_tokens - row.n_kv == 1:
                takes[row] = 1
                room -= 1
            elif not _waits(row):
                prompts.append(row)
        for row in sorted(prompts, key=lambda row: row.order):
            take = min(row.n_pending, room)
            if take:
                takes[row] = take
                room -= take
        # Rows that decode were taken in slot order already.
        return (
            sorted(takes.items(), key=lambda take: slot_of(take[0]))
            if prompts
            else [*takes.items()]
        )

    def _take_first(self) -> list[tuple[Sequence, int]]:
        for row in sorted(self.running, key=lambda row: row.order):
            if not _waits(row):
                return [(row, min(row.n_pending, self._backend.n_batch))]
        return []


def _waits(row: Sequence) -> bool:
    """True while the row that computes this one's beginning is still at it."""
    forks = row.fork_of is not None and not row.n_kv and not row.n_new
    return row.awaits is not None or (forks and is_computing_prompt(row.fork_of))  # type: ignore[arg-type]


def _batch(takes: list[tuple[Sequence, int]]) -> tuple[Batch, list[Sequence]]:
    """The next ``take`` tokens of each row, and the rows of which these are all there are."""
    n_tokens = sum(take for _, take in takes)
    token_ids = np.empty(n_tokens, np.int32)
    positions = np.empty(n_tokens, np.int32)
    seq_ids = np.empty(n_tokens, np.int32)
    wants_logits = np.zeros(n_tokens, np.int8)
    outputs = []
    start = 0
    for row, take in takes:
        end, first = start + take, row.n_kv
        token_ids[start:end] = row.tokens[first : first + take]
        positions[start:end] = np.arange(first, first + take)
        seq_ids[start:end] = slot_of(row)
        if take == row.n_pending:
            wants_logits[end - 1] = 1
            outputs.append(row)
        start = end
    return Batch(token_ids, positions, seq_ids, wants_logits), outputs
