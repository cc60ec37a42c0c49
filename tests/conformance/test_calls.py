"""Any sequence of calls on one model gives what each call gives alone.

Hypothesis chooses the calls, and shrinks what fails. The fake backend checks every position and
makes logits from just what a slot holds: wrong bookkeeping shows as a wrong token, or as a broken
invariant after the call that broke it.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import run_state_machine_as_test

from localgen import LocalModel
from localgen.engine.backend import Logits
from tests.conformance.calls import Calls
from tests.conformance.compare import OPTIONS, Alone
from tests.conformance.invariants import check_contents, check_idle, watch
from tests.conformance.machine import (
    N_BEAMS,
    N_NEW,
    N_PIECES,
    PROMPT,
    PROMPTS,
    CallMachine,
    Prompt,
)
from tests.conftest import CHILD_SECONDS
from tests.fakes import EOS, FakeBackend, fake_model, hashed_letter, hashed_logits, reference_greedy

N_CTX = 256


def script(tokens: list[int]) -> int:
    """A letter that depends on every token so far, or sometimes EOS, so that rows end apart."""
    letter = hashed_letter(tokens)
    return EOS if letter == ord("q") else letter


class SlowLoop:
    """The oracle of the fake backend: exact."""

    def check(self, got: Prompt, prompt: Prompt, n_new: int, *, whole: bool = True) -> None:
        expected = reference_greedy(prompt, n_new, script)
        assert got == (expected if whole else expected[: len(got)])

    def sampled(self, prompt: Prompt, **options: Any) -> Prompt | None:
        fresh = fake_model(script, n_ctx=N_CTX, max_sequences=1)
        return fresh.complete([prompt], **options)[0].token_ids

    def scores(self, prompt: Prompt) -> Logits:
        found = []
        for n in range(1, len(prompt)):
            logits = hashed_logits(prompt[:n], script(prompt[:n])).astype(np.float64)
            found.append(logits[prompt[n]] - np.log(np.exp(logits).sum()))
        return np.array(found, np.float32)


SETTINGS: dict[str, dict[str, Any]] = {
    "plain": {"max_sequences": 8},
    "one slot": {"max_sequences": 1},
    "two slots": {"max_sequences": 2},
    "three slots": {"max_sequences": 3},
    "five slots, passes of five": {"max_sequences": 5, "n_batch": 5},
    "long passes": {"max_sequences": 4, "n_batch": 512},
    "little memory": {"max_sequences": 8, "budget": 700},
    "very little memory": {"max_sequences": 3, "budget": 300},
    "recurrent": {"max_sequences": 4, "can_truncate": False},
    "recurrent, little memory": {"max_sequences": 8, "can_truncate": False, "budget": 700},
    "recurrent, two slots": {"max_sequences": 2, "can_truncate": False, "n_batch": 5},
    "deterministic": {"max_sequences": 3, "deterministic": True},
}


def model_of(setting: str) -> LocalModel:
    options = SETTINGS[setting].copy()
    of_backend = ("n_batch", "budget", "can_truncate")
    backend = FakeBackend(script, **{k: options.pop(k) for k in of_backend if k in options})
    return fake_model(n_ctx=N_CTX, backend=backend, **options)


def examples(share: float) -> hypothesis.settings:
    """Return the settings of this run, with that part of the profile's examples."""
    return hypothesis.settings(max_examples=max(1, int(hypothesis.settings().max_examples * share)))


@pytest.mark.parametrize("setting", SETTINGS)
def test_any_calls(setting: str) -> None:
    """Protects every piece of bookkeeping: no sequence of calls gives a wrong token."""

    def machine() -> CallMachine:
        return CallMachine(Calls(model_of(setting), SlowLoop()), longest=200)

    run_state_machine_as_test(
        machine,  # type: ignore[arg-type]
        settings=examples(0.4 if setting == "plain" else 0.12),
    )


REAL_SETTINGS: dict[str, dict[str, Any]] = {
    "plain": {"max_sequences": 4, "n_batch": 64},
    # Of 512 tokens, what a token of the llamas takes: four slots of 512 tokens, or two of 1,024.
    "little memory": {"max_sequences": 8, "n_batch": 16, "kv_budget": 4 * 512 * 512},
}


