"""Finished sequences → what a call returns."""

from __future__ import annotations

from typing import Any

import numpy as np

from localgen._util.arrays import to_torch
from localgen.completion import Completion, GenerateOutput, Stats, TokenLogprob
from localgen.engine.recorders import LogprobRecorder, StepRecorder, by_step
from localgen.engine.sequence import Sequence
from localgen.generation.call import GenerationCall
from localgen.generation.inputs import pad_right
from localgen.generation.text_tracker import text_tracker


def completions(call: GenerationCall) -> list[Completion]:
    """Return one Completion for each sequence, in order; one that has not finished counts as
    cancelled."""
    return [completion(call, index) for index in range(len(call.sequences))]


def completion(call: GenerationCall, index: int) -> Completion:
    """Return the Completion of one sequence; see ``completions``."""
    sequence = call.sequences[index]
    with call.finishing_clock:
        stream = text_tracker(sequence).stream
        stream.finish()
        text = stream.text
    return Completion(
        text=text,
        token_ids=sequence.new_token_ids.tolist(),
        prompt_token_ids=sequence.prompt_ids.tolist(),
        finish_reason=sequence.finish_reason or "cancelled",
        stop_match=stream.stop_match,
        logprobs=_logprobs(sequence),
        stats=stats(call, sequence),
    )


def one_or_all(prompts: object, done: list[Completion]) -> Completion | list[Completion]:
    """Return what ``complete()`` does: the one Completion of a single text, else the list."""
    return done[0] if isinstance(prompts, str) and len(done) == 1 else done


def generated(call: GenerationCall) -> Any:
    """Return what ``generate()`` does: its dictionary if that was asked for, else the matrix."""
    output = generate_output(call)
    return output if call.configs[0].return_dict_in_generate else output.sequences


def generate_output(call: GenerationCall) -> GenerateOutput:
    """Return the sequences as one matrix after the prompts as given, padded on the right."""
    assert call.prompts.matrix is not None
    counts = [config.num_return_sequences for config in call.configs]
    given = np.repeat(call.prompts.matrix, counts, axis=0)
    new = pad_right([sequence.new_token_ids for sequence in call.sequences], call.pad_token_id)
    wrap = to_torch if call.prompts.is_torch else _same
    scores, logits = _steps(call)
    return GenerateOutput(
        sequences=wrap(np.concatenate([given, new], axis=1)),
        scores=None if scores is None else tuple(map(wrap, scores)),
        logits=None if logits is None else tuple(map(wrap, logits)),
        finish_reasons=[each.finish_reason or "cancelled" for each in call.sequences],
        stats=[stats(call, sequence) for sequence in call.sequences],
    )


def stats(call: GenerationCall, sequence: Sequence) -> Stats:
    """Return the counts of one sequence, and where the time of its call went."""
    timings = call.request.timings
    in_engine, finishing = call.text_clock.seconds, call.finishing_clock.seconds
    outside = call.preparing_seconds + call.prompts.text_seconds + finishing
    seed, seed_row = call.keys[sequence.index]
    samples = _config_of(call, sequence).do_sample
    return Stats(
        n_prompt=sequence.n_prompt,
        n_cached=sequence.n_cached,
        cache_miss_reason=sequence.cache_miss_reason,
        n_new=sequence.n_new,
        prefill_seconds=timings.prefill,
        decode_seconds=timings.decode,
        sample_seconds=timings.sample,
        text_seconds=call.prompts.text_seconds + in_engine + finishing,
        overhead_seconds=call.preparing_seconds + timings.overhead - in_engine,
        wall_seconds=outside + timings.total,
        ttft=_seconds(call.started, sequence.first_token_at),
        tokens_per_second=_rate(sequence),
        n_rows=len(call.sequences),
        kv_unified=sequence.kv_unified,
        seed=seed if samples else None,
        seed_row=seed_row,
    )


def _config_of(call: GenerationCall, sequence: Sequence) -> Any:
    """The config of a sequence's prompt."""
    index = sequence.index
    for config in call.configs:
        index -= config.num_return_sequences
        if index < 0:
            return config
    return call.configs[-1]


def _steps(call: GenerationCall) -> tuple[tuple[Any, ...] | None, tuple[Any, ...] | None]:
    """The scores and logits of each step, as far as they were asked for."""
    recorders = [r for s in call.sequences for r in s.recorders if isinstance(r, StepRecorder)]
    config, n_vocab = call.configs[0], call.n_vocab
    return (
        by_step([each.scores for each in recorders], n_vocab) if config.output_scores else None,
        by_step([each.logits for each in recorders], n_vocab) if config.output_logits else None,
    )


def _logprobs(sequence: Sequence) -> list[TokenLogprob] | None:
    for recorder in sequence.recorders:
        if isinstance(recorder, LogprobRecorder):
            return [TokenLogprob(*step) for step in recorder.steps]
    return None


def _same(array: Any) -> Any:
    return array


def _seconds(start: float, end: float | None) -> float | None:
    return None if end is None else end - start


def _rate(sequence: Sequence) -> float | None:
    seconds = _seconds(sequence.first_token_at or 0.0, sequence.last_token_at)
    return (sequence.n_new - 1) / seconds if seconds and sequence.n_new > 1 else None
