"""The Sampler's chains: against transformers' own results, a full sort, and cases by hand."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from localgen.config import SamplingOptions
from localgen.engine.backend import Logits
from localgen.engine.recorders import LogprobRecorder, StepRecorder
from localgen.engine.sampling import filters
from localgen.engine.sampling.chain import Sampler
from localgen.engine.sequence import Sequence
from localgen.engine.trackers import TokenCounts
from localgen.engine.uniforms import UniformStream
from localgen.errors import DecodeError
from tests.fakes import EOS, N_VOCAB, constraint

WARPERS = json.loads((Path(__file__).parents[2] / "real" / "warpers.json").read_text())


class Keep:
    """A recorder that keeps the last row of scores and the token chosen from it."""

    def record(self, logits: Logits, scores: Callable[[], Logits], token_id: int) -> None:
        self.scores = scores().copy()
        self.token_id = token_id
        assert np.isfinite(self.scores[token_id])

    def rollback(self, n_tokens: int) -> None:
        raise NotImplementedError

    def copy(self) -> Keep:
        raise NotImplementedError

    @property
    def kept(self):
        return np.flatnonzero(np.isfinite(self.scores))


def make(n_vocab, prompt=(1,), new=(), eos=(2,), uniform=lambda: 0.5, custom=(), **options):
    """A Sampler and a Sequence with a recorder; ``new`` tokens come after the prompt."""
    sampling = SamplingOptions(**{"do_sample": True, "top_k": 0, **options})
    prompt_ids = np.array(prompt, np.int32)
    sequence = Sequence(
        index=0,
        prompt_ids=prompt_ids,
        max_new_tokens=len(new) + 4,
        eos_token_ids=frozenset(eos),
        sampler=Sampler(sampling, n_vocab, custom),
        uniform=uniform,
        recorders=(Keep(),),
        trackers=(TokenCounts(prompt_ids, len(new) + 4),),
    )
    for token in new:
        sequence.accept(token)
    return sequence


def step(sequence, logits):
    """Sample one token; returns it and the recorder."""
    token = sequence.sampler.sample(logits, sequence)
    return token, sequence.recorders[0]


def scores_of(logits, **options):
    """The row after processors, temperature and filters."""
    row = np.array(logits, np.float32)
    return step(make(len(row), **options), row)[1].scores


# --- against the real transformers classes ---

OPTIONS = {
    "TemperatureLogitsWarper": {"temperature": "temperature"},
    "TopKLogitsWarper": {"top_k": "top_k"},
    "TopPLogitsWarper": {"top_p": "top_p"},
    "MinPLogitsWarper": {"min_p": "min_p"},
    "TypicalLogitsWarper": {"mass": "typical_p"},
    "EpsilonLogitsWarper": {"epsilon": "epsilon_cutoff"},
    "EtaLogitsWarper": {"epsilon": "eta_cutoff"},
    "TopHLogitsWarper": {"top_h": "top_h"},
    "RepetitionPenaltyLogitsProcessor": {"penalty": "repetition_penalty"},
    "NoRepeatNGramLogitsProcessor": {"ngram_size": "no_repeat_ngram_size"},
    "NoBadWordsLogitsProcessor": {"bad_words_ids": "bad_words_ids", "eos_token_id": "eos"},
    "SequenceBiasLogitsProcessor": {"sequence_bias": "sequence_bias"},
    "SuppressTokensLogitsProcessor": {"suppress_tokens": "suppress_tokens"},
    "MinNewTokensLengthLogitsProcessor": {
        "min_new_tokens": "min_new_tokens",
        "prompt_length_to_skip": "n_prompt",
        "eos_token_id": "eos",
    },
}


def ours(case) -> dict[str, Any]:
    """A recorded case's steps as arguments of ``make``."""
    arguments: dict[str, Any] = {"eos": ()}
    for name, values in case["steps"]:
        arguments |= {OPTIONS[name][key]: value for key, value in values.items()}
    if isinstance(arguments["eos"], int):
        arguments["eos"] = (arguments["eos"],)
    history = WARPERS["histories"][case["history"]]
    n_prompt = arguments.pop("n_prompt", len(history))
    return {**arguments, "prompt": history[:n_prompt], "new": history[n_prompt:]}


