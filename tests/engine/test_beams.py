"""Beam search by hand, and against a slow one written straight from transformers' definitions."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localgen.engine import beams
from localgen.engine.beams import BeamRules, Candidates, Hypothesis, Search
from tests.beam_reference import Text, beam_search, log_softmax

A, B, C, END = range(4)


def rules(n_beams: int = 2, **options: Any) -> BeamRules:
    given = {"n_candidates": 2 * n_beams, "max_new_tokens": 9, **options}
    return BeamRules(n_beams=n_beams, **given)


def candidates(*triples: tuple[float, int, int]) -> Candidates:
    scores, own, token_ids = zip(*triples, strict=True)
    return Candidates(np.array(scores, np.float32), np.array(own), np.array(token_ids))


def row(*logprobs: float) -> beams.Continuations:
    return np.arange(len(logprobs)), np.array(logprobs, np.float32)


def token_ids(path: beams.Path | None) -> list[int]:
    return [] if path is None else [step.token_id for step in path.steps()]


# --- candidates ---


def test_the_best_of_all_beams_together() -> None:
    """By hand: -1 + -1 = -2 and -1 + -3 = -4 of one beam, -2 + -0.5 = -2.5 of the other."""
    found = beams.best_candidates([row(-1, -3), row(-0.5, -9)], np.array([-1, -2], np.float32), 3)
    assert found.scores.tolist() == [-2.0, -2.5, -4.0]
    assert found.beams.tolist() == [0, 1, 0]
    assert found.token_ids.tolist() == [0, 0, 1]


def test_of_equals_the_first_beam_and_token_come_first() -> None:
    found = beams.best_candidates([row(-1, -1), row(-1, -1)], np.zeros(2, np.float32), 3)
    assert list(zip(found.beams.tolist(), found.token_ids.tolist(), strict=True)) == [
        (0, 0),
        (0, 1),
        (1, 0),
    ]


def test_what_a_processor_forbids_is_no_candidate() -> None:
    """A beam of which everything is forbidden dies; fewer candidates are left than asked for."""
    found = beams.best_candidates(
        [row(-np.inf, -np.inf), row(-1, -np.inf)], np.zeros(2, np.float32), 4
    )
    assert (found.beams.tolist(), found.token_ids.tolist()) == ([1], [0])


def test_in_the_first_step_one_beam_counts() -> None:
    """All beams begin alike: without this, each would choose the same token."""
    search = beams.new_search(rules(3))
    found = beams.best_candidates([row(-1, -2, -3, -4)] * 3, search.scores, 4)
    assert found.beams.tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize(("n_eos", "expected"), [(0, 6), (1, 6), (2, 9), (5, 18)])
def test_enough_candidates_to_go_on_with(n_eos: int, expected: int) -> None:
    assert beams.n_candidates(3, n_eos) == expected


# --- drawing ---


def test_drawn_candidates_come_best_first_and_once() -> None:
    """By hand: weights 1/2, 1/4, 1/4; the uniform 0.6 takes the second, then 0.9 of 1/2 + 1/4 the
    third, then the first is left."""
    uniforms = iter([0.6, 0.9, 0.0])
    weights = np.log(np.array([0.5, 0.25, 0.25], np.float32))
    drawn = beams.draw_without_replacement(weights, 3, lambda: next(uniforms))
    assert drawn.tolist() == [1, 2, 0]
    uniforms = iter([0.6, 0.9, 0.0])
    found = beams.drawn_candidates(
        [(np.arange(3), weights)], np.zeros(1, np.float32), 3, lambda: next(uniforms)
    )
    assert found.token_ids.tolist() == [0, 1, 2]


def test_what_has_no_weight_follows_what_has() -> None:
    """In the first step only one beam has any: with too few tokens, the others fill up."""
    rows = [row(-1.0, -np.inf), row(-1.0, -2.0)]
    found = beams.drawn_candidates(rows, np.array([0, -1e9], np.float32), 3, lambda: 0.5)
    assert (found.beams.tolist(), found.token_ids.tolist()) == ([0, 1, 1], [0, 0, 1])


def test_what_is_certain_is_drawn_first() -> None:
    """A processor may set a score to infinity."""
    scores = np.array([-1.0, np.inf, 0.0, np.inf], np.float32)
    assert sorted(beams.draw_without_replacement(scores, 3, lambda: 0.0).tolist()) == [1, 3]


def test_draws_without_replacement_have_the_right_frequencies() -> None:
    """The first of two draws follows the weights, and so does the second of what is left."""
    p = np.array([0.6, 0.3, 0.1])
    random = np.random.default_rng(5)
    scores = np.log(p).astype(np.float32)
    pairs = [tuple(beams.draw_without_replacement(scores, 2, random.random)) for _ in range(6000)]
    for first in range(3):
        for second in range(3):
            expected = 0 if first == second else p[first] * p[second] / (1 - p[first])
            share = sum(pair == (first, second) for pair in pairs) / len(pairs)
            assert abs(share - expected) < 0.03


# --- a step, by hand ---


def test_a_step_by_hand() -> None:
    """The end among the best two becomes a hypothesis; the best two others are the next beams."""
    found = candidates((-1.0, 0, END), (-1.5, 0, A), (-2.0, 1, B), (-3.0, 1, A))
    ends = np.array([True, False, False, False])
    search = beams.advance(beams.new_search(rules()), found, ends, rules())
    assert [token_ids(path) for path in search.beams] == [[A], [B]]
    assert search.scores.tolist() == [-1.5, -2.0]
    assert [(token_ids(each.path), each.score) for each in search.hypotheses] == [([END], -1.0)]
    assert not search.is_over


def test_only_the_best_may_end() -> None:
    """An end that is not among the best ``n_beams`` candidates is no hypothesis, and no beam."""
    found = candidates((-1.0, 0, A), (-1.5, 0, B), (-2.0, 1, END), (-3.0, 1, A))
    search = beams.advance(beams.new_search(rules()), found, np.array([0, 0, 1, 0], bool), rules())
    assert not search.hypotheses
    assert [token_ids(path) for path in search.beams] == [[A], [B]]


@pytest.mark.parametrize(
    ("length_penalty", "expected"), [(0.0, -6.0), (1.0, -2.0), (2.0, -6 / 9), (-1.0, -18.0)]
)
def test_the_score_of_a_text(length_penalty: float, expected: float) -> None:
    """Three tokens whose log-probabilities sum to -6."""
    options = rules(length_penalty=length_penalty)
    assert beams.penalized(-6.0, 3, options) == pytest.approx(expected)


def found_two(scores: tuple[float, float], best: float, n_new: int, options: BeamRules) -> bool:
    """Whether a search goes on that has two hypotheses and, after one more step, a best beam."""
    hypotheses = tuple(Hypothesis(score, None) for score in scores)
    before = Search((None, None), np.zeros(2, np.float32), hypotheses, n_new - 1)
    found = candidates((best, 0, A), (best - 1, 1, A))
    return not beams.advance(before, found, np.zeros(2, bool), options).is_over


@pytest.mark.parametrize(
    ("options", "goes_on"),
    [
        # -6 / 4 = -1.5 is above the worst hypothesis, -2.
        ({}, True),
        ({"early_stopping": True}, False),
        # -6 / 4 ** 0 = -6 is not; -6 / 9 is, but only "never" looks so far, and only if it pays.
        ({"length_penalty": 0.0}, False),
        ({"length_penalty": 0.0, "early_stopping": "never"}, False),
        ({"length_penalty": 0.75}, False),
        ({"length_penalty": 0.75, "early_stopping": "never"}, True),
    ],
)
def test_when_a_search_is_over(options: dict[str, Any], goes_on: bool) -> None:
    assert found_two((-1.0, -2.0), -6.0, 4, rules(**options)) == goes_on


def test_a_search_without_enough_hypotheses_goes_on() -> None:
    found = candidates((-50.0, 0, END), (-60.0, 0, A))
    options = rules(early_stopping=True)
    search = beams.advance(beams.new_search(options), found, np.array([True, False]), options)
    assert not search.is_over


def test_a_search_that_was_stopped_returns_its_beams() -> None:
    """Hypotheses and beams compete by their scores; nothing that was found is lost."""
    found = candidates((-1.0, 0, A), (-1.5, 0, END), (-2.0, 0, B))
    search = beams.advance(beams.new_search(rules()), found, np.array([0, 1, 0], bool), rules())
    texts = [token_ids(each.path) for each in beams.results(search, rules(), 2)]
    assert texts == [[A], [END]]


def test_texts_that_were_not_found_are_empty() -> None:
    before = beams.results(beams.new_search(rules()), rules(), 2)
    assert [(each.path, each.score) for each in before] == [(None, -1e9)] * 2


# --- against the slow search ---


def random_logprobs(seed: int, n_vocab: int, banned: float) -> Any:
    """Log-probabilities that depend on every token; some tokens are forbidden."""

    def logprobs(token_ids: list[int]) -> Any:
        random = np.random.RandomState(zlib.crc32(bytes(str((seed, token_ids)), "ascii")))
        found = log_softmax((random.standard_normal(n_vocab) * 2).astype(np.float32))
        found[1:][random.random_sample(n_vocab - 1) < banned] = -np.inf
        return found

    return logprobs


def search_with_module(
    logprobs: Any, options: BeamRules, eos: tuple[int, ...], n: int
) -> list[Text]:
    search = beams.new_search(options)
    while not search.is_over:
        rows = [logprobs(token_ids(path)) for path in search.beams]
        found = beams.best_candidates(
            [(np.arange(len(each)), each) for each in rows], search.scores, options.n_candidates
        )
        is_last = search.n_new + 1 == options.max_new_tokens
        ends = np.isin(found.token_ids, eos) | is_last
        search = beams.advance(search, found, ends, options)
    return [
        Text(
            token_ids(each.path),
            each.score,
            [] if each.path is None else [step.beam for step in each.path.steps()],
        )
        for each in beams.results(search, options, n)
    ]


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    n_beams=st.integers(2, 5),
    n_eos=st.integers(0, 3),
    n_new=st.integers(1, 7),
    length_penalty=st.sampled_from([-1.0, 0.0, 0.5, 1.0, 2.0]),
    early_stopping=st.sampled_from([False, True, "never"]),
    banned=st.sampled_from([0.0, 0.0, 0.3]),
)
def test_the_search_is_transformers_search(
    seed: int,
    n_beams: int,
    n_eos: int,
    n_new: int,
    length_penalty: float,
    early_stopping: bool | str,
    banned: float,
) -> None:
    """Random models and options give the texts, scores and beams of the slow search."""
    n_vocab, eos = 25, tuple(range(20, 20 + n_eos))
    logprobs = random_logprobs(seed, n_vocab, banned)
    options = BeamRules(
        n_beams=n_beams,
        n_candidates=beams.n_candidates(n_beams, n_eos),
        max_new_tokens=n_new,
        length_penalty=length_penalty,
        early_stopping=early_stopping,
    )
    found = search_with_module(logprobs, options, eos, n_beams)
    expected = beam_search(
        logprobs,
        num_beams=n_beams,
        max_new_tokens=n_new,
        eos=eos,
        length_penalty=length_penalty,
        early_stopping=early_stopping,
        num_return_sequences=n_beams,
    )
    assert [each.token_ids for each in found] == [each.token_ids for each in expected]
    assert [each.beams for each in found] == [each.beams for each in expected]
    scores = [each.score for each in expected]
    assert [each.score for each in found] == pytest.approx(scores, rel=1e-6)
