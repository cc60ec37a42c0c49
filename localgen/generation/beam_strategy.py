"""Decode the beams of a call: what ``engine.beams`` decides becomes tokens and copies of sequences.

The beams of a prompt are a group of the engine's sequences. One that dies becomes a copy of one
that goes on as two, in its place, so that the group stays the same; one for which there is no text
rests. What the call returns are sequences of their own, which the engine never sees: they are
filled with the best texts when the search is over.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from localgen.config import GenerationConfig
from localgen.engine import beams
from localgen.engine.backend import Logits
from localgen.engine.beams import BeamRules, Candidates, Continuations, Hypothesis, Path, Search
from localgen.engine.decoding import Output, Step, begin_masks, make_masks
from localgen.engine.recorders import LogprobRecorder
from localgen.engine.sampling import filters
from localgen.engine.sampling.allowed_tokens import allowed_tokens
from localgen.engine.sampling.chain import Sampler, requirements
from localgen.engine.sequence import FinishReason, Sequence
from localgen.engine.stopping import finish_reason
from localgen.engine.trackers import TokenCounts
from localgen.errors import DecodeError
from localgen.generation.beam_batch import BeamBatch

Reasons = list[FinishReason | None]

_NONE: Continuations = (np.zeros(0, np.intp), np.zeros(0, np.float32))


@dataclass(slots=True, eq=False)
class Group:
    """The search for one prompt.

    sequences: the engine's, as many as beams. results: what the call returns of them. beams: the
    sequence of each of ``search.beams``. logits: of those sequences that have them; the beams
    advance when all do. logprobs: a path's last step, if they were asked for. hypotheses: what
    ``results`` hold; empty until they are filled.
    """

    index: int
    sequences: list[Sequence]
    results: list[Sequence]
    rules: BeamRules
    search: Search
    beams: list[Sequence]
    logits: dict[Sequence, Logits] = field(default_factory=dict)
    logprobs: dict[Path, LogprobRecorder] = field(default_factory=dict)
    hypotheses: list[Hypothesis] = field(default_factory=list)

    @property
    def is_ready(self) -> bool:
        return not self.search.is_over and all(
            beam in self.logits and not beam.n_pending for beam in self.beams
        )


class BeamStrategy:
    """Searches for the best texts of each prompt of a call; implements ``DecodingStrategy``.

    sequences: the engine's, ``num_beams`` for each prompt. results: ``num_return_sequences`` for
    each. batch: what shows all beams to the caller's functions, so that they advance together; it
    may be set before the first step.
    """

    def __init__(
        self,
        config: GenerationConfig,
        sequences: list[Sequence],
        results: list[Sequence],
        n_vocab: int,
    ) -> None:
        self._config = config
        self.batch: BeamBatch | None = None
        self.groups = [
            _group(index, config, sequences, results)
            for index in range(len(sequences) // config.num_beams)
        ]
        self._group_of = {each: group for group in self.groups for each in group.sequences}
        self._checks = sequences[0].stop_checks
        for sequence in sequences:
            sequence.stop_checks = ()  # asked of candidates, not of those chosen among them
        self._only_counts = not self._checks and all(
            isinstance(tracker, TokenCounts) for tracker in sequences[0].trackers
        )
        self._weights: Logits = np.empty(n_vocab, np.float32)
        self.steps = StepRows(config, len(self.groups), n_vocab)

    # --- a step ---

    def advance(self, outputs: list[Output], step: Step) -> None:
        for output in outputs:
            if not output.sequence.n_pending:
                self._group_of[output.sequence].logits[output.sequence] = output.logits[-1]
        ready = [group for group in self.groups if group.is_ready]
        n_open = sum(not group.search.is_over for group in self.groups)
        if ready and (self.batch is None or len(ready) == n_open):
            self._advance(ready, step)
        for output in outputs:  # of those that rest, since the next pass overwrites them
            logits = self._group_of[output.sequence].logits
            if output.sequence in logits:
                logits[output.sequence] = logits[output.sequence].copy()

    def _advance(self, groups: list[Group], step: Step) -> None:
        make_masks(each for group in groups for each in group.logits)
        found = self._candidates(groups)
        reasons = {group: self._reasons(group, found[group]) for group in groups}
        if self.batch is not None:
            self._stop(self.batch, found, reasons)
        step.changing(groups[0].beams[0])
        for group in groups:
            self._choose(group, found[group], reasons[group], step)
        begin_masks(each for group in groups if not group.search.is_over for each in group.beams)
        if self.batch is not None:
            self.batch.follow({group.index: group.search.beams for group in groups})
        step.changing(None)

    def _choose(self, group: Group, found: Candidates, reasons: Reasons, step: Step) -> None:
        ends = np.array([reason is not None for reason in reasons], np.bool_)
        search = beams.advance(group.search, found, ends, group.rules)
        if self._config.logprobs is not None:
            self._record(group, search)
        group.search = search
        _note_time(group)
        if search.is_over:
            for sequence in group.sequences:
                step.drop(sequence)
        else:
            _continue(group, step)
        group.logits = {}

    # --- candidates ---

    def _candidates(self, groups: list[Group]) -> dict[Group, Candidates]:
        if self.batch is None and self._config.prefix_allowed_tokens_fn is None:
            return {group: self._candidates_of(group, None) for group in groups}
        rows = {group.index: self._rows(group) for group in groups}
        processed = rows if self.batch is None else self.batch.processed(rows)
        return {group: self._candidates_of(group, processed[group.index]) for group in groups}

    def _rows(self, group: Group) -> list[Logits]:
        """Return the log-probabilities (n_vocab,) of each beam after masks and processors.

        Tokens that ``prefix_allowed_tokens_fn`` allows, but which were all removed, are chosen from
        if that is so for every beam, as in transformers; otherwise such a beam dies.
        """
        rows = [self._processed(beam, group.logits[beam]) for beam in group.beams]
        is_left = any(row.max() > -np.inf for row in rows)
        if is_left or self._config.prefix_allowed_tokens_fn is None:
            return rows
        for beam in group.beams:
            allowed_tokens(beam).forces = True
        rows = [self._processed(beam, group.logits[beam]) for beam in group.beams]
        for beam in group.beams:
            allowed_tokens(beam).forces = False
        return rows

    def _candidates_of(self, group: Group, processed: Logits | list[Logits] | None) -> Candidates:
        """Return a group's candidates. processed: its rows, if they were processed already."""
        rows = []
        for number, beam in enumerate(group.beams):
            row = None if processed is None else processed[number]
            rows.append(self._continuations(group, number, beam, row))
        scores, n = group.search.scores, group.rules.n_candidates
        if self._config.do_sample:
            candidates = beams.drawn_candidates(rows, scores, n, group.sequences[0].uniform)
        else:
            candidates = beams.best_candidates(rows, scores, n)
        if not len(candidates):
            raise ValueError(
                f"prompt {group.index}: the logits processors left no token to choose for any of "
                f"its beams{requirements(group.beams[0])}; suppress fewer tokens or, in "
                f"Python, fix the processor"
            )
        return candidates

    def _continuations(
        self, group: Group, number: int, beam: Sequence, row: Logits | None
    ) -> Continuations:
        """Return the best tokens that may follow a beam, or all where they are drawn, and their
        log-probabilities after processors and filters.

        row: the log-probabilities (n_vocab,) after the processors, if they are known already.
        """
        logits, sampler = group.logits[beam], _sampler(beam)
        self._check_finite(group, beam, logits)
        shift = 0.0
        if row is None and (self._config.output_scores or sampler.edits(beam)):
            row = self._processed(beam, logits)
        if row is None:
            row, shift = logits, self._log_sum_exp(logits)
        else:
            if not self._config.do_sample:
                row = sampler.marked(row, beam)
            row = self._checked(group, row)
        self.steps.keep_logits(group, number, logits)
        if not self._config.do_sample:
            self.steps.keep_scores(group, number, None, row)
            ids = filters.top_k_candidates(row, min(group.rules.n_candidates, len(row)))
            return ids, row[ids] - np.float32(shift)
        if row.max() == -np.inf:  # this beam dies
            return _NONE
        ids, values = sampler.kept(row - np.float32(shift) if shift else row, beam)
        if self._config.renormalize_logits:
            values = filters.normalized(values)
        self.steps.keep_scores(group, number, ids, values)
        return ids, values

    def _check_finite(self, group: Group, beam: Sequence, logits: Logits) -> None:
        """Raise DecodeError unless the best of a row of logits is a number, or an option repairs
        it."""
        best = logits[logits.argmax()]  # NaN, if there is one
        if not np.isfinite(best) and not self._config.remove_invalid_values:
            raise DecodeError(
                f"prompt {group.index}: the model gave logits that are not finite after "
                f"{beam.n_tokens} tokens; the weights may be damaged, or the KV cache type too "
                f"imprecise"
            )

    def _checked(self, group: Group, row: Logits) -> Logits:
        """Return a row after all processors, normalized if an option says so and nothing comes
        after that. Raises ValueError if it has a NaN."""
        best = row[row.argmax()]
        if np.isnan(best):
            raise ValueError(
                f"prompt {group.index}: a logits processor gave a score that is NaN; scores must "
                f"be numbers, -inf for what must not come"
            )
        if self._config.renormalize_logits and not self._config.do_sample and best > -np.inf:
            return filters.normalized(row)
        return row

    def _processed(self, beam: Sequence, logits: Logits) -> Logits:
        """Return a beam's log-probabilities (n_vocab,) after masks and processors."""
        processed: Logits = _sampler(beam).process(filters.log_softmax(logits), beam).copy()
        return processed

    def _log_sum_exp(self, logits: Logits) -> float:
        best = float(logits.max())
        weights = filters.row_weights(logits, best, 1.0, out=self._weights)
        return best + float(np.log(weights.sum()))

    # --- why a candidate ends its text ---

    def _reasons(self, group: Group, found: Candidates) -> Reasons:
        pairs = zip(found.beams.tolist(), found.token_ids.tolist(), strict=True)
        return [self._reason(group.beams[beam], token_id) for beam, token_id in pairs]

    def _reason(self, beam: Sequence, token_id: int) -> FinishReason | None:
        if not self._only_counts:
            probe = beam.probe(token_id)
            probe.stop_checks = self._checks
            return finish_reason(probe)
        if token_id in beam.eos_token_ids:
            return "eos"
        return "length" if beam.n_tokens + 1 == len(beam.tokens) else None

    def _stop(
        self, batch: BeamBatch, found: dict[Group, Candidates], reasons: dict[Group, Reasons]
    ) -> None:
        """Note which candidates the caller's criteria end."""
        own = {group.index: candidates for group, candidates in found.items()}
        n_candidates = self.groups[0].rules.n_candidates
        flags = batch.stopped(own, n_candidates, self.steps.given)
        for group in found:
            for number in np.flatnonzero(flags[group.index]):
                reasons[group][number] = reasons[group][number] or "stop"

    # --- results ---

    def finish(self) -> None:
        """Fill the results: of a prompt whose sequences were ended from outside, its best texts so
        far."""
        for group in self.groups:
            if not group.hypotheses:
                self._fill(group)

    @property
    def scores(self) -> list[float]:
        """The score of each result; NaN while a search is not over."""
        return [
            each.score
            for group in self.groups
            for each in group.hypotheses or [Hypothesis(float("nan"), None)] * len(group.results)
        ]

    @property
    def beam_indices(self) -> npt.NDArray[np.int32]:
        """The beam, numbered through the prompts, that each new token of a result continued: int32
        (results, new), -1 after its end."""
        rows = [
            [step.beam + group.index * self._config.num_beams for step in _steps(each)]
            for group in self.groups
            for each in group.hypotheses
        ]
        found = np.full((len(rows), max(map(len, rows), default=0)), -1, np.int32)
        for target, row in zip(found, rows, strict=True):
            target[: len(row)] = row
        return found

    def _fill(self, group: Group) -> None:
        """Let a group's results be its best texts."""
        found = beams.results(group.search, group.rules, len(group.results))
        finished = set(group.search.hypotheses)
        leader = group.sequences[0]
        outside = leader.finish_reason or "cancelled"
        for result, hypothesis in zip(group.results, found, strict=True):
            for path in _steps(hypothesis):
                result.accept(path.token_id)
                if path in group.logprobs:
                    (recorder,) = result.recorders
                    assert isinstance(recorder, LogprobRecorder)
                    recorder.steps += group.logprobs[path].steps
            # Of a criterion of the caller's nothing is left to see.
            reason = (finish_reason(result) if result.n_new else None) or "stop"
            is_whole = hypothesis in finished or group.search.is_over
            result.finish_reason = reason if is_whole else outside
            result.n_cached, result.kv_unified = leader.n_cached, leader.kv_unified
            result.flash_attention = leader.flash_attention
            result.cache_miss_reason = leader.cache_miss_reason
        group.hypotheses = found

    def _record(self, group: Group, search: Search) -> None:
        """Record the last step of each path that is new in ``search``."""
        assert self._config.logprobs is not None
        ended = [each.path for each in search.hypotheses]
        for path in (*search.beams, *ended):
            if path is None or path in group.logprobs:
                continue
            recorder = group.logprobs[path] = LogprobRecorder(self._config.logprobs)
            logits = group.logits[group.beams[path.beam]]
            recorder.record(logits, lambda row=logits: row, path.token_id)  # type: ignore[misc]


