"""Which tokens go into the next forward pass; it knows rows and slots, not logits.

Rows that decode come first, one token each; the room that is left goes to prompts in the order
in which they came, in chunks where a prompt is longer than the room. A waiting row enters as soon
as a slot is free. Rows that share a prompt (``fork_of``) enter together with the one that
computes it, wait for its prefill, and then copy it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

import numpy as np

from localgen.engine.backend import Backend, Batch
from localgen.engine.kv_cache import Slots
from localgen.engine.sequence import Sequence


class Scheduler:
    """The rows of one call: those that run, in slot order, and those that wait."""

    def __init__(self, backend: Backend, sequences: Iterable[Sequence]) -> None:
        self._backend = backend
        self._slots = Slots(0)
        self.waiting: deque[Sequence] = deque(sequences)
        self.running: list[Sequence] = []
        self._in_flight: list[tuple[Sequence, int]] = []
        # The batch of a step in which every running row decodes: until a row ends, the next step
        # has the same rows, one position further.
        self._steady: Batch | None = None
        self.has_prompt_tokens = False

    def restart(self, n_slots: int) -> None:
        """Forget what was in the KV cache: every unfinished row computes its tokens anew."""
        unfinished = [*self.running, *self.waiting]
        for sequence in unfinished:
            sequence.slot, sequence.n_kv = None, 0
        self.waiting = deque(sorted(unfinished, key=lambda sequence: sequence.row))
        self.running = []
        self._steady = None
        self._slots = Slots(n_slots)

    def schedule(self) -> tuple[Batch, list[Sequence]]:
        """The next batch, and the rows whose logits it gives, in the order of its outputs.

        The batch is valid until the next call.
        """
        if self._steady is not None:
            self._steady.positions[:] += 1
            self._steady.token_ids[:] = [sequence.last_token for sequence in self.running]
            return self._steady, self.running
        self._admit()
        self._in_flight = takes = self._takes()
        self.has_prompt_tokens = any(
            take > 1 or sequence.first_token_at is None for sequence, take in takes
        )
        batch, outputs = _batch(takes)
        if not self.has_prompt_tokens and outputs == self.running:
            self._steady = batch
        return batch, outputs

    def decoded(self) -> None:
        """Record that the batch that ``schedule`` gave last is in the KV cache."""
        for sequence, take in self._in_flight:
            sequence.n_kv += take

    def fork(self, sequence: Sequence) -> list[Sequence]:
        """Give the rows that share this one's prompt, just computed, their own copy of it."""
        if sequence.n_new:
            return []
        forks = [other for other in self.running if other.fork_of is sequence and not other.n_kv]
        for other in forks:
            self._backend.kv_copy(_slot(sequence), _slot(other))
            other.n_kv = sequence.n_kv
            other.n_cached = sequence.n_prompt
        return forks

    def retire(self, finished: list[Sequence]) -> None:
        """Free the slots of finished rows, and close the holes that no waiting row will fill."""
        self._steady = None
        for sequence in finished:
            self._backend.kv_remove(_slot(sequence))
            self._slots.release(_slot(sequence))
            self.running.remove(sequence)
            sequence.slot = None
        if not self.waiting:
            self._close_holes()

    def _admit(self) -> None:
        while self.waiting and self._slots.n_free:
            sequence = self.waiting.popleft()
            sequence.slot = self._slots.acquire()
            self.running.append(sequence)
        self.running.sort(key=_slot)

    def _takes(self) -> list[tuple[Sequence, int]]:
        """How many tokens of which running row go in, in slot order."""
        room = self._backend.n_batch
        takes: dict[Sequence, int] = {}
        prompts = []
        for sequence in self.running:
            if sequence.n_tokens - sequence.n_kv == 1:
                takes[sequence] = 1
                room -= 1
            elif not self._waits_for_fork(sequence):
                prompts.append(sequence)
        for sequence in sorted(prompts, key=lambda sequence: sequence.row):
            take = min(sequence.n_pending, room)
            if take:
                takes[sequence] = take
                room -= take
        return (
            sorted(takes.items(), key=lambda item: _slot(item[0])) if prompts else [*takes.items()]
        )

    def _waits_for_fork(self, sequence: Sequence) -> bool:
        """True while the row that computes this one's prompt is still at it."""
        source = sequence.fork_of
        return (
            source is not None
            and not sequence.n_new
            and source.slot is not None
            and not source.n_new
        )

    def _close_holes(self) -> None:
        by_slot = {sequence.slot: sequence for sequence in self.running}
        for source, target in self._slots.moves_to_close_holes():
            self._backend.kv_copy(source, target)
            self._backend.kv_remove(source)
            self._slots.move(source, target)
            by_slot[source].slot = target
        self.running.sort(key=_slot)


def _batch(takes: list[tuple[Sequence, int]]) -> tuple[Batch, list[Sequence]]:
    """The next ``take`` tokens of each row, and the rows of which these are all there are."""
    n_tokens = sum(take for _, take in takes)
    token_ids = np.empty(n_tokens, np.int32)
    positions = np.empty(n_tokens, np.int32)
    seq_ids = np.empty(n_tokens, np.int32)
    wants_logits = np.zeros(n_tokens, np.int8)
    outputs = []
    start = 0
    for sequence, take in takes:
        end, first = start + take, sequence.n_kv
        token_ids[start:end] = sequence.tokens[first : first + take]
        positions[start:end] = np.arange(first, first + take)
        seq_ids[start:end] = _slot(sequence)
        if take == sequence.n_pending:
            wants_logits[end - 1] = 1
            outputs.append(sequence)
        start = end
    return Batch(token_ids, positions, seq_ids, wants_logits), outputs


def _slot(sequence: Sequence) -> int:
    assert sequence.slot is not None
    return sequence.slot
