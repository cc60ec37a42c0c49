"""Beam search by transformers' definitions (its ``_beam_search``): pure functions, no model.

One prompt is searched for at a time. A beam is an unfinished text; a candidate is a beam and one
more token; a hypothesis is a finished text. In each step the best candidates are taken from all
beams together. Those that end the text may become hypotheses, if they are among the best
``n_beams``; the best of the others are the next beams.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from collections.abc import Sequence as Items
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from localgen.engine.backend import Logits
from localgen.engine.sampling.filters import cumulative_sum, draw_from_cumsum, shifted

Ids = npt.NDArray[np.intp]
Flags = npt.NDArray[np.bool_]

# The score of what does not exist yet: all beams but the first before the first step, which begin
# alike, and hypotheses that were not found.
ABSENT = np.float32(-1e9)


@dataclass(frozen=True, slots=True, kw_only=True)
class BeamRules:
    """How a prompt is searched: names and meaning as in transformers' ``GenerationConfig``.

    n_candidates: how many are looked at in each step. max_new_tokens: after so many, every text
    ends.
    """

    n_beams: int
    n_candidates: int
    max_new_tokens: int
    length_penalty: float = 1.0
    early_stopping: bool | str = False


@dataclass(frozen=True, slots=True, eq=False)
class Path:
    """The new tokens of a text, from its last one back: ``beam`` is the number of the beam that
    ``token_id`` continued."""

    token_id: int
    beam: int
    before: Path | None

    def steps(self) -> list[Path]:
        """Return the path to each new token, in order."""
        found: list[Path] = []
        step: Path | None = self
        while step is not None:
            found.append(step)
            step = step.before
        return found[::-1]


@dataclass(frozen=True, slots=True)
class Candidates:
    """The best candidates of a step, best first.

    scores: float32 (n,), the sums of log-probabilities. beams, token_ids: (n,).
    """

    scores: Logits
    beams: Ids
    token_ids: Ids

    def __len__(self) -> int:
        return len(self.scores)


@dataclass(frozen=True, slots=True, eq=False)
class Hypothesis:
    """A finished text. score: its sum of log-probabilities / length ** length_penalty. path: None
    for one without new tokens."""

    score: float
    path: Path | None


@dataclass(frozen=True, slots=True, eq=False)
class Search:
    """A prompt between two steps.

    beams: the paths of up to ``n_beams`` beams, best first; None for the prompt itself. scores:
    float32, the sum of log-probabilities of each. hypotheses: at most ``n_beams``, best first.
    """

    beams: tuple[Path | None, ...]
    scores: Logits
    hypotheses: tuple[Hypothesis, ...] = ()
    n_new: int = 0
    is_over: bool = False


def new_search(rules: BeamRules) -> Search:
    """Return a search of which no token is known yet: its first beam alone counts."""
    scores = np.full(rules.n_beams, ABSENT, np.float32)
    scores[0] = 0.0
    return Search((None,) * rules.n_beams, scores)


def n_candidates(n_beams: int, n_eos: int) -> int:
    """Return how many candidates a step looks at: so many that enough are left to go on with if
    each beam's best tokens are the ``n_eos`` end-of-sequence tokens."""
    return max(2, 1 + n_eos) * n_beams


# --- candidates ---

# The tokens that may follow one beam, and the log-probability of each: (n,), float32 (n,).
Continuations = tuple[Ids, Logits]


def best_candidates(rows: Items[Continuations], scores: Logits, n: int) -> Candidates:
    """Return the ``n`` candidates with the highest sums, or all that have a probability.

    rows: what may follow each beam, the ``n`` best tokens at least. scores: the beams' own.
    """
    found = _all_candidates(rows, scores)
    return _taken(found, _falling(found.scores)[:n])


def drawn_candidates(
    rows: Items[Continuations], scores: Logits, n: int, uniform: Callable[[], float]
) -> Candidates:
    """Return ``n`` candidates drawn one after another, none twice, each with a probability
    proportional to exp(sum); where fewer have one, the best of the others follow.

    Takes a uniform for each draw.
    """
    found = _all_candidates(rows, scores)
    chosen = draw_without_replacement(found.scores, min(n, len(found)), uniform)
    if len(chosen) < n:
        rest = np.setdiff1d(np.arange(len(found)), chosen)
        rest = rest[_falling(found.scores[rest])]
        chosen = np.concatenate([chosen, rest])[:n]
    chosen = np.sort(chosen)
    return _taken(found, chosen[_falling(found.scores[chosen])])