class StepRows:
    """The scores and logits of each step, if they were asked for: float32 (prompts * beams,
    n_vocab), NaN where there was no beam."""

    def __init__(self, config: GenerationConfig, n_prompts: int, n_vocab: int) -> None:
        self._config = config
        self._n_rows = n_prompts * config.num_beams
        self._n_vocab = n_vocab
        self.scores: list[Logits] = []
        self.logits: list[Logits] = []

    @property
    def given(self) -> tuple[Logits, ...] | None:
        """What stopping criteria get: the scores, if they are kept."""
        return tuple(self.scores) if self._config.output_scores else None

    def keep_logits(self, group: Group, number: int, logits: Logits) -> None:
        """Keep the logits of a beam."""
        if self._config.output_logits:
            self._row(self.logits, group, number)[:] = logits

    def keep_scores(self, group: Group, number: int, ids: beams.Ids | None, scores: Logits) -> None:
        """Keep the ``scores`` of ``ids``, None for all, of a beam; others are -inf."""
        if self._config.output_scores:
            row = self._row(self.scores, group, number)
            row[:] = -np.inf
            row[slice(None) if ids is None else ids] = scores

    def _row(self, kept: list[Logits], group: Group, number: int) -> Logits:
        if group.search.n_new == len(kept):
            kept.append(np.full((self._n_rows, self._n_vocab), np.nan, np.float32))
        row: Logits = kept[group.search.n_new][group.index * self._config.num_beams + number]
        return row


