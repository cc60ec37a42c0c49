"""One configuration's chain of processors, filters and draw; rows with equal options share one."""

from __future__ import annotations

import math
from collections.abc import Callable
from collections.abc import Sequence as Rows
from dataclasses import dataclass, replace

import numpy as np

from localgen.engine.backend import Logits, TokenIds
from localgen.engine.sampling import filters
from localgen.engine.sampling.filters import Ids, RunningSums, Weights
from localgen.engine.sampling.first_look import LEAST_MIN_P, LONGEST_ROW, FirstLook
from localgen.engine.sequence import Sequence, TokenCounts
from localgen.errors import DecodeError

Processor = Callable[[Logits, Sequence], None]
CustomProcessor = Callable[[TokenIds, Logits], Logits]

_MASKED_BELOW = -1e30


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingOptions:
    """The part of a GenerationConfig that chooses tokens, with every None resolved."""

    do_sample: bool = False
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    typical_p: float = 1.0
    repetition_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    no_repeat_ngram_size: int = 0
    bad_words_ids: tuple[tuple[int, ...], ...] = ()
    sequence_bias: tuple[tuple[tuple[int, ...], float], ...] = ()
    suppress_tokens: tuple[int, ...] = ()
    min_new_tokens: int = 0
    custom: tuple[CustomProcessor, ...] = ()

    @property
    def counts_tokens(self) -> bool:
        """Whether rows need ``TokenCounts``."""
        return bool(
            self.repetition_penalty != 1.0 or self.frequency_penalty or self.presence_penalty
        )


