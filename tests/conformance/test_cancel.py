"""Every way to leave a call early frees its slots, and the next call is right."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from localgen import ClosedError, Completion, GenerationInterrupted, LocalModel
from tests.conformance.compare import OPTIONS, Alone, prompt
from tests.conformance.invariants import backend_of, check_contents, check_idle, watch

N_NEW = 24
GREEDY: dict[str, Any] = {"max_new_tokens": N_NEW, "do_sample": False}
# No model ends one of these by itself soon.
PROMPTS = [prompt(20, 40), prompt(30, 3), prompt(39, 23)]
SECONDS = 60  # the end of a test that would hang


@pytest.fixture
def model(path: Path) -> Iterator[LocalModel]:
    """A model with two slots for three prompts, so that one row waits."""
    with LocalModel.from_pretrained(path, max_sequences=2, **OPTIONS) as model:
        watch(model)
        yield model


def at_pass(model: LocalModel, number: int, happen: Callable[[], object]) -> None:
    """Let ``happen()`` before the forward pass of that number from now."""
    passes = iter(range(1, 10_000))

    def on_decode() -> None:
        if next(passes) == number:
            happen()

    backend_of(model).on_decode = on_decode


def check_cut_off(rows: list[Completion], alone: Alone) -> None:
    assert "cancelled" in {row.finish_reason for row in rows}
    for row in rows:
        whole = row.finish_reason != "cancelled"
        alone.check(row.token_ids, row.prompt_token_ids, N_NEW, whole=whole)


def check_after(model: LocalModel, alone: Alone) -> None:
    """The next call is right, and nothing of the one before is left when it is over."""
    backend_of(model).on_decode = lambda: None
    for row in model.complete(PROMPTS, **GREEDY):
        alone.check(row.token_ids, row.prompt_token_ids, N_NEW)
    check_idle(model)
    check_contents(model)


@pytest.mark.parametrize("number", [1, 2, 9])
def test_an_event_frees_the_slots(number: int, model: LocalModel, alone: Alone) -> None:
    """Protects ``cancel=``, set from anywhere while the call runs."""
    cancel = threading.Event()
    at_pass(model, number, cancel.set)
    check_cut_off(model.complete(PROMPTS, cancel=cancel, **GREEDY), alone)
    check_idle(model)
    check_after(model, alone)


def test_an_event_that_is_set_already_computes_nothing(model: LocalModel) -> None:
    """Protects a call that comes too late: no forward pass, no tokens."""
    cancel = threading.Event()
    cancel.set()
    rows = model.complete(PROMPTS, cancel=cancel, **GREEDY)
    assert [(row.token_ids, row.finish_reason) for row in rows] == [([], "cancelled")] * 3
    assert backend_of(model).n_decoded == 0
    check_idle(model)


def test_an_event_ends_one_call_only(model: LocalModel, alone: Alone) -> None:
    """Protects the other rows of a pass that is stopped because one call's event was set."""
    cancel = threading.Event()
    stream = model.stream(PROMPTS[0], **GREEDY)
    next(stream)
    at_pass(model, 3, cancel.set)
    model.complete(PROMPTS[1:], cancel=cancel, **GREEDY)
    list(stream)
    alone.check_row(stream.completion, N_NEW)
    check_after(model, alone)


class HeldInit:
    """Makes the model's contexts only after ``go_on``; sets ``begun`` when the first one begins.

    made, freed: the handles, as numbers.
    """

    def __init__(self, model: LocalModel, patch: pytest.MonkeyPatch) -> None:
        self.go_on, self.begun = threading.Event(), threading.Event()
        self.made: list[int] = []
        self.freed: list[int] = []
        bindings = backend_of(model)._llama
        init, free = bindings.llama_init_from_model, bindings.llama_free

        def held(*args: Any) -> Any:
            self.begun.set()
            assert self.go_on.wait(SECONDS)
            handle = init(*args)
            self.made.append(handle)
            return handle

        def noted(handle: Any) -> None:
            self.freed.append(handle)
            free(handle)

        patch.setattr(bindings, "llama_init_from_model", held)
        patch.setattr(bindings, "llama_free", noted)


def cancelled_in_init(model: LocalModel, patch: pytest.MonkeyPatch, **options: Any) -> HeldInit:
    """Let a call be cancelled while its context is made, which goes on."""
    init = HeldInit(model, patch)
    rows = model.complete(PROMPTS, cancel=init.begun, **{**GREEDY, **options})
    assert [(row.token_ids, row.finish_reason) for row in rows] == [([], "cancelled")] * 3
    assert not init.made
    check_idle(model)
    return init


