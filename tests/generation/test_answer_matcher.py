"""The reasoning before a constrained answer is free, ends with its mark, and comes first."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from localgen.engine.constraint import Matcher
from localgen.generation.answer_matcher import AnswerMatcher, AnswerTokens
from localgen.generation.thought_matcher import ThoughtMatcher, Thoughts
from localgen.text.byte_index import ByteIndex
from localgen.text.replies.formats import choose_format
from localgen.text.replies.thoughts import Place, thought_marks
from tests.fakes import N_VOCAB, ChoiceMatcher

# Tokens of several bytes; all others are the byte of their number.
SPACE_AFTER, TEXT_AFTER, WHOLE_AND_TEXT, WHOLE_AND_SPACE, SPACES = 1, 2, 3, 4, 5
MERGED = {
    SPACE_AFTER: b">\n\n",
    TEXT_AFTER: b">y",
    WHOLE_AND_TEXT: b".</think>y",
    WHOLE_AND_SPACE: b".</think>\n",
    SPACES: b"\n\n",
}
PIECES = [MERGED.get(token_id, bytes([token_id % 256])) for token_id in range(N_VOCAB)]
ANSWERS = [b"yes", b"no"]


def matcher(
    *, before: str = "<think>\n", form: str = "think", answers: list[bytes] = ANSWERS
) -> AnswerMatcher:
    chosen = choose_format(form, "")
    assert chosen is not None
    marks = thought_marks(chosen, has_tools=False)
    thoughts = Thoughts(
        marks=marks,
        begins=marks.follow(Place(), before.encode()),
        last_id=0,
        token_bytes=PIECES.__getitem__,
        encode=lambda _, text: list(text.encode()),
        n_vocab=N_VOCAB,
    )
    tokens = AnswerTokens(marks.closes, ByteIndex(PIECES), N_VOCAB)
    return AnswerMatcher(thoughts, tokens, ChoiceMatcher(answers, PIECES))


def write(to: Any, text: str | list[int]) -> Any:
    for each in text.encode() if isinstance(text, str) else text:
        to.accept(each)
    return to


def allowed(by: Matcher) -> set[int]:
    return set(np.flatnonzero(np.unpackbits(by.mask(), bitorder="little")[:N_VOCAB]).tolist())


def forced(by: Matcher) -> str:
    return bytes(by.forced_tokens()).decode()


def state(of: AnswerMatcher) -> Any:
    return of.is_free, of.may_end, of.is_done, forced(of), allowed(of)


EVERYTHING = set(range(N_VOCAB))


def test_the_reasoning_is_free_and_the_answer_is_not() -> None:
    found = write(matcher(), "Hm. yes or <b>no</b>?")
    assert state(found) == (False, False, False, "", EVERYTHING - {WHOLE_AND_TEXT})
    write(found, "</think>")
    assert allowed(found) == {ord("y"), ord("n"), ord("\n"), SPACES, *b" \t\r\x0b\x0c"}
    assert not found.may_end
    assert forced(write(found, "y")) == "es"
    write(found, "es")
    assert (found.may_end, found.is_done) == (True, True)


def test_two_tokens_of_white_space_may_come_before_the_answer() -> None:
    found = write(write(matcher(), "Hm.</think>"), [SPACES, ord("\n")])
    assert allowed(found) == {ord("y"), ord("n")}
    with pytest.raises(ValueError, match="may not follow"):
        found.accept(SPACES)


def test_white_space_that_the_constraint_allows_is_its_own() -> None:
    found = write(matcher(answers=[b"\nyes", b"\nno"]), "Hm.</think>\n")
    assert allowed(found) == {ord("y"), ord("n")}


def test_a_token_may_not_end_the_reasoning_and_begin_the_answer() -> None:
    """Its part of the answer would not be checked."""
    found = write(matcher(), "Hm.</think")
    assert allowed(found) == EVERYTHING - {WHOLE_AND_TEXT, TEXT_AFTER}
    for token_id in TEXT_AFTER, WHOLE_AND_TEXT:
        with pytest.raises(ValueError, match="beyond the mark"):
            write(matcher(), "Hm.</think").accept(token_id)
    for token_ids in [SPACE_AFTER], [*b" x</think", SPACE_AFTER], [*b"a", WHOLE_AND_SPACE]:
        after = write(write(matcher(), "Hm.</think"), [*token_ids, SPACES])
        assert allowed(after) == {ord("y"), ord("n")}


def test_reasoning_that_was_asked_for_is_begun() -> None:
    found = matcher(before="")
    assert (forced(found), allowed(found)) == ("<think>", {ord("<")})
    with pytest.raises(ValueError, match="not the one of the mark"):
        found.accept(ord("y"))
    assert allowed(write(found, "<think>")) == EVERYTHING - {WHOLE_AND_TEXT}


def test_the_answer_of_a_format_with_channels_has_a_header() -> None:
    found = matcher(before="", form="harmony")
    assert forced(found) == "<|channel|>analysis<|message|>"
    write(found, forced(found) + "Hm.<|end|>")
    assert forced(found) == "<|start|>assistant<|channel|>final<|message|>"
    assert not found.may_end
    write(found, forced(found))
    assert allowed(found) == {ord("y"), ord("n")}


def test_a_limit_of_the_reasoning_around_it() -> None:
    inner = matcher()
    found = ThoughtMatcher(inner._thoughts, 2, inner)
    write(found, "ab")
    assert forced(found) == "\n</think>"
    write(found, "\n</think>no")
    assert found.is_done


def test_how_much_of_a_draft_is_allowed() -> None:
    found = write(matcher(), "Hm.")
    before = state(found)
    assert found.n_allowed(list(b"</think>yet")) == len("</think>ye")
    assert found.n_allowed([*b"</think", TEXT_AFTER]) == len("</think")
    assert found.n_allowed([]) == 0
    assert state(found) == before
    assert write(found, "</think>y").n_allowed(list(b"est")) == 2


TOKENS = st.lists(st.sampled_from([*b"<>/ y\n", *MERGED, *b"think"]), max_size=8)


@given(TOKENS, TOKENS, st.booleans())
def test_going_back_and_on_is_never_having_gone(
    first: list[int], second: list[int], is_begun: bool
) -> None:
    found = matcher(before="<think>" if is_begun else "")
    for token_id in [*b"</think>", *first] if is_begun else first:
        if found.n_allowed([token_id]):
            found.accept(token_id)
    before, n_gone = state(found), 0
    twin = found.fork()
    for token_id in second:
        if (token_id in allowed(found)) != bool(found.n_allowed([token_id])):
            raise AssertionError(token_id)
        if found.n_allowed([token_id]):
            found.accept(token_id)
            n_gone += 1
    assert state(twin) == before
    found.rollback(n_gone)
    assert state(found) == before
