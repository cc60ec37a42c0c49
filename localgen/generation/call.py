"""One call: prompts and options → sequences in a loop; finished sequences → results.

It knows the tokenizer's bytes and the engine, but neither files nor llama.cpp.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from localgen.completion import Completion, GenerateOutput, Stats, TokenLogprob
from localgen.config import GenerationConfig
from localgen.engine.backend import Logits, TokenIds
from localgen.engine.recorders import LogprobRecorder, StepRecorder, by_step
from localgen.engine.request import Request
from localgen.engine.sampling.chain import CustomProcessor, Sampler
from localgen.engine.sequence import Recorder, Sequence, StopCheck, TokenCounts, uniform_stream
from localgen.generation import resolve
from localgen.generation.inputs import Prompts, pad_right, to_numpy, to_torch
from localgen.text.detokenizer import Detokenizer
from localgen.text.tokenizer import Tokenizer


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


class Clock:
    """Seconds, added up."""

    def __init__(self) -> None:
        self.seconds = 0.0


class TextCheck:
    """Feeds a row's text stream with its tokens, on ``clock``; stops the row at a stop string."""

    def __init__(self, stream: Detokenizer, clock: Clock) -> None:
        self.stream = stream
        self._clock = clock

    def __call__(self, sequence: Sequence) -> bool:
        started = time.perf_counter()
        stop = self.stream.push(sequence.last_token)
        self._clock.seconds += time.perf_counter() - started
        return stop


