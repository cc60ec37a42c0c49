"""Steps in the order that was asked for, and what a sampler does with them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from localgen.config import SamplingOptions
from localgen.engine.backend import Logits
from localgen.engine.recorders import StepRecorder
from localgen.engine.sampling.chain import Sampler
from localgen.engine.sampling.mirostat import MirostatTracker
from localgen.engine.sequence import Sequence
from localgen.engine.uniforms import UniformStream
from localgen.errors import DecodeError
from localgen.samplers import SAMPLERS
from tests.fakes import fake_model


def make(
    n_vocab: int,
    tokens: tuple[int, ...] = (1,),
    uniform: Callable[[], float] = lambda: 0.5,
    custom: tuple[Any, ...] = (),
    **options: Any,
) -> Sequence:
    """A sequence whose sampler has these options, without a top_k by default."""
    sampler = Sampler(
        SamplingOptions(**{"do_sample": True, "top_k": 0, **options}), n_vocab, custom
    )
    prompt = np.array(tokens, np.int32)
    return Sequence(
        index=0,
        prompt_ids=prompt,
        max_new_tokens=50,
        eos_token_ids=frozenset({2}),
        sampler=sampler,
        uniform=uniform,  # type: ignore[arg-type]
        trackers=tuple(sampler.new_trackers(prompt, 50)),
        recorders=(StepRecorder(keep_logits=False, keep_scores=True),),
    )


def row(*values: float) -> Logits:
    return np.array(values, np.float32)


def sample(sequence: Sequence, logits: Logits) -> tuple[int, list[float]]:
    """The token drawn, and the scores that were recorded."""
    before = logits.copy()
    token = sequence.sampler.sample(logits, sequence)
    assert (logits == before).all()
    (recorder,) = sequence.recorders
    assert isinstance(recorder, StepRecorder)
    return token, recorder.scores[-1].tolist()


def scores_of(logits: Logits, **options: Any) -> list[float]:
    return sample(make(len(logits), **options), logits)[1]


NONE = -np.inf


def test_the_order_decides() -> None:
    """After a temperature of 2 the second token has more than a quarter of the first's share."""
    logits = row(2, 0, -9)
    options: dict[str, Any] = {"temperature": 2.0, "min_p": 0.25}
    assert scores_of(logits, samplers=["temperature", "min_p"], **options) == [1, 0, NONE]
    assert scores_of(logits, samplers=["min_p", "temperature"], **options) == [1, NONE, NONE]


def test_penalties_where_they_are_listed() -> None:
    """Before the temperature a penalty of 3 is worth more than after it."""
    logits = row(0, 4, 2)
    options: dict[str, Any] = {"presence_penalty": 3.0, "temperature": 2.0, "tokens": (0,)}
    for names, expected in (
        (["penalties", "temperature"], [0, 0.5, 1]),
        (["temperature", "penalties"], [0, -1, 1]),
    ):
        sequence = make(3, samplers=names, **options)
        sequence.accept(1)
        assert sample(sequence, logits)[1] == expected


def test_penalties_of_tokens_that_were_dropped() -> None:
    sequence = make(4, (0, 3), samplers=["top_k", "penalties"], top_k=2, repetition_penalty=2.0)
    assert sample(sequence, row(4, 3, 2, 1))[1] == [2, 3, NONE, NONE]


def test_dry_in_greedy_decoding_and_in_a_list() -> None:
    """By default it is a processor; in a list, it has its place there."""
    tokens = (3, 4, 5, 3, 4)
    logits = row(0, 0, 0, 0, 0, 1)
    plain: dict[str, Any] = {"tokens": tokens, "dry_multiplier": 2.0}
    assert sample(make(6, do_sample=False, **plain), logits)[0] == 0
    assert scores_of(logits, **plain) == [0, 0, 0, 0, 0, -1]
    listed = scores_of(logits, samplers=["temperature", "dry"], temperature=0.5, **plain)
    assert listed == [0, 0, 0, 0, 0, 0]


def test_dry_comes_before_the_callers_processors() -> None:
    seen = []

    def look(_: Any, scores: Logits) -> Logits:
        seen.append(scores.tolist())
        return scores

    make_one = make(6, (3, 4, 5, 3, 4), custom=(look,), dry_multiplier=2.0)
    sample(make_one, row(0, 0, 0, 0, 0, 1))
    assert seen == [[0, 0, 0, 0, 0, -1]]


