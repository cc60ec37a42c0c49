"""The one generation engine: schedule → decode → advance → retire, a step at a time.

It lives as long as its model, and the sequences of all calls run in it together. It knows token ids
and logits only, and must be used by one thread at a time: see ``generation.driver``. ``submit`` and
the flags of a Request are for any thread.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection, Container, Iterable, Iterator
from contextlib import contextmanager
from copy import copy
from itertools import count

import numpy as np

from localgen._util.interrupts import gets_interrupts
from localgen.engine.backend import Backend, Logits, PassStopped
from localgen.engine.decoding import Output
from localgen.engine.kv_cache import KvCache
from localgen.engine.request import Request
from localgen.engine.scheduler import Pass, Scheduler
from localgen.engine.scoring import prompt_logits, score
from localgen.engine.sequence import FinishReason, Sequence
from localgen.engine.stopping import ended_by, finish_reason
from localgen.errors import BackendError, DecodeError, KvBudgetError, LocalgenError

# What ended a request: a reason for its sequences, or an error.
Ending = FinishReason | BaseException


class Engine:
    """Generates for any number of requests until each of their sequences has a ``finish_reason``.

    deterministic: sequences run one at a time and reuse nothing. reserved_new_tokens: those that a
    sequence gets room for at a time; None is all of them.
    """

    def __init__(
        self,
        backend: Backend,
        max_sequences: int,
        *,
        deterministic: bool = False,
        reserved_new_tokens: int | None = None,
    ) -> None:
        self._backend = backend
        self.kv_cache = KvCache(backend, max_sequences, reuses=not deterministic)
        self._scheduler = Scheduler(
            backend, self.kv_cache, serial=deterministic, reserved=reserved_new_tokens
        )
        self._submitted: deque[Request] = deque()
        self._requests: list[Request] = []
        self._request_of: dict[Sequence, Request] = {}
        self._deadlines: dict[Sequence, float] = {}
        self._orders = count()
        self._finished: list[Sequence] = []
        self._accept_seconds = self._choosing_seconds = self._drafting_seconds = 0.0
        self._changing: Sequence | None = None  # see ``decoding.Step``
        self.should_stop: Callable[[], bool] = self._is_overdue  # see ``decoding.Step``
        # Called with the requests of a pass before it runs, unless the last one had the same; with
        # none before sequences that are evaluated alone.
        self.on_pass: Callable[[Collection[Request]], object] | None = None
        self._announced: Pass | None = None
        # The outputs of the last pass: the next one mostly has the same, in the same memory.
        self._pass: Pass | None = None
        self._last: tuple[Pass, float] | None = None
        self._logits: Logits = np.empty((0, 0), np.float32)
        self._outputs: list[tuple[Request, list[Output]]] = []

    def submit(self, request: Request) -> None:
        """Let a request take part from the next step on."""
        self._submitted.append(request)

    @property
    def idle(self) -> bool:
        return not self._requests and not self._submitted

    def step(self, interrupted: Callable[[], bool] = lambda: False) -> None:
        """Run one forward pass for all sequences that run.

        ``interrupted()`` stops a long pass when true, and loses nothing; or the making of the KV
        cache, and all sequences then start over. Errors that concern one request end that request;
        others are raised, and all sequences then start over.
        """
        try:
            self._step(interrupted)
        except BaseException:
            self.restart()
            raise

    def end(self, request: Request, ending: Ending) -> None:
        """End a request's unfinished sequences; what they have stays cached, but is not pinned."""
        try:
            self._end(request, ending)
        except BaseException:
            self.restart()
            raise

    def _end(self, request: Request, ending: Ending) -> None:
        self._take_submitted()
        if isinstance(ending, BaseException) and not request.done:
            request.error = ending
        unfinished = [each for each in request.sequences if each.finish_reason is None]
        for sequence in unfinished:
            sequence.finish_reason = "cancelled" if isinstance(ending, BaseException) else ending
            sequence.pins = False
        self._retire(unfinished)

    def cancel_all(self) -> None:
        """Let all requests end soon, with "cancelled"."""
        for request in [*self._requests, *self._submitted]:
            request.is_cancelled = True

    def end_all(self, error: BaseException) -> None:
        """End every request with an error, but those that were cancelled, each with its own copy:
        an error carries its call's ``partial``."""
        self._take_submitted()
        for request in list(self._requests):
            self.end(request, "cancelled" if request.is_stopped else copy(error))

    def score(self, sequence: Sequence, interrupted: Callable[[], bool] = lambda: False) -> Logits:
        """Return log-probabilities of a sequence's prompt; see ``scoring.score``. Other sequences
        wait meanwhile."""
        return self._evaluate(score, sequence, interrupted)

    def prompt_logits(
        self, sequence: Sequence, interrupted: Callable[[], bool] = lambda: False
    ) -> Logits:
        """Return the logits after each token of a sequence's prompt; see ``scoring``. Other
        sequences wait meanwhile."""
        return self._evaluate(prompt_logits, sequence, interrupted)

    def _evaluate(
        self,
        compute: Callable[[Backend, Sequence, Callable[[], bool]], Logits],
        sequence: Sequence,
        interrupted: Callable[[], bool],
    ) -> Logits:
        self.kv_cache.check_fits(len(sequence.tokens))
        while not self._enter(sequence, interrupted):
            self.step(interrupted)
            if interrupted():
                raise KeyboardInterrupt
            self.kv_cache.check_fits(len(sequence.tokens))  # what ended may be pinned now
        with self._reset_on_error():
            if self.on_pass is not None:
                self._announced = None
                self.on_pass(())
            try:
                return compute(self._backend, sequence, interrupted)
            finally:
                self.kv_cache.release(sequence)

    def _enter(self, sequence: Sequence, interrupted: Callable[[], bool]) -> bool:
        """Give a sequence that is to be evaluated an empty seq_id, if there is one."""
        with self._reset_on_error():
            self.kv_cache.catch_up()
            try:
                self.kv_cache.make_room([sequence], interrupted)
            except PassStopped:
                raise KeyboardInterrupt from None
            return self.kv_cache.admit(sequence, reuse=False)

    @contextmanager
    def _reset_on_error(self) -> Iterator[None]:
        """Start over after an error inside, except that of a pass, which the backend undoes."""
        try:
            yield
        except DecodeError:
            raise
        except BaseException:
            self.restart()
            raise

    # --- one step ---

    def _step(self, interrupted: Callable[[], bool]) -> None:
        started = time.perf_counter()
        if self._submitted:
            self._take_submitted()
        self._end_overdue(started)
        self.should_stop = should_stop = lambda: interrupted() or self._is_overdue()
        try:
            found = self._scheduler.schedule(should_stop)
        except PassStopped:
            now = time.perf_counter()
            for request in self._requests:
                request.timings.overhead += now - started
            self.restart()
            self._end_overdue(now)
            return
        except BackendError as no_room:
            if not self._scheduler.waiting:
                raise
            self._end_longest(no_room)
            return
        if found is None:
            self._end_unfit()
            return
        if self.on_pass is not None and found is not self._announced:
            self._announced = found
            self.on_pass({self._request_of[each.sequence] for each in found.scheduled})
        requests = list(self._requests)
        idle = self._idle_in(found)
        before = time.perf_counter()
        logits, error = None, None
        try:
            logits = self._backend.decode(found.batch, should_stop)
        except (PassStopped, LocalgenError) as caught:
            error = caught
        decoded = time.perf_counter()
        self._accept_seconds = self._choosing_seconds = self._drafting_seconds = 0.0
        if logits is not None:
            self._last = found, decoded - before
            self._scheduler.decoded(found)
            self._advance(self._outputs_of(found, logits), decoded)
        else:
            self._scheduler.not_decoded()
            if isinstance(error, LocalgenError):
                self._end_batch(found, error)
        self._clock(requests, idle, found.has_prompt_tokens, started, before, decoded)

    def _take_submitted(self) -> None:
        while self._submitted:
            request = self._submitted[0]
            self._requests.append(request)
            for sequence in request.sequences:
                self._register(sequence, request)
            self._scheduler.add(request.sequences)
            self._submitted.popleft()  # last: until then ``restart`` forgets what was added
            try:
                longest = max(request.sequences, key=lambda each: len(each.tokens))
                self.kv_cache.check_fits(len(longest.tokens), longest.group)
            except BackendError as error:  # beside what is pinned now
                self._end(request, error)

    def _register(self, sequence: Sequence, request: Request) -> None:
        sequence.order = next(self._orders)
        self._request_of[sequence] = request
        if sequence.deadline is not None:
            self._deadlines[sequence] = sequence.deadline

    def _is_overdue(self) -> bool:
        """Whether a sequence should end now; asked often in a long pass."""
        now = time.perf_counter()
        return any(request.is_stopped for request in self._requests) or any(
            now >= deadline for deadline in self._deadlines.values()
        )

    def _end_overdue(self, now: float) -> None:
        for request in self._requests[:]:
            if request.is_stopped:
                self.end(request, "cancelled")
        if self._deadlines:
            late = [each for each, deadline in self._deadlines.items() if now >= deadline]
            requests = dict.fromkeys(self._request_of[each] for each in late)
            for sequence in late:
                sequence.finish_reason = "time"
            self._retire(late)
            # Other sequences of a request may rest until these have logits, which never come now.
            self._advance([(request, []) for request in requests if not request.done], now)

    def _end_unfit(self) -> None:
        """End the request that waits first if it cannot run any more: what was pinned since it came
        has left no room, or what runs rests until this one has run."""
        if not self._scheduler.waiting:
            assert not self._scheduler.running, "a running sequence has a token to compute"
            return
        sequence = self._scheduler.waiting[0]
        try:
            self.kv_cache.check_fits(len(sequence.tokens), sequence.group)
            assert self._scheduler.running, "a sequence that fits, and waits for none, must run"
            raise KvBudgetError(
                f"the KV budget has room for {len(self._scheduler.running)} of the sequences "
                f"that a call decodes together; use fewer or shorter ones, a larger kv_budget "
                f"or max_sequences, or release a prefix"
            )
        except BackendError as error:
            self.end(self._request_of[sequence], error)

    def _end_longest(self, error: BackendError) -> None:
        """End the request of the longest waiting sequence, for which no room could be made. All
        others start over: the old KV cache was freed before the new allocation failed."""
        longest = max(self._scheduler.waiting, key=lambda sequence: len(sequence.tokens))
        self.restart()
        self.end(self._request_of[longest], error)

    def _end_batch(self, failed: Pass, error: BaseException) -> None:
        """End the requests of which a sequence was in a pass that failed."""
        requests = dict.fromkeys(self._request_of[each.sequence] for each in failed.scheduled)
        for request in requests:
            self.end(request, error)
            error = copy(error)  # which carries one call's ``partial``

    # --- from logits to tokens ---

    def _outputs_of(self, done: Pass, logits: Logits) -> list[tuple[Request, list[Output]]]:
        """What a pass gave each request, and its sequences, in seq_id order."""
        if done is self._pass and logits is self._logits:
            return self._outputs
        outputs: dict[Request, list[Output]] = {}
        start = 0
        for each in done.scheduled:
            if not each.n_outputs:
                continue
            rows = logits[start : start + each.n_outputs]
            start += each.n_outputs
            sharing = self._scheduler.share_prompt(each.sequence) if done.has_prompt_tokens else ()
            for sequence in (each.sequence, *sharing):
                own = outputs.setdefault(self._request_of[sequence], [])
                own.append(Output(sequence, rows, each.draft))
        self._pass, self._logits, self._outputs = done, logits, [*outputs.items()]
        return self._outputs

    def _advance(self, outputs: list[tuple[Request, list[Output]]], decoded: float) -> None:
        """Let each request's strategy use what a pass gave it, and retire what is finished."""
        self._finished = []
        for request, own in outputs:
            drafted = [(out, out.sequence.n_tokens) for out in own if out.draft]
            for output, _ in drafted:
                output.sequence.draft = ()
            failure = None
            try:
                request.strategy.advance(own, self)
            except BaseException as error:  # of a caller's own function: it is for that caller
                if isinstance(error, KeyboardInterrupt) and gets_interrupts():
                    raise  # for this thread; tokens that were accepted stay
                failure, self._changing = _raisable(error), None
            for output, n_before in drafted:
                self._return_rejected(output, n_before)
            if failure is not None:
                self.end(request, failure)
        not_choosing = self._accept_seconds + self._drafting_seconds
        self._choosing_seconds = time.perf_counter() - decoded - not_choosing
        if self._finished:
            self._retire(self._finished)

    def _return_rejected(self, output: Output, n_before: int) -> None:
        """Return the KV of those draft tokens that the sequence did not accept."""
        sequence = output.sequence
        if sequence.seq_id is None:
            return
        accepted = sequence.tokens[n_before : sequence.n_tokens].tolist()
        pairs = zip(output.draft, accepted, strict=False)
        n_agreed = next(
            (i for i, (drafted, token_id) in enumerate(pairs) if drafted != token_id),
            min(len(output.draft), len(accepted)),
        )
        if sequence.n_kv > n_before + n_agreed:
            self.kv_cache.truncate(sequence, n_before + n_agreed)

    @property
    def last_pass(self) -> tuple[int, float | None]:
        """The size and the seconds of the last pass. See ``decoding.Step``."""
        assert self._last is not None, "a pass was run before a strategy advances"
        found, seconds = self._last
        return len(found.batch.token_ids), None if found.has_prompt_tokens else seconds

    def count_drafting(self, seconds: float) -> None:
        """Count time for making drafts. See ``decoding.Step``."""
        self._drafting_seconds += seconds

    def accept(self, sequence: Sequence, token_id: int) -> bool:
        """Add a token to a sequence; False if that finishes it. See ``decoding.Step``."""
        started = time.perf_counter()
        before, self._changing = self._changing, sequence
        sequence.accept(token_id)
        self._changing = before
        if sequence.first_token_at is None:
            sequence.first_token_at = started
        sequence.last_token_at = started
        sequence.finish_reason = finish_reason(sequence)
        if sequence.finish_reason is not None:
            self._finished.append(sequence)
        self._accept_seconds += time.perf_counter() - started
        return sequence.finish_reason is None

    def rollback(self, sequence: Sequence, n_tokens: int) -> None:
        """Take a sequence's last new tokens back, and return their KV. See ``decoding.Step``."""
        before, self._changing = self._changing, sequence
        sequence.rollback(n_tokens)
        self._changing = before
        # The last token that is left is computed again, for its logits.
        if sequence.seq_id is not None and sequence.n_kv >= sequence.n_tokens:
            self.kv_cache.truncate(sequence, sequence.n_tokens - 1)

    def fork(self, sequence: Sequence) -> Sequence:
        """Add an exact copy of a sequence to its request. See ``decoding.Step``.

        It gets the KV of the original, or computes its own if there is no seq_id for it yet.
        """
        assert sequence.finish_reason is None, "a finished sequence cannot be forked"
        request = self._request_of[sequence]
        clone = sequence.fork(len(request.sequences))
        request.sequences.append(clone)
        request.n_unfinished += 1
        self._register(clone, request)
        self._scheduler.add_first(clone)
        return clone

    def replace(self, sequence: Sequence, source: Sequence) -> None:
        """Make a sequence a copy of another one of its group. See ``decoding.Step``."""
        before, self._changing = self._changing, sequence
        sequence.become(source)
        self._changing = before
        self.kv_cache.replace(sequence, source)

    def changing(self, sequence: Sequence | None) -> None:
        """Declare which sequence is being changed. See ``decoding.Step``."""
        self._changing = sequence

    def drop(self, sequence: Sequence) -> None:
        """End a sequence. See ``decoding.Step``."""
        sequence.finish_reason = "stop"
        self._finished.append(sequence)

    def _retire(self, finished: list[Sequence]) -> None:
        finished = [sequence for sequence in finished if sequence in self._request_of]
        for sequence in finished:
            request = self._request_of.pop(sequence)
            self._deadlines.pop(sequence, None)
            request.n_unfinished -= 1
            if request.done:
                self._requests.remove(request)
        if finished:
            self._pass, self._outputs = None, []
            self._scheduler.retire(finished)

    def _idle_in(self, found: Pass) -> set[Request]:
        """The requests of which no sequence is in a pass, because they all wait for a seq_id."""
        if not self._scheduler.waiting:
            return set()
        in_pass = {self._request_of[each.sequence] for each in found.scheduled}
        return set(self._requests) - in_pass

    def _clock(
        self,
        requests: Iterable[Request],
        idle: Container[Request],
        has_prompt_tokens: bool,
        started: float,
        before: float,
        decoded: float,
    ) -> None:
        """Count a step's seconds for each request."""
        now = time.perf_counter()
        chosen, drafted = self._choosing_seconds, self._drafting_seconds
        n_threads = self._backend.pass_threads
        for request in requests:
            timings = request.timings
            if request in idle:
                timings.wait += now - started
                continue
            timings.n_threads = n_threads
            if has_prompt_tokens:
                timings.prefill += decoded - before
            else:
                timings.decode += decoded - before
            timings.sample += chosen
            timings.draft += drafted
            timings.overhead += before - started + now - decoded - chosen - drafted

    def restart(self) -> None:
        """After an error in the middle of a step nothing is sure but the sequences' tokens.

        A request of which a sequence was being changed ends with "cancelled". This may be called
        again, from its start, if an error interrupts it.
        """
        self._end_torn()
        self._backend.forget()
        self.kv_cache.clear()
        self._pass, self._outputs = None, []
        # Set once: other threads may look whether a request is done.
        n_unfinished = dict.fromkeys(self._requests, 0)
        unfinished = []
        for sequence, request in list(self._request_of.items()):
            if sequence.finish_reason is None:
                unfinished.append(sequence)
                n_unfinished[request] += 1
            else:
                sequence.seq_id = None
                del self._request_of[sequence]
                self._deadlines.pop(sequence, None)
        for request, n in n_unfinished.items():
            request.n_unfinished = n
        self._requests = [request for request in self._requests if request.n_unfinished]
        self._scheduler.restart(unfinished)

    def _end_torn(self) -> None:
        """End what an error cut in two: a sequence that was being changed ends with its request,
        one that had its last token is finished, and a request that was taken in part is forgotten,
        since it is still to be taken."""
        if self._changing is not None:
            for sequence in self._request_of[self._changing].sequences:
                sequence.finish_reason = sequence.finish_reason or "cancelled"
            self._changing = None
        for sequence in self._request_of:
            if sequence.finish_reason is None and sequence.n_new:
                sequence.finish_reason = ended_by(sequence)
        if self._submitted and (half := self._submitted[0]) in self._requests:
            self._requests.remove(half)
            for sequence in half.sequences:
                self._request_of.pop(sequence, None)
                self._deadlines.pop(sequence, None)


def _raisable(error: BaseException) -> BaseException:
    """Return an error that no iterator takes for its end, as Python does in generators."""
    if not isinstance(error, StopIteration | StopAsyncIteration):
        return error
    found = RuntimeError(f"a function of the caller raised {type(error).__name__}")
    found.__cause__ = error
    return found
