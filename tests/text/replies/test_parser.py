"""Replies are taken apart the same way, whatever the pieces in which they come."""

from __future__ import annotations

import json
import random
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localgen.text.replies.formats import FORMATS, choose_format
from localgen.text.replies.parser import ReplyParser, parse_reply
from localgen.text.replies.results import Reply, ReplyBuilder, ReplyDelta
from tests.text.replies.samples import SAMPLES, TOOLS, Sample

BY_NAME = {each.name: each for each in SAMPLES}


def parser(sample: Sample) -> ReplyParser:
    return ReplyParser(choose_format(sample.form, ""), TOOLS, before=sample.before)


def reply(sample: Sample) -> Reply:
    form = choose_format(sample.form, "")
    return parse_reply(sample.raw, form, TOOLS, before=sample.before)


def deltas_of(sample: Sample, pieces: list[str]) -> list[ReplyDelta]:
    taken = parser(sample)
    deltas = [delta for piece in pieces for delta in taken.feed(piece)]
    return deltas + taken.finish()


def joined(deltas: list[ReplyDelta]) -> list[ReplyDelta]:
    """The deltas with neighbours of one kind put together."""
    found: list[ReplyDelta] = []
    for each in deltas:
        last = found[-1] if found else None
        if last and (last.kind, last.index) == (each.kind, each.index) and not each.tool_call:
            found[-1] = ReplyDelta(kind=each.kind, index=each.index, text=last.text + each.text)
        else:
            found.append(each)
    return found


def cut(text: str, places: list[int]) -> list[str]:
    edges = [0, *sorted(places), len(text)]
    return [text[a:b] for a, b in pairwise(edges)]


@pytest.mark.parametrize("name", BY_NAME)
def test_what_a_reply_holds(name: str) -> None:
    sample = BY_NAME[name]
    found = reply(sample)
    assert (found.text, found.reasoning) == (sample.text, sample.reasoning)
    assert tuple((each.name, each.arguments) for each in found.tool_calls) == sample.calls
    errors = [each.error for each in found.tool_calls if each.error]
    assert len(errors) == len(sample.errors)
    assert all(part in error for part, error in zip(sample.errors, errors, strict=True))
    n_calls = range(len(found.tool_calls))
    assert tuple(i for i in n_calls if found.tool_calls[i].is_cut_off) == sample.cut_off


@pytest.mark.slow
@pytest.mark.parametrize("name", BY_NAME)
def test_every_split_in_two_and_single_characters_give_the_same(name: str) -> None:
    sample = BY_NAME[name]
    whole = joined(deltas_of(sample, [sample.raw]))
    for place in range(len(sample.raw) + 1):
        assert joined(deltas_of(sample, cut(sample.raw, [place]))) == whole
    assert joined(deltas_of(sample, list(sample.raw))) == whole


@pytest.mark.slow
@pytest.mark.parametrize("form", [each.name for each in FORMATS])
def test_a_thousand_random_splits_of_each_format_give_the_same(form: str) -> None:
    draw = random.Random(form)
    samples = [each for each in SAMPLES if each.form == form and each.raw]
    whole = [joined(deltas_of(each, [each.raw])) for each in samples]
    for number in range(1000):
        sample = samples[number % len(samples)]
        places = draw.choices(range(len(sample.raw) + 1), k=draw.randint(1, 12))
        deltas = joined(deltas_of(sample, cut(sample.raw, places)))
        assert deltas == whole[number % len(samples)], (sample.name, places)