def test_an_event_is_heard_while_the_context_is_made(
    model: LocalModel, alone: Alone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Protects the caller of a large batch: C fills gigabytes with zeros before its first pass.

    A shorter call then takes over the context that was made.
    """
    init = cancelled_in_init(model, monkeypatch, max_new_tokens=400)
    init.go_on.set()
    check_after(model, alone)
    assert len(init.made) == 1


def test_a_context_too_small_for_the_next_call_is_freed(
    model: LocalModel, alone: Alone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Protects the memory of a call that was cancelled."""
    init = cancelled_in_init(model, monkeypatch)
    init.go_on.set()
    model.complete([PROMPTS[0]], max_new_tokens=600)
    assert init.freed == init.made[:1]
    assert len(init.made) == 2
    check_after(model, alone)


def test_a_second_event_is_heard_while_the_context_of_the_first_is_made(
    model: LocalModel, alone: Alone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Protects a caller who waits for what another one had asked for."""
    init = cancelled_in_init(model, monkeypatch)
    rows = model.complete(PROMPTS, max_time=0.001, **GREEDY)
    assert {row.finish_reason for row in rows} == {"time"}
    init.go_on.set()
    check_after(model, alone)


def test_closing_frees_the_context_of_a_cancelled_call(
    model: LocalModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Protects against a model that is freed while C makes its context."""
    init = cancelled_in_init(model, monkeypatch)
    closing = threading.Thread(target=model.close)
    closing.start()
    init.go_on.set()
    closing.join(SECONDS)
    assert len(init.made) == 1
    assert init.freed == init.made


def test_a_closed_stream_frees_its_slot(model: LocalModel, alone: Alone) -> None:
    """Protects ``close()``: at once, also twice, and before the first piece."""
    for n_pieces in (0, 1, 3):
        stream = model.stream(PROMPTS[0], **GREEDY)
        for _ in range(n_pieces):
            next(stream)
        stream.close()
        stream.close()
        check_idle(model)
        check_cut_off([stream.completion], alone)
        assert list(stream) == []
    check_after(model, alone)


def test_a_dropped_stream_frees_its_slot_at_the_next_step(model: LocalModel, alone: Alone) -> None:
    """Protects streams that nobody closes; with two slots, two left behind would fill them."""
    for _ in range(3):
        stream = model.stream(PROMPTS[0], **GREEDY)
        next(stream)
        del stream
        gc.collect()
    check_after(model, alone)


def test_leaving_complete_iter_frees_its_slots(model: LocalModel, alone: Alone) -> None:
    """Protects ``break``, and an iterator that was never begun."""
    model.complete_iter(PROMPTS, **GREEDY)
    check_idle(model)
    for _, row in model.complete_iter(PROMPTS, **GREEDY):
        alone.check_row(row, N_NEW)
        break
    gc.collect()
    check_after(model, alone)


def test_a_deadline_frees_the_slots(model: LocalModel, alone: Alone) -> None:
    """Protects ``max_time``: whatever was generated is a beginning of the right tokens."""
    rows = model.complete(PROMPTS, max_time=0.002, **GREEDY)
    check_idle(model)
    for row in rows:
        whole = row.finish_reason in ("eos", "length")
        alone.check(row.token_ids, row.prompt_token_ids, N_NEW, whole=whole)
    check_after(model, alone)


def test_ctrl_c_frees_the_slots(model: LocalModel, alone: Alone) -> None:
    """Protects the model of someone who interrupts a call and goes on."""
    for number in (1, 5):

        def interrupt() -> None:
            raise KeyboardInterrupt

        at_pass(model, number, interrupt)
        with pytest.raises(GenerationInterrupted) as caught:
            model.complete(PROMPTS, **GREEDY)
        check_cut_off(caught.value.partial, alone)
        check_idle(model)
    check_after(model, alone)


def test_a_cancelled_task_frees_its_slots(model: LocalModel, alone: Alone) -> None:
    """Protects asyncio: cancelling one task ends its rows, and those of the others go on."""

    async def main() -> list[Completion]:
        begun, go_on = asyncio.Event(), threading.Event()
        loop = asyncio.get_running_loop()

        def hold() -> None:
            loop.call_soon_threadsafe(begun.set)
            assert go_on.wait(SECONDS)

        at_pass(model, 2, hold)
        long = asyncio.create_task(model.acomplete([PROMPTS[0]], max_new_tokens=900))
        other = asyncio.create_task(model.acomplete([PROMPTS[1]], **GREEDY))
        await begun.wait()
        long.cancel()
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await long
        return await other

    (row,) = asyncio.run(main())
    alone.check_row(row, N_NEW)
    check_after(model, alone)


def test_leaving_astream_frees_its_slot(model: LocalModel, alone: Alone) -> None:
    """Protects ``break`` out of ``async for``."""

    async def main() -> None:
        stream = model.astream(PROMPTS[0], max_new_tokens=900)
        async for _ in stream:
            break
        await stream.aclose()

    asyncio.run(main())
    check_after(model, alone)


class Planned(Exception):
    pass


def test_a_model_that_is_closed_between_two_tokens_says_so(model: LocalModel) -> None:
    """Protects against an unfinished text that looks as if its caller had cancelled it.

    A call with a streamer once returned it, without an error.
    """

    class Streamer:
        n_put = 0

        def put(self, value: Any) -> None:
            self.n_put += 1
            if self.n_put == 4:
                model.close()

        def end(self) -> None:
            raise AssertionError

    with pytest.raises(ClosedError) as caught:
        model.generate([PROMPTS[0]], streamer=Streamer(), **GREEDY)
    assert caught.value.partial.sequences.shape == (1, 40 + 3)


def test_a_streamer_that_raises_frees_its_slot(model: LocalModel, alone: Alone) -> None:
    """Protects against a row that goes on for ever beside later calls, for nobody.

    Its request once stayed in the loop until it had all its tokens.
    """

    class Streamer:
        n_put = 0

        def put(self, value: Any) -> None:
            self.n_put += 1
            if self.n_put == 4:
                raise Planned

        def end(self) -> None:
            pass

    with pytest.raises(Planned):
        model.generate([PROMPTS[0]], streamer=Streamer(), **GREEDY)
    check_idle(model)
    check_after(model, alone)
