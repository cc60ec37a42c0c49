"""Finished sequences → what a call returns."""

from __future__ import annotations

from typing import Any

import numpy as np

from localgen._util.arrays import is_torch, to_numpy, to_torch
from localgen.completion import (
    Completion,
    GenerateBeamOutput,
    GenerateOutput,
    Stats,
    TokenLogprob,
)
from localgen.engine.recorders import LogprobRecorder, StepRecorder, by_step
from localgen.engine.sampling.filters import log_softmax
from localgen.engine.sequence import Sequence, Speculation
from localgen.generation.call import GenerationCall
from localgen.generation.healing import is_healing
from localgen.generation.inputs import Matrix, pad_right
from localgen.generation.text_tracker import text_tracker
from localgen.text.replies.parser import ReplyParser
from localgen.text.replies.results import Reply


def completions(call: GenerationCall) -> list[Completion]:
    """Return one Completion for each sequence, in order; one that has not finished counts as
    cancelled."""
    texts = [_text(call, sequence) for sequence in call.sequences]
    call.leave()  # so that all of them have the same seconds
    return [
        _completion(call, sequence, text)
        for sequence, text in zip(call.sequences, texts, strict=True)
    ]


def reply_parser(call: GenerationCall, sequence: Sequence) -> ReplyParser | None:
    """Return a parser for a sequence's text, None for one that is not taken apart."""
    replies, number = call.prompts.replies, _prompt_index(call, sequence)
    start = replies and replies[number]
    # The text of a constrained sequence is what its constraint says.
    if start and call.configs[number].constraint is not None:
        start = start.constrained()
    return start.parser(sequence.prompt_ids.tobytes()) if start else None


def completion(call: GenerationCall, index: int) -> Completion:
    """Return the Completion of one sequence; see ``completions``."""
    sequence = call.sequences[index]
    return _completion(call, sequence, _text(call, sequence))


def _text(call: GenerationCall, sequence: Sequence) -> str:
    # It may be read while the sequence runs, which goes on as if it was not.
    with call.finishing_clock:
        return text_tracker(sequence).stream.text_if_over


def _reply(call: GenerationCall, sequence: Sequence, text: str) -> Reply:
    parser = reply_parser(call, sequence)
    if parser is None:
        return Reply(text=text, reasoning=None, tool_calls=())
    with call.finishing_clock:
        parser.feed(text)
        parser.finish()
        return parser.reply


def _completion(call: GenerationCall, sequence: Sequence, text: str) -> Completion:
    stop_match = text_tracker(sequence).stream.stop_match
    reply = _reply(call, sequence, text)
    return Completion(
        text=reply.text,
        reasoning=reply.reasoning,
        tool_calls=reply.tool_calls,
        token_ids=sequence.new_token_ids.tolist(),
        prompt_token_ids=sequence.prompt_ids.tolist(),
        finish_reason=sequence.finish_reason or "cancelled",
        stop_match=stop_match,
        logprobs=_logprobs(sequence),
        stats=stats(call, sequence),
        score=_score(call, sequence),
        **_checked(call, sequence, _constrained_text(call, sequence, text, reply), stop_match),
    )


def _constrained_text(call: GenerationCall, sequence: Sequence, text: str, reply: Reply) -> str:
    """Return what the constraint of a sequence says: all of its text, or the answer alone."""
    start = call.prompts.replies and call.prompts.replies[_prompt_index(call, sequence)]
    return text if start and start.is_enforced else reply.text


def _checked(
    call: GenerationCall, sequence: Sequence, text: str, stop_match: str | None
) -> dict[str, Any]:
    """Return ``parsed`` and ``is_valid`` of a sequence that has a constraint."""
    constraint = call.constraint_of.get(sequence)
    if constraint is None:
        return {}
    assert sequence.constraint is not None
    has_ended = sequence.finish_reason in ("eos", "stop") and stop_match is None
    if not has_ended or not sequence.constraint.may_end:
        return {"is_valid": False}
    try:
        return {"is_valid": True, "parsed": constraint.parse(text)}
    except ValueError:  # a class may ask for more than its schema says
        return {"is_valid": False}


