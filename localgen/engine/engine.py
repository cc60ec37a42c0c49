"""The one generation loop: schedule → decode → sample → finish, a step at a time.

It lives as long as its model, and every call's rows run in it together. It knows token ids and
logits only, and must be used by one thread at a time: see ``turns``. ``submit`` and the flags of a
Request are for any thread.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from copy import copy
from itertools import count

import numpy as np

from localgen.engine.backend import Backend, Logits, PassStopped
from localgen.engine.kv_cache import KvCache
from localgen.engine.request import Request
from localgen.engine.scheduler import Scheduler
from localgen.engine.scoring import score
from localgen.engine.sequence import FinishReason, Sequence
from localgen.engine.stopping import finish_reason
from localgen.errors import BackendError, DecodeError, LocalgenError

# What ended a request: a reason for its rows, or an error.
Ending = FinishReason | BaseException


class Engine:
    """Generates for any number of requests until each of their rows has a ``finish_reason``.

    deterministic: rows run one at a time and reuse nothing.
    """

    def __init__(
        self, backend: Backend, max_sequences: int, *, deterministic: bool = False
    ) -> None:
        self._backend = backend
        self.kv_cache = KvCache(backend, max_sequences, reuses=not deterministic)
        self._scheduler = Scheduler(backend, self.kv_cache, one_by_one=deterministic)
        self._submitted: deque[Request] = deque()
        self._requests: list[Request] = []
        self._request_of: dict[Sequence, Request] = {}
        self._deadlines: dict[Sequence, float] = {}
        self._orders = count()
        self._logits: Logits = np.empty((0, 0), np.float32)
        self._logit_rows: list[Logits] = []

    def submit(self, request: Request) -> None:
        """Let a request take part from the next step on."""
        self._submitted.append(request)

    @property
    def idle(self) -> bool:
        return not self._requests and not self._submitted

    def step(self, interrupted: Callable[[], bool] = lambda: False) -> None:
        """One forward pass for all rows that run.

        ``interrupted()`` stops a long pass when true, and loses nothing. Errors that concern one
        request end that request; others are raised, and all rows then start afresh.
        """
        try:
            self._step(interrupted)
        except BaseException:
            self.start_afresh()
            raise

    def end(self, request: Request, ending: Ending) -> None:
        """End a request's unfinished rows; what they have stays, but is not pinned."""
        try:
            self._end(request, ending)
        except BaseException:
            self.start_afresh()
            raise

    def _end(self, request: Request, ending: Ending) -> None:
        self._take_submitted()
        if isinstance(ending, BaseException) and not request.done:
            request.error = ending
        unfinished = [row for row in request.sequences if row.finish_reason is None]
        for row in unfinished:
            row.finish_reason = "cancelled" if isinstance(ending, BaseException) else ending
            row.pins = False
        self._retire(unfinished)

    def stop_all(self) -> None:
        """Have all requests end soon, with "cancelled"; for any thread."""
        for request in [*self._requests, *self._submitted]:
            request.is_cancelled = True

    def end_all(self, error: BaseException) -> None:
        """End every request with an error, but those that were cancelled, each with its own copy:
        an error carries its call's ``partial``."""
        self._take_submitted()
        for request in list(self._requests):
            self.end(request, "cancelled" if request.is_stopped else copy(error))

    def score(self, row: Sequence) -> Logits:
        """Log-probabilities of a row's prompt; see ``scoring.score``. Other rows wait meanwhile."""
        self.kv_cache.check_fits(len(row.tokens))
        while not self._enter(row):
            self.step()
            self.kv_cache.check_fits(len(row.tokens))  # rows that ended may be pinned now
        with self._whole():
            try:
                return score(self._backend, row)
            finally:
                self.kv_cache.release(row)

    def _enter(self, row: Sequence) -> bool:
        """Give a row that is to be scored an empty slot, if there is one."""
        with self._whole():
            self.kv_cache.make_room([row])
            return self.kv_cache.admit(row, reuse=False)

    @contextmanager
    def _whole(self) -> Iterator[None]:
        """Start afresh after an error inside, but for that of a pass, which the backend undoes."""
        try:
            yield
        except DecodeError:
            raise
        except BaseException:
            self.start_afresh()
            raise

    # --- one step ---

    def _step(self, interrupted: Callable[[], bool]) -> None:
        started = time.perf_counter()
        if self._submitted:
            self._take_submitted()
        self._end_overdue(started)
        try:
            scheduled = self._scheduler.schedule()
        except BackendError as no_room:
            if not self._scheduler.waiting:
                raise
            self._end_longest(no_room)
            return
        if scheduled is None:
            self._end_unfit()
            return
        batch, outputs = scheduled
        requests = list(self._requests)
        before = time.perf_counter()
        logits, error = None, None
        try:
            logits = self._backend.decode(batch, lambda: interrupted() or self._is_overdue())
        except (PassStopped, LocalgenError) as caught:
            error = caught
        decoded = time.perf_counter()
        if logits is None:
            self._scheduler.not_decoded()
            if isinstance(error, LocalgenError):
                self._end_batch(batch.seq_ids.tolist(), error)
            sampled = decoded
        else:
            self._scheduler.decoded()
            rows, outputs = self._rows(logits), outputs[:]  # of its own: rows may end meanwhile
            if self._scheduler.has_prompt_tokens:
                rows, outputs = self._with_forks(rows, outputs)
            sampled = self._sample(rows, outputs)
        self._clock(requests, started, before, decoded, sampled)

    def _take_submitted(self) -> None:
        while self._submitted:
            request = self._submitted.popleft()
            self._requests.append(request)
            for row in request.sequences:
                row.order = next(self._orders)
                self._request_of[row] = request
                if row.deadline is not None:
                    self._deadlines[row] = row.deadline
            self._scheduler.add(request.sequences)

    def _is_overdue(self) -> bool:
        """Whether a row should end now; asked often in a long pass."""
        now = time.perf_counter()
        return any(request.is_stopped for request in self._requests) or any(
            now >= deadline for deadline in self._deadlines.values()
        )

    def _end_overdue(self, now: float) -> None:
        for request in self._requests[:]:
            if request.is_stopped:
                self.end(request, "cancelled")
        if self._deadlines:
            late = [row for row, deadline in self._deadlines.items() if now >= deadline]
            for row in late:
                row.finish_reason = "time"
            self._retire(late)

    def _end_unfit(self) -> None:
        """End the request that waits first if it can't run any more: what was pinned since it came
        has left no room."""
        if self._scheduler.waiting and not self._scheduler.running:
            row = self._scheduler.waiting[0]
            try:
                self.kv_cache.check_fits(len(row.tokens))
            except BackendError as error:
                self.end(self._request_of[row], error)

    def _end_longest(self, error: BackendError) -> None:
        """End the request for whose waiting row no room could be made; all others start afresh,
        for with a context that could not be made the one before it is gone."""
        row = max(self._scheduler.waiting, key=lambda row: len(row.tokens))
        self.end(self._request_of[row], error)
        self.start_afresh()

    def _end_batch(self, slots: list[int], error: BaseException) -> None:
        """End the requests of which a row was in a pass that failed."""
        rows = [row for row in self._scheduler.running if row.slot in slots]
        for request in {id(r): r for r in map(self._request_of.__getitem__, rows)}.values():
            self.end(request, error)
            error = copy(error)  # which carries one call's ``partial``

    def _rows(self, logits: Logits) -> list[Logits]:
        """The rows of ``logits``, made anew only where it is another array than last time."""
        if logits is not self._logits:
            self._logits, self._logit_rows = logits, list(logits)
        return self._logit_rows

    def _with_forks(
        self, logits: list[Logits], outputs: list[Sequence]
    ) -> tuple[list[Logits], list[Sequence]]:
        """One row of logits for each row to sample, forks of a finished prefill included."""
        rows, sequences = [], []
        for row, sequence in zip(logits, outputs, strict=True):
            for sharer in (sequence, *self._scheduler.fork(sequence)):
                rows.append(row)
                sequences.append(sharer)
        return rows, sequences

    def _sample(self, logits: list[Logits], sequences: list[Sequence]) -> float:
        """Choose a token for each row and take note of it; returns when they were chosen."""
        tokens: list[int | BaseException] = []
        interrupt = None
        for row, sequence in zip(logits, sequences, strict=True):
            try:
                tokens.append(sequence.sampler.sample(row, sequence))
            except KeyboardInterrupt as error:  # for this thread; what was drawn is not lost
                interrupt = error
                break
            except BaseException as error:  # of a caller's own processor: it is for that caller
                tokens.append(error)
        sampled = time.perf_counter()
        finished = []
        for sequence, token in zip(sequences, tokens, strict=interrupt is None):
            if sequence.finish_reason is not None:
                continue
            try:
                if isinstance(token, BaseException):
                    raise token
                if self._accept(sequence, token, sampled):
                    finished.append(sequence)
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # as above, or of a stopping criterion
                self.end(self._request_of[sequence], error)
        if finished:
            self._retire(finished)
        if interrupt is not None:
            raise interrupt
        return sampled

    def _accept(self, sequence: Sequence, token_id: int, now: float) -> bool:
        """Add a token to its row; whether the row is over."""
        sequence.append(token_id)
        if sequence.first_token_at is None:
            sequence.first_token_at = now
        sequence.last_token_at = now
        sequence.finish_reason = finish_reason(sequence)
        return sequence.finish_reason is not None

    def _retire(self, finished: list[Sequence]) -> None:
        finished = [row for row in finished if row in self._request_of]
        for row in finished:
            request = self._request_of.pop(row)
            self._deadlines.pop(row, None)
            request.n_unfinished -= 1
            if request.done:
                self._requests.remove(request)
        if finished:
            self._scheduler.retire(finished)

    def _clock(
        self,
        requests: Iterable[Request],
        started: float,
        before: float,
        decoded: float,
        sampled: float,
    ) -> None:
        """Count a step's seconds for each request that took part in it."""
        now = time.perf_counter()
        for request in requests:
            timings = request.timings
            if self._scheduler.has_prompt_tokens:
                timings.prefill += decoded - before
            else:
                timings.decode += decoded - before
            timings.sample += sampled - decoded
            timings.overhead += before - started + now - sampled

    def start_afresh(self) -> None:
        """After an error in the middle of a step nothing is sure but the rows' tokens."""
        self._backend.forget()
        self.kv_cache.forget()
        for request in self._requests:
            request.n_unfinished = 0
        unfinished = []
        for row, request in list(self._request_of.items()):
            if row.finish_reason is None:
                unfinished.append(row)
                request.n_unfinished += 1
            else:
                del self._request_of[row]
                self._deadlines.pop(row, None)
        self._requests = [request for request in self._requests if request.n_unfinished]
        self._scheduler.start_afresh(unfinished)