class GenerationCall:
    """The rows of one call, ``num_return_sequences`` a prompt, and where its time went.

    configs: one for all prompts, or one each. started: ``time.perf_counter()`` when the call came
    in. text_seconds: how long of the time since then was tokenizing. widths: what ``max_length``
    counts as the length of each prompt. cancel: an event that ends the call.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        configs: list[GenerationConfig],
        prompts: list[TokenIds],
        *,
        n_ctx: int,
        widths: list[int],
        keep_text: bool = False,
        started: float,
        text_seconds: float = 0.0,
        hooks: Hooks | None = None,
        cancel: threading.Event | None = None,
    ) -> None:
        self._configs = configs if len(configs) == len(prompts) else configs * len(prompts)
        self._tokenizer = tokenizer
        self._started = started
        self._tokenizing_seconds = text_seconds
        self._hooks = hooks or Hooks()
        self._keep_text = keep_text
        for config in configs:
            resolve.warn_of_two_lengths(config)
        self._seeds = self._row_seeds(one_for_all=len(configs) == 1)
        self._row_configs: list[GenerationConfig] = []
        self._samplers: dict[int, Sampler] = {}
        self._text_clock = Clock()
        self.text_checks: list[TextCheck] = []
        self.sequences: list[Sequence] = []
        for config, prompt, width in zip(self._configs, prompts, widths, strict=True):
            self._add_rows(
                config, prompt, resolve.new_token_limit(config, len(prompt), width, n_ctx)
            )
        self.request = Request(self.sequences, cancel)
        self._joining_seconds = 0.0
        self._preparing_seconds = time.perf_counter() - started - text_seconds

    def _row_seeds(self, *, one_for_all: bool) -> list[tuple[int, int]]:
        """The key of each row's random stream; a config of its own counts its rows from 0."""
        if one_for_all:
            config = self._configs[0]
            return resolve.row_seeds(config, len(self._configs) * config.num_return_sequences)
        return [
            seed
            for config in self._configs
            for seed in resolve.row_seeds(config, config.num_return_sequences)
        ]

    # --- rows ---

    def _add_rows(self, config: GenerationConfig, prompt: TokenIds, limit: int) -> None:
        first: Sequence | None = None
        for _ in range(config.num_return_sequences):
            sequence = self._sequence(config, prompt, limit, first)
            first = first or sequence
            self._row_configs.append(config)
            self.sequences.append(sequence)

    def _sequence(
        self, config: GenerationConfig, prompt: TokenIds, limit: int, fork_of: Sequence | None
    ) -> Sequence:
        row = len(self.sequences)
        checks = self._hooks.stop_checks()
        if self._keep_text or config.stop_strings is not None:
            stop_strings = tuple(config.stop_strings or ())
            stream = Detokenizer(self._tokenizer.text_bytes, stop_strings)
            check = TextCheck(stream, self._text_clock)
            self.text_checks.append(check)
            checks = (check, *checks)
        sampler = self._sampler(config)
        return Sequence(
            row=row,
            prompt_ids=prompt,
            max_new_tokens=limit,
            eos_token_ids=resolve.eos_token_ids(
                config, self._tokenizer.eos_token_ids, self._tokenizer.vocab_size
            ),
            sampler=sampler,
            uniform=uniform_stream(*self._seeds[row]),
            stop_checks=checks,
            recorders=_recorders(config),
            counts=TokenCounts(prompt, limit) if sampler.counts_tokens else None,
            fork_of=fork_of,
            deadline=None if config.max_time is None else self._started + config.max_time,
        )

    def _sampler(self, config: GenerationConfig) -> Sampler:
        """One for all rows of a config."""
        if id(config) not in self._samplers:
            n_vocab = self._tokenizer.vocab_size
            sampling = resolve.sampling_options(config, n_vocab, self._hooks.processors())
            self._samplers[id(config)] = Sampler(sampling, n_vocab)
        return self._samplers[id(config)]

    # --- results ---

    def completions(self) -> list[Completion]:
        """One a row, in order; a row that has not ended counts as cancelled."""
        return [self.completion(row) for row in range(len(self.sequences))]

    def completion(self, row: int) -> Completion:
        """That of one row; see ``completions``."""
        started = time.perf_counter()
        stream, sequence = self.text_checks[row].stream, self.sequences[row]
        stream.finish()
        text = stream.text
        self._joining_seconds += time.perf_counter() - started
        return Completion(
            text=text,
            token_ids=sequence.new_token_ids.tolist(),
            prompt_token_ids=sequence.prompt_ids.tolist(),
            finish_reason=sequence.finish_reason or "cancelled",
            stop_match=stream.stop_match,
            logprobs=_logprobs(sequence),
            stats=self._stats(sequence),
        )

    def output(self, prompts: Prompts, pad_token_id: int) -> GenerateOutput:
        """The rows as one matrix after the prompts as they were given, padded on the right."""
        counts = [config.num_return_sequences for config in self._configs]
        given = np.repeat(prompts.matrix, counts, axis=0)
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
        config = self._configs[0]
        return (
            by_step([recorder.scores for recorder in kept], n_vocab)
            if config.output_scores
            else None,
            by_step([recorder.logits for recorder in kept], n_vocab)
            if config.output_logits
            else None,
        )

    def _stats(self, sequence: Sequence) -> Stats:
        timings = self.request.timings
        in_loop = self._text_clock.seconds
        outside = self._preparing_seconds + self._tokenizing_seconds + self._joining_seconds
        seed, seed_row = self._seeds[sequence.row]
        return Stats(
            n_prompt=sequence.n_prompt,
            n_cached=sequence.n_cached,
            not_reused=sequence.not_reused,
            n_new=sequence.n_new,
            prefill_seconds=timings.prefill,
            decode_seconds=timings.decode,
            sample_seconds=timings.sample,
            text_seconds=self._tokenizing_seconds + in_loop + self._joining_seconds,
            overhead_seconds=self._preparing_seconds + timings.overhead - in_loop,
            wall_seconds=outside + timings.total,
            ttft=_seconds(self._started, sequence.first_token_at),
            tokens_per_second=_rate(sequence),
            n_rows=len(self.sequences),
            kv_unified=sequence.kv_unified,
            seed=seed if self._row_configs[sequence.row].do_sample else None,
            seed_row=seed_row,
        )


def _recorders(config: GenerationConfig) -> tuple[Recorder, ...]:
    if config.logprobs is not None:
        return (LogprobRecorder(config.logprobs),)
    if config.output_scores or config.output_logits:
        return (StepRecorder(keep_logits=config.output_logits, keep_scores=config.output_scores),)
    return ()


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
