"""The grammar of a reply that must call a tool takes what templates render, and nothing else."""

from __future__ import annotations

import random
from functools import partial
from typing import Any

import jsonschema
import pytest

from localgen.text.chat_template import ChatTemplate
from localgen.text.replies.call_bodies import arguments_schema
from localgen.text.replies.call_grammar import call_grammar, free_grammar
from localgen.text.replies.formats import FORMATS, ReplyFormat, choose_format, find_format
from localgen.text.replies.parser import parse_reply
from localgen.text.replies.start import ReplyStart
from tests.text.replies.samples import NOW, WEATHER
from tests.text.replies.test_formats import (
    RENDERS_CALLS,
    RENDERS_ONE_CALL,
    TEMPLATES,
    TOOL,
    assistant,
    rendered_reply,
)
from tests.text.replies.walks import Walk, special_id, takes

CALLS: list[dict[str, Any]] = [{"text": 'Zü\n"1" < 2', "count": 3}, {"flag": True}]
TOOLS = (WEATHER, NOW)
# Each property is written, and read, in a way of its own by some format.
_TREE = {
    "type": "object",
    "properties": {
        "v": {"type": "string", "maxLength": 2},
        "kids": {"type": "array", "items": {"$ref": "#/$defs/tree"}, "maxItems": 2},
    },
    "required": ["v"],
    "additionalProperties": False,
}
_WORD_OR_NULL = {"anyOf": [{"enum": ["x", "y"], "type": "string"}, {"type": "null"}]}
_PROPERTIES: dict[str, Any] = {
    "text": {"type": "string"},
    "short": {"type": "string", "minLength": 1, "maxLength": 3},
    "pattern": {"type": "string", "pattern": "^[a-c]{2}$"},
    "count": {"type": "integer"},
    "few": {"type": "integer", "minimum": 1, "maximum": 12},
    "ratio": {"type": "number"},
    "flag": {"type": "boolean"},
    "maybe": {"anyOf": [{"type": "string"}, {"type": "null"}]},
    "kind": {"enum": ["a", "b c", 3, None, True]},
    "word": _WORD_OR_NULL,
    "either": {"anyOf": [{"type": "integer", "minimum": 5, "maximum": 9}, {"type": "string"}]},
    "many": {"anyOf": [{"type": "array", "items": {"type": "integer"}}, {"type": "string"}]},
    "items": {"type": "array", "items": {"type": "integer"}, "minItems": 1, "maxItems": 2},
    "tree": {"$ref": "#/$defs/tree"},
    "name": {"$ref": "#/$defs/name"},
    "any": {},
    "map": {"type": "object", "additionalProperties": {"type": "boolean"}},
}
_DEFINITIONS = {"tree": _TREE, "name": {"type": "string", "maxLength": 4}}
CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Lima", "days": 3}}\n</tool_call>'


def grammar_of(name: str, template: str = "", **options: Any) -> str:
    form = choose_format(name, "")
    assert form is not None
    start = ReplyStart(form=form, tools=TOOLS, before=options.pop("before", ""))
    given: dict[str, Any] = {"names": ["weather", "now"], "several": True, **options}
    return call_grammar(start, template, given.pop("special_id", lambda _: None), **given)


@pytest.mark.slow
@pytest.mark.parametrize("name", RENDERS_CALLS)
def test_what_a_template_renders_is_taken(name: str) -> None:
    source = TEMPLATES[name]
    form = find_format(source)
    assert form is not None
    calls = CALLS[: 1 if name in RENDERS_ONE_CALL else 2]
    text = rendered_reply(ChatTemplate(source), assistant(calls)).strip()
    if name == "openai-gpt-oss-120b":  # it writes the recipient before the channel
        text = text.partition("<|message|>")[2]
        text = f"<|channel|>commentary to=functions.work <|constrain|>json<|message|>{text}"
    start = ReplyStart(form=form, tools=(TOOL,))
    grammar = call_grammar(start, source, lambda _: None, names=["work"], several=True)
    assert takes(grammar, text.removeprefix("</think>"))
    free = free_grammar(start, source, lambda _: None, several=True)
    assert takes(free, text)
    # A header is all that may stand before one of gpt-oss's calls.
    before = "<|channel|>final<|message|>Hm. <|end|><|start|>assistant" * (form.body == "harmony")
    assert takes(free, f"{before or 'Hm.'}{text}")
    assert takes(free, f"{before or 'Hm.'}")
    assert [each.arguments for each in parse_reply(text, form, [TOOL]).tool_calls] == calls