class Sampler:
    """Chooses the next token of a row; holds scratch memory, and no state between calls.

    ``n_vocab`` is the width of a row of logits.
    """

    def __init__(self, options: SamplingOptions, n_vocab: int) -> None:
        self._options = options
        self._n_vocab = n_vocab
        self._processors = make_processors(options)
        without_penalties = replace(
            options, repetition_penalty=1.0, frequency_penalty=0.0, presence_penalty=0.0
        )
        self._only_penalties = options.counts_tokens and not make_processors(without_penalties)
        # A fresh array of this size costs more page faults than a pass over it takes.
        self._scratch = np.empty(n_vocab, np.float32)
        self._weights = np.empty(n_vocab, np.float32)
        self._temperature = np.float32(options.temperature)
        self._has_top_k = 0 < options.top_k < n_vocab
        self._cuts = self._has_top_k or options.top_p < 1.0 or options.min_p > 0.0
        self._first_look = self._make_first_look()

    def _make_first_look(self) -> FirstLook | None:
        """None where there is more to do than it knows."""
        options = self._options
        is_known = (
            options.do_sample
            and options.min_p >= LEAST_MIN_P
            and options.typical_p == 1.0
            and options.repetition_penalty >= 1.0
            and not make_processors(replace(options, repetition_penalty=1.0))
        )
        # Without top_k, top_p's share is of the whole row.
        has_sum = self._has_top_k or options.top_p == 1.0
        if not is_known or not has_sum or self._n_vocab > LONGEST_ROW:
            return None
        return FirstLook(
            self._n_vocab,
            temperature=options.temperature,
            top_k=options.top_k if self._has_top_k else 0,
            top_p=options.top_p,
            min_p=options.min_p,
            penalty=options.repetition_penalty,
        )

    @property
    def counts_tokens(self) -> bool:
        """Whether rows need ``TokenCounts``."""
        return self._options.counts_tokens

    def sample(self, logits: Logits, sequence: Sequence) -> int:
        """The next token id.

        ``logits``: float32 (n_vocab,) as the model gave them, writable, and the same afterwards.
        Raises DecodeError if they are not finite, ValueError if the processors leave nothing to
        choose.
        """
        if self._first_look is not None:
            token_id = self._first_look.choose(logits, sequence)
            if token_id is not None:
                for recorder in sequence.recorders:
                    recorder.record(logits, lambda: self._filtered(logits, sequence), token_id)
                return token_id
        if not self._only_penalties or sequence.recorders:
            return self._choose(self._processed(logits, sequence), logits, sequence)
        # Penalties touch few tokens: in place and taken back they cost less than a copied row.
        assert sequence.counts is not None
        seen = sequence.counts.seen
        values = logits[seen]
        logits[seen] = self._penalized(values, sequence.counts)
        try:
            return self._choose(logits, logits, sequence)
        finally:
            logits[seen] = values

    def _penalized(self, values: Logits, counts: TokenCounts) -> Logits:
        """The logits ``values`` of the seen tokens after the penalties, in transformers' order."""
        options = self._options
        if options.repetition_penalty != 1.0:
            values = filters.repetition_penalized(values, options.repetition_penalty)
        if options.frequency_penalty or options.presence_penalty:
            values = filters.counts_penalized(
                values, counts.generated, options.frequency_penalty, options.presence_penalty
            )
        return values

    def _choose(self, processed: Logits, logits: Logits, sequence: Sequence) -> int:
        """The token id by the row after all processors; ``logits`` are the model's own."""
        if not self._options.do_sample:
            token_id = int(processed.argmax())
            # argmax stops at the first NaN, so one look at the winner finds NaN and inf anywhere.
            _check_finite(float(processed[token_id]), logits, sequence)
            for recorder in sequence.recorders:
                recorder.record(logits, lambda: processed, token_id)
            return token_id
        maxima = filters.column_maxima(processed) if self._cuts else processed
        # argmax stops at the first NaN, so one look at the winner finds NaN and inf anywhere.
        best = float(maxima[maxima.argmax()])
        _check_finite(best, logits, sequence)
        ids, weights, running = self._kept(processed, maxima, best)
        uniform = sequence.uniform()
        if running is None:
            position = filters.draw(weights, uniform)
        else:
            position = filters.draw_from_sums(running, uniform)
        token_id = position if ids is None else int(ids[position])
        for recorder in sequence.recorders:
            recorder.record(logits, lambda: self._scores(processed, ids), token_id)
        return token_id

    def _processed(self, logits: Logits, sequence: Sequence) -> Logits:
        """``logits`` after all processors: itself when there are none, else the scratch row."""
        if not self._processors:
            return logits
        np.copyto(self._scratch, logits)
        for process in self._processors:
            process(self._scratch, sequence)
        return self._scratch

    def _kept(
        self, logits: Logits, maxima: Logits, best: float
    ) -> tuple[Ids | None, Weights, RunningSums | None]:
        """The ids that all filters keep (None: all, in their order), their weights, and the running
        sums of these where a filter had need of them."""
        options = self._options
        candidates = self._candidates(logits, maxima, best)
        ids: Ids | None = None
        running: RunningSums | None = None
        weights: Weights
        if candidates is None:
            weights = filters.row_weights(logits, best, options.temperature, self._weights)
        else:
            ids, weights, running = self._cut(logits, *candidates)
        if options.typical_p < 1.0:
            kept = filters.typical(weights, options.typical_p)
            ids, weights, running = kept if ids is None else ids[kept], weights[kept], None
        return ids, weights, running

    def _candidates(
        self, logits: Logits, maxima: Logits, best: float
    ) -> tuple[Ids, float | None] | None:
        """The ids that top_k, top_p and min_p can keep (None: all are off), and for top_p as the
        first of them the sum of all weights."""
        options = self._options
        temperature = options.temperature
        if self._has_top_k:
            return filters.top_k_candidates(logits, options.top_k, maxima), None
        if options.top_p < 1.0:
            return filters.top_p_candidates(
                logits, maxima, best, temperature, options.top_p, self._weights
            )
        if options.min_p > 0.0:
            ids = filters.min_p_candidates(logits, maxima, best, temperature, options.min_p)
            return ids, None
        return None

    def _cut(
        self, logits: Logits, ids: Ids, total: float | None
    ) -> tuple[Ids, Weights, RunningSums | None]:
        """Those of the candidates that top_k, top_p and min_p keep, likeliest first."""
        options = self._options
        values = logits[ids]
        order = values.argsort()[::-1]
        scores = values[order]
        scores /= self._temperature
        n_kept = len(scores)
        if self._has_top_k:
            n_kept = filters.n_top_k(scores, options.top_k)
        scores -= scores[0]
        weights = np.exp(scores, dtype=np.float64)
        running: RunningSums | None = None
        if options.top_p < 1.0:
            running = filters.running_sums(weights[:n_kept])
            n_kept = filters.n_top_p(running, total or float(running[-1]), options.top_p)
        if options.min_p > 0.0:
            n_kept = min(n_kept, filters.n_min_p(weights, options.min_p))
        if running is not None:
            running = running[:n_kept]
        return ids[order[:n_kept]], weights[:n_kept], running

    def _filtered(self, logits: Logits, sequence: Sequence) -> Logits:
        """The row after all processors, temperature and filters."""
        processed = self._processed(logits, sequence)
        maxima = filters.column_maxima(processed)
        ids, _, _ = self._kept(processed, maxima, float(maxima.max()))
        return self._scores(processed, ids)

    def _scores(self, logits: Logits, kept: Ids | None) -> Logits:
        """The row after temperature and filters, (n_vocab,), -inf where a token was removed."""
        if kept is None:
            scaled: Logits = logits / self._temperature
            return scaled
        scores = np.full(self._n_vocab, -np.inf, np.float32)
        scores[kept] = logits[kept] / self._temperature
        return scores