def test_every_recorded_case_of_transformers():
    """transformers' own classes ran on these rows: the same tokens stay, with the same scores."""
    assert len(WARPERS["cases"]) == 672
    for case in WARPERS["cases"]:
        seed, scale = case["seed"], case["scale"]
        logits = np.random.RandomState(seed).standard_normal(WARPERS["size"]).astype(np.float32)
        logits *= np.float32(scale)
        scores = scores_of(logits, **ours(case))
        kept = np.flatnonzero(scores != -np.inf).tolist()
        if "kept" in case:
            assert kept == case["kept"], case
        else:
            listed = ",".join(map(str, kept)).encode()
            assert len(kept) == case["kept_count"], case
            assert hashlib.sha256(listed).hexdigest() == case["kept_sha256"], case
        changed = np.flatnonzero((scores != logits) & np.isfinite(scores))
        assert len(changed) == case.get("changed_count", 0), case
        for token, value in case.get("changed", []):
            assert scores[token] == pytest.approx(value, rel=1e-5), case


# --- against a full sort ---


def full_sort(logits, o: SamplingOptions) -> np.ndarray:
    """The scores that stay, falling: the whole chain with one sort of everything."""
    s = np.sort(logits[logits > -np.inf] / np.float32(o.temperature))[::-1]
    s = s[s >= s[min(o.top_k or len(s), len(s)) - 1]]
    weights = np.exp((s - s[0]).astype(np.float64))
    before = weights.cumsum() - weights
    s = s[((before < o.top_p * weights.sum()) | (o.top_p == 1)) & (weights >= (o.min_p or 0.0))]
    return s if o.typical_p == 1 else s[typical(weights[: len(s)], o.typical_p)]


def typical(weights, mass):
    """Which weights are among the nearest to the entropy that hold ``mass``."""
    p = weights / weights.sum()
    surprise = -np.log(np.maximum(p, 1e-300))
    distance = np.abs(surprise - (p * surprise).sum())
    order = np.argsort(distance, kind="stable")
    last = min(int((p[order].cumsum() < mass).sum()), len(p) - 1)
    return distance <= distance[order[last]]


def rows(n_vocab, seed):
    """Rows of logits of every kind that a filter could stumble over."""
    random = np.random.RandomState(seed)
    noise = random.standard_normal(n_vocab).astype(np.float32)
    peaked = (12 - 1.9 * np.log1p(random.permutation(n_vocab)) + 0.5 * noise).astype(np.float32)
    few_left = np.full(n_vocab, -np.inf, np.float32)
    few_left[random.choice(n_vocab, 5, replace=False)] = random.standard_normal(5)
    return {
        "peaked": peaked,
        "flat": noise * np.float32(0.1),
        "ties": np.round(noise * 2) + np.float32(17),
        "half_removed": np.where(noise < 0, np.float32(-np.inf), peaked),
        "few_left": few_left,
        "all_equal": np.full(n_vocab, -3.5, np.float32),
        "negative": peaked - np.float32(40),
    }


CHAINS: list[dict[str, Any]] = [
    {"top_k": 1},
    {"top_k": 40},
    {"top_k": 900},
    {"top_p": 0.947},
    {"top_p": 0.1, "temperature": 0.3},
    {"top_p": 0.9993, "temperature": 1.7},
    {"min_p": 0.051, "temperature": 1.5},
    {"temperature": 0.8, "top_k": 40, "top_p": 0.953, "min_p": 0.049},
    {"temperature": 0.01, "top_k": 50, "top_p": 0.93},
    {"temperature": 1.3, "top_k": 50, "typical_p": 0.913},
    {"top_p": 0.957, "min_p": 0.033},
    {"typical_p": 0.823},
]


@pytest.mark.parametrize("n_vocab", [7, 100, 1000, 49_152, 50_257, 70_003])
@pytest.mark.parametrize("chain", CHAINS, ids=str)
def test_the_same_tokens_stay_as_with_a_full_sort(n_vocab, chain):
    """The search for candidates loses nothing: exact ties, -inf, flat rows, uneven widths.

    Where top_p or typical_p cuts so close that rounding decides, the cut must lie between those
    for a slightly smaller and a slightly larger value.
    """
    for seed in range(6 if n_vocab <= 1000 else 1):
        for kind, logits in rows(n_vocab, seed).items():
            scores = scores_of(logits, **chain)
            kept = -np.sort(-scores[scores > -np.inf])
            fewest, most = (full_sort(logits, nudged(chain, by)) for by in (-1e-6, 1e-6))
            assert len(fewest) <= len(kept) <= len(most), kind
            if "typical_p" not in chain or len(fewest) == len(most):
                np.testing.assert_array_equal(kept, most[: len(kept)], err_msg=kind)