def one_or_all(prompts: object, done: list[Completion]) -> Completion | list[Completion]:
    """Return what ``complete()`` does: the one Completion of a single text, else the list."""
    return done[0] if isinstance(prompts, str) and len(done) == 1 else done


def generated(call: GenerationCall) -> Any:
    """Return what ``generate()`` does: its dictionary if that was asked for, else the matrix."""
    output = generate_output(call)
    return output if call.configs[0].return_dict_in_generate else output.sequences


def prompt_rows(call: GenerationCall) -> Matrix:
    """Return the prompts that sequences start from, int64 (rows, length): as given, but for those
    whose end is generated again. These lack it, and are padded on the left."""
    rows = _given(call)
    for row, sequence in zip(rows, call.sequences, strict=True):
        if sequence.n_backed_up:
            row[:] = call.pad_token_id
            row[len(row) - sequence.n_prompt :] = sequence.prompt_ids
    return rows


def _given(call: GenerationCall) -> Matrix:
    """Return the prompts as given, int64 (rows, length), a row for each sequence."""
    assert call.prompts.matrix is not None
    counts = [config.num_return_sequences for config in call.configs]
    rows: Matrix = np.repeat(call.prompts.matrix, counts, axis=0)
    return rows


def generate_output(call: GenerationCall) -> GenerateOutput | GenerateBeamOutput:
    """Return the sequences as one matrix after their prompts, padded on the right.

    One that ended before it had spelled its prompt again is the prompt as given, and nothing new.
    """
    prompts, new_ids = prompt_rows(call), [each.new_token_ids for each in call.sequences]
    for index, sequence in enumerate(call.sequences):
        if is_healing(sequence):
            prompts[index], new_ids[index] = _given(call)[index], new_ids[index][:0]
    new = pad_right(new_ids, call.pad_token_id)
    wrap = to_torch if call.prompts.is_torch else _same
    scores, logits = _steps(call)
    call.leave()
    fields: dict[str, Any] = {
        "sequences": wrap(np.concatenate([prompts, new], axis=1)),
        "scores": None if scores is None else tuple(map(wrap, scores)),
        "logits": None if logits is None else tuple(map(wrap, logits)),
        "finish_reasons": [each.finish_reason or "cancelled" for each in call.sequences],
        "stats": [stats(call, sequence) for sequence in call.sequences],
    }
    if call.beams is None:
        return GenerateOutput(**fields)
    sums = np.array(call.beams.scores, np.float32) if call.configs[0].output_scores else None
    return GenerateBeamOutput(
        sequences_scores=None if sums is None else wrap(sums),
        beam_indices=wrap(call.beams.beam_indices),
        **fields,
    )


def transition_scores(
    sequences: Any, scores: Any, beam_indices: Any, *, normalize_logits: bool
) -> Any:
    """Return the score of each chosen token; see ``LocalModel.compute_transition_scores``."""
    ids = np.asarray(to_numpy(sequences))
    steps = [np.asarray(to_numpy(step)) for step in scores or ()]
    if ids.ndim != 2 or not steps or any(step.shape != steps[0].shape for step in steps):
        raise ValueError(
            "compute_transition_scores takes the sequences and scores of generate() with "
            "return_dict_in_generate=True and output_scores=True"
        )
    n_new, is_over = len(steps), None
    rows = np.repeat(np.arange(len(ids))[:, None], n_new, axis=1)
    if beam_indices is not None:
        rows = _checked_beams(beam_indices, len(ids), steps)
        n_new, is_over = rows.shape[1], rows < 0
    new = ids[:, ids.shape[1] - n_new :]
    found = np.empty(new.shape, np.float32)
    for index in range(n_new):
        values = log_softmax(steps[index]) if normalize_logits else steps[index]
        found[:, index] = values[rows[:, index], new[:, index]]
    if is_over is not None:
        found[is_over] = 0.0
    return to_torch(found) if is_torch(sequences) else found


