"""One call: prompts and options → sequences in a loop; finished sequences → results.

It knows the tokenizer's bytes and the engine, but neither files nor llama.cpp.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from localgen import options
from localgen.arrays import Prompts, pad_right, to_numpy, to_torch
from localgen.completion import Completion, GenerateOutput, Stats, TokenLogprob
from localgen.config import GenerationConfig
from localgen.engine.backend import Backend, Logits, TokenIds
from localgen.engine.loop import Loop
from localgen.engine.recorders import LogprobRecorder, StepRecorder, by_step
from localgen.engine.sampler import CustomProcessor, Sampler
from localgen.engine.sequence import Recorder, Sequence, StopCheck, TokenCounts, uniform_stream
from localgen.text_stream import TextStream
from localgen.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True, kw_only=True)
class Hooks:
    """The caller's functions, called a row at a time with arrays (1, …), or torch tensors."""

    logits_processor: tuple[Callable[..., Any], ...] = ()
    stopping_criteria: tuple[Callable[..., Any], ...] = ()
    use_torch: bool = False

    def processors(self) -> tuple[CustomProcessor, ...]:
        return tuple(map(self._processor, self.logits_processor))

    def stop_checks(self) -> tuple[StopCheck, ...]:
        return tuple(map(self._stop_check, self.stopping_criteria))

    def _given(self, row: Any) -> Any:
        """One row as the caller's functions take it: a batch of one."""
        return to_torch(row[None, :]) if self.use_torch else row[None, :]

    def _processor(self, function: Callable[..., Any]) -> CustomProcessor:
        def process(token_ids: TokenIds, scores: Logits) -> Any:
            given = self._given(token_ids.astype(np.int64)), self._given(scores)
            result = np.asarray(to_numpy(function(*given)))
            return result[0] if result.ndim == 2 and len(result) == 1 else result

        return process

    def _stop_check(self, function: Callable[..., Any]) -> StopCheck:
        def check(sequence: Sequence) -> bool:
            token_ids = sequence.tokens[: sequence.n_tokens].astype(np.int64)
            return bool(np.all(to_numpy(function(self._given(token_ids), None))))

        return check


class TextCheck:
    """Feeds a row's text stream with its tokens; stops the row at a stop string."""

    def __init__(self, stream: TextStream) -> None:
        self.stream = stream
        self.seconds = 0.0

    def __call__(self, sequence: Sequence) -> bool:
        started = time.perf_counter()
        stop = self.stream.push(sequence.last_token)
        self.seconds += time.perf_counter() - started
        return stop


