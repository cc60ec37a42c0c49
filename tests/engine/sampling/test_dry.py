"""DRY on histories that a person can read; against llama.cpp: tests/llama/test_sampling.py."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from localgen.engine.sampling import dry

LETTERS = st.text("abc", min_size=1, max_size=30)


def tokens(text: str) -> Any:
    return np.array([ord(letter) for letter in text], np.int32)


def penalties(text: str, breakers: dry.Breakers | None = None, **options: Any) -> dict[str, float]:
    """Letters → what DRY subtracts."""
    given = {"multiplier": 1.0, "base": 2.0, "allowed_length": 2, **options}
    ids, penalty = dry.penalties(tokens(text), breakers or {}, **given)
    return {chr(each): value for each, value in zip(ids.tolist(), penalty.tolist(), strict=True)}


def test_a_longer_match_costs_more() -> None:
    """multiplier · base^(length - allowed_length) for what came after each match."""
    assert penalties("abcd abc") == {"d": 2.0}
    assert penalties("abcd abc", multiplier=0.5, base=3.0) == {"d": 1.5}
    assert penalties("xbcd abce abc") == {"d": 1.0, "e": 4.0}  # " abc" is four
    assert penalties("abcd ab") == {"c": 1.0}
    assert penalties("abcd xb") == {}  # a match of one


def test_the_longest_match_counts() -> None:
    assert penalties("xbcd yabcd zabc") == {"d": 2.0}


def test_a_breaker_ends_a_match() -> None:
    newline = {ord("\n"): ((),)}
    assert penalties("ab\ncd ab\nc", newline) == {}
    assert penalties("ab\ncde ab\ncd", newline) == {"e": 1.0}
    # No token that is a breaker is penalized.
    assert penalties("abc\n abc", newline) == {}


def test_a_breaker_of_several_tokens() -> None:
    several = {ord("x"): (tuple(map(ord, "yz")),)}
    assert penalties("xyzabc xyzab", several) == {"c": 1.0}
    assert penalties("xyabc xyab", several) == {"c": 4.0}  # no breaker: "xyab" matches
    assert dry.n_since_breaker(tokens("xyzxyz"), several) == 0
    # Its first token alone is none, so it is penalized.
    assert penalties("abx abx ab", several) == {"x": 16.0}


def test_of_breakers_with_the_same_first_token_the_longest_counts() -> None:
    both = {ord("x"): ((), (ord("y"),))}
    assert dry.n_since_breaker(tokens("axyb"), both) == 1
    assert dry.n_since_breaker(tokens("axb"), both) == 1
    assert dry.n_since_breaker(tokens("ab"), both) == 2


def test_short_histories_are_not_penalized() -> None:
    assert penalties("a") == {}
    assert penalties("aa") == {}
    assert penalties("aaa") == {"a": 1.0}


def test_the_penalty_stays_finite() -> None:
    """llama.cpp's limit: base to the power of log(largest float)/log(base)."""
    (value,) = penalties("a" * 500, base=1e5).values()
    assert value == pytest.approx(1e35, rel=1e-5)
    assert penalties("a" * 500, base=1.0) == {"a": 1.0}


@given(LETTERS, st.integers(0, 40))
def test_suffix_lengths(text: str, longest: int) -> None:
    """Each is the longest common suffix, by the definition."""
    expected = []
    for end in range(1, len(text)):
        length = 0
        while length < min(end, longest) and text[end - length - 1] == text[-length - 1]:
            length += 1
        expected.append(length)
    assert dry.suffix_lengths(tokens(text), longest).tolist() == expected


@pytest.mark.parametrize("text", ["a", "ab", "abcdefg"])
def test_suffix_lengths_of_a_long_text_that_repeats_itself(text: str) -> None:
    """Regression: the time was quadratic, two seconds a token at 20,000."""
    n = 100_000
    repeated = np.resize(tokens(text), n)
    expected = np.where(np.arange(1, n) % len(text) == n % len(text), np.arange(1, n), 0)
    assert (dry.suffix_lengths(repeated, n) == expected).all()
