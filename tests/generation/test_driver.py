"""Threads that take turns at one loop. Events say when a thread goes on; nothing here sleeps."""

from __future__ import annotations

import asyncio
import gc
import signal
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import count
from typing import Any

import pytest

from localgen import BackendError, ClosedError, DecodeError, GenerationInterrupted
from localgen.engine.request import Request
from localgen.engine.scheduler import Scheduler
from localgen.generation import driver
from localgen.generation.driver import Driver
from localgen.generation.text_arguments import text_arguments
from tests.fakes import FakeBackend, engine_of, fake_model, reference_greedy

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
        self.changed = self.model._driver._changed = Watched()
        self.model.backend.on_decode = self._on_decode
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
        future = self.pool.submit(lambda: self.model.complete([prompt], **options))
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
        else:  # it waits to end its call
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
    assert engine_of(stage.model).idle


def test_an_error_in_a_step_starts_all_rows_afresh(stage):
    """The thread that drove gets the error; the others' rows are computed again, and end right."""
    leader = stage.start(A, max_new_tokens=12)
    follower = stage.start(B, max_new_tokens=6)
    on_decode = stage.model.backend.on_decode

    def fail_once() -> None:
        on_decode()
        if len(stage.drivers) == 4:
            raise MemoryError("no memory")

    stage.model.backend.on_decode = fail_once
    stage.gates[1].set()
    with pytest.raises(MemoryError, match="no memory"):
        stage.result(leader)
    assert stage.result(follower) == reference_greedy(B, 6)
    assert engine_of(stage.model).idle


def test_close_ends_the_calls_of_other_threads(stage):
    """Both get ClosedError, each with its own partial result, and close() waits for one step only.

    One error object was once raised in all of them, with the partial result of the last.
    """
    leader = stage.start(A, max_new_tokens=12)
    follower = stage.start(B, max_new_tokens=12)
    on_decode = stage.model.backend.on_decode

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
    stage.model.backend.on_decode = close_at_third
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
    on_decode = stage.model.backend.on_decode

    def fail_at_fourth() -> None:
        on_decode()
        if len(stage.drivers) == 4:
            raise DecodeError("planned")

    stage.model.backend.on_decode = fail_at_fourth
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
    assert engine_of(stage.model).idle
    stage.pool.shutdown()


def test_an_interrupt_while_tokens_are_chosen_loses_no_draw():
    """A row that was given its token before the interrupt keeps it: it draws on from there."""
    model = fake_model()
    options: dict[str, Any] = {
        "max_new_tokens": 12,
        "do_sample": True,
        "top_k": 0,
        "temperature": 3.0,
        "seed": 7,
    }
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
    model._driver.submit(stream._call.request)
    model.backend.n_batch = 4
    engine_of(model).step()  # a part of its prompt
    for _ in range(2):
        with pytest.raises(BackendError, match="1 are pinned"):
            model.score(B)
    assert engine_of(model).kv_cache.n_pinned == 1


def test_who_watches_sees_each_step_and_the_end_of_a_turn():
    """Both may be what a task waits for: a token, and the end of a call by another thread."""
    model = fake_model()
    seen: list[int] = []
    stream = model.stream(A, max_new_tokens=3)
    row = stream._call.sequences[0]
    model._driver.watch(lambda: seen.append(row.n_new))
    list(stream)
    assert sorted(set(seen)) == [1, 2, 3]
    seen.clear()
    model.score(B)
    assert seen == [3]


def test_a_task_whose_time_has_come_already_does_not_wait():
    """A step that ends between two looks of a task wakes nobody, and none is needed."""
    model = fake_model()

    async def main() -> list[int]:
        call = model._requests.from_texts(text_arguments([A], max_new_tokens=5))
        (row,) = call.sequences
        counts = []
        async for _ in model._async_driver.steps(call.request, lambda: True):
            counts.append(row.n_new)
        return counts

    counts = asyncio.run(asyncio.wait_for(main(), SECONDS))
    assert counts == sorted(counts)
    assert counts[-1] == 5


