"""A look at the few tokens that min_p can keep: it must choose what the whole chain would, or not
choose."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from localgen.engine.sampling.chain import Sampler, SamplingOptions
from localgen.engine.sampling.first_look import LONGEST_ROW, FirstLook
from localgen.engine.sequence import Sequence, TokenCounts

# Uniforms up to the largest one below 1.
UNIFORMS = (0.0, 0.3, 0.62, 0.93, 0.9999, math.nextafter(1.0, 0.0))


def row_of(seen: tuple[int, ...], uniform: float | None, sampler: Any = None) -> Sequence:
    """A row that has these tokens; without a ``uniform`` it must not draw."""
    prompt_ids = np.array(seen or (0,), np.int32)
    return Sequence(
        row=0,
        prompt_ids=prompt_ids,
        max_new_tokens=1,
        eos_token_ids=frozenset(),
        sampler=sampler,
        uniform=lambda: pytest.fail("drew") if uniform is None else uniform,
        counts=TokenCounts(prompt_ids, 1) if seen else None,
    )


def look(logits: Any, uniform: float | None, seen: tuple[int, ...] = (), **options: Any) -> Any:
    defaults = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.05, "penalty": 1.0}
    first_look = FirstLook(len(logits), **{**defaults, **options})
    return first_look.choose(np.array(logits, np.float32), row_of(seen, uniform))


def logs(*weights: float) -> list[float]:
    return [math.log(weight) for weight in weights]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"min_p": 0.24}, {0.0: 0, 0.57: 0, 0.58: 1, 0.85: 1, 0.86: 2, 0.99: 2}),  # 4, 2, 1 of 7
        ({"min_p": 0.26}, {0.66: 0, 0.67: 1, 0.99: 1}),  # 4, 2 of 6
        ({"min_p": 0.1, "top_k": 2}, {0.66: 0, 0.67: 1, 0.99: 1}),
        ({"min_p": 0.1, "top_k": 3, "top_p": 0.57}, {0.99: 0}),  # 0.57 of 7 is below 4
        ({"min_p": 0.1, "top_k": 3, "top_p": 0.58}, {0.66: 0, 0.67: 1, 0.99: 1}),
        # The weights are 16, 4, 1, a quarter.
        ({"min_p": 0.1, "temperature": 0.5}, {0.79: 0, 0.81: 1, 0.99: 1}),
    ],
)
def test_draws_by_hand(options: dict[str, Any], expected: dict[float, int]) -> None:
    """Proportions 4, 2, 1, 1/2: a uniform below a token's part of those that stay draws it."""
    for uniform, token_id in expected.items():
        assert look(logs(4, 2, 1, 0.5), uniform, **options) == token_id


def test_a_penalized_best_one_makes_the_look_go_lower() -> None:
    """10 was seen and becomes 5; 5.5, far below what min_p allows beside 10, is then the best."""
    assert look([10.0, 5.5, 0.0], 0.99, seen=(0,), penalty=2.0, min_p=0.7) == 1
    assert look([10.0, 5.5, 0.0], 0.0, seen=(2,), penalty=2.0, min_p=0.7) == 0


def test_a_penalty_makes_a_negative_logit_lower() -> None:
    """-1 becomes -2 and falls below half of the best one's weight; unseen it would be drawn."""
    assert look([-1.0, -1.2], 0.0, seen=(0,), penalty=2.0, min_p=0.5) == 1
    assert look([-1.0, -1.2], 0.0, seen=(), penalty=1.0, min_p=0.5) == 0


# Weights 1 and 0.6, and a third below the look, which ends at 0.1 x min_p = 0.05. 0.62 of 1.6 is
# below 1, of 1.65 above it: whether top_p keeps one or two depends on the third.
UNSURE = {"top_k": 3, "top_p": 0.62, "min_p": 0.5}


@pytest.mark.parametrize(("third", "last"), [(0.01, 0), (0.04, 1)])
def test_top_p_that_depends_on_what_was_not_seen(third: float, last: int) -> None:
    """The look gives it up, and the sampler finds the right one."""
    logits = logs(1, 0.6, third)
    assert look(logits, None, **UNSURE) is None
    sampler = Sampler(SamplingOptions(do_sample=True, **UNSURE), 3)
    assert sampler.sample(np.array(logits, np.float32), row_of((), 0.99)) == last
    # 0.6 of 1.65 is below 1 too, and of two ids none is unseen.
    assert look(logits, 0.99, **{**UNSURE, "top_p": 0.6}) == 0
    assert look(logits, 0.99, **{**UNSURE, "top_k": 2}) == 0


def test_a_penalty_that_makes_room_for_what_was_not_seen() -> None:
    """9.9 is looked at and becomes 4.95: of three, top_k keeps the unseen 6.78 (weight 0.04) in its
    place, and top_p then one more, for 0.62 of 1.64 is above 1."""
    logits = [10.0, 10.0 + math.log(0.6), 9.9, 10.0 + math.log(0.04)]
    assert look(logits, None, seen=(2,), penalty=2.0, **UNSURE) is None
    options = SamplingOptions(do_sample=True, repetition_penalty=2.0, **UNSURE)
    sampler = Sampler(options, 4)
    assert sampler.sample(np.array(logits, np.float32), row_of((2,), 0.99)) == 1


