"""The reasoning ends at its limit, whatever the model would write, and nothing else is limited."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from localgen.engine.constraint import Matcher
from localgen.generation.thought_matcher import ThoughtMatcher, Thoughts
from localgen.text.replies.formats import choose_format
from localgen.text.replies.thoughts import Place, thought_marks
from tests.fakes import ChoiceMatcher

N_VOCAB = 256


def matcher(
    n_tokens: int, *, before: str = "", inner: Matcher | None = None, form: str = "think"
) -> ThoughtMatcher:
    """A limit in a vocabulary of bytes."""
    chosen = choose_format(form, "")
    assert chosen is not None
    marks = thought_marks(chosen, has_tools=True)
    thoughts = Thoughts(
        marks=marks,
        begins=marks.follow(Place(), before.encode()),
        last_id=0,
        token_bytes=lambda token_id: bytes([token_id]),
        encode=lambda _, text: list(text.encode()),
        n_vocab=N_VOCAB,
    )
    return ThoughtMatcher(thoughts, n_tokens, inner)


def write(to: ThoughtMatcher, text: str | bytes) -> ThoughtMatcher:
    for each in text.encode() if isinstance(text, str) else text:
        to.accept(each)
    return to


def forced(by: ThoughtMatcher) -> str:
    return bytes(by.forced_tokens()).decode()


def allowed(by: Matcher) -> list[int]:
    return np.flatnonzero(np.unpackbits(by.mask(), bitorder="little")).tolist()


def state(of: ThoughtMatcher) -> Any:
    return of.is_free, of.may_end, of.is_done, forced(of), allowed(of)


def test_the_limit_counts_the_tokens_inside() -> None:
    found = matcher(3)
    for text in "<think>", "a", "b":
        assert state(write(found, text))[:4] == (True, True, False, "")
    write(found, "c")
    assert state(found) == (False, False, False, "</think>", [ord("<")])
    write(found, "</think")
    assert (forced(found), allowed(found)) == (">", [ord(">")])
    write(found, ">\n\nYes, for as long as it likes.")
    assert state(found) == (True, True, False, "", list(range(N_VOCAB)))


def test_another_token_than_the_one_that_must_come() -> None:
    found = write(matcher(1), "<think>a")
    with pytest.raises(ValueError, match="not the one that ends the reasoning"):
        found.accept(ord("b"))


def test_a_draft_may_come_up_to_the_limit_and_as_the_other_matcher_says() -> None:
    found = write(matcher(2), "<think>a")
    before = state(found)
    assert found.n_allowed(list(b"bc")) == 1
    assert found.n_allowed(list(b"b</think>Yes.")) == len(b"b</think>Yes.")
    assert found.n_allowed([]) == 0
    assert state(found) == before
    inner = ChoiceMatcher([b"<think>abc</think>yes", b"<think>abd</think>yes"])
    assert write(matcher(9, inner=inner), "<think>a").n_allowed(list(b"be")) == 1


def test_reasoning_that_ends_in_time_or_never_begins() -> None:
    assert write(matcher(3), "<think>abc"[:-1] + "</think>Yes.").is_free
    assert write(matcher(0), "Yes. <think>").is_free


def test_the_prompt_opens_the_reasoning() -> None:
    assert forced(matcher(0, before="<think>")) == "</think>"
    assert forced(matcher(0, before="<think>\n")) == "</think>"
    assert forced(write(matcher(2, before="<think>\n"), "Hm")) == "\n</think>"


def test_what_the_model_began_to_write_is_completed() -> None:
    assert forced(write(matcher(3), "<think>a <")) == "/think>"
    assert forced(write(matcher(3), "<think></t")) == "hink>"


def test_a_character_is_completed_first() -> None:
    data = "🙂".encode()
    found = write(matcher(1), b"<think>" + data[:3])
    assert found.is_free
    assert forced(write(found, data[3:])) == "</think>"


def test_reasoning_that_begins_again_is_ended_at_once() -> None:
    found = write(matcher(1), "<think>a</think>\n<think>")
    assert forced(found) == "</think>"
    analysis = "<|channel|>analysis<|message|>"
    found = write(matcher(1, form="harmony"), analysis + "a")
    assert forced(found) == "<|end|><|start|>assistant"
    write(found, forced(found) + analysis)
    assert forced(found).endswith("<|channel|>final<|message|>")


def test_how_much_of_a_draft_is_allowed() -> None:
    """It may not go on with reasoning beyond the limit."""
    found = write(matcher(3), "<think>a")
    assert found.n_allowed(b"bcd") == 2
    assert found.n_allowed(b"bc</think>Yes.") == len("bc</think>Yes.")
    assert found.n_allowed(b"b</think>Yes.") == len("b</think>Yes.")
    assert (state(found), found.n_allowed(b"")) == (state(write(matcher(3), "<think>a")), 0)
    bound = matcher(1, inner=ChoiceMatcher([b"<think>a</think>b"]))
    assert bound.n_allowed(b"<think>a</x") == len("<think>a</")
    assert write(bound, "<think>a").n_allowed(b"</think>bc") == len("</think>b")


def test_another_matcher_sees_everything() -> None:
    text = b"<think>ab</think>c"
    found = matcher(2, inner=ChoiceMatcher([text, b"<think>abb"]))
    assert (found.is_free, found.may_end, forced(found)) == (False, False, "<think>ab")
    write(found, "<think>ab")
    assert (allowed(found), forced(found)) == ([ord("<")], "</think>")
    write(found, "</think>")
    assert forced(found) == "c"
    write(found, "c")
    assert found.may_end
    assert found.is_done


def test_what_another_matcher_does_not_let_end_is_finished_first() -> None:
    """Protects a call inside the reasoning, which the end mark would cut."""
    found = matcher(2, inner=ChoiceMatcher([b"<think>ab[c]d</think>e", b"<think>ab[c]</think>"]))
    write(found, "<think>ab")
    assert (found.is_ending, forced(found)) == (False, "[c]")
    write(found, "[c]")
    assert (found.is_ending, forced(found)) == (True, "</think>")


@given(
    st.binary(max_size=12), st.integers(0, 6), st.integers(0, 12), st.sampled_from(["", "<think>"])
)
def test_taking_tokens_back(data: bytes, n_tokens: int, n_back: int, before: str) -> None:
    """They leave no trace; a copy goes its own way."""

    def after(found: ThoughtMatcher, data: bytes) -> ThoughtMatcher:
        for each in data:
            found.accept(found.forced_tokens()[0] if found.is_ending else each)
        return found

    n_back = min(n_back, len(data))
    whole = after(matcher(n_tokens, before=before), data)
    twin = whole.fork()
    whole.rollback(n_back)
    fresh = after(matcher(n_tokens, before=before), data[: len(data) - n_back])
    assert state(whole) == state(fresh)
    assert state(after(whole, data[len(data) - n_back :])) == state(twin)