@pytest.mark.slow
@pytest.mark.parametrize("form", [each.name for each in FORMATS])
@settings(max_examples=40)
@given(data=st.data())
def test_any_text_in_any_pieces_gives_the_same_and_never_fails(
    form: str, data: st.DataObject
) -> None:
    """Marks in any order, and bits of calls: what small models write."""
    found = choose_format(form, "")
    assert found is not None
    bits = {bit for each in SAMPLES if each.form == form for bit in _bits(each.raw)}
    parts = st.sampled_from(sorted(bits | found.marks)) | st.text(max_size=3)
    raw = "".join(data.draw(st.lists(parts, max_size=12)))
    sample = Sample("any", form, raw, before=data.draw(st.sampled_from(["", found.thought[0]])))
    places = data.draw(st.lists(st.integers(0, len(raw)), max_size=8))
    assert joined(deltas_of(sample, cut(raw, places))) == joined(deltas_of(sample, [raw]))


def _bits(text: str) -> list[str]:
    return [text[start : start + 9] for start in range(0, len(text), 9)]


@pytest.mark.parametrize("name", BY_NAME)
def test_deltas_of_a_call_are_its_name_then_its_arguments(name: str) -> None:
    """The name in one piece, then the JSON text of the arguments, then the call."""
    sample = BY_NAME[name]
    deltas = deltas_of(sample, list(sample.raw))
    for index, call in enumerate(reply(sample).tool_calls):
        own = [each for each in deltas if each.index == index]
        kinds = [each.kind for each in joined(own)]
        assert kinds == ["tool_name"] * bool(call.name) + ["tool_arguments"] * (
            "tool_arguments" in kinds
        ) + ["tool_call"]
        assert own[-1].tool_call == call
        text = "".join(each.text for each in own if each.kind == "tool_arguments")
        if call.arguments:
            value = json.loads(text)
            assert (json.loads(value) if isinstance(value, str) else value) == call.arguments


@pytest.mark.parametrize("name", BY_NAME)
def test_a_call_keeps_what_the_model_wrote(name: str) -> None:
    sample = BY_NAME[name]
    form = choose_format(sample.form, "")
    assert form is not None
    for call in reply(sample).tool_calls:
        assert sample.form == "gemma3" or call.raw in sample.before + sample.raw
        assert not any(mark in call.raw for mark in form.begins)


def test_text_comes_as_soon_as_it_is_certain() -> None:
    taken = parser(Sample("", "hermes", ""))
    assert [each.text for each in taken.feed("Yes <tool")] == ["Yes"]
    assert [each.text for each in taken.feed("s>")] == [" <tools>"]


def test_arguments_come_while_they_are_written() -> None:
    taken = parser(Sample("", "hermes", ""))
    first = taken.feed('<tool_call>{"name": "weather", "arguments": {"city": "Li')
    assert [(each.kind, each.text) for each in first] == [
        ("tool_name", "weather"),
        ("tool_arguments", '{"city": "Li'),
    ]
    assert [each.text for each in taken.feed("ma")] == ["ma"]


def test_ids_are_the_models_or_the_same_for_the_same_seed_alone() -> None:
    form = choose_format("mistral", "")
    raw = BY_NAME["Nemo"].raw
    calls = parse_reply(raw, form, seed=b"1").tool_calls
    assert calls[0].id == "abcdef123"
    assert calls == parse_reply(raw, form, seed=b"1").tool_calls
    assert calls[1].id != parse_reply(raw, form, seed=b"2").tool_calls[1].id
    assert all(len(call.id) == 9 and call.id.isalnum() for call in calls)


def test_a_reply_without_a_format_stays_as_it_is() -> None:
    raw = " <think>a</think>\n<tool_call>{}</tool_call>\n"
    assert parse_reply(raw, None) == Reply(text=raw, reasoning=None, tool_calls=())


def test_a_long_reply_takes_time_in_proportion() -> None:
    """A value of 100,000 characters is not searched again for each piece."""
    taken = parser(Sample("", "qwen-xml", ""))
    taken.feed("<tool_call><function=weather><parameter=city>")
    for _ in range(10_000):
        taken.feed("a < b </p>")
        assert len(taken._reader.text) < 20
    builder = ReplyBuilder()
    builder.add(taken.finish())
    assert builder.reply.tool_calls[0].is_cut_off