def draw_without_replacement(scores: Logits, n: int, uniform: Callable[[], float]) -> Ids:
    """Return ``n`` positions drawn by the weights exp(scores); fewer if no weight is left."""
    if not n:
        return np.zeros(0, np.intp)
    weights = np.exp(shifted(scores, float(scores.max())).astype(np.float64))
    drawn: list[int] = []
    while len(drawn) < n and weights.any():
        position = draw_from_cumsum(cumulative_sum(weights), uniform())
        weights[position] = 0.0
        drawn.append(position)
    return np.array(drawn, np.intp)


def _all_candidates(rows: Items[Continuations], scores: Logits) -> Candidates:
    """Every candidate that has a probability, in the order of beams and tokens."""
    sums = [logprobs + score for (_, logprobs), score in zip(rows, scores, strict=True)]
    beams = [np.full(len(ids), beam, np.intp) for beam, (ids, _) in enumerate(rows)]
    found = Candidates(
        np.concatenate(sums), np.concatenate(beams), np.concatenate([ids for ids, _ in rows])
    )
    return _taken(found, np.flatnonzero(found.scores > -np.inf))


def _taken(given: Candidates, positions: Ids) -> Candidates:
    return Candidates(given.scores[positions], given.beams[positions], given.token_ids[positions])


def _falling(scores: Logits) -> Ids:
    """The positions of ``scores`` from the highest to the lowest; of equals, the first first."""
    return np.argsort(-scores, kind="stable")


# --- a step ---


def advance(search: Search, found: Candidates, ends: Flags, rules: BeamRules) -> Search:
    """Return the search after one more token. ends: (n,), whether each candidate ends its text."""
    n_new = search.n_new + 1
    paths = [
        Path(int(token_id), int(beam), search.beams[beam])
        for token_id, beam in zip(found.token_ids, found.beams, strict=True)
    ]
    ended = [
        Hypothesis(penalized(found.scores[i], n_new, rules), paths[i])
        for i in np.flatnonzero(ends[: rules.n_beams])
    ]
    hypotheses = best_hypotheses([*search.hypotheses, *ended], rules.n_beams)
    going_on = np.flatnonzero(~ends)[: rules.n_beams]
    beams, scores = tuple(paths[i] for i in going_on), found.scores[going_on]
    is_over = not len(scores) or not _may_improve(scores, hypotheses, n_new, rules)
    return Search(beams, scores, hypotheses, n_new, is_over)


def penalized(score: float, length: int, rules: BeamRules) -> float:
    """Return the score of a text of ``length`` new tokens, the one that ends it included."""
    return float(score) / math.pow(length, rules.length_penalty)


def best_hypotheses(found: Items[Hypothesis], n: int) -> tuple[Hypothesis, ...]:
    """Return the best ``n``, best first; of equals, the first first."""
    return tuple(sorted(found, key=lambda each: -each.score)[:n])


def _may_improve(
    scores: Logits, hypotheses: Items[Hypothesis], n_new: int, rules: BeamRules
) -> bool:
    """Return whether a beam may still become a better hypothesis than the worst one.

    The best beam is taken to end now; with "never" and a penalty that favours long texts, at the
    most tokens there may be.
    """
    if len(hypotheses) < rules.n_beams:
        return True
    if rules.early_stopping is True:
        return False
    to_the_end = rules.early_stopping == "never" and rules.length_penalty > 0.0
    length = rules.max_new_tokens if to_the_end else n_new
    return penalized(scores[0], length, rules) > hypotheses[-1].score


def results(search: Search, rules: BeamRules, n: int) -> list[Hypothesis]:
    """Return the best ``n`` texts: of a search that is not over, its beams count as finished too.

    Texts that were not found have no new tokens and the score ``ABSENT``.
    """
    found = list(search.hypotheses)
    if not search.is_over and search.n_new:
        beams = zip(search.beams, search.scores, strict=True)
        found += [Hypothesis(penalized(s, search.n_new, rules), path) for path, s in beams]
    absent = [Hypothesis(float(ABSENT), None)] * n
    return [*best_hypotheses(found, n), *absent][:n]
