"""Thousands of random calls of all kinds on one model object, each compared with the slow loop.

The fake backend checks every position, and makes logits from just what a slot holds: whatever the
bookkeeping of slots, entries and rows gets wrong shows as a wrong token, or as a broken invariant
after the call that broke it.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from localgen import LocalModel
from localgen.engine.backend import Logits
from tests.conformance.compare import OPTIONS, Alone, watch
from tests.conformance.invariants import check_contents, check_idle
from tests.conformance.walk import Prompt, Walk
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


def fake_walk(seed: int, setting: str) -> Walk:
    options = SETTINGS[setting].copy()
    of_backend = ("n_batch", "budget", "can_truncate")
    backend = FakeBackend(script, **{k: options.pop(k) for k in of_backend if k in options})
    model = fake_model(n_ctx=N_CTX, backend=backend, **options)
    return Walk(model, SlowLoop(), seed, ids=range(97, 123), longest=200)


def take(walk: Walk, n_steps: int) -> None:
    """Walk on; an error says at which step."""
    for number in range(n_steps):
        try:
            walk.step()
        except BaseException as error:
            raise AssertionError(f"step {number}, {walk.kind}") from error


@pytest.mark.parametrize("setting", SETTINGS)
def test_random_walk(setting: str) -> None:
    """Protects every piece of bookkeeping: no sequence of calls gives a wrong token."""
    take(fake_walk(1, setting), 2000 if setting == "plain" else 600)


REAL_SETTINGS: dict[str, dict[str, Any]] = {
    "plain": {"max_sequences": 4, "n_batch": 64},
    # Of 512 tokens, what a token of the llamas takes: four slots of 512 tokens, or two of 1,024.
    "little memory": {"max_sequences": 8, "n_batch": 16, "kv_budget": 4 * 512 * 512},
}


@pytest.mark.parametrize("setting", REAL_SETTINGS)
def test_random_walk_on_llama_cpp(setting: str, path: Path, alone: Alone) -> None:
    """Protects what llama.cpp keeps of each slot: the text is that of the prompt alone."""
    with LocalModel.from_pretrained(path, **{**OPTIONS, **REAL_SETTINGS[setting]}) as model:
        watch(model)
        take(Walk(model, alone, 2, ids=range(100, 126), longest=540), 120)


class Crowded(Walk):
    """A walk beside others on the same model: nothing can be said of slots between its calls."""

    def kinds(self) -> dict[Callable[[], None], int]:
        return {
            self.complete: 30, self.complete_with_samples: 8, self.complete_sampled: 6,
            self.complete_some: 8, self.open_stream: 10, self.read_stream: 12,
            self.leave_stream: 8, self.prefill: 3, self.release: 6, self.score: 6,
            self.bad_processor: 4, self.cancelled_from_elsewhere: 8, self.as_task: 6,
        }  # fmt: skip

    def check(self) -> None:
        assert all(prefix.is_cached for prefix in self.prefixes)

    def prefill(self) -> None:
        if not self.prefixes:  # one for each walk, so that there is always a slot left
            super().prefill()

    def counts(self) -> bool:
        return False

    def cancelled_from_elsewhere(self) -> None:
        prompts, cancel = self.prompts(), threading.Event()
        timer = threading.Thread(target=cancel.set)
        timer.start()
        self.check_rows(self.model.complete(prompts, max_new_tokens=12, cancel=cancel), prompts, 12)
        timer.join()

    def as_task(self) -> None:
        prompts, timeout = self.prompts(), self.random.choice([0.001, 60])

        async def main() -> Any:
            call = self.model.acomplete(prompts, max_new_tokens=5)
            return await asyncio.wait_for(call, timeout)

        with contextlib.suppress(asyncio.TimeoutError):
            self.check_rows(asyncio.run(main()), prompts, 5)


@pytest.mark.parametrize("setting", ["plain", "five slots, passes of five", "recurrent"])
def test_random_walks_of_several_threads(setting: str) -> None:
    """Protects turns: threads that come and go at any moment get what they get alone."""
    n_walks = 4 if setting != "recurrent" else 3
    first = fake_walk(1, setting)
    walks = [
        Crowded(first.model, first.oracle, seed, ids=first.ids, longest=120)
        for seed in range(n_walks)
    ]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(n_walks) as pool:
            for future in [pool.submit(take, walk, 100) for walk in walks]:
                future.result(CHILD_SECONDS)
    finally:
        sys.setswitchinterval(interval)
    for walk in walks:
        for _, _, stream, _ in walk.streams:
            stream.close()
        for prefix in walk.prefixes:
            prefix.release()
    first.model.complete([[97]], max_new_tokens=1)
    check_idle(first.model)
    check_contents(first.model)
