"""The samplers of one configuration as steps in any order: each keeps or rescales candidates.

They are made from options, in the default order (``samplers.SAMPLERS``, transformers' order with
llama.cpp's samplers in it) or that of ``samplers=``. ``chain.Sampler`` runs them where its own
short way, for top_k, top_p, min_p and typical_p alone, does not do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from localgen.config import SamplingOptions
from localgen.engine.backend import Logits, TokenIds
from localgen.engine.sampling import dry, filters, keep, mirostat
from localgen.engine.sampling.filters import Ids
from localgen.engine.sampling.penalties import penalized, penalizes_counts
from localgen.engine.sequence import Sequence
from localgen.samplers import SAMPLERS

# Larger scores are shifted before they are divided by a temperature: they would overflow.
_LARGEST = float(np.finfo(np.float32).max) / 4


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """The tokens that no filter has dropped: rising ``ids`` (n,), and float32 ``scores`` (n,) that
    no step writes to. A score of -inf is a token that a processor removed."""

    ids: Ids
    scores: Logits

    def only(self, positions: Ids) -> Candidates:
        if len(positions) == len(self.ids):
            return self
        return Candidates(self.ids[positions], self.scores[positions])

    def positions(self, token_ids: npt.NDArray[Any]) -> tuple[Ids, Ids]:
        """Return where those ``token_ids`` are that are here, and which these are."""
        positions = np.minimum(self.ids.searchsorted(token_ids), len(self.ids) - 1)
        found = np.flatnonzero(self.ids[positions] == token_ids)
        return positions[found], found


Step = Callable[[Candidates, Sequence], Candidates]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What steps are made from. breakers: DRY's. at_least: how many tokens each filter keeps."""

    options: SamplingOptions
    n_vocab: int
    breakers: dry.Breakers
    at_least: int = 1


def make_steps(setup: Setup) -> list[Step]:
    """Return the steps after the processors that sampling needs, in their order."""
    options = setup.options
    if options.mirostat:
        names: Iterable[str] = ("temperature", "mirostat")
    elif options.samplers is not None:
        names = cast("tuple[str, ...]", options.samplers)
    else:
        # Penalties and DRY are processors then, as greedy decoding has them too.
        names = [name for name in SAMPLERS if name not in ("penalties", "dry")]
    made = (_MAKERS[name](setup) for name in names)
    return [step for step in made if step is not None]


# --- makers: each returns None where its option is off ---


def _filter(
    keeps: Callable[[Logits, float, int], Ids], value: float | None, at_least: int
) -> Step | None:
    """Return the step of a filter; None for a value that keeps everything."""
    if value is None:
        return None
    return lambda candidates, _: candidates.only(keeps(candidates.scores, value, at_least))


def _top_h(setup: Setup) -> Step | None:
    return _filter(keep.top_h, setup.options.top_h, setup.at_least)


def _top_k(setup: Setup) -> Step | None:
    k = setup.options.top_k
    if not 0 < k < setup.n_vocab:
        return None
    return lambda candidates, _: candidates.only(keep.top_k(candidates.scores, k, setup.at_least))


def _top_p(setup: Setup) -> Step | None:
    p = setup.options.top_p
    return _filter(keep.top_p, p if p < 1.0 else None, setup.at_least)


def _min_p(setup: Setup) -> Step | None:
    return _filter(keep.min_p, setup.options.min_p or None, setup.at_least)


def _typical_p(setup: Setup) -> Step | None:
    mass = setup.options.typical_p
    return _filter(keep.typical, mass if mass < 1.0 else None, setup.at_least)


def _epsilon_cutoff(setup: Setup) -> Step | None:
    return _filter(keep.epsilon, setup.options.epsilon_cutoff or None, setup.at_least)


def _eta_cutoff(setup: Setup) -> Step | None:
    return _filter(keep.eta, setup.options.eta_cutoff or None, setup.at_least)


def _penalties(setup: Setup) -> Step | None:
    if not penalizes_counts(setup.options):
        return None

    def step(candidates: Candidates, sequence: Sequence) -> Candidates:
        assert sequence.counts is not None
        positions, found = candidates.positions(sequence.counts.seen)
        values = np.full(len(sequence.counts.seen), -np.inf, np.float32)
        values[found] = candidates.scores[positions]
        scores = candidates.scores.copy()
        scores[positions] = penalized(values, sequence, setup.options)[found]
        return replace(candidates, scores=scores)

    return step