def _group(
    index: int, config: GenerationConfig, sequences: list[Sequence], results: list[Sequence]
) -> Group:
    n_beams, n_results = config.num_beams, config.num_return_sequences
    own = sequences[index * n_beams : (index + 1) * n_beams]
    rules = BeamRules(
        n_beams=n_beams,
        n_candidates=beams.n_candidates(n_beams, len(own[0].eos_token_ids)),
        max_new_tokens=own[0].max_new_tokens,
        length_penalty=config.length_penalty,
        early_stopping=config.early_stopping,
    )
    returned = results[index * n_results : (index + 1) * n_results]
    return Group(index, own, returned, rules, beams.new_search(rules), list(own))


def _continue(group: Group, step: Step) -> None:
    """Give each beam a sequence: of those that continue the same one, the first keeps it, and the
    others get the sequences of beams that died."""
    paths = [path for path in group.search.beams if path is not None]
    parents = [group.beams[path.beam] for path in paths]
    free = [each for each in group.sequences if each not in parents]
    kept: set[Sequence] = set()
    group.beams = []
    for parent in parents:
        beam = free.pop() if parent in kept else parent
        kept.add(parent)
        if beam is not parent:
            step.replace(beam, parent)
        group.beams.append(beam)
    for path, beam in zip(paths, group.beams, strict=True):
        step.accept(beam, path.token_id)


def _steps(hypothesis: Hypothesis) -> list[Path]:
    return [] if hypothesis.path is None else hypothesis.path.steps()


def _note_time(group: Group) -> None:
    now = time.perf_counter()
    for result in group.results:
        if result.first_token_at is None:
            result.first_token_at = now
        result.last_token_at = now


def _sampler(sequence: Sequence) -> Sampler:
    assert isinstance(sequence.sampler, Sampler)
    return sequence.sampler
