"""One configuration's chain of processors, filters and draw; sequences with equal options share it.

The order is transformers': masks of constraints, processors, temperature, filters, watermark, draw.
The scores that are recorded are normalized last, if at all.

Most calls have no filters but top_k, top_p, min_p and typical_p, in that order; these share their
work here. All others run as ``steps``.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence as Items
from types import MappingProxyType

import numpy as np

from localgen.config import SamplingOptions
from localgen.engine.acceptance import Distribution, distribution
from localgen.engine.backend import Logits, TokenIds
from localgen.engine.constraint import ConstraintTracker
from localgen.engine.sampling import filters, keep
from localgen.engine.sampling.dry import Breakers
from localgen.engine.sampling.filters import CumSum, Ids, Weights
from localgen.engine.sampling.masks import limit, limits
from localgen.engine.sampling.mirostat import MirostatTracker
from localgen.engine.sampling.penalties import penalized, penalizes_counts
from localgen.engine.sampling.processors import (
    CustomProcessor,
    apply_masks,
    make_processors,
    may_remove,
    only_penalizes,
    score_each_alone,
)
from localgen.engine.sampling.scratch import Scratch
from localgen.engine.sampling.steps import (
    Candidates,
    Setup,
    Step,
    dry_penalties,
    make_steps,
    mirostat_tracker,
    uses_dry,
)
from localgen.engine.sampling.watermark import make_watermark
from localgen.engine.sequence import Sequence
from localgen.engine.trackers import Constraint, Mask, TokenCounts, Tracker
from localgen.errors import DecodeError

_LARGEST = float(np.finfo(np.float32).max) / 4
_NO_BREAKERS: Breakers = MappingProxyType({})


class Sampler:
    """Chooses the next token of a sequence; holds no state between calls.

    n_vocab: the width of a row of logits. custom: the caller's processors, which run last.
    breakers: where DRY's repetitions end.
    min_kept: how many tokens each filter keeps at least, transformers' ``min_tokens_to_keep``.
    scratch: rows (n_vocab,) that it may share with other samplers; None makes its own.

    needs_mask: whether each token needs the mask of a constraint. Without sampling the best token
    is asked about first, if options change the score of each token by itself.
    """

    def __init__(
        self,
        options: SamplingOptions,
        n_vocab: int,
        custom: Items[CustomProcessor] = (),
        breakers: Breakers = _NO_BREAKERS,
        *,
        min_kept: int = 1,
        scratch: Scratch | None = None,
    ) -> None:
        self._options = options
        self._n_vocab = n_vocab
        self._min_kept = min(min_kept, n_vocab)
        self._setup = Setup(
            options=options, n_vocab=n_vocab, breakers=breakers, at_least=self._min_kept
        )
        processed = _without_listed(options)
        self._processors = make_processors(processed, custom)
        self._only_penalizes = only_penalizes(processed, custom)
        self._may_force = not may_remove(processed, custom)
        if uses_dry(processed):
            self._processors.insert(len(self._processors) - len(custom), self._dry)
            self._only_penalizes = False
        self._steps = make_steps(self._setup) if _needs_steps(options) else None
        self._scratch = scratch or Scratch.of_size(n_vocab)
        self._temperature = np.float32(options.temperature)
        # Larger scores are shifted first: divided by the temperature, they would overflow.
        self._largest = _LARGEST * min(options.temperature, 1.0)
        self._min_p = options.min_p or 0.0
        self._top_k = max(options.top_k, self._min_kept)
        self._has_top_k = 0 < options.top_k < n_vocab
        self._watermark = make_watermark(options, n_vocab)
        self._scores_each_alone = score_each_alone(processed, custom)
        self.needs_mask = (
            options.do_sample or self._watermark is not None or not self._scores_each_alone
        )
        self._cuts = self._has_top_k or options.top_p < 1.0 or self._min_p > 0.0

    def new_trackers(self, prompt_ids: TokenIds, capacity: int) -> list[Tracker]:
        """Return the trackers that a new sequence needs; ``capacity``: the most tokens that it will
        accept."""
        options = self._options
        trackers: list[Tracker] = []
        if penalizes_counts(options):
            trackers.append(TokenCounts(prompt_ids, capacity))
        if options.do_sample and options.mirostat:
            trackers.append(MirostatTracker(options.mirostat_tau, options.mirostat_eta))
        return trackers

    def sample(self, logits: Logits, sequence: Sequence) -> int:
        """Return the next token id.

        ``logits``: float32 (n_vocab,) as the model gave them, writable, and the same afterwards.
        Raises DecodeError if they are not finite, ValueError if masks and processors leave nothing
        to choose.
        """
        masks, constraint = _masks(sequence), _limiting(sequence)
        if constraint is not None and not self.needs_mask:
            token_id = self._best_if_allowed(logits, sequence, masks, constraint)
            if token_id is not None:
                return token_id
        is_plain = not masks and not sequence.recorders and constraint is None
        if not is_plain or not self._only_penalizes:
            row = self._processed(logits, sequence, masks, constraint)
            return self.choose(row, logits, sequence)
        # Penalties touch few tokens: in place and taken back they cost less than a copied row.
        assert sequence.counts is not None
        seen = sequence.counts.seen
        values = logits[seen]
        logits[seen] = penalized(values, sequence, self._options)
        try:
            return self.choose(logits, logits, sequence)
        finally:
            logits[seen] = values

    def _best_if_allowed(
        self,
        logits: Logits,
        sequence: Sequence,
        masks: Items[Mask],
        constraint: ConstraintTracker,
    ) -> int | None:
        """Return the best token of all if the constraint allows it, as it mostly does: no mask need
        be made to see that."""
        row = self._processed(logits, sequence, masks, None)
        token_id = int(row.argmax())
        if not math.isfinite(row[token_id]) or not constraint.allows(token_id):
            return None
        for recorder in sequence.recorders:
            recorder.record(logits, lambda: self.scores(logits, sequence), token_id)
        return token_id

    def process(self, logits: Logits, sequence: Sequence) -> Logits:
        """Return ``logits`` (n_vocab,) after masks and processors, valid until the next call:
        itself where there are none."""
        return self._processed(logits, sequence, _masks(sequence), _limiting(sequence))

    def scores(self, logits: Logits, sequence: Sequence, at_least: int = 1) -> Logits:
        """Return the row (n_vocab,) that a token is drawn from, -inf where one is removed; without
        sampling, the row after masks and processors. Normalized if an option says so.

        at_least: how many tokens each filter keeps. The row is valid until the next call. Raises as
        ``sample``.
        """
        processed = self.process(logits, sequence)
        if not self._options.do_sample:
            return self._recorded(self.marked(processed, sequence))
        steps = make_steps(dataclasses.replace(self._setup, at_least=at_least))
        with np.errstate(over="ignore"):
            return self._recorded(self._row(self._filtered(processed, logits, sequence, steps)))

    def _dry(self, logits: Logits, sequence: Sequence) -> None:
        token_ids, penalties = dry_penalties(self._options, self._setup.breakers, sequence)
        logits[token_ids] -= penalties

    def _processed(
        self,
        logits: Logits,
        sequence: Sequence,
        masks: Items[Mask],
        constraint: ConstraintTracker | None,
    ) -> Logits:
        """``logits`` after masks and processors: itself when there are none, else the scratch."""
        if not self._processors and not masks and constraint is None:
            return logits
        row = self._scratch.row
        if constraint is None:
            np.copyto(row, logits)
        else:
            most = limits(constraint.allowed(), self._scratch.limits)
            limit(logits, most, row)
        apply_masks(row, masks)
        for process in self._processors:
            process(row, sequence)
        if self._processors and not self._scores_each_alone:
            # A constraint holds whatever a processor gave back.
            apply_masks(row, masks)
            if constraint is not None:
                limit(row, most, row)
        return row

    def edits(self, sequence: Sequence) -> bool:
        """Return whether ``process`` would change logits now."""
        is_limited = _limiting(sequence) is not None or self._watermark is not None
        return is_limited or bool(self._processors or _masks(sequence))

    @property
    def may_force(self) -> bool:
        """Whether a token that must come may be taken unasked: no processor could remove it."""
        return self._may_force

    def kept(self, processed: Logits, sequence: Sequence) -> tuple[Ids, Logits]:
        """Return the ids that temperature, filters and watermark leave of a row after the
        processors, and their scores after these."""
        if self._steps is not None:
            with np.errstate(over="ignore"):
                found = self._filtered(processed, processed, sequence, self._steps)
            return found.ids, found.scores
        ids = self._kept_ids(processed)
        if ids is None:
            ids = np.arange(self._n_vocab)
        return ids, processed[ids] / self._temperature

    def distribution(self, logits: Logits, sequence: Sequence) -> Distribution:
        """Return what ``sample`` draws from, of samplers that keep no state between tokens and draw
        no random numbers of their own. Raises as ``sample``."""
        processed = self.process(logits, sequence)
        self._check_best(float(processed.max()), logits, sequence)
        ids, scores = self.kept(processed, sequence)
        return distribution(ids, keep.weights(scores))

    def _kept_ids(self, processed: Logits) -> Ids | None:
        maxima = filters.column_maxima(processed) if self._cuts else processed
        best = float(maxima[maxima.argmax()])
        with np.errstate(over="ignore"):
            if abs(best) > self._largest:
                processed, best = filters.shifted(processed, best), 0.0
                maxima = filters.column_maxima(processed) if self._cuts else processed
            return self._kept(processed, maxima, best)[0]

    def choose(self, processed: Logits, logits: Logits, sequence: Sequence) -> int:
        """Return the token id by the row after all processors; ``logits`` are the model's own.

        Raises as ``sample``.
        """
        if not self._options.do_sample:
            processed = self.marked(processed, sequence)
            token_id = int(processed.argmax())
            # argmax stops at the first NaN, so checking the winner finds NaN and inf anywhere.
            self._check_best(float(processed[token_id]), logits, sequence)
            for recorder in sequence.recorders:
                recorder.record(logits, lambda: self._recorded(processed), token_id)
            return token_id
        # Scores far below the best overflow to -inf when divided, which is what they are worth.
        with np.errstate(over="ignore"):
            if self._steps is not None:
                return self._draw_by_steps(processed, logits, sequence, self._steps)
            return self._draw(processed, logits, sequence)

    def _draw_by_steps(
        self, processed: Logits, logits: Logits, sequence: Sequence, steps: list[Step]
    ) -> int:
        candidates = self._filtered(processed, logits, sequence, steps)
        weights = keep.weights(candidates.scores)
        position = filters.draw(weights, sequence.uniform())
        if self._options.mirostat:
            mirostat_tracker(sequence).chose(float(weights[position] / weights.sum()))
        token_id = int(candidates.ids[position])
        for recorder in sequence.recorders:
            recorder.record(logits, lambda: self._recorded(self._row(candidates)), token_id)
        return token_id

    def _filtered(
        self, processed: Logits, logits: Logits, sequence: Sequence, steps: list[Step]
    ) -> Candidates:
        best = float(processed.max())
        self._check_best(best, logits, sequence)
        if best == math.inf:
            processed = filters.shifted(processed, best)
        candidates = Candidates(np.arange(self._n_vocab), processed)
        for step in steps:
            candidates = step(candidates, sequence)
        if self._watermark is None:
            return candidates
        marked = self.marked(self._row(candidates), sequence)
        return Candidates(candidates.ids, marked[candidates.ids])

    def marked(self, scores: Logits, sequence: Sequence) -> Logits:
        """Return a row (n_vocab,) with the watermark, if there is one."""
        if self._watermark is None:
            return scores
        return self._watermark.applied(scores, sequence.token_ids)

    def _row(self, candidates: Candidates) -> Logits:
        """The scores of all tokens, (n_vocab,), -inf where one is no candidate."""
        if len(candidates.ids) == self._n_vocab:
            return candidates.scores
        row = np.full(self._n_vocab, -np.inf, np.float32)
        row[candidates.ids] = candidates.scores
        return row

    def _draw(self, processed: Logits, logits: Logits, sequence: Sequence) -> int:
        maxima = filters.column_maxima(processed) if self._cuts else processed
        best = float(maxima[maxima.argmax()])
        self._check_best(best, logits, sequence)
        if abs(best) > self._largest:
            processed, best = filters.shifted(processed, best), 0.0
            maxima = filters.column_maxima(processed) if self._cuts else processed
        ids, weights, cumsum = self._kept(processed, maxima, best)
        uniform = sequence.uniform()
        if cumsum is None:
            position = filters.draw(weights, uniform)
        else:
            position = filters.draw_from_cumsum(cumsum, uniform)
        token_id = position if ids is None else int(ids[position])
        for recorder in sequence.recorders:
            recorder.record(logits, lambda: self._recorded(self._scores(processed, ids)), token_id)
        return token_id

    def _kept(
        self, logits: Logits, maxima: Logits, best: float
    ) -> tuple[Ids | None, Weights, CumSum | None]:
        """The ids that all filters keep (None: all, in their order), their weights, and the
        cumulative sums of these where a filter needed them."""
        options = self._options
        candidates = self._candidates(logits, maxima, best)
        ids: Ids | None = None
        cumsum: CumSum | None = None
        weights: Weights
        if candidates is None:
            weights = filters.row_weights(logits, best, options.temperature, self._scratch.weights)
        else:
            ids, weights, cumsum = self._cut(logits, *candidates)
        if options.typical_p < 1.0:
            kept = filters.typical(weights, options.typical_p, self._min_kept)
            ids, weights, cumsum = kept if ids is None else ids[kept], weights[kept], None
        return ids, weights, cumsum

    def _candidates(
        self, logits: Logits, maxima: Logits, best: float
    ) -> tuple[Ids, float | None] | None:
        """The ids that top_k, top_p and min_p can keep (None: all are off) and, where top_p is the
        first of them, the sum of all weights."""
        options = self._options
        temperature = options.temperature
        total: float | None = None
        if self._has_top_k:
            return filters.top_k_candidates(logits, self._top_k, maxima), None
        if options.top_p < 1.0:
            ids, total = filters.top_p_candidates(
                logits, maxima, best, temperature, options.top_p, self._scratch.weights
            )
        elif self._min_p > 0.0:
            ids = filters.min_p_candidates(logits, maxima, best, temperature, self._min_p)
        else:
            return None
        if len(ids) < self._min_kept:
            ids = filters.top_k_candidates(logits, self._min_kept, maxima)
        return ids, total

    def _cut(
        self, logits: Logits, ids: Ids, total: float | None
    ) -> tuple[Ids, Weights, CumSum | None]:
        """The candidates that top_k, top_p and min_p keep, likeliest first."""
        options = self._options
        values = logits[ids]
        order = values.argsort()[::-1]
        scores = values[order]
        scores /= self._temperature
        n_kept = len(scores)
        if self._has_top_k:
            n_kept = filters.n_top_k(scores, self._top_k)
        scores -= scores[0]
        weights = np.exp(scores, dtype=np.float64)
        cumsum: CumSum | None = None
        if options.top_p < 1.0:
            cumsum = filters.cumulative_sum(weights[:n_kept])
            n_kept = filters.n_top_p(cumsum, total or float(cumsum[-1]), options.top_p)
        if self._min_p > 0.0:
            n_kept = min(n_kept, filters.n_min_p(weights, self._min_p))
        n_kept = max(n_kept, min(self._min_kept, len(scores)))
        if cumsum is not None:
            cumsum = cumsum[:n_kept]
        return ids[order[:n_kept]], weights[:n_kept], cumsum

    def _scores(self, logits: Logits, kept: Ids | None) -> Logits:
        """The row after temperature and filters, (n_vocab,), -inf where a token was removed."""
        if kept is None:
            scaled: Logits = logits / self._temperature
            return scaled
        scores = np.full(self._n_vocab, -np.inf, np.float32)
        scores[kept] = logits[kept] / self._temperature
        return scores

    def _recorded(self, scores: Logits) -> Logits:
        """The row as recorders get it: normalized if an option says so."""
        return filters.normalized(scores) if self._options.renormalize_logits else scores

    def _check_best(self, best: float, logits: Logits, sequence: Sequence) -> None:
        """Raise an error unless the best score of a row is a number; +inf only from a processor,
        which makes its token certain."""
        if math.isfinite(best):
            return
        if self._options.remove_invalid_values or math.isfinite(logits.max()):
            if best == math.inf:
                return
            raise ValueError(
                f"sequence {sequence.index}: the logits processors left no token to choose "
                f"(best score {best}){requirements(sequence)}; suppress fewer tokens or, in "
                f"Python, fix the processor"
            )
        raise DecodeError(
            f"sequence {sequence.index}: the model gave logits that are not finite after "
            f"{sequence.n_tokens} tokens; the weights may be damaged, or the KV cache type too "
            f"imprecise"
        )


def _needs_steps(options: SamplingOptions) -> bool:
    """Return whether an option goes beyond temperature, top_k, top_p, min_p and typical_p, in this
    order."""
    return bool(options.do_sample) and bool(
        options.samplers is not None
        or options.watermarking_config is not None
        or options.mirostat
        or options.epsilon_cutoff
        or options.eta_cutoff
        or options.top_h
        or options.top_n_sigma > 0
        or options.xtc_probability
        or options.dynatemp_range
    )


def _without_listed(options: SamplingOptions) -> SamplingOptions:
    """Return the options of processors: without penalties and DRY if ``samplers`` places these."""
    if options.samplers is None or not options.do_sample:
        return options
    return dataclasses.replace(
        options,
        repetition_penalty=1.0,
        frequency_penalty=0.0,
        presence_penalty=0.0,
        dry_multiplier=0.0,
    )


def _masks(sequence: Sequence) -> list[Mask]:
    return [mask for tracker in sequence.trackers if (mask := tracker.mask()) is not None]


def _limiting(sequence: Sequence) -> ConstraintTracker | None:
    """Return the constraint of a sequence, if it does not let every token through now."""
    constraint = sequence.constraint
    return None if constraint is None or constraint.is_free else constraint


def requirements(sequence: Sequence) -> str:
    """Return what else limits the tokens, in parts of a sentence."""
    constraints = [each for each in sequence.trackers if isinstance(each, Constraint)]
    clauses = [each.requirement for each in constraints if each.mask() is not None]
    if (constraint := _limiting(sequence)) is not None:
        clauses.append(constraint.requirement)
    return "".join(f", and {clause}" for clause in clauses)