def test_dry_looks_back_as_far_as_asked() -> None:
    logits = row(0, 0, 0, 0, 0, 1)
    tokens = (3, 4, 5, 3, 4)
    assert scores_of(logits, tokens=tokens, dry_multiplier=2.0, dry_penalty_last_n=4)[5] == 1
    assert scores_of(logits, tokens=tokens, dry_multiplier=2.0, dry_penalty_last_n=5)[5] == -1
    assert scores_of(logits, tokens=tokens, dry_multiplier=2.0, dry_penalty_last_n=-1)[5] == -1
    assert scores_of(logits, tokens=tokens, dry_multiplier=2.0, dry_penalty_last_n=0)[5] == 1


def test_the_coin_of_xtc() -> None:
    """A coin above the probability changes nothing; the draw takes the next number."""
    logits = np.log(row(0.5, 0.3, 0.2))
    numbers = iter([0.31, 0.1, 0.3, 0.1])
    sequence = make(3, uniform=lambda: next(numbers), xtc_probability=0.3, xtc_threshold=0.25)
    token, scores = sample(sequence, logits)
    assert (token, np.isfinite(scores).tolist()) == (0, [True, True, True])
    token, scores = sample(sequence, logits)
    assert (token, np.isfinite(scores).tolist()) == (1, [False, True, True])
    assert next(numbers, None) is None


def test_no_coin_where_xtc_can_do_nothing() -> None:
    """A threshold above a half, or one candidate: the random stream stays as it is."""
    numbers = iter([0.0, 0.0])
    options: dict[str, Any] = {"xtc_probability": 1.0, "uniform": lambda: next(numbers)}
    sample(make(3, xtc_threshold=0.6, **options), row(1, 1, 1))
    sample(make(3, top_k=1, **options), row(2, 1, 1))
    assert next(numbers, None) is None


def test_a_dynamic_temperature() -> None:
    """Two equal tokens have all the entropy there can be: the highest temperature."""
    assert scores_of(row(3, 3), temperature=1.0, dynatemp_range=0.5) == [2, 2]
    sure = scores_of(row(90, 0), temperature=0.5, dynatemp_range=0.5)
    assert sure == [0, NONE]


@pytest.mark.parametrize("version", [1, 2])
def test_mirostat_follows_what_it_draws(version: int) -> None:
    """mu starts at 2 tau; two equal tokens have one bit of surprise each."""
    stream = UniformStream(0, 0)
    sequence = make(2, uniform=stream, mirostat=version, mirostat_tau=3.0, mirostat_eta=0.5)
    (tracker,) = sequence.trackers
    assert isinstance(tracker, MirostatTracker)
    token, _ = sample(sequence, row(5, 5))
    assert tracker.mu == 6.0
    sequence.accept(token)
    assert tracker.mu == pytest.approx(6.0 - 0.5 * (1 - 3))
    other = sequence.fork(1)
    sequence.rollback(1)
    assert tracker.mu == 6.0
    (copied,) = other.trackers
    assert isinstance(copied, MirostatTracker)
    assert copied.mu == pytest.approx(7.0)


def test_mirostat_comes_after_the_temperature() -> None:
    """At a temperature of 1/2, a fifth is a seventeenth: above 3 bits."""
    logits = np.log(row(0.8, 0.2))
    assert scores_of(logits, mirostat=2, mirostat_tau=1.5)[1] > NONE
    assert scores_of(logits, mirostat=2, mirostat_tau=1.5, temperature=0.5)[1] == NONE


def test_greedy_decoding_has_no_mirostat_and_no_steps() -> None:
    sequence = make(3, do_sample=False, mirostat=2)
    assert sequence.trackers == ()
    assert sample(sequence, row(1, 3, 2)) == (1, [1, 3, 2])


def test_penalties_in_greedy_decoding_need_no_place_in_a_list() -> None:
    sequence = make(3, (1,), do_sample=False, samplers=["penalties"], repetition_penalty=2.0)
    assert sample(sequence, row(1, 3, 2))[0] == 2


@given(st.integers(0, 999), st.booleans())
def test_the_default_order_by_name_is_the_default(seed: int, cuts: bool) -> None:
    """``samplers`` with the names in their default order keeps what None keeps."""
    logits = np.random.RandomState(seed).standard_normal(200).astype(np.float32) * 3
    options: dict[str, Any] = {"temperature": 0.8, "repetition_penalty": 1.2, "typical_p": 0.9}
    if cuts:
        options |= {"top_k": 30, "top_p": 0.9, "min_p": 0.02}
    short = scores_of(logits, **options)
    np.testing.assert_allclose(scores_of(logits, samplers=SAMPLERS, **options), short, rtol=1e-6)


