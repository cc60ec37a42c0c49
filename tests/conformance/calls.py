"""Calls of every kind on one model, each compared with an oracle.

Nothing here knows the kind of backend, or chooses what to call next: the state machine does, and
the threads of ``test_calls.py`` do.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import pytest

from localgen import Completion, DecodeError, KvBudgetError, LocalModel
from localgen.engine.backend import Logits, PassStopped
from localgen.generation.prefix import Prefix
from localgen.generation.streaming import CompletionStream
from tests.conformance.invariants import backend_of, extended_ids, is_idle, n_cache_resets

Prompt = list[int]


class Oracle(Protocol):
    """What a model answers to a prompt alone, computed from its first token without any reuse."""

    def check(self, got: Prompt, prompt: Prompt, n_new: int, *, whole: bool = True) -> None:
        """Fail unless ``got`` are the greedy tokens after ``prompt`` or, if not ``whole``, the
        first of them."""

    def sampled(self, prompt: Prompt, **options: Any) -> Prompt | None:
        """Return the new tokens of a call alone, or None where they cannot be compared."""

    def scores(self, prompt: Prompt) -> Logits:
        """Return log P of each token after the first."""


class Planned(Exception):
    """An error that a test itself puts into a forward pass or a callback."""


@dataclass(eq=False)
class OpenStream:
    """A stream that is not read to its end. ``stream`` is None once it is dropped."""

    prompt: Prompt
    n_new: int
    stream: CompletionStream | None
    pieces: list[str] = field(default_factory=list)
    may_have_failed: bool = False

    def __repr__(self) -> str:
        return f"<stream of {len(self.prompt)} tokens>"


class Calls:
    """The calls of one thread: each method makes one and checks its result.

    streams: those that are open. prefixes: those that must be pinned. is_alone: False where other
    threads use the model too.
    """

    def __init__(self, model: LocalModel, oracle: Oracle, *, is_alone: bool = True) -> None:
        self.model, self.oracle, self.is_alone = model, oracle, is_alone
        self.backend = backend_of(model)
        self.streams: list[OpenStream] = []
        self.prefixes: list[Prefix] = []

    # --- what must come out ---

    def fits(self, lengths: Sequence[int]) -> bool:
        """Return whether the longest of these sequences may run, by the documented rule."""
        n_ctx = self.model.config.n_ctx
        # All slots are of one size.
        pinned = [len(prefix.token_ids) for prefix in self.prefixes]
        longest = max(*(min(length, n_ctx) for length in lengths), *pinned, 0)
        n_fit = self.backend.n_slots_that_fit(longest)
        n_slots: int = min(n_fit, self.model.config.max_sequences)
        return n_slots >= 1 + len(self.prefixes)

    def attempt(self, lengths: Sequence[int], call: Callable[[], Any]) -> Any:
        """Return ``call()``, or None after the error that is due where a sequence cannot fit."""
        if self.fits(lengths):
            return call()
        with pytest.raises(KvBudgetError):
            call()
        return None

    def check_rows(self, done: Sequence[Completion], prompts: list[Prompt], n_new: int) -> None:
        for row, prompt in zip(done, prompts, strict=True):
            whole = row.finish_reason in ("eos", "length")
            self.oracle.check(row.token_ids, prompt, n_new, whole=whole)
            assert row.prompt_token_ids == prompt

    def _complete(self, prompts: list[Prompt], n_new: int, **options: Any) -> Any:
        """Return the checked completions, or None where they cannot fit."""
        done = self.attempt(
            [len(prompt) + n_new for prompt in prompts],
            lambda: self.model.complete(prompts, max_new_tokens=n_new, **options),
        )
        if done is not None:
            self.check_rows(done, prompts, n_new)
        return done

    # --- whole calls ---

    def complete(self, prompts: list[Prompt], n_new: int) -> list[Completion]:
        """The tokens that the stats count are those that the forward passes computed."""
        is_quiet = self.is_alone and is_idle(self.model)
        resets, before = n_cache_resets(self.model), self.backend.n_decoded
        done = self._complete(prompts, n_new) or []
        if is_quiet and n_cache_resets(self.model) == resets:
            computed = [row.stats.n_prompt - row.stats.n_cached + row.stats.n_new for row in done]
            assert self.backend.n_decoded - before == sum(computed) - len(done)
        for row in done:
            assert not (row.stats.n_cached and row.stats.cache_miss_reason)
        return done

    def complete_several_each(self, prompts: list[Prompt], n_new: int) -> None:
        """With top_k=1 each of the sequences of a prompt is the greedy one."""
        options: dict[str, Any] = {"num_return_sequences": 3, "do_sample": True, "top_k": 1}
        done = self.attempt(
            [len(prompt) + n_new for prompt in prompts],
            lambda: self.model.complete(prompts, max_new_tokens=n_new, **options),
        )
        if done is not None:
            self.check_rows(done, [prompt for prompt in prompts for _ in range(3)], n_new)

    def complete_sampled(self, prompts: list[Prompt], n_new: int, seed: int) -> None:
        """Draws are those of a fresh model alone."""
        seeds = [seed + i for i in range(len(prompts))]
        options: dict[str, Any] = {
            "max_new_tokens": n_new,
            "do_sample": True,
            "top_k": 0,
            "temperature": 3.0,
        }
        done = self.attempt(
            [len(prompt) + n_new for prompt in prompts],
            lambda: self.model.complete(prompts, seed=seeds, **options),
        )
        for prompt, each, row in zip(prompts, seeds, done or (), strict=done is not None):
            alone = self.oracle.sampled(prompt, seed=each, **options)
            assert alone is None or row.token_ids == alone

    def complete_beams(
        self, prompts: list[Prompt], n_new: int, n_beams: int, samples: bool
    ) -> None:
        """Each text has the log-probabilities that it has alone, whichever beams it came from."""
        self._search(prompts, n_new, n_beams, do_sample=samples, seed=3 if samples else None)

    def beams_that_end(self, prompts: list[Prompt], n_new: int, n_beams: int, number: int) -> None:
        """Beams are cancelled in a forward pass: the texts so far are returned."""
        cancel = threading.Event()
        self.in_pass(number, cancel.set)
        self._search(prompts, n_new, n_beams, cancel=cancel)
        self._nothing_planned()

    def beams_that_are_lost(
        self, prompts: list[Prompt], n_new: int, n_beams: int, number: int
    ) -> None:
        """The KV cache is lost in a forward pass, which is stopped."""

        def stop() -> None:
            self.backend.lose_all()
            raise PassStopped

        self.in_pass(number, stop)
        self._search(prompts, n_new, n_beams)
        self._nothing_planned()

    def _search(self, prompts: list[Prompt], n_new: int, n_beams: int, **options: Any) -> None:
        n_most = self.model.config.max_sequences
        if n_beams > n_most:
            return
        longest = max(len(prompt) + n_new for prompt in prompts)
        n_slots = min(self.backend.n_slots_that_fit(longest), n_most)
        try:
            done = self.model.complete(
                prompts,
                max_new_tokens=n_new,
                num_beams=n_beams,
                num_return_sequences=n_beams,
                logprobs=0,
                **options,
            )
        except KvBudgetError:  # what is pinned leaves no room, here or in another thread
            assert n_slots < n_beams + len(self.prefixes) or self.prefixes or not self.is_alone
            return
        assert len(done) == n_beams * len(prompts)
        for row in done:
            n = len(row.token_ids)
            expected = self.oracle.scores([*row.prompt_token_ids, *row.token_ids])
            got = [step.logprob for step in row.logprobs or ()]
            np.testing.assert_allclose(got, expected[len(expected) - n :], atol=1e-2)

    def complete_some(self, prompts: list[Prompt], n_new: int, n_wanted: int) -> None:
        """Leave complete_iter() after some of its results."""

        def some() -> list[tuple[int, Completion]]:
            found = []
            for result in self.model.complete_iter(prompts, max_new_tokens=n_new):
                found.append(result)
                if len(found) == n_wanted:
                    break
            return found

        for index, row in self.attempt([len(p) + n_new for p in prompts], some) or ():
            self.check_rows([row], [prompts[index]], n_new)

    def generate_padded(self, prompts: list[Prompt], n_new: int) -> None:
        pad, width = prompts[0][0], max(map(len, prompts))
        ids = np.array([[pad] * (width - len(prompt)) + prompt for prompt in prompts])
        mask = np.array([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
        options: dict[str, Any] = {"pad_token_id": pad, "return_dict_in_generate": True}
        out = self.attempt(
            [len(prompt) + n_new for prompt in prompts],
            lambda: self.model.generate(ids, mask, max_new_tokens=n_new, **options),
        )
        if out is not None:
            new = out.sequences[:, width:].tolist()
            for row, stats, prompt in zip(new, out.stats, prompts, strict=True):
                self.oracle.check(row[: stats.n_new], prompt, n_new)
                assert set(row[stats.n_new :]) <= {pad}

    def score(self, prompt: Prompt) -> None:
        got = self.attempt([len(prompt)], lambda: self.model.score(prompt))
        if got is not None:
            np.testing.assert_allclose(got, self.oracle.scores(prompt), atol=1e-2)

    # --- streams ---

    def open_stream(self, prompt: Prompt, n_new: int) -> OpenStream | None:
        try:
            stream = self.model.stream(prompt, max_new_tokens=n_new)
        except KvBudgetError:  # it cannot even run alone; what is pinned shows when it is read
            assert not self.fits([len(prompt) + n_new])
            return None
        self.streams.append(OpenStream(prompt, n_new, stream))
        return self.streams[-1]

    def read_stream(self, opened: OpenStream, n_pieces: int) -> None:
        """Read some pieces, which may be all."""
        assert opened.stream is not None
        for _ in range(n_pieces):
            try:
                piece = next(opened.stream, None)
            except (DecodeError, Planned):
                assert opened.may_have_failed
                self._finish(opened)
                return
            except KvBudgetError:  # what was pinned since it was opened leaves no room
                assert not self.fits([len(opened.prompt) + opened.n_new])
                self._finish(opened)
                return
            if piece is None:
                assert "".join(opened.pieces) == opened.stream.completion.text
                self._finish(opened)
                return
            opened.pieces.append(piece)

    def close_stream(self, opened: OpenStream) -> None:
        """What a closed stream gave are the first tokens."""
        if opened.stream is not None:
            opened.stream.close()
            assert opened.stream.completion.text.startswith("".join(opened.pieces))
            self._finish(opened)

    def drop_stream(self, opened: OpenStream) -> None:
        """Nobody closes it: the next step ends its sequence."""
        if opened.stream is not None:
            self._finish(opened)

    def _finish(self, opened: OpenStream) -> None:
        assert opened.stream is not None
        self.check_rows([opened.stream.completion], [opened.prompt], opened.n_new)
        self.streams.remove(opened)
        opened.stream = None

    # --- prefixes ---

    def prefill(self, prompt: Prompt) -> Prefix | None:
        return self._pin(prompt, lambda: self.model.prefill(prompt))

    def extend(self, prefix: Prefix, text: str) -> Prefix | None:
        return self._pin(extended_ids(prefix, text), lambda: prefix.extend(text))

    def _pin(self, ids: Prompt, make: Callable[[], Prefix]) -> Prefix | None:
        if len(ids) >= self.model.config.n_ctx:
            return None
        prefix: Prefix | None = self.attempt([len(ids) + 1], make)
        if prefix is not None:
            assert prefix.token_ids.tolist() == ids
            self.prefixes.append(prefix)
        return prefix

    def release(self, prefix: Prefix) -> None:
        prefix.release()
        assert not prefix.is_cached
        self.prefixes = [other for other in self.prefixes if other is not prefix]

    def forget_lost_prefixes(self) -> None:
        """After the backend lost what it held, none of them need be cached any more."""
        self.prefixes = [prefix for prefix in self.prefixes if prefix.is_cached]

    # --- calls that something happens to ---

    def in_pass(self, number: int, happen: Callable[[], object]) -> None:
        """Call ``happen()`` in the forward pass of that number from now, before it computes."""
        left = iter(range(number - 1))

        def on_decode() -> None:
            if next(left, None) is None:
                self._nothing_planned()
                happen()

        self.backend.on_decode = on_decode

    def _nothing_planned(self) -> None:
        self.backend.on_decode = lambda: None

    def cancelled(self, prompts: list[Prompt], n_new: int, number: int) -> None:
        """The event is set in a forward pass: each sequence keeps its first tokens."""
        cancel = threading.Event()
        self.in_pass(number, cancel.set)
        self._complete(prompts, n_new, cancel=cancel)
        self._nothing_planned()

    def stopped_pass(self, prompts: list[Prompt], n_new: int, number: int, *, loses: bool) -> None:
        """A pass is stopped half-way, and may lose all by it: nothing of that shows."""

        def stop() -> None:
            if loses:
                self.backend.lose_all()
            raise PassStopped

        self.in_pass(number, stop)
        self._complete(prompts, n_new)
        self._nothing_planned()

    def failed_pass(self, prompts: list[Prompt], n_new: int, number: int) -> None:
        """A pass fails: its sequences end with what they had, and the next call is right."""
        self._fail(DecodeError("planned"), prompts, n_new, number)

    def broken_pass(self, prompts: list[Prompt], n_new: int, number: int) -> None:
        """An error of a kind that the engine does not know: it gives up all that was cached."""
        self._fail(Planned("planned"), prompts, n_new, number)

    def _fail(self, error: Exception, prompts: list[Prompt], n_new: int, number: int) -> None:
        def fail() -> None:
            if isinstance(error, Planned):
                self.prefixes = []
            for opened in self.streams:
                opened.may_have_failed = True
            raise error

        if not self.fits([len(prompt) + n_new for prompt in prompts]):
            return
        self.in_pass(number, fail)
        try:
            done = self.model.complete(prompts, max_new_tokens=n_new)
        except (DecodeError, Planned) as caught:
            done = getattr(caught, "partial", None) or []
        self._nothing_planned()
        self.check_rows(done, prompts[: len(done)], n_new)

    def bad_processor(self, prompt: Prompt, n_steps: int, makes_nan: bool) -> None:
        """A caller's function fails after some steps: only its own call ends."""

        def process(input_ids: Any, scores: Any) -> Any:
            if input_ids.shape[1] < len(prompt) + n_steps:
                return scores
            if makes_nan:
                return np.full_like(scores, np.nan)
            raise Planned

        if self.fits([len(prompt) + 6]):
            options: dict[str, Any] = {"min_new_tokens": 6, "max_new_tokens": 6}
            with pytest.raises(ValueError if makes_nan else Planned):
                self.model.generate([prompt], logits_processor=process, **options)

    # --- calls for several threads ---

    def cancelled_from_a_thread(self, prompts: list[Prompt], n_new: int) -> None:
        cancel = threading.Event()
        thread = threading.Thread(target=cancel.set)
        thread.start()
        self._complete(prompts, n_new, cancel=cancel)
        thread.join()

    def as_task(self, prompts: list[Prompt], n_new: int, timeout: float) -> None:
        """A task whose time runs out at any moment."""

        async def main() -> Any:
            call = self.model.acomplete(prompts, max_new_tokens=n_new)
            return await asyncio.wait_for(call, timeout)

        with contextlib.suppress(asyncio.TimeoutError):
            self.check_rows(asyncio.run(main()), prompts, n_new)
