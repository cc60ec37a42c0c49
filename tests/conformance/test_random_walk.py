"""Thousands of random calls of all kinds on one model object, each compared with the slow loop.

The fake backend checks every position, and makes logits from just what a slot holds: whatever the
bookkeeping of slots, entries and rows gets wrong shows as a wrong token, or as a broken invariant
after the call that broke it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from localgen import LocalModel
from localgen.engine.backend import Logits
from tests.conformance.compare import OPTIONS, Alone, watch
from tests.conformance.walk import Prompt, Walk
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