def test_scores_are_the_row_that_is_drawn_from() -> None:
    """For beams: the whole row, with more candidates if asked for."""
    logits = row(4, 3, 2, 1)
    sequence = make(4, temperature=0.5, top_k=1)
    sampler: Any = sequence.sampler
    assert sampler.scores(logits, sequence).tolist() == [8, NONE, NONE, NONE]
    assert sampler.scores(logits, sequence, at_least=3).tolist() == [8, 6, 4, NONE]
    greedy: Any = make(4, do_sample=False, temperature=0.5)
    assert greedy.sampler.scores(logits, greedy).tolist() == [4, 3, 2, 1]


def test_a_certain_token_stays_certain() -> None:
    """A processor may set a score to infinity, and a model may give absurd logits."""

    def first_is_certain(_: Any, scores: Logits) -> Logits:
        scores[0] = np.inf
        return scores

    certain = scores_of(row(0, 1, 2), custom=(first_is_certain,), temperature=0.5, top_h=0.5)
    assert certain == [0, NONE, NONE]
    huge = scores_of(row(3e38, -3e38, 3e38), temperature=0.1, top_n_sigma=2.0)
    assert huge == [0, NONE, 0]


def test_what_is_not_finite_is_an_error() -> None:
    with pytest.raises(DecodeError, match="not finite"):
        scores_of(row(np.nan, 1), min_p=0.1, top_h=0.5)
    with pytest.raises(ValueError, match="left no token to choose"):
        sample(make(2, suppress_tokens=[0, 1], top_h=0.5), row(1, 1))


def test_the_same_numbers_give_the_same_tokens() -> None:
    """A sequence's draws depend on its own stream alone."""
    rows = [np.random.RandomState(i).standard_normal(60).astype(np.float32) for i in range(30)]

    def draw() -> list[int]:
        options: dict[str, Any] = {"xtc_probability": 0.5, "top_n_sigma": 2.0}
        sequence = make(60, uniform=UniformStream(7, 0), **options)
        return [sequence.sampler.sample(each, sequence) for each in rows]

    assert draw() == draw()


@pytest.mark.parametrize(
    "options",
    [
        {"mirostat": 1, "mirostat_tau": 2.0},
        {"mirostat": 2, "mirostat_eta": 0.5},
        {"xtc_probability": 0.5, "xtc_threshold": 0.01, "dynatemp_range": 0.5},
        {"samplers": ["dry", "temperature", "top_k"], "dry_multiplier": 2.0, "temperature": 3.0},
    ],
    ids=str,
)
def test_a_sequence_in_a_batch_is_the_one_that_it_is_alone(options: dict[str, Any]) -> None:
    """State and random numbers are a sequence's own."""
    model = fake_model()
    plain: dict[str, Any] = {"max_new_tokens": 12, **options}
    together = model.complete(["abc", "de", "fab"], seed=[1, 2, 3], **plain)
    for prompt, seed, done in zip(["abc", "de", "fab"], [1, 2, 3], together, strict=True):
        assert model.complete(prompt, seed=seed, **plain).token_ids == done.token_ids
    several = model.complete("abc", seed=[1, 2], num_return_sequences=2, **plain)
    assert [done.token_ids for done in several] == [
        model.complete("abc", seed=seed, **plain).token_ids for seed in (1, 2)
    ]


def test_beams_draw_from_what_all_steps_keep() -> None:
    """The same seed gives the same beams; a place in the order, and a filter, change them."""
    model = fake_model()
    plain: dict[str, Any] = {
        "num_beams": 3, "num_return_sequences": 3, "do_sample": True, "seed": 5,
        "max_new_tokens": 9, "temperature": 4.0, "top_k": 30, "min_p": 0.05,
    }  # fmt: skip

    def beams(**options: Any) -> list[list[int]]:
        return [done.token_ids for done in model.complete(["abc"], **plain, **options)]

    listed = beams(samplers=SAMPLERS)
    assert beams(samplers=SAMPLERS) == listed
    assert beams(samplers=["min_p", "temperature", "top_k"]) != listed
    assert beams(samplers=SAMPLERS, top_n_sigma=1.0) != listed
    assert len(beams(epsilon_cutoff=0.9)) == 3  # enough tokens are left for all beams
    with pytest.raises(ValueError, match="mirostat=2 cannot be used with num_beams=2"):
        model.complete(["abc"], mirostat=2, num_beams=2)