def _check_finite(best: float, logits: Logits, sequence: Sequence) -> None:
    """An error unless the best score of a row is a finite number."""
    if math.isfinite(best):
        return
    if math.isfinite(logits.max()):
        raise ValueError(
            f"row {sequence.row}: the logits processors left no token to choose "
            f"(best score {best}); suppress fewer tokens, or fix the processor"
        )
    raise DecodeError(
        f"row {sequence.row}: the model gave logits that are not finite after "
        f"{sequence.n_tokens} tokens; the weights may be damaged, or the KV type too coarse"
    )


def make_processors(options: SamplingOptions) -> list[Processor]:
    """The processors that ``options`` asks for, in transformers' order."""
    processors: list[Processor] = []
    if options.sequence_bias:
        processors.append(_sequence_bias(options.sequence_bias))
    if options.repetition_penalty != 1.0:
        processors.append(_repetition_penalty(options.repetition_penalty))
    if options.frequency_penalty or options.presence_penalty:
        processors.append(_count_penalty(options.frequency_penalty, options.presence_penalty))
    if options.no_repeat_ngram_size:
        processors.append(_no_repeat_ngram(options.no_repeat_ngram_size))
    if options.bad_words_ids:
        processors.append(_bad_words(options.bad_words_ids))
    if options.min_new_tokens:
        processors.append(_min_new_tokens(options.min_new_tokens))
    if options.suppress_tokens:
        processors.append(_suppress(options.suppress_tokens))
    processors.extend(_custom(processor) for processor in options.custom)
    return processors


def _sequence_bias(biases: Rows[tuple[tuple[int, ...], float]]) -> Processor:
    def process(logits: Logits, sequence: Sequence) -> None:
        tokens = sequence.tokens[: sequence.n_tokens]
        added: dict[int, float] = {}
        for ids, bias in biases:
            *prefix, last = ids
            if _ends_with(tokens, prefix):
                added[last] = added.get(last, 0.0) + bias
        if added:
            logits[list(added)] += np.array(list(added.values()), np.float32)

    return process


def _bad_words(words: Rows[tuple[int, ...]]) -> Processor:
    def process(logits: Logits, sequence: Sequence) -> None:
        tokens = sequence.tokens[: sequence.n_tokens]
        for *prefix, last in words:
            banned_eos = not prefix and last in sequence.eos_token_ids
            if not banned_eos and _ends_with(tokens, prefix):
                logits[last] = -np.inf

    return process


def _ends_with(tokens: TokenIds, prefix: list[int]) -> bool:
    return not prefix or tokens[-len(prefix) :].tolist() == prefix


def _repetition_penalty(penalty: float) -> Processor:
    def process(logits: Logits, sequence: Sequence) -> None:
        assert sequence.counts is not None
        filters.penalize_repetition(logits, sequence.counts.seen, penalty)

    return process


def _count_penalty(frequency: float, presence: float) -> Processor:
    def process(logits: Logits, sequence: Sequence) -> None:
        assert sequence.counts is not None
        counts = sequence.counts
        filters.penalize_counts(logits, counts.seen, counts.generated, frequency, presence)

    return process


def _no_repeat_ngram(size: int) -> Processor:
    def process(logits: Logits, sequence: Sequence) -> None:
        logits[filters.ngram_repeats(sequence.tokens[: sequence.n_tokens], size)] = -np.inf

    return process


def _min_new_tokens(n_tokens: int) -> Processor:
    def process(logits: Logits, sequence: Sequence) -> None:
        if sequence.n_new < n_tokens:
            logits[list(sequence.eos_token_ids)] = -np.inf

    return process


def _suppress(ids: Rows[int]) -> Processor:
    suppressed = np.array(ids)

    def process(logits: Logits, _sequence: Sequence) -> None:
        logits[suppressed] = -np.inf

    return process


def _custom(processor: CustomProcessor) -> Processor:
    def process(logits: Logits, sequence: Sequence) -> None:
        result = np.asarray(processor(sequence.tokens[: sequence.n_tokens], logits.copy()))
        if result.shape != logits.shape or result.dtype.kind not in "fiu":
            raise ValueError(
                f"a logits processor must return numbers of shape (1, {len(logits)}) like its "
                f"scores, got {result.dtype} {(1, *result.shape)}"
            )
        with np.errstate(over="ignore"):
            np.copyto(logits, result, casting="unsafe")
        # Some processors mask with the lowest float, which overflows when divided by a temperature.
        logits[logits < _MASKED_BELOW] = -np.inf

    return process
