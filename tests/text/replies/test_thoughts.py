"""Reasoning is found where the parser finds it, and can be ended anywhere in it."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localgen.text.replies.formats import FORMATS, choose_format
from localgen.text.replies.parser import parse_reply
from localgen.text.replies.thoughts import Place, ThoughtMarks, thought_marks

BY_NAME = {each.name: each for each in FORMATS}
CALLS = st.lists(
    st.sampled_from(["<think>", "</think>", "<tool_call>", "</tool_call>", "<tool", "{", " ", "a"]),
    max_size=12,
).map("".join)
START = Place()
REPLIES = st.lists(
    st.sampled_from(["<think>", "</think>", "<thi", "</", "a", " ", "\n", "é", "b."]), max_size=12
).map("".join)


def marks_of(name: str, *, has_tools: bool = False) -> ThoughtMarks:
    form = choose_format(name, "")
    assert form is not None
    return thought_marks(form, has_tools=has_tools)


def follow(text: str, name: str = "think", start: Place = START) -> Place:
    return marks_of(name).follow(start, text.encode())


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("", "before"),
        (" \n<thi", "before"),
        ("<think>", "thoughts"),
        ("\n<think>\nHm.", "thoughts"),
        ("<think>Hm.</think", "thoughts"),
        ("<think>Hm.</think>", "before"),
        ("<think></think>\n\n<think>", "thoughts"),
        ("</think>", "before"),
        ("<b>", "text"),
        ("Yes. <think>", "text"),
        ("<think>Hm.</think>\n\nYes.", "text"),
    ],
)
def test_where_a_reply_is(text: str, kind: str) -> None:
    assert follow(text).kind == kind


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("<|channel|>", "before"),
        ("<|channel|>analysis<|message|>Hm.", "thoughts"),
        ("<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final", "text"),
        ("<|channel|>commentary to=functions.now <|constrain|>json<|message|>{", "text"),
        ("<|channel|>commentary<|message|>a<|end|><|start|>assistant<|channel|>analysis", "text"),
        ("<|channel|>final<|message|>a<|end|><|channel|>analysis<|message|>Hm.", "thoughts"),
    ],
)
def test_where_a_reply_of_several_messages_is(text: str, kind: str) -> None:
    assert follow(text, "harmony").kind == kind


@given(REPLIES, st.lists(st.integers(0, 40)))
def test_pieces_make_no_difference(text: str, cuts: list[int]) -> None:
    data = text.encode()
    marks = marks_of("think")
    place = START
    edges = [0, *sorted(min(each, len(data)) for each in cuts), len(data)]
    for begin, end in pairwise(edges):
        place = marks.follow(place, data[begin:end])
    assert place == marks.follow(START, data)


@given(REPLIES)
def test_reasoning_is_what_the_parser_says_it_is(text: str) -> None:
    """White space and repeated marks aside, which the parser drops."""
    marks, place, thoughts = marks_of("think"), START, b""
    for byte in text.encode():
        was_thinking = place.is_thinking
        place = marks.follow(place, bytes([byte]))
        if was_thinking:
            thoughts += bytes([byte])
            thoughts = thoughts if place.is_thinking else thoughts.removesuffix(marks.closes)

    def essence(found: str) -> str:
        return "".join(found.replace("<think>", "").split())

    reasoning = parse_reply(text, choose_format("think", "")).reasoning or ""
    assert essence(thoughts.decode()) == essence(reasoning)


@pytest.mark.parametrize(
    ("text", "closing"),
    [
        ("<think>", "</think>"),
        ("<think>Hm.", "</think>"),
        ("<think>\nHm.", "\n</think>"),
        ("<think>\nHm.\n", "</think>"),
        ("<think>Hm. </th", "ink>"),
        ("<think>\nHm. <", "/think>"),
    ],
)
def test_what_ends_the_reasoning(text: str, closing: str) -> None:
    place = follow(text)
    assert marks_of("think").closing(place, 0).decode() == closing
    ended = follow(closing, start=place)
    assert ended == Place("before")


def test_a_message_of_reasoning_is_followed_by_another_one() -> None:
    """By a call or the answer; and by the answer if it is reasoning once more."""
    place = follow("<|channel|>analysis<|message|>Hm.", "harmony")
    following, answer = (
        marks_of("harmony", has_tools=True).closing(place, n).decode() for n in (0, 1)
    )
    assert following == "<|end|><|start|>assistant"
    assert answer == f"{following}<|channel|>final<|message|>"
    without_tools = marks_of("harmony")
    assert [without_tools.closing(place, n).decode() for n in (0, 1, 7)] == [answer] * 3


@pytest.mark.parametrize("name", BY_NAME)
def test_the_marks_of_every_format(name: str) -> None:
    """They begin and end the reasoning, and are ASCII: a part of one is whole characters."""
    marks = marks_of(name)
    place = marks.follow(START, marks.opens + b"a")
    assert place.is_thinking
    assert not marks.follow(place, marks.closing(place, 0)).is_thinking
    assert (marks.opens + marks.closes).isascii()


CALL = '<tool_call>\n{"name": "now"}\n</tool_call>'


@pytest.mark.parametrize(
    ("text", "kind", "may_close"),
    [
        ("<think>a <tool_ca", "thoughts", True),
        ("<think>a <tool_call>", "thoughts", False),
        ("<think>a <tool_call>\n", "thoughts", False),
        ("<think>a <tool_call>\n{", "call", False),
        (f"<think>a {CALL}", "thoughts", True),
        (f"<think>a {CALL}b</think>", "before", False),
        (f"<think>a {CALL}{CALL[:20]}", "call", False),
        ("<think>The mark <tool_call> is", "thoughts", True),
        ("<think><tool_call><tool_call>{", "call", False),
        ('<think><tool_call>{"a</think>', "before", False),
        (f"<think>a</think>{CALL}", "text", False),
    ],
)
def test_calls_inside_the_reasoning(text: str, kind: str, may_close: bool) -> None:
    place = follow(text, "hermes")
    assert (place.kind, marks_of("hermes").may_close(place)) == (kind, may_close)


@pytest.mark.parametrize("form", ["hermes", "glm", "mistral"])
@given(CALLS, st.lists(st.integers(0, 60)))
def test_pieces_with_calls_make_no_difference(form: str, text: str, cuts: list[int]) -> None:
    data = text.encode()
    marks = marks_of(form)
    place = START
    for begin, end in pairwise([0, *sorted(min(each, len(data)) for each in cuts), len(data)]):
        place = marks.follow(place, data[begin:end])
    assert place == marks.follow(START, data)


def test_a_character_that_is_not_complete() -> None:
    marks = marks_of("think")
    place = marks.follow(Place("thoughts"), "1 🙂".encode()[:-1])
    assert not marks.may_close(place)
    assert marks.may_close(marks.follow(place, "🙂".encode()[-1:]))
    assert marks.may_close(marks.follow(place, b"a"))
    assert marks.may_close(Place("thoughts"))
    assert not marks.may_close(START)