def _dry(setup: Setup) -> Step | None:
    options = setup.options
    if not uses_dry(options):
        return None

    def step(candidates: Candidates, sequence: Sequence) -> Candidates:
        token_ids, penalties = dry_penalties(options, setup.breakers, sequence)
        positions, found = candidates.positions(token_ids)
        scores = candidates.scores.copy()
        scores[positions] -= penalties[found]
        return replace(candidates, scores=scores)

    return step


def uses_dry(options: SamplingOptions) -> bool:
    """Return whether DRY is on."""
    return options.dry_multiplier != 0 and options.dry_penalty_last_n != 0


def dry_penalties(
    options: SamplingOptions, breakers: dry.Breakers, sequence: Sequence
) -> tuple[TokenIds, Logits]:
    """Return the ids that DRY penalizes, and by how much."""
    n_last = options.dry_penalty_last_n
    first = 0 if n_last < 0 else max(0, sequence.n_tokens - n_last)
    return dry.penalties(
        sequence.tokens[first : sequence.n_tokens],
        breakers,
        multiplier=options.dry_multiplier,
        base=options.dry_base,
        allowed_length=options.dry_allowed_length,
    )


def _temperature(setup: Setup) -> Step | None:
    temperature, spread = setup.options.temperature, setup.options.dynatemp_range
    exponent = setup.options.dynatemp_exponent
    if temperature == 1.0 and not spread:
        return None

    def step(candidates: Candidates, _: Sequence) -> Candidates:
        scores, divisor = candidates.scores, temperature
        if spread:
            divisor = keep.dynamic_temperature(scores, temperature, spread, exponent)
        return replace(candidates, scores=_divided(scores, divisor))

    return step


def _divided(scores: Logits, temperature: float) -> Logits:
    """Return ``scores`` at a temperature; at 0, only the best one is left."""
    if np.float32(temperature) == 0:
        result = np.full_like(scores, -np.inf)
        result[scores.argmax()] = scores.max()
        return result
    best = float(scores.max())
    if abs(best) > _LARGEST * min(temperature, 1.0):
        scores = filters.shifted(scores, best)
    divided: Logits = scores / np.float32(temperature)
    return divided


def _top_n_sigma(setup: Setup) -> Step | None:
    n = setup.options.top_n_sigma
    if n <= 0:
        return None

    def step(candidates: Candidates, _: Sequence) -> Candidates:
        # The others are removed, not dropped: they count for a dynamic temperature, as there.
        kept = keep.top_n_sigma(candidates.scores, n, setup.at_least)
        scores = np.full_like(candidates.scores, -np.inf)
        scores[kept] = candidates.scores[kept]
        return replace(candidates, scores=scores)

    return step


def _xtc(setup: Setup) -> Step | None:
    probability, threshold = setup.options.xtc_probability, setup.options.xtc_threshold
    if not probability or threshold > 0.5:  # no two tokens can have more
        return None

    def step(candidates: Candidates, sequence: Sequence) -> Candidates:
        if len(candidates.ids) < 2 or sequence.uniform() > probability:
            return candidates
        return candidates.only(keep.xtc(candidates.scores, threshold, setup.at_least))

    return step


def _mirostat(setup: Setup) -> Step:
    def step(candidates: Candidates, sequence: Sequence) -> Candidates:
        mu = mirostat_tracker(sequence).mu
        if setup.options.mirostat == 1:
            return candidates.only(mirostat.version_1(candidates.scores, mu, setup.n_vocab))
        return candidates.only(mirostat.version_2(candidates.scores, mu))

    return step


def mirostat_tracker(sequence: Sequence) -> mirostat.MirostatTracker:
    """Return the tracker of mirostat that a sequence has."""
    return next(t for t in sequence.trackers if isinstance(t, mirostat.MirostatTracker))


_MAKERS: Mapping[str, Callable[[Setup], Step | None]] = {
    "penalties": _penalties,
    "dry": _dry,
    "temperature": _temperature,
    "top_n_sigma": _top_n_sigma,
    "top_h": _top_h,
    "top_k": _top_k,
    "top_p": _top_p,
    "min_p": _min_p,
    "typical_p": _typical_p,
    "epsilon_cutoff": _epsilon_cutoff,
    "eta_cutoff": _eta_cutoff,
    "xtc": _xtc,
    "mirostat": _mirostat,
}
