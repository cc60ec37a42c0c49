"""The grammar of a reply that must call a tool takes what templates render, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from localgen.text.chat_template import ChatTemplate
from localgen.text.replies.call_grammar import arguments_schema, call_grammar
from localgen.text.replies.formats import choose_format, find_format
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

llguidance = pytest.importorskip("llguidance")

CALLS: list[dict[str, Any]] = [{"text": 'Zü\n"1" < 2', "count": 3}, {"flag": True}]
TOOLS = (WEATHER, NOW)
CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Lima", "days": 3}}\n</tool_call>'


def takes(grammar: str, text: str) -> bool:
    """Whether ``text`` is a whole text of a grammar, byte by byte."""
    source = llguidance.LLMatcher.grammar_from_lark(grammar)
    matcher = llguidance.LLMatcher(llguidance.LLTokenizer("byte"), source)
    assert not matcher.is_error(), matcher.get_error()
    data = list(text.encode())
    if matcher.validate_tokens(data) < len(data):
        return False
    matcher.consume_tokens(data)
    return bool(matcher.is_accepting())


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
    assert takes(shows, f"<think>Hm <tool_call>.</think>\n\n{CALL}")
    assert not takes(grammar_of("hermes"), f"<think>Hm.</think>{CALL}")
    opened = grammar_of("hermes", "<think>", before="<think>")
    assert takes(opened, f"Hm.\n</think>\n\n{CALL}")
    assert not takes(opened, CALL)


def test_marks_that_are_special_tokens_are_written_by_their_ids() -> None:
    ids = {"<tool_call>": 7, "</tool_call>": 8}
    grammar = grammar_of("hermes", special_id=ids.get)
    assert '<[7]> "\\n"' in grammar
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


@pytest.mark.parametrize("name", ["gemma3", "functiongemma"])
def test_formats_that_no_grammar_describes(name: str) -> None:
    with pytest.raises(ValueError, match=f"'{name}' cannot be enforced"):
        grammar_of(name)


def test_nullable_arguments() -> None:
    """What ``tool_schema`` writes for ``int | None``."""
    properties = {"a": {"type": "integer", "nullable": True}}
    schema = arguments_schema({"parameters": {"type": "object", "properties": properties}})
    assert schema["properties"] == {"a": {"anyOf": [{"type": "integer"}, {"type": "null"}]}}
    assert schema["additionalProperties"] is False
