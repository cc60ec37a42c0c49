"""A function of the caller's says which tokens may come next."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from localgen.engine.sampling.allowed_tokens import AllowedTokens


def constrained(answer: Any, tokens: tuple[int, ...] = (8, 9)) -> AllowedTokens:
    function = answer if callable(answer) else lambda _id, _ids: answer
    return AllowedTokens(function, 3, list(tokens))


def test_the_function_gets_its_row() -> None:
    """The number of the prompt, and a new int64 array of all tokens so far each time."""
    seen = []

    def function(batch_id: int, token_ids: Any) -> list[int]:
        seen.append((batch_id, token_ids.dtype, token_ids.tolist()))
        token_ids[:] = 0
        return [1]

    tracker = constrained(function)
    tracker.allowed(10, 0)
    tracker.accept(7)
    tracker.allowed(10, 0)
    assert seen == [(3, np.int64, [8, 9]), (3, np.int64, [8, 9, 7])]


def test_it_follows_forks_and_rollbacks() -> None:
    """A copy goes its own way; taken back, the tokens are as before."""
    tracker = constrained(lambda _id, ids: ids)
    tracker.accept(1)
    fork = tracker.copy()
    fork.accept(2)
    tracker.accept(3)
    tracker.rollback(2)
    tracker.rollback(0)
    assert tracker.allowed(10, 0).tolist() == [8, 9]
    assert fork.allowed(10, 0).tolist() == [8, 9, 1, 2]
    assert not tracker.stops


@pytest.mark.parametrize(
    "answer",
    [
        [4, 5],
        (4, 5),
        range(4, 6),
        {4: "", 5: ""}.keys(),
        {4, 5},
        np.array([4, 5], np.uint8),
        np.array([4, 5], np.uint64),
        [np.int32(4), 5],
        [np.array(4), np.array(5)],
        np.array([4, 5, 4]),
    ],
    ids=repr,
)
def test_any_list_of_ids(answer: Any) -> None:
    assert {*constrained(answer).allowed(10, 0).tolist()} == {4, 5}


def test_a_generator_of_ids() -> None:
    assert constrained(lambda *_: (i for i in (4, 5))).allowed(10, 0).tolist() == [4, 5]


@pytest.mark.parametrize(
    "answer",
    [
        None,
        5,
        "45",
        b"45",
        {4: 5},
        [4.0],
        np.array([4.0]),
        np.array(4),
        [[4]],
        [[4], [5, 6]],
        [None],
        ["4"],
        [True, False],
        [4, True],
        np.array([True, False]),
        [2**70],
        object(),
    ],
    ids=repr,
)
def test_what_is_no_list_of_ids(answer: Any) -> None:
    """Named with its sequence; a bool is no token id, though Python counts with it."""
    message = "sequence 1: prefix_allowed_tokens_fn must return a list of token ids, got "
    with pytest.raises(ValueError, match=re.escape(message + repr(answer)[:30])):
        constrained(answer).allowed(10, 1)


@pytest.mark.parametrize("answer", [[], (), np.array([], np.int64), np.zeros(0), set()], ids=repr)
def test_no_token_at_all(answer: Any) -> None:
    with pytest.raises(
        ValueError, match="sequence 1: prefix_allowed_tokens_fn allows no token aft"
    ):
        constrained(answer).allowed(10, 1)


@pytest.mark.parametrize("token_id", [-1, 10, 2**40])
def test_ids_outside_the_vocabulary(token_id: int) -> None:
    """-1 would be the last token for NumPy, as it is for torch."""
    message = (
        f"sequence 1: .* returned token id {token_id}, which is outside the vocabulary, 0 to 9"
    )
    with pytest.raises(ValueError, match=message):
        constrained([4, token_id]).allowed(10, 1)


def test_errors_of_the_function_come_through() -> None:
    def function(*_: Any) -> Any:
        raise KeyError("own")

    with pytest.raises(KeyError, match="own"):
        constrained(function).allowed(10, 0)
