"""Thousands of random calls of all kinds on one model object, each compared with the slow loop.

The fake backend checks every position, and makes logits from just what a slot holds: whatever the
bookkeeping of slots, entries and rows gets wrong shows as a wrong token, or as a broken invariant
after the call that broke it.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from localgen import BackendError, DecodeError
from localgen.engine.backend import PassStopped
from localgen.prefix import Prefix
from localgen.stream import CompletionStream
from tests.conformance.invariants import (
    check_contents,
    check_idle,
    check_slots,
    pinned_entries,
)
from tests.fakes import EOS, FakeBackend, fake_model, hashed_letter, hashed_logits, reference_greedy

N_CTX = 256
Prompt = list[int]


def script(tokens: list[int]) -> int:
    """A letter that depends on every token so far, or sometimes EOS, so that rows end apart."""
    letter = hashed_letter(tokens)
    return EOS if letter == ord("q") else letter


def expected(prompt: Prompt, n_new: int) -> list[int]:
    return reference_greedy(prompt, n_new, script)


class Planned(Exception):
    """An error that the walk itself puts into a forward pass."""


class Walk:
    """One model, what the walk holds of it (streams and prefixes), and a seeded generator."""

    def __init__(self, seed: int, **options: Any) -> None:
        self.random = random.Random(seed)
        self.backend = FakeBackend(
            script,
            n_batch=options.pop("n_batch", 16),
            budget=options.pop("budget", None),
            can_truncate=options.pop("can_truncate", True),
        )
        self.model = fake_model(n_ctx=N_CTX, backend=self.backend, **options)
        self.texts = [self._letters(200) for _ in range(4)]
        self.kind = ""
        self.streams: list[tuple[Prompt, int, CompletionStream, list[str]]] = []
        self.prefixes: list[Prefix] = []

    # --- prompts ---

    def _letters(self, n: int) -> Prompt:
        return [self.random.randrange(97, 123) for _ in range(n)]

    def prompt(self) -> Prompt:
        """The beginning of one of a few texts, often with an end of its own; at times long."""
        longest = self.random.choice([3, 20, 60, 200])
        beginning = self.random.choice(self.texts)[: self.random.randint(1, longest)]
        return beginning + self._letters(self.random.choice([0, 0, 1, 5, 20]))

    def prompts(self) -> list[Prompt]:
        return [self.prompt() for _ in range(self.random.randint(1, 5))]

    def n_new(self) -> int:
        return self.random.choice([1, 2, 5, 12])

    # --- a step of the walk ---

    def step(self) -> None:
        """One call of a random kind, and the invariants after it."""
        steps: dict[Callable[[], None], int] = {
            self.complete: 30, self.complete_with_samples: 8, self.complete_sampled: 6,
            self.complete_some: 8, self.generate_padded: 5, self.cancelled: 8,
            self.open_stream: 10, self.read_stream: 12, self.leave_stream: 8,
            self.prefill: 8, self.release: 7, self.extend: 3, self.score: 6, self.chat: 10,
            self.stopped_pass: 5, self.failed_pass: 5, self.broken_pass: 2, self.bad_processor: 4,
        }  # fmt: skip
        self.texts[self.random.randrange(4)] = (
            self._letters(200) if self.random.random() < 0.02 else self.random.choice(self.texts)
        )
        (kind,) = self.random.choices(list(steps), weights=list(steps.values()))
        self.kind = kind.__name__
        kind()
        self.check()

    def check(self) -> None:
        check_slots(self.model)
        check_contents(self.model)
        held = {id(prefix._row.kept) for prefix in self.prefixes}
        assert {id(entry) for entry in pinned_entries(self.model)} == held
        assert all(prefix.is_cached for prefix in self.prefixes)
        if not self.streams and self.model._loop.idle:
            check_idle(self.model)

    def fits(self, rows: list[tuple[Prompt, int]]) -> bool:
        """Whether the longest row may run, by the rule of the documentation."""
        longest = max(min(len(prompt) + n_new, N_CTX) for prompt, n_new in rows)
        # All slots are of one size.
        longest = max(longest, *(len(prefix.token_ids) for prefix in self.prefixes), 0)
        n_fit = 1000 if self.backend.budget is None else self.backend.budget // longest
        n_most = self.model.config.max_sequences
        return min(n_fit, n_most) >= 1 + len(self.prefixes)

    def attempt(self, rows: list[tuple[Prompt, int]], call: Callable[[], Any]) -> Any:
        """``call()``; None after the error that is due for rows that can't fit."""
        if self.fits(rows):
            return call()
        with pytest.raises(BackendError, match="does not fit"):
            call()
        return None

    # --- kinds of calls ---

    def complete(self) -> None:
        prompts, n_new = self.prompts(), self.n_new()
        alone = self.is_alone()
        before = self.backend.n_decoded
        done = self.attempt(
            [(prompt, n_new) for prompt in prompts],
            lambda: self.model.complete(prompts, max_new_tokens=n_new),
        )
        if done is None:
            return
        assert [row.token_ids for row in done] == [expected(prompt, n_new) for prompt in prompts]
        if alone:
            computed = [row.stats.n_prompt - row.stats.n_cached + row.stats.n_new for row in done]
            assert self.backend.n_decoded - before == sum(computed) - len(done)
        for row in done:
            assert not (row.stats.n_cached and row.stats.not_reused)

    def is_alone(self) -> bool:
        """Whether nothing but the next call will be computed."""
        return self.model._loop.idle

    def complete_with_samples(self) -> None:
        prompts, n_new = self.prompts()[:3], self.n_new()
        done = self.attempt(
            [(prompt, n_new) for prompt in prompts],
            lambda: self.model.complete(
                prompts, max_new_tokens=n_new, num_return_sequences=3, do_sample=True, top_k=1
            ),
        )
        if done is not None:
            each = [expected(prompt, n_new) for prompt in prompts for _ in range(3)]
            assert [row.token_ids for row in done] == each

    def complete_sampled(self) -> None:
        """Draws are those of a fresh model alone."""
        prompts, n_new = self.prompts(), self.n_new()
        seeds = [self.random.randrange(100) for _ in prompts]
        options = {"max_new_tokens": n_new, "do_sample": True, "top_k": 0, "temperature": 3.0}
        done = self.attempt(
            [(prompt, n_new) for prompt in prompts],
            lambda: self.model.complete(prompts, seed=seeds, **options),
        )
        if done is None:
            return
        for prompt, seed, row in zip(prompts, seeds, done, strict=True):
            fresh = fake_model(script, n_ctx=N_CTX, max_sequences=1)
            assert row.token_ids == fresh.complete([prompt], seed=seed, **options)[0].token_ids

    def complete_some(self) -> None:
        """Leave complete_iter() after some of its results."""
        prompts, n_new = self.prompts(), self.n_new()
        n_wanted = self.random.randint(1, len(prompts))

        def some() -> list[tuple[int, Any]]:
            found = []
            for result in self.model.complete_iter(prompts, max_new_tokens=n_new):
                found.append(result)
                if len(found) == n_wanted:
                    break
            return found

        for index, row in self.attempt([(p, n_new) for p in prompts], some) or ():
            assert row.token_ids == expected(prompts[index], n_new)

    def generate_padded(self) -> None:
        prompts, n_new = self.prompts(), self.n_new()
        width = max(map(len, prompts))
        ids = np.array([[EOS] * (width - len(prompt)) + prompt for prompt in prompts])
        mask = np.array([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
        out = self.attempt(
            [(prompt, n_new) for prompt in prompts],
            lambda: self.model.generate(ids, mask, max_new_tokens=n_new, pad_token_id=EOS),
        )
        if out is not None:
            new = [expected(prompt, n_new) for prompt in prompts]
            longest = max(map(len, new))
            padded = [row + [EOS] * (longest - len(row)) for row in new]
            assert out[:, width:].tolist() == padded

    def cancelled(self) -> None:
        """The caller's event is set in some forward pass: rows end with a beginning of theirs."""
        prompts, n_new, cancel = self.prompts(), self.n_new(), threading.Event()
        self.in_pass(self.random.randint(1, 6), cancel.set)
        done = self.attempt(
            [(prompt, n_new) for prompt in prompts],
            lambda: self.model.complete(prompts, max_new_tokens=n_new, cancel=cancel),
        )
        self.no_plan()
        for prompt, row in zip(prompts, done or (), strict=done is not None):
            whole = expected(prompt, n_new)
            if row.finish_reason == "cancelled":
                assert row.token_ids == whole[: len(row.token_ids)]
            else:
                assert row.token_ids == whole

    def open_stream(self) -> None:
        if len(self.streams) == 3:
            return
        prompt, n_new = self.prompt(), self.random.choice([3, 12, 30])
        stream = self.attempt(
            [(prompt, n_new)], lambda: self.model.stream(prompt, max_new_tokens=n_new)
        )
        if stream is not None:
            self.streams.append((prompt, n_new, stream, []))

    def read_stream(self) -> None:
        """Some pieces of an open stream, perhaps all."""
        if not self.streams:
            return
        prompt, n_new, stream, pieces = item = self.random.choice(self.streams)
        for _ in range(self.random.choice([1, 3, 100])):
            try:
                piece = next(stream, None)
            except BackendError:  # what was pinned since the stream was opened leaves no room
                assert not self.fits([(prompt, n_new)])
                self.streams.remove(item)
                return
            if piece is None:
                self.streams.remove(item)
                assert stream.completion.token_ids == expected(prompt, n_new)
                assert "".join(pieces) == stream.completion.text
                return
            pieces.append(piece)

    def leave_stream(self) -> None:
        """Close or drop an open stream; what it gave is a beginning."""
        if not self.streams:
            return
        prompt, n_new, stream, pieces = self.streams.pop(self.random.randrange(len(self.streams)))
        if self.random.random() < 0.5:
            stream.close()
            assert stream.completion.text.startswith("".join(pieces))
        got = stream.completion.token_ids
        assert got == expected(prompt, n_new)[: len(got)]

    def prefill(self) -> None:
        self._pin(self.prompt(), self.model.prefill)

    def extend(self) -> None:
        if self.prefixes:
            prefix, more = self.random.choice(self.prefixes), self._letters(5)
            self._pin(
                [*prefix.token_ids.tolist(), *more],
                lambda _: prefix.extend(bytes(more).decode()),
            )

    def _pin(self, prompt: Prompt, make: Callable[[Prompt], Prefix]) -> None:
        if len(prompt) < N_CTX:
            prefix = self.attempt([(prompt, 1)], lambda: make(prompt))
            if prefix is not None:
                assert prefix.token_ids.tolist() == prompt
                self.prefixes.append(prefix)

    def release(self) -> None:
        if self.prefixes:
            self.prefixes.pop(self.random.randrange(len(self.prefixes))).release()

    def chat(self) -> None:
        """A prompt that goes on from an earlier prompt and its answer; or from a prefix."""
        beginning = self.prompt()[:100]
        if self.prefixes and self.random.random() < 0.5:
            beginning = self.random.choice(self.prefixes).token_ids.tolist()[:150]
        for _ in range(3):
            prompt, n_new = beginning, self.n_new()
            done = self.attempt(
                [(prompt, n_new)],
                lambda: self.model.complete([prompt], max_new_tokens=n_new),  # noqa: B023
            )
            if done is None:
                return
            assert done[0].token_ids == expected(prompt, n_new)
            beginning = [*prompt, *done[0].token_ids, *self._letters(2)]

    def score(self) -> None:
        prompt = self.prompt()
        got = self.attempt([(prompt, 0)], lambda: self.model.score(prompt))
        if got is not None:
            np.testing.assert_allclose(got, _scores(prompt), atol=1e-4)

    # --- calls into which something comes ---

    def in_pass(self, number: int, happen: Callable[[], object]) -> None:
        """Let ``happen()`` in the forward pass of that number from now, before it computes."""
        left = iter(range(number - 1))

        def on_decode() -> None:
            if next(left, None) is None:
                self.no_plan()
                happen()

        self.backend.on_decode = on_decode

    def no_plan(self) -> None:
        self.backend.on_decode = lambda: None

    def stopped_pass(self) -> None:
        """A pass is stopped inside, and perhaps all is lost by that: the rows end as ever."""
        loses = self.random.random() < 0.5

        def stop() -> None:
            if loses:
                self.backend.forget()
                self.backend.epoch += 1
                self.prefixes.clear()
            raise PassStopped

        self.in_pass(self.random.randint(1, 6), stop)
        # Not all kinds: a prefix that is lost while prompts are chosen is no longer pinned.
        prompts, n_new = self.prompts(), self.n_new()
        done = self.attempt(
            [(prompt, n_new) for prompt in prompts],
            lambda: self.model.complete(prompts, max_new_tokens=n_new),
        )
        self.no_plan()
        self.model.complete([[65]], max_new_tokens=1) if self.fits([([65], 1)]) else None
        if done is not None:
            each = [expected(prompt, n_new) for prompt in prompts]
            assert [row.token_ids for row in done] == each

    def failed_pass(self) -> None:
        """A forward pass fails: its rows end, with what they had; the next call is right."""
        self._fail(DecodeError("planned"))

    def broken_pass(self) -> None:
        """An error of no kind that the engine knows: all that was cached is given up."""
        self._fail(Planned("planned"))

    def _fail(self, error: Exception) -> None:
        def fail() -> None:
            if isinstance(error, Planned):
                self.prefixes.clear()
            raise error

        prompts, n_new = self.prompts(), self.n_new()
        if not self.fits([(prompt, n_new) for prompt in prompts]):
            return
        self.in_pass(self.random.randint(1, 4), fail)
        try:
            done = self.model.complete(prompts, max_new_tokens=n_new)
        except (DecodeError, Planned) as caught:
            done = getattr(caught, "partial", None) or []
        self.no_plan()
        for prompt, row in zip(prompts, done, strict=bool(done)):
            assert row.token_ids == expected(prompt, n_new)[: len(row.token_ids)]
        # Of an open stream, the error was told to whoever reads it next.
        self.streams = [item for item in self.streams if item[2]._call.request.error is None]

    def bad_processor(self) -> None:
        """A caller's function raises, or makes NaN, after some steps: only its own call ends."""
        prompt, left = self.prompt(), self.random.randint(0, 4)
        makes_nan = self.random.random() < 0.5

        def process(input_ids: Any, scores: Any) -> Any:
            if input_ids.shape[1] < len(prompt) + left:
                return scores
            if makes_nan:
                return np.full_like(scores, np.nan)
            raise Planned

        if len(prompt) + 6 < N_CTX and self.fits([(prompt, 6)]):
            whole = expected(prompt, 6)
            if len(whole) > left:
                with pytest.raises((Planned, ValueError, DecodeError)):
                    self.model.generate([prompt], max_new_tokens=6, logits_processor=process)


def _scores(prompt: Prompt) -> np.ndarray:
    """log P of each token after the first, from the whole beginning each time."""
    found = []
    for n in range(1, len(prompt)):
        logits = hashed_logits(prompt[:n], script(prompt[:n])).astype(np.float64)
        found.append(logits[prompt[n]] - np.log(np.exp(logits).sum()))
    return np.array(found)


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


@pytest.mark.parametrize("setting", SETTINGS)
def test_random_walk(setting: str) -> None:
    """Protects every piece of bookkeeping: no sequence of calls gives a wrong token."""
    walk = Walk(1, **SETTINGS[setting])
    for number in range(2000 if setting == "plain" else 600):
        try:
            walk.step()
        except BaseException as error:
            raise AssertionError(f"step {number}, {walk.kind}") from error