def nudged(chain, by):
    """The options of a chain, with top_p and typical_p larger by that part."""
    larger = {name: chain[name] * (1 + by) for name in ("top_p", "typical_p") if name in chain}
    return SamplingOptions(**{"top_k": 0, **chain, **larger})


# --- by hand ---


def test_the_order_of_the_filters():
    """Proportions 8, 4, 2, 1, 1 with top_k 3: top_p counts parts of 14, not of 16.

    0.85 of 14 needs all three (8 + 4 is 0.857, so 0.85 needs two); of 16 it would need three.
    """
    logits = np.log(np.array([8, 4, 2, 1, 1], np.float32))
    assert np.isfinite(scores_of(logits, top_k=3, top_p=0.85)).tolist() == [1, 1, 0, 0, 0]
    assert np.isfinite(scores_of(logits, top_p=0.85)).tolist() == [1, 1, 1, 0, 0]
    # At temperature 2 the weights are 2.83, 2, 1.41, 1, 1: it comes before top_p.
    assert np.isfinite(scores_of(logits, top_p=0.85, temperature=2.0)).sum() == 4


def test_top_k_does_not_take_scores_for_ties_that_only_their_weights_are():
    """Two scores near zero, far below the best, have the same exp(score - best) in float32."""
    logits = np.array([20.0, 1e-7, 0.9e-7, -1.0], np.float32)
    assert np.isfinite(scores_of(logits, top_k=2)).tolist() == [1, 1, 0, 0]
    assert np.isfinite(scores_of([0, -1, -2, -3], top_k=2, temperature=1e-3)).sum() == 2


def test_recorded_scores_are_divided_by_the_temperature():
    """output_scores shows what transformers shows: kept scores after temperature, else -inf."""
    assert scores_of([2, 1, 0], temperature=0.5, top_k=2).tolist() == [4, 2, -np.inf]
    assert scores_of([2, 1, 0], temperature=0.5).tolist() == [4, 2, 0]
    assert scores_of([2, 1, 0], do_sample=False).tolist() == [2, 1, 0]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, {0.0: 0, 0.49: 0, 0.51: 1, 0.74: 1, 0.76: 2, 0.99: 3}),  # in the order of ids
        ({"top_k": 2}, {0.0: 0, 0.66: 0, 0.67: 1, 0.99: 1}),  # 2/3, 1/3
        ({"top_p": 0.6}, {0.66: 0, 0.67: 1}),
        ({"min_p": 0.45}, {0.66: 0, 0.67: 1}),
        ({"temperature": 0.5}, {0.72: 0, 0.73: 1, 0.90: 1, 0.92: 2, 0.96: 3}),  # 16, 4, 1, 1 of 22
    ],
)
def test_draws_by_hand(options, expected):
    """Proportions 4, 2, 1, 1: a uniform below the first token's probability draws that token."""
    logits = np.log(np.array([4, 2, 1, 1], np.float32))
    for uniform, token in expected.items():
        assert step(make(4, uniform=lambda u=uniform: u, **options), logits)[0] == token


def test_greedy_takes_the_first_best_and_no_uniform():
    """Greedy is argmax after the processors; it does not advance the row's stream."""
    sequence = make(4, do_sample=False, uniform=lambda: pytest.fail("drew"))
    assert step(sequence, np.array([1, 5, 5, 0], np.float32))[0] == 1
    sequence = make(4, do_sample=False, suppress_tokens=(1,))
    assert step(sequence, np.array([1, 5, 4, 0], np.float32))[0] == 2


# --- streams and scratch memory ---

FULL = {"temperature": 0.8, "top_k": 40, "top_p": 0.95, "min_p": 0.01, "repetition_penalty": 1.1}