@pytest.mark.parametrize("setting", REAL_SETTINGS)
def test_any_calls_on_llama_cpp(setting: str, path: Path, alone: Alone) -> None:
    """Protects what llama.cpp keeps of each slot: the text is that of the prompt alone."""

    def machine() -> CallMachine:
        model = LocalModel.from_pretrained(path, **{**OPTIONS, **REAL_SETTINGS[setting]})
        watch(model)
        return CallMachine(Calls(model, alone), longest=540)

    run_state_machine_as_test(
        machine,  # type: ignore[arg-type]
        settings=examples(0.04),
    )


def reads(calls: Calls, n_pieces: int) -> None:
    for opened in calls.streams[:1]:
        calls.read_stream(opened, n_pieces)


def closes(calls: Calls, drops: bool) -> None:
    for opened in calls.streams[:1]:
        (calls.drop_stream if drops else calls.close_stream)(opened)


def prefills(calls: Calls, prompt: Prompt) -> None:
    if not calls.prefixes:  # one for each thread, so that a slot is always left
        calls.prefill(prompt)


def releases(calls: Calls) -> None:
    for prefix in list(calls.prefixes):
        calls.release(prefix)


def call(method: Callable[..., object], *arguments: st.SearchStrategy[Any]) -> Any:
    """Return a strategy of functions that make this call for a thread's ``Calls``."""
    return st.builds(lambda *drawn: functools.partial(_make, method, drawn), *arguments)


def _make(method: Callable[..., object], drawn: tuple[Any, ...], calls: Calls) -> None:
    method(calls, *drawn)


SHORT = PROMPT.map(lambda prompt: prompt[:120])
SHORTS = PROMPTS.map(lambda prompts: [prompt[:120] for prompt in prompts])
CROWDED = st.one_of(
    call(Calls.complete, SHORTS, N_NEW),
    call(Calls.complete_several_each, SHORTS, N_NEW),
    call(Calls.complete_sampled, SHORTS, N_NEW, st.integers(0, 100)),
    call(Calls.complete_beams, SHORTS, N_NEW, N_BEAMS, st.booleans()),
    call(Calls.complete_some, SHORTS, N_NEW, st.integers(1, 5)),
    call(Calls.open_stream, SHORT, st.sampled_from([3, 12, 30])),
    call(reads, N_PIECES),
    call(closes, st.booleans()),
    call(prefills, SHORT),
    call(releases),
    call(Calls.score, SHORT),
    call(Calls.bad_processor, SHORT, st.integers(0, 4), st.booleans()),
    call(Calls.cancelled_from_a_thread, SHORTS, N_NEW),
    call(Calls.as_task, SHORTS, N_NEW, st.sampled_from([0.001, 60])),
)


@pytest.fixture
def switching() -> Iterator[None]:
    """Threads that are switched as often as Python can."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.usefixtures("switching")
@pytest.mark.parametrize("setting", ["plain", "five slots, passes of five", "recurrent"])
def test_any_calls_of_several_threads(setting: str) -> None:
    """Protects turns: threads that come and go at any moment get what they get alone."""
    n_threads = 3 if setting == "recurrent" else 4

    @examples(0.06)
    @hypothesis.given(st.tuples(*[st.lists(CROWDED, min_size=15, max_size=30)] * n_threads))
    def check(programs: tuple[list[Callable[[Calls], None]], ...]) -> None:
        model = model_of(setting)
        with ThreadPoolExecutor(n_threads) as pool:
            for future in [pool.submit(run, model, program) for program in programs]:
                future.result(CHILD_SECONDS)
        model.complete([[97]], max_new_tokens=1)
        check_idle(model)
        check_contents(model)

    check()


def run(model: LocalModel, program: list[Callable[[Calls], None]]) -> None:
    calls = Calls(model, SlowLoop(), is_alone=False)
    for make in program:
        make(calls)
        assert all(prefix.is_cached for prefix in calls.prefixes)
    for opened in list(calls.streams):
        calls.close_stream(opened)
    releases(calls)
