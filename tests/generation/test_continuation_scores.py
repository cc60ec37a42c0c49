"""score_continuations() against one token after the other, and what it computes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localgen import ContextFullError, LocalModel
from localgen.engine.sampling.filters import log_softmax
from tests.fakes import fake_model, hashed_letter, hashed_logits

PROMPT = [*b"a prompt of some length?"]


def brute_force(prompt: list[int], continuation: list[int]) -> tuple[float, bool]:
    tokens, total, greedy = [*prompt], 0.0, True
    for token_id in continuation:
        logits = hashed_logits(tokens, hashed_letter(tokens))
        total += float(log_softmax(logits)[token_id])
        greedy &= int(logits.argmax()) == token_id
        tokens.append(token_id)
    return total, greedy


def check(model: LocalModel, pairs: list[tuple[list[int], list[int]]]) -> None:
    found = model.score_continuations(pairs)
    expected = [brute_force(*pair) for pair in pairs]
    assert [each.logprob for each in found] == pytest.approx([e[0] for e in expected], abs=1e-3)
    assert [each.is_greedy for each in found] == [e[1] for e in expected]


def likeliest(prompt: list[int], n: int) -> list[int]:
    tokens = [*prompt]
    for _ in range(n):
        tokens.append(int(hashed_logits(tokens, hashed_letter(tokens)).argmax()))
    return tokens[len(prompt) :]


LETTERS = st.integers(97, 99)


@settings(max_examples=20)
@given(
    st.lists(
        st.tuples(
            st.lists(LETTERS, min_size=1, max_size=3), st.lists(LETTERS, min_size=1, max_size=6)
        ),
        max_size=6,
    ),
    st.integers(0, 4),
)
def test_scores_are_those_of_one_token_after_the_other(
    tails: list[tuple[list[int], list[int]]], n_greedy: int
) -> None:
    """Whatever the pairs share: prompts, beginnings of prompts and of continuations."""
    pairs = [([*PROMPT, *tail], each) for tail, each in tails]
    pairs += [(prompt, likeliest(prompt, n_greedy + 1)) for prompt, _ in pairs[:2]]
    check(fake_model(n_batch=64), pairs)


def test_what_greedy_decoding_writes_is_greedy_and_nothing_else() -> None:
    best = likeliest(PROMPT, 4)
    others = [[*best[:i], (best[i] + 1) % 256, *best[i + 1 :]] for i in range(4)]
    found = fake_model().score_continuations([(PROMPT, each) for each in [best, *others]])
    assert [each.is_greedy for each in found] == [True, False, False, False, False]


def test_prompts_and_equal_pairs_are_computed_once_whatever_their_order() -> None:
    model = fake_model(n_batch=64)
    questions = [[*PROMPT, *text] for text in (b"first?", b"second?")]
    pairs = [(questions[index % 2], [*b"no"]) for index in range(6)]
    model.score_continuations(pairs)
    n_questions = len(b"first?") + len(b"second?")
    assert model.backend.n_decoded == len(PROMPT) + n_questions + 2 * len("n")


def test_no_pairs_have_no_scores() -> None:
    assert fake_model().score_continuations([]) == []


@pytest.mark.parametrize(
    ("pairs", "error", "message"),
    [
        ([([1], [2]), ([1], [])], ValueError, "the continuation of pair 1 must be"),
        ([([], [1])], ValueError, "the prompt of pair 0 must be"),
        ([([1], [999])], ValueError, "the continuation of pair 0"),
        ([("text", [1])], (TypeError, ValueError), "the prompt of pair 0"),
        ([[1]], TypeError, "pair 0 must be"),
        ([([1] * 400, [1] * 113)], ContextFullError, "513"),
    ],
)
def test_bad_pairs_are_refused_before_anything_runs(pairs: Any, error: Any, message: str) -> None:
    model = fake_model(n_ctx=512)
    with pytest.raises(error, match=message):
        model.score_continuations([(PROMPT, [1]), *pairs][1:])
    assert model.backend.n_decoded == 0


def test_arrays_are_accepted() -> None:
    pair = (np.array(PROMPT), np.array([*b"no"]))
    assert fake_model().score_continuations([pair]) == fake_model().score_continuations(  # type: ignore[list-item]
        [(PROMPT, [*b"no"])]
    )