@pytest.mark.parametrize("options", [{}, FULL, {"top_p": 0.9}], ids=["plain", "full", "top_p"])
def test_streams(options):
    """Equal (seed, row) draw the same tokens; another row or another seed draws others."""
    logits = np.random.RandomState(0).standard_normal(1000).astype(np.float32)

    def draws(seed, row):
        sequence = make(1000, uniform=UniformStream(seed, row), **options)
        return [step(sequence, logits)[0] for _ in range(30)]

    assert draws(5, 0) == draws(5, 0)
    assert len({tuple(draws(*key)) for key in ((5, 0), (5, 1), (6, 0), (2**64 - 1, 7))}) == 4


@pytest.mark.parametrize("chain", [*CHAINS, FULL, {}, {"do_sample": False}], ids=str)
def test_a_row_does_not_depend_on_the_rows_before_it(chain):
    """A shared Sampler reuses its scratch memory: what it sampled before must not show, and the
    logits of the model, borrowed from llama.cpp, must not change."""
    all_rows = rows(5003, 0)
    used = make(5003, suppress_tokens=(0,), **chain)
    for kind, logits in all_rows.items():
        before = logits.copy()
        token, keep = step(used, logits)
        alone_token, alone = step(make(5003, suppress_tokens=(0,), **chain), logits)
        assert token == alone_token, kind
        np.testing.assert_array_equal(keep.scores, alone.scores)
        np.testing.assert_array_equal(logits, before)


# --- processors ---


def test_processors_by_hand():
    """Each option edits the row that the filters see; the row is [1, 1, 1, 1, 1, 1]."""
    ones = np.ones(6)
    removed = -np.inf
    history = {"prompt": (3, 4), "new": (3, 5, 3), "eos": (2,)}
    assert scores_of(ones, repetition_penalty=2.0, **history).tolist() == [1, 1, 1, 0.5, 0.5, 0.5]
    # The prompt's 3 and 4 do not count; generated: 3 twice, 5 once.
    penalties = {"frequency_penalty": 0.25, "presence_penalty": 0.125}
    assert scores_of(ones, **penalties, **history).tolist() == [1, 1, 1, 0.375, 1, 0.625]
    assert scores_of(ones, no_repeat_ngram_size=2, **history).tolist() == [
        *(1, 1, 1, 1),
        *(removed, removed),
    ]
    assert scores_of(ones, min_new_tokens=4, **history)[2] == removed
    assert scores_of(ones, min_new_tokens=3, **history)[2] == 1
    words = ((0,), (5, 3, 1), (4, 3, 2))
    assert scores_of(ones, bad_words_ids=words, **history).tolist() == [
        removed,
        removed,
        1,
        1,
        1,
        1,
    ]
    biases = (((0,), 0.5), ((3, 0), 0.25), ((4, 1), 9.0))
    assert scores_of(ones, sequence_bias=biases, **history).tolist() == [1.75, 1, 1, 1, 1, 1]
    assert scores_of(ones, suppress_tokens=(1, 5), **history).tolist() == [
        *(1, removed, 1),
        *(1, 1, removed),
    ]


def test_bad_words_are_not_the_end_token():
    """transformers drops a bad word that is just the end token: a row must be able to end."""
    assert scores_of([1, 1, 1], bad_words_ids=((2,), (0,))).tolist() == [-np.inf, 1, 1]


def test_a_prefix_as_long_as_the_row():
    """A banned or biased word whose beginning is the whole row counts; a longer one does not."""
    assert scores_of([1, 1, 1], bad_words_ids=((1, 0), (2, 1, 2))).tolist() == [-np.inf, 1, 1]
    biases = (((1, 0), 0.5), ((2, 1, 2), 0.5))
    assert scores_of([1, 1, 1], sequence_bias=biases).tolist() == [1.5, 1, 1]


def test_the_last_bias_of_a_sequence_counts():
    """As in transformers, which makes a dict of its list. Other sequences' biases are added."""
    biases = [[[0], 0.5], [[1, 0], 8.0], [[0], 0.25], [[1, 0], 1.0]]
    assert scores_of([1, 1, 1], sequence_bias=biases).tolist() == [2.25, 1, 1]


def test_an_infinite_bias_bans():
    """transformers takes -inf too: the token goes, whatever else is added to it."""
    biases = (((0,), -np.inf), ((1, 0), 1e9), ((2,), 0.5))
    assert scores_of([1, 1, 1], sequence_bias=biases).tolist() == [-np.inf, 1, 1.5]