def test_an_error_in_a_step_reaches_the_task_that_waits():
    """An asyncio task gets the error of the thread that drove for it.

    It once got its unfinished text, as if it had cancelled the call itself.
    """
    model = fake_model()

    def fail() -> None:
        raise MemoryError("no memory")

    model.backend.on_decode = fail
    with pytest.raises(MemoryError, match="no memory"):
        asyncio.run(model.acomplete([A], max_new_tokens=3))
    model.backend.on_decode = lambda: None
    done = asyncio.run(model.acomplete([A], max_new_tokens=3))
    assert done[0].token_ids == reference_greedy(A, 3)


def test_a_task_of_another_library_than_asyncio() -> None:
    """In trio; Python's own "no running event loop" does not say what to do."""
    model = fake_model()
    task = model.acomplete([A], max_new_tokens=2)
    with pytest.raises(RuntimeError, match=r"asyncio.*trio\.to_thread"):
        task.send(None)
    assert model.complete([A], max_new_tokens=2)[0].token_ids == reference_greedy(A, 2)


def test_cancelling_what_is_over_or_was_never_submitted():
    """Neither waits, nor changes anything."""
    model = fake_model()
    stream = model.stream(A, max_new_tokens=2)
    request: Request = stream._call.request
    list(stream)
    model._driver.cancel(request)
    assert stream.completion.finish_reason == "length"
    model._driver.cancel(model.stream(B)._call.request)
    assert engine_of(model).idle


# --- signals that fall where they hurt ---


def interrupted_before(monkeypatch: pytest.MonkeyPatch, owner: type, name: str) -> None:
    """Ctrl-C comes as the method is called for the first time."""
    method, calls = getattr(owner, name), iter(range(1))

    def interrupted(*args: Any, **options: Any) -> Any:
        if next(calls, None) is not None:
            signal.raise_signal(signal.SIGINT)
        return method(*args, **options)

    monkeypatch.setattr(owner, name, interrupted)