def test_a_logit_that_min_p_keeps_by_rounding() -> None:
    """It lies just below the bound, but divided by the temperature in float32, as transformers
    does, its weight is 0.8100008."""
    options = {"temperature": 1.7, "min_p": 0.81}
    assert 27.8 + 1.7 * math.log(0.81) > 27.4417724609375
    assert look([27.4417724609375, 27.8], 0.99, **options) == 0


@pytest.mark.parametrize(
    ("logits", "options"),
    [
        ([1.0, np.nan, 0.0], {}),
        ([np.inf, 1.0], {}),
        ([-np.inf, -np.inf], {}),
        ([0.0] * 257, {}),
        ([3.0, 2.0, 2.0], {"top_k": 2}),  # transformers keeps both
    ],
    ids=["nan", "inf", "nothing", "many", "tie of the k-th"],
)
def test_what_is_left_to_the_sampler(logits: list[float], options: dict[str, Any]) -> None:
    """Rare rows: no token, and no uniform taken from the row's stream."""
    assert look(logits, None, **options) is None


CHAINS: list[dict[str, Any]] = [
    {"temperature": 0.8, "top_k": 40, "top_p": 0.95, "min_p": 0.05, "repetition_penalty": 1.1},
    {"temperature": 1.2, "top_k": 20, "top_p": 0.6, "min_p": 0.05, "repetition_penalty": 1.7},
    {"temperature": 0.3, "top_k": 5, "min_p": 0.2},
    {"min_p": 0.051, "repetition_penalty": 1.3},
    {"top_k": 3, "top_p": 0.999, "min_p": 0.9},
    {"top_k": 4, "top_p": 0.7, "min_p": 0.3, "repetition_penalty": 2.0},
    {"top_k": 5, "top_p": 0.6, "min_p": 0.5, "repetition_penalty": 1.2},
]


@pytest.mark.parametrize("n_vocab", [50, 1000, 49_152, LONGEST_ROW])
@pytest.mark.parametrize("chain", CHAINS, ids=str)
def test_the_same_token_as_by_the_whole_chain(n_vocab: int, chain: dict[str, Any]) -> None:
    """Whatever the row and the uniform, and the logits are as they were."""
    options = SamplingOptions(do_sample=True, **chain)
    sampler, whole = Sampler(options, n_vocab), Sampler(options, n_vocab)
    assert sampler._first_look is not None
    whole._first_look = None
    n_looks = n_rows = 0
    for seed in range(30 if n_vocab <= 1000 else 3):
        random = np.random.RandomState(seed)
        noise = random.standard_normal(n_vocab)
        ranks = random.permutation(n_vocab)
        likely = np.flatnonzero((ranks < 12) & (ranks % 2 == seed % 2))
        seen = (*random.randint(0, n_vocab, 20), *likely) if options.counts_tokens else ()
        for scale, shift in ((1.9, 12), (1.9, -30), (3.0, 2), (0.3, 0)):
            logits = (shift - scale * np.log1p(ranks) + 0.5 * noise).astype(np.float32)
            logits[ranks % 7 == 3] = -np.inf
            before = logits.copy()
            for uniform in UNIFORMS:
                row = row_of(seen, uniform)
                token_id = whole.sample(logits, row)
                assert sampler.sample(logits, row) == token_id
                n_looks += sampler._first_look.choose(logits, row) == token_id
                n_rows += 1
            np.testing.assert_array_equal(logits, before)
    assert n_looks > n_rows / 4  # else little was compared


def test_a_look_is_mostly_enough() -> None:
    """The point of it: few rows like a model's are left to the sampler."""
    options = {"temperature": 0.8, "top_k": 40, "top_p": 0.95, "min_p": 0.05}
    n_looks = 0
    for seed in range(50):
        random = np.random.RandomState(seed)
        ranks = random.permutation(5000)
        n_looks += look(12 - 1.9 * np.log1p(ranks) + random.rand(5000), 0.5, **options) is not None
    assert n_looks >= 48


@pytest.mark.parametrize(
    "options",
    [
        {"min_p": 0.0},
        {"min_p": 1e-323},
        {"top_k": 0, "top_p": 0.9},
        {"top_k": 100, "top_p": 0.9},
        {"typical_p": 0.9},
        {"repetition_penalty": 0.9},
        {"frequency_penalty": 0.1},
        {"suppress_tokens": (1,)},
        {"custom": (lambda _ids, scores: scores,)},
        {"do_sample": False},
    ],
    ids=str,
)
def test_chains_that_it_does_not_know(options: dict[str, Any]) -> None:
    """It would ignore what it does not know: those chains never come to it."""
    known = {"do_sample": True, "top_k": 40, "top_p": 0.95, "min_p": 0.05}
    assert Sampler(SamplingOptions(**known), 100)._first_look is not None
    assert Sampler(SamplingOptions(**known), LONGEST_ROW + 1)._first_look is None
    assert Sampler(SamplingOptions(**{**known, **options}), 100)._first_look is None
