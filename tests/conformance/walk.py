"""A random walk over a model's calls, of every kind, each compared with a slow oracle.

After each call the invariants of the engine are checked. It knows neither the kind of backend nor
where the oracle has its answers from.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import pytest

from localgen import BackendError, DecodeError, LocalModel
from localgen.engine.backend import Logits, PassStopped
from localgen.generation.prefix import Prefix
from localgen.generation.streaming import CompletionStream
from tests.conformance.invariants import check_contents, check_idle, check_slots, pinned
from tests.fakes import engine_of

Prompt = list[int]


class Oracle(Protocol):
    """What a model says of a prompt alone, computed from its start without any reuse."""

    def check(self, got: Prompt, prompt: Prompt, n_new: int, *, whole: bool = True) -> None:
        """AssertionError unless ``got`` are the greedy tokens after ``prompt``, or, if not
        ``whole``, a beginning of them."""

    def sampled(self, prompt: Prompt, **options: Any) -> Prompt | None:
        """New tokens of a call alone; None if they cannot be compared."""

    def scores(self, prompt: Prompt) -> Logits:
        """log P of each token after the first."""


class Planned(Exception):
    """An error that the walk itself puts into a forward pass."""


class Walk:
    """One model, what the walk holds of it (streams and prefixes), and a seeded generator."""

    def __init__(
        self, model: LocalModel, oracle: Oracle, seed: int, *, ids: range, longest: int
    ) -> None:
        """ids: token ids that prompts are made of. longest: of a prompt's shared beginning."""
        self.model, self.oracle = model, oracle
        self.backend: Any = model._backend
        self.random = random.Random(seed)
        self.ids, self.longest = ids, longest
        self.texts = [self._letters(longest) for _ in range(4)]
        self.kind = ""
        self.streams: list[tuple[Prompt, int, CompletionStream, list[str]]] = []
        self.prefixes: list[Prefix] = []
        self.n_cache_resets = self.backend.n_cache_resets

    # --- prompts ---

    def _letters(self, n: int) -> Prompt:
        return [self.random.choice(self.ids) for _ in range(n)]

    def prompt(self) -> Prompt:
        """The beginning of one of a few texts, often with an end of its own; at times long."""
        longest = self.random.choice([3, 20, 60, self.longest])
        beginning = self.random.choice(self.texts)[: self.random.randint(1, longest)]
        return beginning + self._letters(self.random.choice([0, 0, 1, 5, 20]))

    def prompts(self) -> list[Prompt]:
        return [self.prompt() for _ in range(self.random.randint(1, 5))]

    def n_new(self) -> int:
        return self.random.choice([1, 2, 5, 12])

    # --- a step of the walk ---

    def kinds(self) -> dict[Callable[[], None], int]:
        """The kinds of calls, and how often each comes."""
        return {
            self.complete: 30, self.complete_with_samples: 8, self.complete_sampled: 6,
            self.complete_some: 8, self.generate_padded: 5, self.cancelled: 8,
            self.open_stream: 10, self.read_stream: 12, self.leave_stream: 8,
            self.prefill: 8, self.release: 7, self.extend: 3, self.score: 6, self.chat: 10,
            self.stopped_pass: 5, self.failed_pass: 5, self.broken_pass: 2, self.bad_processor: 4,
        }  # fmt: skip

    def step(self) -> None:
        """One call of a random kind, and the invariants after it."""
        steps = self.kinds()
        if self.random.random() < 0.02:
            self.texts[self.random.randrange(4)] = self._letters(self.longest)
        (kind,) = self.random.choices(list(steps), weights=list(steps.values()))
        self.kind = kind.__name__
        kind()
        self.check()

    def check(self) -> None:
        if self.backend.n_cache_resets != self.n_cache_resets:
            self.n_cache_resets = self.backend.n_cache_resets
            self.prefixes = [prefix for prefix in self.prefixes if prefix.is_cached]
        check_slots(self.model)
        check_contents(self.model)
        held = {id(prefix._cached) for prefix in self.prefixes}
        assert {id(entry) for entry in pinned(self.model)} == held
        assert all(prefix.is_cached for prefix in self.prefixes)
        if not self.streams and engine_of(self.model).idle:
            check_idle(self.model)

    def fits(self, rows: list[tuple[Prompt, int]]) -> bool:
        """Whether the longest row may run, by the rule of the documentation."""
        n_ctx = self.model.config.n_ctx
        longest = max(min(len(prompt) + n_new, n_ctx) for prompt, n_new in rows)
        # All slots are of one size.
        longest = max(longest, *(len(prefix.token_ids) for prefix in self.prefixes), 0)
        n_fit = self.backend.n_slots_that_fit(longest)
        return min(n_fit, self.model.config.max_sequences) >= 1 + len(self.prefixes)

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
        alone, epoch, before = self.counts(), self.backend.n_cache_resets, self.backend.n_decoded
        done = self.attempt(
            [(prompt, n_new) for prompt in prompts],
            lambda: self.model.complete(prompts, max_new_tokens=n_new),
        )
        if done is None:
            return
        self.check_rows(done, prompts, n_new)
        if alone and self.backend.n_cache_resets == epoch:
            computed = [row.stats.n_prompt - row.stats.n_cached + row.stats.n_new for row in done]
            assert self.backend.n_decoded - before == sum(computed) - len(done)
        for row in done:
            assert not (row.stats.n_cached and row.stats.cache_miss_reason)

    def counts(self) -> bool:
        """Whether nothing but the next call will be computed."""
        return engine_of(self.model).idle

    def check_rows(self, done: Any, prompts: list[Prompt], n_new: int) -> None:
        for row, prompt in zip(done, prompts, strict=True):
            whole = row.finish_reason in ("eos", "length")
            self.oracle.check(row.token_ids, prompt, n_new, whole=whole)
            assert row.prompt_token_ids == prompt

    def complete_with_samples(self) -> None:
        prompts, n_new = self.prompts()[:3], self.n_new()
        done = self.attempt(
            [(prompt, n_new) for prompt in prompts],
            lambda: self.model.complete(
                prompts, max_new_tokens=n_new, num_return_sequences=3, do_sample=True, top_k=1
            ),
        )
        if done is not None:
            self.check_rows(done, [prompt for prompt in prompts for _ in range(3)], n_new)

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
            alone = self.oracle.sampled(prompt, seed=seed, **options)
            assert alone is None or row.token_ids == alone

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
            self.check_rows([row], [prompts[index]], n_new)

    def generate_padded(self) -> None:
        prompts, n_new, pad = self.prompts(), self.n_new(), self.ids[0]
        width = max(map(len, prompts))
        ids = np.array([[pad] * (width - len(prompt)) + prompt for prompt in prompts])
        mask = np.array([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
        options = {"pad_token_id": pad, "return_dict_in_generate": True}
        out = self.attempt(
            [(prompt, n_new) for prompt in prompts],
            lambda: self.model.generate(ids, mask, max_new_tokens=n_new, **options),
        )
        if out is not None:
            new = out.sequences[:, width:].tolist()
            for row, stats, prompt in zip(new, out.stats, prompts, strict=True):
                self.oracle.check(row[: stats.n_new], prompt, n_new)
                assert set(row[stats.n_new :]) <= {pad}

    def cancelled(self) -> None:
        """The caller's event is set in some forward pass: rows end with a beginning of theirs."""
        prompts, n_new, cancel = self.prompts(), self.n_new(), threading.Event()
        self.in_pass(self.random.randint(1, 6), cancel.set)
        done = self.attempt(
            [(prompt, n_new) for prompt in prompts],
            lambda: self.model.complete(prompts, max_new_tokens=n_new, cancel=cancel),
        )
        self.no_plan()
        if done is not None:
            self.check_rows(done, prompts, n_new)

    def open_stream(self) -> None:
        if len(self.streams) == 3:
            return
        prompt, n_new = self.prompt(), self.random.choice([3, 12, 30])
        try:
            stream = self.model.stream(prompt, max_new_tokens=n_new)
        except BackendError:  # it could not even run alone; what is pinned shows when it is read
            assert not self.fits([(prompt, n_new)])
            return
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
                self.check_rows([stream.completion], [prompt], n_new)
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
        self.check_rows([stream.completion], [prompt], n_new)

    def prefill(self) -> None:
        self._pin(self.prompt(), self.model.prefill)

    def extend(self) -> None:
        if self.prefixes:
            prefix, more = self.random.choice(self.prefixes), "and more"
            self._pin(prefix._with(more, split=False), lambda _: prefix.extend(more))

    def _pin(self, prompt: Prompt, make: Callable[[Prompt], Prefix]) -> None:
        if len(prompt) < self.model.config.n_ctx:
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
            self.check_rows(done, [prompt], n_new)
            beginning = [*prompt, *done[0].token_ids, *self._letters(2)]
            beginning = beginning[: self.longest]

    def score(self) -> None:
        prompt = self.prompt()
        got = self.attempt([(prompt, 0)], lambda: self.model.score(prompt))
        if got is not None:
            np.testing.assert_allclose(got, self.oracle.scores(prompt), atol=1e-2)

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
                self.backend.lose_all()
            raise PassStopped

        self.in_pass(self.random.randint(1, 6), stop)
        prompts, n_new = self.prompts(), self.n_new()
        done = self.attempt(
            [(prompt, n_new) for prompt in prompts],
            lambda: self.model.complete(prompts, max_new_tokens=n_new),
        )
        self.no_plan()
        if done is not None:
            self.check_rows(done, prompts, n_new)

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
        self.check_rows(done, prompts[: len(done)], n_new)
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

        if self.fits([(prompt, 6)]):
            options: dict[str, Any] = {"min_new_tokens": 6, "max_new_tokens": 6}
            with pytest.raises(ValueError if makes_nan else Planned):
                self.model.generate([prompt], logits_processor=process, **options)