@pytest.mark.parametrize(
    ("text", "is_taken"),
    [
        (CALL, True),
        (CALL + "\n" + CALL, True),
        ('<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>', True),
        ("", False),
        ("Sunny.", False),
        (CALL + " Sunny.", False),
        (CALL.replace("weather", "whether"), False),
        (CALL.replace("weather", "now"), False),
        (CALL.replace("3", '"3"'), False),
        (CALL.replace("days", "hours"), False),
        (CALL.removesuffix("</tool_call>"), False),
    ],
)
def test_only_calls_of_the_tools_are_taken(text: str, is_taken: bool) -> None:
    assert takes(grammar_of("hermes"), text) == is_taken


def test_one_call_if_there_may_not_be_several() -> None:
    grammar = grammar_of("hermes", several=False)
    assert takes(grammar, CALL)
    assert not takes(grammar, CALL + "\n" + CALL)


def test_the_tool_that_is_named() -> None:
    grammar = grammar_of("hermes", names=["now"])
    assert not takes(grammar, CALL)
    assert takes(grammar, '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>')


def test_reasoning_comes_before_the_calls() -> None:
    shows = grammar_of("hermes", "<think>")
    assert takes(shows, CALL)
    assert takes(shows, f"<think>Hm.</think>\n\n{CALL}")
    assert not takes(shows, f"<think>Hm <tool_call>.</think>\n\n{CALL}")
    assert not takes(grammar_of("hermes"), f"<think>Hm.</think>{CALL}")
    opened = grammar_of("hermes", "<think>", before="<think>")
    assert takes(opened, f"Hm.\n</think>\n\n{CALL}")
    assert not takes(opened, CALL)


def test_marks_that_are_special_tokens_are_written_by_their_ids() -> None:
    ids = {"<tool_call>": 7, "</tool_call>": 8}
    grammar = grammar_of("hermes", special_id=ids.get)
    assert "<[7]>" in grammar
    assert '"\\n" <[8]>' in grammar
    assert "tool_call" not in grammar


def test_tagged_values_by_their_schema() -> None:
    grammar = grammar_of("qwen-xml", several=False)

    def call(*arguments: tuple[str, str]) -> str:
        tags = "".join(f"<parameter={key}>\n{value}\n</parameter>\n" for key, value in arguments)
        return f"<tool_call>\n<function=weather>\n{tags}</function>\n</tool_call>"

    assert takes(grammar, call(("city", "Li </a>\nma"), ("days", "3"), ("tags", "[1]")))
    assert takes(grammar, call())
    assert not takes(grammar, call(("days", "three")))
    assert not takes(grammar, call(("town", "Lima")))


# --- what is enforced is read back ---


