"""The one generation loop: schedule → decode → sample → finish, a step at a time.

Everything that generates is a view of it: a call is a loop over ``step()``. It knows token ids
and logits only.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from localgen.engine.backend import Backend, DeadlineReached, Logits
from localgen.engine.scheduler import Scheduler
from localgen.engine.sequence import FinishReason, Sequence
from localgen.engine.stopping import finish_reason


@dataclass(slots=True)
class Timings:
    """Seconds that a loop has spent: forward passes with prompt tokens, without, choosing tokens,
    and Python bookkeeping."""

    prefill: float = 0.0
    decode: float = 0.0
    sample: float = 0.0
    overhead: float = 0.0


class Loop:
    """Generates for a set of rows until each has a ``finish_reason``.

    ``deadline`` is a ``time.perf_counter()`` value at which unfinished rows end with "time".
    """

    def __init__(
        self, backend: Backend, sequences: list[Sequence], deadline: float | None = None
    ) -> None:
        self._backend = backend
        self._deadline = deadline
        self._scheduler = Scheduler(backend, sequences)
        self.sequences = sequences
        self.timings = Timings()

    @property
    def done(self) -> bool:
        return not self._scheduler.running and not self._scheduler.waiting

    def step(self) -> list[Sequence]:
        """One forward pass; returns the rows that got a token."""
        started = time.perf_counter()
        if self._deadline is not None and started >= self._deadline:
            self.finish("time")
            return []
        self._claim_backend()
        batch, outputs = self._scheduler.schedule()
        scheduled = time.perf_counter()
        try:
            logits = self._backend.decode(batch, self._deadline)
        except DeadlineReached:
            self.finish("time")
            return []
        finally:
            decoded = time.perf_counter()
            self._clock_forward_pass(decoded - scheduled)
        self._scheduler.decoded()
        rows, sequences = self._rows(logits, outputs)
        tokens = [s.sampler.sample(row, s) for row, s in zip(rows, sequences, strict=True)]
        sampled = time.perf_counter()
        self._accept(sequences, tokens, sampled)
        self.timings.sample += sampled - decoded
        self.timings.overhead += scheduled - started + time.perf_counter() - sampled
        return sequences

    def finish(self, reason: FinishReason) -> None:
        """End every unfinished row; what it has stays."""
        for sequence in (*self._scheduler.running, *self._scheduler.waiting):
            sequence.finish_reason = reason
            sequence.slot = None
        self._scheduler.running.clear()
        self._scheduler.waiting.clear()
        self.release()

    def release(self) -> None:
        """Give the KV cache up; a later step computes again what it held."""
        if self._backend.owner is self:
            self._backend.owner = None

    def _claim_backend(self) -> None:
        """Start afresh if another loop has used the KV cache since the last step."""
        if self._backend.owner is self:
            return
        unfinished = [s for s in self.sequences if s.finish_reason is None]
        n_tokens = max(len(sequence.tokens) for sequence in unfinished)
        self._backend.owner = None
        n_slots = self._backend.reserve(len(unfinished), n_tokens)
        self._scheduler.restart(n_slots)
        self._backend.owner = self

    def _clock_forward_pass(self, seconds: float) -> None:
        if self._scheduler.has_prompt_tokens:
            self.timings.prefill += seconds
        else:
            self.timings.decode += seconds

    def _rows(self, logits: Logits, outputs: list[Sequence]) -> tuple[list[Logits], list[Sequence]]:
        """One row of logits for each row to sample, forks of a finished prefill included."""
        rows, sequences = [], []
        for row, sequence in zip(logits, outputs, strict=True):
            for sharer in (sequence, *self._scheduler.fork(sequence)):
                rows.append(row)
                sequences.append(sharer)
        return rows, sequences

    def _accept(self, sequences: list[Sequence], tokens: list[int], now: float) -> None:
        finished = []
        for sequence, token_id in zip(sequences, tokens, strict=True):
            sequence.append(token_id)
            if sequence.first_token_at is None:
                sequence.first_token_at = now
            sequence.last_token_at = now
            sequence.finish_reason = finish_reason(sequence)
            if sequence.finish_reason is not None:
                finished.append(sequence)
        if finished:
            self._scheduler.retire(finished)
        if self.done:
            self.release()