def test_custom_processors_run_last_and_see_a_copy():
    """They get the tokens so far and a row of their own, after the built-in processors."""
    seen = []

    def custom(token_ids, scores):
        seen.append((token_ids.tolist(), scores))
        return np.array([0, 1, 2], np.int64)

    logits = np.array([5, 6, 7], np.float32)
    sequence = make(3, prompt=(1,), new=(0,), suppress_tokens=(2,), custom=(custom,))
    for _ in range(2):
        assert step(sequence, logits)[1].scores.tolist() == [0, 1, 2]
    assert [tokens for tokens, _ in seen] == [[1, 0], [1, 0]]
    assert [scores.tolist() for _, scores in seen] == [[5, 6, -np.inf], [5, 6, -np.inf]]


def test_custom_processors_may_write_into_their_row():
    """As transformers' processors do: what they write must not reach the model's logits."""

    def custom(_token_ids, scores):
        scores[0] = 99
        return scores

    logits = np.array([5, 6, 7], np.float32)
    assert step(make(3, custom=(custom,)), logits)[1].scores.tolist() == [99, 6, 7]
    assert logits.tolist() == [5, 6, 7]


@pytest.mark.parametrize("lowest", [np.finfo(np.float32).min, np.finfo(np.float64).min, -1e35])
def test_a_mask_of_very_low_numbers_is_a_mask(lowest):
    """transformers' processors often mask with the lowest finite number instead of -inf; divided
    by a temperature it would overflow, with a warning on the user's screen."""

    def custom(_token_ids, scores):
        return np.where(np.arange(3) == 1, scores.astype(np.float64), lowest)

    for options in ({}, {"top_k": 2}, {"top_p": 0.9}, {"typical_p": 0.9}, {"do_sample": False}):
        assert step(make(3, temperature=0.5, custom=(custom,), **options), np.ones(3, "f"))[0] == 1


@pytest.mark.parametrize(
    "result",
    [
        np.zeros(4, np.float32),
        np.zeros((1, 3), np.float32),
        np.float32(0),
        np.zeros(3, np.complex64),
        np.array(["a", "b", "c"]),
        np.zeros(3, np.bool_),
        None,
    ],
    ids=repr,
)
def test_custom_processors_that_return_something_else(result):
    """A wrong shape would broadcast and a wrong kind would be read as numbers: both are errors."""
    with pytest.raises(ValueError, match="a logits processor must return numbers"):
        scores_of([1, 2, 3], custom=(lambda _ids, _scores: result,))


# --- rows that are not numbers ---


