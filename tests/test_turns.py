"""Threads that take turns at one loop. Events say when a thread goes on; nothing here sleeps."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from localgen import BackendError, ClosedError, DecodeError, GenerationInterrupted
from localgen.engine.request import Request
from tests.fakes import fake_model, reference_greedy

SECONDS = 20  # the end of a test that would hang
A, B = list(b"the first"), list(b"another")


class Watched(threading.Condition):
    """A Condition that says when a thread begins to wait."""

    on_wait: Callable[[], object] = staticmethod(lambda: None)

    def wait(self, timeout: float | None = None) -> bool:
        self.on_wait()
        return super().wait(timeout)


class Stage:
    """A model whose forward passes wait for a gate, and note which thread ran them."""

    def __init__(self, **options: Any) -> None:
        self.model = fake_model(**options)
        self.changed = self.model._turns._changed = Watched()
        self.model._backend.on_decode = self._on_decode
        self.drivers: list[int] = []
        self.inside = threading.Event()
        self.gates = {1: threading.Event()}
        self.pool = ThreadPoolExecutor(2)

    def _on_decode(self) -> None:
        self.drivers.append(threading.get_ident())
        self.inside.set()
        if gate := self.gates.get(len(self.drivers)):
            assert gate.wait(SECONDS), "nobody opened the gate of this pass"

    def gate(self, number: int) -> threading.Event:
        """Let the forward pass of that number wait for the event that this gives."""
        return self.gates.setdefault(number, threading.Event())

    def start(self, prompt: list[int], **options: Any) -> Future[Any]:
        """complete() in another thread: it leads, or sleeps, when this returns."""
        ready = self.inside if not self.drivers else threading.Event()
        self.changed.on_wait = ready.set
        future = self.pool.submit(self.model.complete, [prompt], **options)
        assert ready.wait(SECONDS)
        self.changed.on_wait = lambda: None
        return future

    def result(self, future: Future[Any]) -> Any:
        return future.result(SECONDS)[0].token_ids


@pytest.fixture
def stage():
    """A stage whose first pass waits for ``stage.gates[1]``."""
    stage = Stage()
    yield stage
    for gate in stage.gates.values():
        gate.set()
    stage.pool.shutdown()


def test_the_leader_delivers_the_followers_result(stage):
    """A thread that waits gets its tokens from the one that drives; it runs no pass itself."""
    leader = stage.start(A, max_new_tokens=12)
    follower = stage.start(B, max_new_tokens=4)
    last = stage.gate(12)
    stage.gates[1].set()
    assert stage.result(follower) == reference_greedy(B, 4)
    assert not leader.done()
    last.set()
    assert stage.result(leader) == reference_greedy(A, 12)
    assert len(set(stage.drivers)) == 1


def test_a_leader_that_is_done_hands_over(stage):
    """The thread that still waits drives on."""
    leader = stage.start(A, max_new_tokens=1)
    follower = stage.start(B, max_new_tokens=6)
    stage.gates[1].set()
    assert stage.result(leader) == reference_greedy(A, 1)
    assert stage.result(follower) == reference_greedy(B, 6)
    assert len(set(stage.drivers)) == 2
    assert len(set(stage.drivers[1:])) == 1


def test_ctrl_c_in_a_follower(stage):
    """It ends the follower's call between two steps of the leader, who goes on.

    It once waited until the leader was through.
    """
    assert threading.current_thread() is threading.main_thread()
    leader = stage.start(A, max_new_tokens=12)
    last = stage.gate(12)
    waits = iter(range(1))

    def interrupt() -> None:
        if next(waits, None) is not None:
            signal.raise_signal(signal.SIGINT)
        stage.gates[1].set()

    stage.changed.on_wait = interrupt
    with pytest.raises(GenerationInterrupted) as caught:
        stage.model.complete([B], max_new_tokens=4)
    (partial,) = caught.value.partial
    assert partial.finish_reason == "cancelled"
    assert partial.token_ids == reference_greedy(B, 4)[: len(partial.token_ids)]
    assert not leader.done()
    last.set()
    assert stage.result(leader) == reference_greedy(A, 12)
    assert stage.model._loop.idle


def test_an_error_in_a_step_starts_all_rows_afresh(stage):
    """The thread that drove gets the error; the others' rows are computed again, and end right."""
    leader = stage.start(A, max_new_tokens=12)
    follower = stage.start(B, max_new_tokens=6)
    on_decode = stage.model._backend.on_decode

    def fail_once() -> None:
        on_decode()
        if len(stage.drivers) == 4:
            raise MemoryError("no memory")

    stage.model._backend.on_decode = fail_once
    stage.gates[1].set()
    with pytest.raises(MemoryError, match="no memory"):
        stage.result(leader)
    assert stage.result(follower) == reference_greedy(B, 6)
    assert stage.model._loop.idle


def test_close_ends_the_calls_of_other_threads(stage):
    """Both get ClosedError, each with its own partial result, and close() waits for one step only.

    One error object was once raised in all of them, with the partial result of the last.
    """
    leader = stage.start(A, max_new_tokens=12)
    follower = stage.start(B, max_new_tokens=12)
    on_decode = stage.model._backend.on_decode

    def closer_waits() -> None:
        if threading.current_thread() is threading.main_thread():  # not the follower, who may too
            waits.set()

    def close_at_third() -> None:
        if len(stage.drivers) == 2:  # main wants to close, and the leader is inside a step
            stage.changed.on_wait = closer_waits
            closes.set()
            assert waits.wait(SECONDS)
        on_decode()

    closes, waits = threading.Event(), threading.Event()
    stage.model._backend.on_decode = close_at_third
    stage.gates[1].set()
    assert closes.wait(SECONDS)
    stage.model.close()
    for future, prompt in ((leader, A), (follower, B)):
        with pytest.raises(ClosedError) as caught:
            future.result(SECONDS)
        (partial,) = caught.value.partial
        assert partial.prompt_token_ids == prompt
        assert 2 <= len(partial.token_ids) < 12
        assert partial.token_ids == reference_greedy(prompt, 12)[: len(partial.token_ids)]
    with pytest.raises(ClosedError):
        stage.model.complete([A])