@pytest.mark.parametrize("name", ["_drive", "_give_turn_back", "_take_turn"])
def test_ctrl_c_around_a_turn(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A turn that was just taken, or is being given, is not kept for ever."""
    model = fake_model()
    interrupted_before(monkeypatch, Driver, name)
    with pytest.raises(GenerationInterrupted):
        model.complete([A], max_new_tokens=4)
    assert model.complete([A], max_new_tokens=4)[0].token_ids == reference_greedy(A, 4)
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(model.complete, [B], max_new_tokens=4)
        assert other.result(SECONDS)[0].token_ids == reference_greedy(B, 4)
    model.close()


@pytest.mark.parametrize("name", ["retire", "restart"])
def test_second_ctrl_c_while_the_first_ends_the_call(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No row is left running without a call that it belongs to."""
    model = fake_model(max_sequences=2)
    model.backend.on_decode = lambda: (
        signal.raise_signal(signal.SIGINT) if model.backend.count("decode") == 3 else None
    )
    interrupted_before(monkeypatch, Scheduler, name)
    with pytest.raises(GenerationInterrupted):
        model.complete([A, B], max_new_tokens=20)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert engine_of(model).idle
    assert engine_of(model).kv_cache.n_running == 0
    assert model.complete([B], max_new_tokens=4)[0].token_ids == reference_greedy(B, 4)


def test_second_ctrl_c_ends_a_function_of_the_callers_that_never_returns() -> None:
    """It is raised there at once, and the row that had no token yet is cancelled."""
    model = fake_model()

    def hang(_ids: Any, _scores: Any) -> Any:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        pytest.fail("the second Ctrl-C was not raised")

    with pytest.raises(GenerationInterrupted):
        model.generate([A], logits_processor=hang, max_new_tokens=4)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert engine_of(model).idle
    assert model.complete([A], max_new_tokens=4)[0].token_ids == reference_greedy(A, 4)


def test_second_ctrl_c_ends_closing_that_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Freeing waits for other threads that tokenize; closing again frees."""
    model = fake_model()

    def wait() -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        pytest.fail("the second Ctrl-C was not raised")

    with monkeypatch.context() as patch:
        patch.setattr(model.backend, "close", wait)
        with pytest.raises(KeyboardInterrupt):
            model.close()
    model.close()
    assert model.backend.closed


def test_second_ctrl_c_ends_the_waiting_for_a_thread_that_hangs(stage):
    """The first one ends the call, which needs the turn; whoever has it ends the request later."""
    leader = stage.start(A, max_new_tokens=4)
    stage.changed.on_wait = lambda: signal.raise_signal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        stage.model.complete([B], max_new_tokens=4)
    assert not stage.gates[1].is_set()
    stage.gates[1].set()
    assert stage.result(leader) == reference_greedy(A, 4)
    assert engine_of(stage.model).idle


# --- closing ---


def test_memory_is_freed_in_the_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another thread cannot come between the end of the calls and the end of the memory."""
    model = fake_model()
    close, drivers = model.backend.close, []

    def noting_close() -> None:
        drivers.append(model._driver._driver)
        close()

    monkeypatch.setattr(model.backend, "close", noting_close)
    model.close()
    assert drivers == [threading.get_ident()]
    for call in (lambda: model.score("a text"), lambda: model.save_session("never.lgs")):
        with pytest.raises(ClosedError):
            call()
    with pytest.raises(ClosedError), model._driver.alone():
        pytest.fail("there is nothing to use any more")


def test_end_of_python_waits_for_a_thread(stage: Stage) -> None:
    """What another thread generates ends before the memory does; nothing is freed under it."""
    call = stage.start(A, max_new_tokens=400)
    freed = []
    assert not stage.model._driver.close_within(0.01, ClosedError("x"), lambda: freed.append(1))
    assert not freed
    stage.gates[1].set()
    assert stage.model._driver.close_within(SECONDS, ClosedError("x"), lambda: freed.append(2))
    assert freed == [2]
    assert call.result(SECONDS)[0].finish_reason == "cancelled"


@pytest.mark.parametrize(
    ("is_forked", "ends"), [(True, True), (True, False), (False, True), (False, False)]
)
def test_end_of_python(is_forked: bool, ends: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is freed if no thread uses it any more; a fork, which has no threads, asks nobody."""
    model = fake_model()
    did: list[str] = []
    backend, own = model.backend, model._driver
    backend.is_forked = is_forked
    monkeypatch.setattr(backend, "close", lambda: did.append("close"))
    monkeypatch.setattr(backend, "leave", lambda: did.append("leave"))

    def close_within(_seconds: float, _error: BaseException, close: Callable[[], None]) -> bool:
        if ends:
            close()
        return ends

    monkeypatch.setattr(own, "close_within", close_within)
    monkeypatch.setattr(driver, "_open", [(weakref.ref(own), weakref.ref(backend))])
    driver._close_all()
    assert did == ["close" if is_forked or ends else "leave"]


def test_stream_that_is_closed_after_its_model() -> None:
    """There is nothing left to end."""
    model = fake_model()
    stream = model.stream(A, max_new_tokens=20)
    next(stream)
    model.close()
    stream.close()
    assert stream.completion.finish_reason == "cancelled"


# --- errors stay where they belong ---


def test_room_that_cannot_be_made(monkeypatch: pytest.MonkeyPatch, stage: Stage) -> None:
    """A context that llama.cpp refuses ends the call that needs it; the others go on, and right."""
    backend = stage.model.backend
    reserve = backend.reserve

    def refusing(n_slots: int, n_tokens: int, *args: Any, **options: Any) -> None:
        if n_tokens > 100:
            backend.lose_all()
            raise BackendError(f"no context of {n_tokens} tokens")
        reserve(n_slots, n_tokens, *args, **options)

    monkeypatch.setattr(backend, "reserve", refusing)
    small = stage.start(A, max_new_tokens=12)
    long = stage.start(B, max_new_tokens=300)
    stage.gates[1].set()
    with pytest.raises(BackendError, match="no context of 3"):
        long.result(SECONDS)
    assert stage.result(small) == reference_greedy(A, 12)


def test_error_where_no_row_waits_for_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no row's own: whoever drives gets it as it is, and the next call works."""
    model = fake_model()
    schedule, steps = Scheduler.schedule, count()

    def failing(self: Scheduler, *args: Any) -> Any:
        if next(steps) == 2:
            raise BackendError("of the third step")
        return schedule(self, *args)

    monkeypatch.setattr(Scheduler, "schedule", failing)
    with pytest.raises(BackendError, match="of the third step"):
        model.complete([A], max_new_tokens=8)
    assert model.complete([A], max_new_tokens=4)[0].token_ids == reference_greedy(A, 4)


def test_thread_that_cannot_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """At a limit of threads one task fails; the next does not wait for ever."""
    model = fake_model()

    def refuse(_: threading.Thread) -> None:
        monkeypatch.undo()
        raise RuntimeError("can't start new thread")

    async def main() -> None:
        monkeypatch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="new thread"):
            await model.acomplete([A], max_new_tokens=2)
        (done,) = await asyncio.wait_for(model.acomplete([A], max_new_tokens=4), SECONDS)
        assert done.token_ids == reference_greedy(A, 4)

    asyncio.run(main())


def test_error_of_a_callers_function_carries_what_there_is() -> None:
    """It ends the call, and the other rows' text is not lost."""
    model = fake_model()

    def fail(input_ids: Any, scores: Any) -> Any:
        if input_ids.shape[1] == len(A) + 3:
            raise RuntimeError("of the caller")
        return scores

    options: dict[str, Any] = {"max_new_tokens": 8, "return_dict_in_generate": True}
    with pytest.raises(RuntimeError, match="of the caller") as caught:
        model.generate([A], logits_processor=fail, **options)
    partial = caught.value.partial  # type: ignore[attr-defined]
    assert partial.sequences[0].tolist() == [*A, *reference_greedy(A, 3)]


@pytest.mark.parametrize("error", [KeyboardInterrupt, DecodeError])
def test_prefill_that_did_not_end_pins_nothing(error: type[BaseException]) -> None:
    """Nobody would ever release it."""
    model = fake_model(max_sequences=1, n_batch=16)
    passes = count(1)

    def fail_once() -> None:
        if next(passes) == 2:
            if error is KeyboardInterrupt:
                signal.raise_signal(signal.SIGINT)
            else:
                raise error("of the second pass")

    model.backend.on_decode = fail_once
    with pytest.raises(GenerationInterrupted if error is KeyboardInterrupt else error):
        model.prefill(A * 6)
    assert engine_of(model).kv_cache.n_pinned == 0
    assert model.complete([B], max_new_tokens=4)[0].token_ids == reference_greedy(B, 4)


def test_ctrl_c_in_score_is_raised_between_two_passes_and_leaves_the_model_usable() -> None:
    """Regression: one that came while the turn was given back left the model unusable."""
    model = fake_model(n_batch=1)
    before = model.score([65, 66, 67])

    def interrupt() -> None:
        model.backend.on_decode = lambda: None
        signal.raise_signal(signal.SIGINT)

    model.backend.on_decode = interrupt
    n_before = model.backend.n_decoded
    with pytest.raises(KeyboardInterrupt):
        model.score([65] * 50)
    assert model.backend.n_decoded - n_before == 1
    assert model.score([65, 66, 67]).tolist() == before.tolist()


def test_scoring_after_a_loss_forgets_what_was_lost_first() -> None:
    """Regression: a loss that was noticed only after scoring dropped what scoring had left."""
    model = fake_model(can_truncate=False)
    model.complete([[70] * 20], max_new_tokens=2)
    model.backend.lose_all()
    model.score([65] * 30)
    for i in range(4):
        prompt = [80 + i, 1, 2]
        done = model.complete([prompt], max_new_tokens=3)[0]
        assert done.token_ids == reference_greedy(prompt, 3)


def test_a_tokenizer_keeps_its_model_open() -> None:
    """Regression: of a model of which only the tokenizer was kept, it was closed."""
    closed: list[bool] = []
    backend = FakeBackend()
    weakref.finalize(backend, closed.append, True)
    tokenizer = fake_model(backend=backend).tokenizer
    del backend
    gc.collect()
    assert not closed
    assert tokenizer.encode("a") == [97]