@pytest.mark.parametrize("chain", [*CHAINS, {}, {"do_sample": False}], ids=str)
@pytest.mark.parametrize("n_vocab", [7, 5003, 70_003])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_logits_that_are_not_finite(chain, n_vocab, bad):
    """One NaN or inf anywhere in the model's row is a DecodeError with every chain, never a token;
    so is a row of -inf only. An -inf among numbers is allowed."""
    for place in (0, n_vocab // 2, n_vocab - 1):
        logits = np.linspace(0, 1, n_vocab, dtype=np.float32)
        logits[place] = bad
        for processors in ({}, {"suppress_tokens": (1,)}):
            with pytest.raises(DecodeError, match="not finite"):
                scores_of(logits, **processors, **chain)
    with pytest.raises(DecodeError, match="not finite"):
        scores_of(np.full(n_vocab, -np.inf), **chain)


@pytest.mark.parametrize("chain", [{}, {"top_k": 2}, {"top_p": 0.9}, {"do_sample": False}], ids=str)
def test_processors_that_leave_nothing(chain):
    """The model's row was fine, so it is the caller's options that are wrong: a ValueError."""
    with pytest.raises(ValueError, match="left no token to choose"):
        scores_of([1, 2, 3], suppress_tokens=(0, 1, 2), **chain)
    with pytest.raises(ValueError, match="left no token to choose"):
        scores_of([1, 2, 3], custom=(lambda _ids, scores: scores * np.nan,), **chain)


def test_a_row_of_one_token():
    """The smallest vocabulary works with every filter."""
    for chain in (*CHAINS, {}, FULL):
        assert step(make(1, prompt=(0,), **chain), np.zeros(1, np.float32))[0] == 0


def test_candidates_are_few():
    """The point of the search: top_k of a large row sorts a few tokens, not the vocabulary."""
    logits = np.random.RandomState(0).standard_normal(49_152).astype(np.float32)
    assert len(filters.top_k_candidates(logits, 40)) < 100


# --- any numbers ---

HUGE = float(np.float32(1e30))
EXTREMES = [float(np.float32(x)) for x in (-np.inf, np.inf, 3.4e38, -3.4e38, HUGE, -HUGE, 1e-38)]
NUMBERS = st.one_of(st.floats(-30, 30, width=32), st.sampled_from(EXTREMES))
ROWS = hnp.arrays(np.float32, st.integers(2, 70), elements=NUMBERS)
# Penalties of these stay finite.
ANY_NUMBERS = st.one_of(
    st.floats(-HUGE, HUGE, width=32), st.sampled_from([np.nan, np.inf, -np.inf])
)
MODEL_ROWS = hnp.arrays(np.float32, st.integers(2, 70), elements=ANY_NUMBERS)
ANY_CHAIN = st.fixed_dictionaries(
    {},
    optional={
        "do_sample": st.booleans(),
        "temperature": st.sampled_from([1e-6, 1e-3, 0.5, 1.0, 7.0, 1e6]),
        "top_k": st.integers(0, 80),
        "top_p": st.sampled_from([0.0, 1e-9, 0.5, 1 - 1e-9, 1.0]),
        "min_p": st.sampled_from([0.0, 1e-9, 0.5, 1.0]),
        "typical_p": st.sampled_from([1e-9, 0.5, 1.0]),
        "repetition_penalty": st.sampled_from([1e-6, 0.5, 1.0, 2.0, 1e6]),
        "frequency_penalty": st.sampled_from([-1e6, 0.0, 2.0]),
        "sequence_bias": st.just({(1,): 1e9}),
    },
)


@given(ROWS, ANY_CHAIN, st.floats(0, 1, exclude_max=True))
def test_a_processor_may_give_any_numbers(row: Logits, options: Any, uniform: float) -> None:
    """Regression: a low temperature made NumPy warn of an overflow. Whatever is finite or infinite
    is sampled without a warning, and what is drawn is among the likeliest."""
    hypothesis.assume(row.max() > -HUGE)
    custom = [lambda _ids, _scores: row]
    sequence = make(len(row), uniform=lambda: uniform, custom=custom, **options)
    sequence.recorders = (LogprobRecorder(3), StepRecorder(keep_logits=True, keep_scores=True))
    token = sequence.sampler.sample(np.zeros(len(row), np.float32), sequence)
    assert row[token] > -HUGE
    assert sequence.recorders[1].scores[0][token] > -np.inf
    if row.max() == np.inf or options.get("do_sample") is False or options.get("top_k") == 1:
        assert row[token] == row.max()


@given(MODEL_ROWS, ANY_CHAIN)
def test_a_model_may_give_any_numbers(row: Logits, options: Any) -> None:
    """All finite ones and -inf are sampled; NaN and +inf are an error, never a token."""
    sequence = make(len(row), **options)
    sequence.recorders = (LogprobRecorder(3), StepRecorder(keep_logits=True, keep_scores=True))
    before = row.copy()
    try:
        token = sequence.sampler.sample(row, sequence)
    except (DecodeError, ValueError):
        assert np.isnan(row).any() or not np.isfinite(row.max())
    else:
        assert not np.isnan(row).any()
        assert -np.inf < row[token]
    np.testing.assert_array_equal(row, before)


@pytest.mark.slow
@given(
    logits=hnp.arrays(np.float32, 40, elements=st.floats(-9, 9, width=32), unique=True),
    top_k=st.integers(0, 6),
    top_p=st.sampled_from([0.05, 0.5, 0.9, 1.0]),
    min_p=st.sampled_from([0.0, 0.3, 0.99]),
    min_kept=st.integers(1, 5),
)
def test_filters_keep_at_least_so_many(
    logits: Logits, top_k: int, top_p: float, min_p: float, min_kept: int
) -> None:
    """transformers' min_tokens_to_keep, filter by filter, on a sorted row."""
    options = SamplingOptions(do_sample=True, top_k=top_k, top_p=top_p, min_p=min_p)
    sequence = make(len(logits))
    ids, scores = Sampler(options, len(logits), min_kept=min_kept).kept(logits, sequence)
    order = np.argsort(-logits)
    n_kept = max(top_k, min_kept) if top_k else len(logits)
    p = np.exp(logits[order][:n_kept].astype(float) - logits.max())
    n_p = int(np.searchsorted(np.cumsum(p) / p.sum(), top_p)) + 1 if top_p < 1 else n_kept
    near = np.abs(np.cumsum(p) / p.sum() - top_p).min() < 1e-5 or np.abs(p - min_p).min() < 1e-5
    hypothesis.assume(not near)
    n_kept = min(n_kept, max(n_p, min_kept))
    n_kept = min(n_kept, max(int((p >= min_p).sum()), min_kept))
    assert scores.tolist() == logits[ids].tolist()
    assert set(ids.tolist()) == set(order[:n_kept].tolist())


# --- greedy, with a constraint ---


def constrained(allowed: list[int], prompt: list[int], **options: Any) -> Sequence:
    """A greedy sequence of which the next token is one of ``allowed``."""
    sequence = make(N_VOCAB, prompt=prompt, eos=(EOS,), do_sample=False, **options)
    sequence.constraint = constraint([bytes([each]) for each in allowed])
    sequence.trackers += (sequence.constraint,)
    return sequence


@given(
    st.lists(st.integers(0, 9), min_size=2, max_size=6, unique=True),
    hnp.arrays(np.float32, 10, elements=st.integers(-3, 3)),
    st.sampled_from(
        [
            {},
            {"repetition_penalty": 5.0},
            {"frequency_penalty": 2.0, "presence_penalty": -1.0},
            {"dry_multiplier": 3.0, "dry_allowed_length": 1},
            {"sequence_bias": [[[3], 9.0], [[1, 2], -9.0]]},
            {"bad_words_ids": [[4], [1, 5]]},
            {"no_repeat_ngram_size": 2},
            {"min_new_tokens": 3, "suppress_tokens": [6, 7]},
            {"guidance_scale": 1.5},
            {"remove_invalid_values": True, "forced_eos_token_id": 3},
            {"exponential_decay_length_penalty": (0, 9.0)},
            {"encoder_repetition_penalty": 0.2, "encoder_no_repeat_ngram_size": 2},
        ]
    ),
)
def test_the_best_token_of_all_is_taken_only_where_a_mask_would_leave_it_best(
    allowed: list[int], values: Logits, options: dict[str, Any]
) -> None:
    """Ties included: the first of the best is the one, whatever the options make of the row."""
    logits = np.full(N_VOCAB, -9, np.float32)
    logits[: len(values)] = values

    def choice(sequence: Sequence) -> tuple[int, list[float]] | None:
        sequence.guide_logprobs = np.zeros(N_VOCAB, np.float32)
        try:
            token_id, recorder = step(sequence, logits)
        except ValueError:
            return None
        assert set(recorder.kept.tolist()) <= {*allowed}
        return token_id, recorder.scores.tolist()

    masked = constrained(allowed, [1, 2, 1], **options)
    assert isinstance(masked.sampler, Sampler)
    masked.sampler.needs_mask = True
    assert choice(constrained(allowed, [1, 2, 1], **options)) == choice(masked)


def test_a_custom_processor_runs_once_and_sees_only_what_is_allowed() -> None:
    seen = []

    def process(_token_ids: Any, scores: Logits) -> Logits:
        seen.append(np.flatnonzero(np.isfinite(scores)).tolist())
        return scores

    sequence = constrained([3, 4], [1], custom=(process,))
    sequence.sampler.sample(np.arange(N_VOCAB, dtype=np.float32), sequence)
    assert seen == [[3, 4]]


def test_a_row_that_is_not_finite_is_an_error_beside_a_constraint() -> None:
    """Also where the constraint would allow the token that has no number."""
    logits = np.zeros(N_VOCAB, np.float32)
    logits[3] = np.nan
    sequence = constrained([3, 4], [1])
    with pytest.raises(DecodeError, match="not finite"):
        sequence.sampler.sample(logits, sequence)