class Call:
    """The rows of one call, ``num_return_sequences`` a prompt, and where its time went.

    started: ``time.perf_counter()`` when the call came in. text_seconds: how long of the time since
    then was tokenizing. widths: what ``max_length`` counts as the length of each prompt.
    """

    def __init__(
        self,
        backend: Backend,
        tokenizer: Tokenizer,
        config: GenerationConfig,
        prompts: list[TokenIds],
        *,
        n_ctx: int,
        widths: list[int],
        keep_text: bool = False,
        started: float,
        text_seconds: float = 0.0,
        hooks: Hooks | None = None,
    ) -> None:
        self._config = config
        self._tokenizer = tokenizer
        self._started = started
        self._tokenizing_seconds = text_seconds
        self._hooks = hooks or Hooks()
        n_vocab = backend.n_vocab
        options.warn_of_two_lengths(config)
        limits = [
            options.new_token_limit(config, len(prompt), width, n_ctx)
            for prompt, width in zip(prompts, widths, strict=True)
        ]
        self._seeds = options.row_seeds(config, len(prompts) * config.num_return_sequences)
        self._eos = options.eos_token_ids(config, tokenizer.eos_token_ids, n_vocab)
        sampling = options.sampling_options(config, n_vocab, self._hooks.processors())
        self._sampler = Sampler(sampling, n_vocab)
        self._counts_tokens = sampling.counts_tokens
        self._keep_text = keep_text or config.stop_strings is not None
        self.text_checks: list[TextCheck] = []
        self.sequences: list[Sequence] = []
        for prompt, limit in zip(prompts, limits, strict=True):
            self._add_rows(prompt, limit)
        deadline = None if config.max_time is None else started + config.max_time
        self.loop = Loop(backend, self.sequences, deadline)
        self._joining_seconds = 0.0
        self.active_seconds = time.perf_counter() - started
        self.loop.timings.overhead += self.active_seconds - text_seconds

    @contextmanager
    def clock(self) -> Iterator[None]:
        """Count the time inside as the call's."""
        before = time.perf_counter()
        try:
            yield
        finally:
            self.active_seconds += time.perf_counter() - before

    # --- rows ---

    def _add_rows(self, prompt: TokenIds, limit: int) -> None:
        first: Sequence | None = None
        for _ in range(self._config.num_return_sequences):
            sequence = self._sequence(prompt, limit, first)
            first = first or sequence
            self.sequences.append(sequence)

    def _sequence(self, prompt: TokenIds, limit: int, fork_of: Sequence | None) -> Sequence:
        row = len(self.sequences)
        checks = self._hooks.stop_checks()
        if self._keep_text:
            stop_strings = tuple(self._config.stop_strings or ())
            check = TextCheck(TextStream(self._tokenizer.text_bytes, stop_strings))
            self.text_checks.append(check)
            checks = (check, *checks)
        return Sequence(
            row=row,
            prompt_ids=prompt,
            max_new_tokens=limit,
            eos_token_ids=self._eos,
            sampler=self._sampler,
            uniform=uniform_stream(*self._seeds[row]),
            stop_checks=checks,
            recorders=self._recorders(),
            counts=TokenCounts(prompt, limit) if self._counts_tokens else None,
            fork_of=fork_of,
        )

    def _recorders(self) -> tuple[Recorder, ...]:
        config = self._config
        if config.logprobs is not None:
            return (LogprobRecorder(config.logprobs),)
        if config.output_scores or config.output_logits:
            return (
                StepRecorder(keep_logits=config.output_logits, keep_scores=config.output_scores),
            )
        return ()

    # --- results ---

    def completions(self) -> list[Completion]:
        """One a row, in order; a row that has not ended counts as cancelled."""
        started = time.perf_counter()
        streams = [check.stream for check in self.text_checks]
        for stream in streams:
            stream.finish()
        texts = [stream.text for stream in streams]
        spent = time.perf_counter() - started
        self._joining_seconds += spent
        self.active_seconds += spent
        return [
            Completion(
                text=text,
                token_ids=sequence.new_token_ids.tolist(),
                prompt_token_ids=sequence.prompt_ids.tolist(),
                finish_reason=sequence.finish_reason or "cancelled",
                stop_match=stream.stop_match,
                logprobs=_logprobs(sequence),
                stats=self._stats(sequence),
            )
            for sequence, text, stream in zip(self.sequences, texts, streams, strict=True)
        ]

    def output(self, prompts: Prompts, pad_token_id: int) -> GenerateOutput:
        """The rows as one matrix after the prompts as they were given, padded on the right."""
        given = np.repeat(prompts.matrix, self._config.num_return_sequences, axis=0)
        new = pad_right([sequence.new_token_ids for sequence in self.sequences], pad_token_id)
        wrap = to_torch if prompts.is_torch else _same
        scores, logits = self._steps()
        return GenerateOutput(
            sequences=wrap(np.concatenate([given, new], axis=1)),
            scores=None if scores is None else tuple(map(wrap, scores)),
            logits=None if logits is None else tuple(map(wrap, logits)),
            finish_reasons=[s.finish_reason or "cancelled" for s in self.sequences],
            stats=[self._stats(sequence) for sequence in self.sequences],
        )

    def _steps(self) -> tuple[tuple[Any, ...] | None, tuple[Any, ...] | None]:
        kept = [r for s in self.sequences for r in s.recorders if isinstance(r, StepRecorder)]
        n_vocab = self._tokenizer.vocab_size
        config = self._config
        return (
            by_step([recorder.scores for recorder in kept], n_vocab)
            if config.output_scores
            else None,
            by_step([recorder.logits for recorder in kept], n_vocab)
            if config.output_logits
            else None,
        )

    def _stats(self, sequence: Sequence) -> Stats:
        timings = self.loop.timings
        in_loop = sum(check.seconds for check in self.text_checks)
        seed, seed_row = self._seeds[sequence.row]
        return Stats(
            n_prompt=sequence.n_prompt,
            n_cached=sequence.n_cached,
            n_new=sequence.n_new,
            prefill_seconds=timings.prefill,
            decode_seconds=timings.decode,
            sample_seconds=timings.sample,
            text_seconds=self._tokenizing_seconds + in_loop + self._joining_seconds,
            overhead_seconds=timings.overhead - in_loop,
            wall_seconds=self.active_seconds,
            ttft=_seconds(self._started, sequence.first_token_at),
            tokens_per_second=_rate(sequence),
            n_rows=len(self.sequences),
            seed=seed if self._config.do_sample else None,
            seed_row=seed_row,
        )


def _same(array: Any) -> Any:
    return array


def _logprobs(sequence: Sequence) -> list[TokenLogprob] | None:
    for recorder in sequence.recorders:
        if isinstance(recorder, LogprobRecorder):
            return [TokenLogprob(*step) for step in recorder.steps]
    return None


def _seconds(start: float, end: float | None) -> float | None:
    return None if end is None else end - start


def _rate(sequence: Sequence) -> float | None:
    seconds = _seconds(sequence.first_token_at or 0.0, sequence.last_token_at)
    return (sequence.n_new - 1) / seconds if seconds and sequence.n_new > 1 else None


def as_hooks(
    logits_processor: Iterable[Callable[..., Any]] | None,
    stopping_criteria: Iterable[Callable[..., Any]] | None,
    use_torch: bool,
) -> Hooks:
    """Check that each is a function, or a list of functions as transformers' lists are."""
    return Hooks(
        logits_processor=_functions("logits_processor", logits_processor),
        stopping_criteria=_functions("stopping_criteria", stopping_criteria),
        use_torch=use_torch,
    )


def _functions(name: str, value: Any) -> tuple[Callable[..., Any], ...]:
    if value is None:
        return ()
    # transformers' LogitsProcessorList is a list that can be called too: a list comes first.
    functions = tuple(value) if isinstance(value, Iterable) else (value,)
    for function in functions:
        if not callable(function):
            raise ValueError(f"{name} must hold callables, got {function!r}")
    return functions