def test_a_short_use_comes_between_two_steps(stage):
    """score(), and what else needs the loop to itself, does not wait for another's whole call."""
    leader = stage.start(A, max_new_tokens=12)
    last = stage.gate(12)
    stage.changed.on_wait = stage.gates[1].set
    before = len(stage.model.score(B))
    assert before == len(B) - 1
    assert not leader.done()
    last.set()
    assert stage.result(leader) == reference_greedy(A, 12)


def test_a_failed_pass_ends_the_requests_in_it(stage):
    """DecodeError goes to each call that had a row in the pass, with its own partial result."""
    leader = stage.start(A, max_new_tokens=12)
    follower = stage.start(B, max_new_tokens=12)
    on_decode = stage.model._backend.on_decode

    def fail_at_fourth() -> None:
        on_decode()
        if len(stage.drivers) == 4:
            raise DecodeError("planned")

    stage.model._backend.on_decode = fail_at_fourth
    stage.gates[1].set()
    for future, prompt, n_new in ((leader, A, 3), (follower, B, 2)):
        with pytest.raises(DecodeError) as caught:
            future.result(SECONDS)
        assert caught.value.partial[0].token_ids == reference_greedy(prompt, n_new)
    assert stage.model.complete([B], max_new_tokens=3)[0].token_ids == reference_greedy(B, 3)


@pytest.mark.parametrize("error", [KeyError("theirs"), SystemExit(3)])
def test_an_error_of_a_followers_function_is_the_followers(error):
    """Whoever drives when a caller's own function raises, that caller gets what it raised."""
    stage = Stage()

    def process(input_ids, scores):
        raise error

    leader = stage.start(A, max_new_tokens=6)
    ready = threading.Event()
    stage.changed.on_wait = ready.set
    follower = stage.pool.submit(stage.model.generate, [B], logits_processor=process)
    assert ready.wait(SECONDS)
    stage.gates[1].set()
    assert stage.result(leader) == reference_greedy(A, 6)
    assert follower.exception(SECONDS) is error
    assert stage.model._loop.idle
    stage.pool.shutdown()


def test_an_interrupt_while_tokens_are_chosen_loses_no_draw():
    """A row that was given its token before the interrupt keeps it: it draws on from there."""
    model = fake_model()
    options = {"max_new_tokens": 12, "do_sample": True, "top_k": 0, "temperature": 3.0, "seed": 7}
    whole = model.complete([A], **options)[0].token_ids
    stream = model.stream(A, **options)
    next(stream)

    def interrupt(input_ids, scores):
        raise KeyboardInterrupt

    with pytest.raises(GenerationInterrupted):
        model.generate([B], logits_processor=interrupt)
    list(stream)
    assert stream.completion.token_ids == whole


def test_a_score_that_no_longer_fits_does_not_wait_for_ever():
    """The row before it was pinned meanwhile, and leaves no slot: refused, and nothing is lost."""
    model = fake_model(max_sequences=1)
    stream = model.stream(A, max_new_tokens=1)
    stream._call.sequences[0].pins = True
    model._turns.submit(stream._call.request)
    model._backend.n_batch = 4
    model._loop.step()  # a part of its prompt
    for _ in range(2):
        with pytest.raises(BackendError, match="1 are pinned"):
            model.score(B)
    assert model._loop.kv_cache.n_pinned == 1


def test_an_alarm_rings_once_when_it_is_time():
    """``call_when`` calls at once, or after the step that makes it true, and never again."""
    model, rings = fake_model(), []
    model._turns.call_when(lambda: True, lambda: rings.append("now"))
    stream = model.stream(A, max_new_tokens=6)
    row = stream._call.sequences[0]
    model._turns.call_when(lambda: row.n_new >= 2, lambda: rings.append(row.n_new))
    assert rings == ["now"]
    list(stream)
    assert rings == ["now", 2]


def test_an_error_in_a_step_reaches_the_task_that_waits():
    """An asyncio task gets the error of the thread that drove for it.

    It once got its unfinished text, as if it had cancelled the call itself.
    """
    model = fake_model()

    def fail() -> None:
        raise MemoryError("no memory")

    model._backend.on_decode = fail
    with pytest.raises(MemoryError, match="no memory"):
        asyncio.run(model.acomplete([A], max_new_tokens=3))
    model._backend.on_decode = lambda: None
    done = asyncio.run(model.acomplete([A], max_new_tokens=3))
    assert done[0].token_ids == reference_greedy(A, 3)


def test_cancelling_what_is_over_or_was_never_submitted():
    """Neither waits, nor changes anything."""
    model = fake_model()
    stream = model.stream(A, max_new_tokens=2)
    request: Request = stream._call.request
    list(stream)
    model._turns.cancel(request)
    assert stream.completion.finish_reason == "length"
    model._turns.cancel(model.stream(B)._call.request)
    assert model._loop.idle