def tools_of(seed: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Two tools with three of the properties each."""
    rng = random.Random(seed)
    tools = []
    for name in ("work", "play_now"):
        chosen = rng.sample(sorted(_PROPERTIES), 3)
        schema = {
            "type": "object",
            "properties": {each: _PROPERTIES[each] for each in chosen},
            "required": [each for each in chosen if rng.random() < 0.5],
            "additionalProperties": False,
            "$defs": _DEFINITIONS,
        }
        tools.append({"name": name, "parameters": schema})
    return tools[0], tools[1]


def templates() -> dict[str, tuple[ReplyFormat, str]]:
    """Each format, with a template that shows its calls if there is one."""
    found: dict[str, tuple[ReplyFormat, str]] = {
        form.name: (form, " ".join(form.thought)) for form in FORMATS if form.body != "none"
    }
    for source in TEMPLATES.values():
        form = find_format(source)
        if form is not None and form.name in found:
            found[form.name] = form, source
    # Mistral's and DeepSeek's calls come in two ways.
    for name in ("mistralai-Mistral-Nemo-Instruct-2407", "deepseek-ai-DeepSeek-V3.1"):
        form = find_format(TEMPLATES[name])
        assert form is not None
        found[name] = form, TEMPLATES[name]
    return found


def check_calls(text: str, form: ReplyFormat, tools: Any, before: str) -> int:
    """Assert that each call in a reply is a right one; return how many there are."""
    schemas = {each["name"]: each["parameters"] for each in tools}
    calls = parse_reply(text, form, tools, before=before).tool_calls
    for call in calls:
        assert call.error is None, (call, text)
        jsonschema.validate(call.arguments, schemas[call.name])
    return len(calls)


def marks_of(form: ReplyFormat, seed: int) -> tuple[str, ...]:
    """None, some or all of the marks, as special tokens."""
    marks = [mark for mark in sorted(form.marks) if not mark.startswith("```")]
    return tuple(marks[:: seed % 3]) if seed % 3 else ()


@pytest.mark.slow
@pytest.mark.parametrize("name", templates())
def test_calls_that_must_come_are_read_back(name: str) -> None:
    form, source = templates()[name]
    n_calls = 0
    for seed in range(4):
        several, before, tools = seed % 2 == 0, form.thought[0] * (seed % 3 == 0), tools_of(seed)
        start, marks = ReplyStart(form=form, tools=tools, before=before), marks_of(form, seed)
        names, special = [each["name"] for each in tools], partial(special_id, marks=marks)
        grammar = call_grammar(start, source, special, names=names, several=several)
        text = Walk(grammar, form, seed, marks).text()
        if text is not None:
            found = check_calls(text, form, tools, before)
            assert found >= 1 if several else found == 1
            n_calls += found
    assert n_calls


@pytest.mark.slow
@pytest.mark.parametrize("name", templates())
def test_calls_that_may_come_are_read_back(name: str) -> None:
    form, source = templates()[name]
    begins = ("Hm.", form.begins[0]) if form.begins else ("<|channel|>", "commentary", " to=")
    n_calls = 0
    for seed in range(6):
        several, before, tools = seed % 2 == 0, form.thought[0] * (seed % 3 == 0), tools_of(seed)
        start, marks = ReplyStart(form=form, tools=tools, before=before), marks_of(form, seed)
        grammar = free_grammar(start, source, partial(special_id, marks=marks), several=several)
        walk = Walk(grammar, form, seed, marks)
        if seed % 2:
            assert all(map(walk.take, ((form.thought[1],) if before else ()) + begins))
        text = walk.text()
        if text is not None:
            found = check_calls(text, form, tools, before)
            assert several or found <= 1
            n_calls += found
    assert n_calls


@pytest.mark.parametrize(
    ("text", "is_taken"),
    [
        ("", True),
        ("Sunny, {so} <tool_cal", True),
        (f"Sunny.\n{CALL} So it is.\n{CALL}", True),
        ("A <tool_call> is text", False),
        (CALL.replace("weather", "whether"), False),
        (CALL.removesuffix("</tool_call>"), False),
        ("<think>A <tool_call> is <tool_call>\n text.", True),
        ("<think>A <tool_call> is text.</think>A <tool_call>", False),
        (f"<think>Hm. {CALL} Hm.</think>{CALL}", True),
        ('<think>Hm. <tool_call>{"name": 1}', False),
        (f"</think>\n<think>Hm.</think>Hm.{CALL}", True),
    ],
)
def test_text_is_free_up_to_a_call(text: str, is_taken: bool) -> None:
    form = choose_format("hermes", "")
    assert form is not None
    start = ReplyStart(form=form, tools=TOOLS)
    assert takes(free_grammar(start, "", lambda _: None, several=True), text) == is_taken


@pytest.mark.parametrize("line", ["", "\n"])
def test_line_feeds_between_the_tags_of_glm(line: str) -> None:
    pair = f"<arg_key>days</arg_key>{line}<arg_value>3</arg_value>{line}"
    text = f"<tool_call>weather{line}{pair}</tool_call>"
    assert takes(grammar_of("glm"), text)


@pytest.mark.parametrize(
    "header",
    [
        "<|channel|>commentary to=functions.now <|constrain|>json",
        "<|channel|>analysis to=functions.now code",
        " to=functions.now<|channel|>commentary json",
    ],
)
def test_headers_of_a_call_of_gpt_oss(header: str) -> None:
    form = choose_format("harmony", "")
    assert form is not None
    grammar = free_grammar(ReplyStart(form=form, tools=TOOLS), "", lambda _: None, several=True)
    assert takes(grammar, f"{header}<|message|>{{}}")
    assert not takes(grammar, f"{header}<|message|>{{}}.")
    assert not takes(grammar, f"{header.replace('now', 'then')}<|message|>{{}}")


@pytest.mark.parametrize("must_call", [True, False])
@pytest.mark.parametrize("name", [each for each in templates() if each != "harmony"])
def test_reasoning_with_a_limit_has_no_calls_and_may_end_anywhere(
    name: str, must_call: bool
) -> None:
    form, source = templates()[name]
    (opens, closes), tools = form.thought, tools_of(0)
    limits: dict[str, Any] = {"is_to_reason": True, "max_reasoning_tokens": 9}
    start = ReplyStart(form=form, tools=tools, before=opens, **limits)
    if must_call:
        grammar = call_grammar(start, source, lambda _: None, names=["work"], several=True)
    else:
        grammar = free_grammar(start, source, lambda _: None, several=True)
    for n_pieces in range(4):
        walk = Walk(grammar, form, 0)
        assert all(map(walk.take, ("Hm. ", form.begins[0][:-1], " {")[:n_pieces]))
        assert not walk.take(form.begins[0])  # no call begins in it
        assert walk.take(closes)


def test_nullable_arguments() -> None:
    """What ``tool_schema`` writes for ``int | None``."""
    properties = {"a": {"type": "integer", "nullable": True}}
    schema = arguments_schema({"parameters": {"type": "object", "properties": properties}})
    assert schema["properties"] == {"a": {"anyOf": [{"type": "integer"}, {"type": "null"}]}}
    assert schema["additionalProperties"] is False