def _checked_beams(beam_indices: Any, n_rows: int, steps: list[Any]) -> Any:
    """Return ``beam_indices`` (rows, new) as far as one of them is a beam's."""
    rows = np.asarray(to_numpy(beam_indices))
    if rows.ndim != 2 or len(rows) != n_rows or rows.max(initial=-1) >= len(steps[0]):
        raise ValueError(
            f"beam_indices must be those of the same generate() call, (rows, new) of integers "
            f"below {len(steps[0])}, got shape {rows.shape}"
        )
    return rows[:, : min(int((rows >= 0).sum(axis=1).max(initial=0)), len(steps))]


def stats(call: GenerationCall, sequence: Sequence) -> Stats:
    """Return the counts of one sequence, and where the time of its call went."""
    timings = call.request.timings
    in_engine, finishing = call.text_clock.seconds, call.finishing_clock.seconds
    counted = call.preparing_seconds + call.prompts.text_seconds + finishing + timings.total
    # More was counted than the caller waited if others drove while it was away.
    not_counted = max(0.0, call.elapsed - counted)
    # Where a search follows texts itself, their time is in that of choosing tokens.
    in_overhead = min(in_engine, timings.overhead)
    seed, seed_row = call.keys[sequence.index]
    samples = _config_of(call, sequence).do_sample
    speculation = sequence.speculation or Speculation()
    constraint = sequence.constraint
    n_forced, n_passes = (constraint.n_forced, constraint.n_passes) if constraint else (0, 0)
    return Stats(
        n_prompt=sequence.n_prompt,
        n_cached=sequence.n_cached,
        cache_miss_reason=sequence.cache_miss_reason,
        n_new=sequence.n_new,
        prefill_seconds=timings.prefill,
        decode_seconds=timings.decode,
        sample_seconds=timings.sample - (in_engine - in_overhead),
        draft_seconds=timings.draft,
        text_seconds=call.prompts.text_seconds + in_engine + finishing,
        overhead_seconds=call.preparing_seconds + timings.overhead - in_overhead + not_counted,
        wait_seconds=timings.wait,
        wall_seconds=counted + not_counted,
        ttft=_seconds(call.started, sequence.first_token_at),
        tokens_per_second=_rate(sequence),
        n_rows=len(call.sequences),
        n_threads=timings.n_threads,
        n_passes=speculation.n_passes or n_passes or sequence.n_new,
        n_drafted=speculation.n_drafted,
        n_accepted=speculation.n_accepted,
        n_forced=n_forced,
        no_speculation_because=speculation.none_because,
        kv_unified=sequence.kv_unified,
        flash_attention=", then ".join(sequence.flash_attention) or None,
        attention_kept_because=sequence.attention_obstacle,
        seed=seed if samples and not speculation.is_drawn else None,
        seed_row=seed_row,
    )


def _config_of(call: GenerationCall, sequence: Sequence) -> Any:
    """The config of a sequence's prompt."""
    return call.configs[_prompt_index(call, sequence)]


def _prompt_index(call: GenerationCall, sequence: Sequence) -> int:
    index = sequence.index
    for number, config in enumerate(call.configs):
        index -= config.num_return_sequences
        if index < 0:
            return number
    return len(call.configs) - 1


def _steps(call: GenerationCall) -> tuple[tuple[Any, ...] | None, tuple[Any, ...] | None]:
    """The scores and logits of each step, as far as they were asked for."""
    config, n_vocab = call.configs[0], call.n_vocab
    if call.beams is not None:
        kept = call.beams.steps
        return (
            tuple(kept.scores) if config.output_scores else None,
            tuple(kept.logits) if config.output_logits else None,
        )
    recorders = [
        StepRecorder(keep_logits=False, keep_scores=False) if is_healing(sequence) else recorder
        for sequence in call.sequences
        for recorder in sequence.recorders
        if isinstance(recorder, StepRecorder)
    ]
    return (
        by_step([each.scores for each in recorders], n_vocab) if config.output_scores else None,
        by_step([each.logits for each in recorders], n_vocab) if config.output_logits else None,
    )


def _score(call: GenerationCall, sequence: Sequence) -> float | None:
    return None if call.beams is None else call.beams.scores[sequence.index]


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
