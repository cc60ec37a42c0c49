"""tool_choice: what is refused before anything runs, what the model sees, and the grammar."""

from __future__ import annotations

import json
from typing import Any

import pytest

from localgen.config import GenerationConfig
from localgen.constraints.enforceable import CheckedGrammar
from localgen.generation.tool_choice import (
    Enforcement,
    enforcement,
    with_grammar,
    without_choice,
)
from localgen.text.replies.arguments import types_of
from tests.fakes import FakeModel
from tests.generation.replying import TEMPLATE, ids_of, replying_model

REQUIRED = {"required": ["a"]}
FROM = {"name": "go", "parameters": {"properties": {"from": {"type": "string"}}}}
ASK = [{"role": "user", "content": "Lima?"}]
SEVERAL = [ASK, [*ASK, {"role": "assistant", "content": "a"}, *ASK]]


def now() -> str:
    """Tell the time."""
    return "noon"


def noon() -> bool:
    """Tell whether it is noon."""
    return True


def options_of(model: FakeModel, monkeypatch: pytest.MonkeyPatch, **given: Any) -> dict[str, Any]:
    """The options that ``chat()`` gives to ``complete()``."""
    seen: dict[str, Any] = {}
    monkeypatch.setattr(
        model,
        "complete",
        lambda prompts, **options: seen.update(with_grammar(options, prompts)) or [0],
    )
    model.chat(ASK, **{"tools": [now, noon], **given})
    return seen


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"tool_choice": "later"}, r"name of a tool \(now, noon\), got 'later'"),
        ({"tool_choice": "required", "tools": None}, "needs tools"),
        ({"tool_choice": "required", "reply_format": "none"}, "shows no format of tool calls"),
        ({"tool_choice": "auto", "reply_format": "none"}, "shows no format of tool calls"),
        (
            {"tool_choice": "required", "reply_format": "gemma3", "tools": [FROM]},
            "tool go: .*'from'",
        ),
        ({"tool_choice": "auto", "json_schema": {}}, "leave out json_schema"),
        ({"tool_choice": "auto", "continue_final_message": True}, "message that is continued"),
        ({"tool_choice": "required", "grammar": "start: /a/"}, "leave out grammar"),
        ({"tool_choice": "now", "continue_final_message": True}, "message that is continued"),
        ({"tool_choice": "none", "parallel_tool_calls": False}, "leave one of them out"),
        ({"tool_choice": "required", "parallel_tool_calls": 1}, "parallel_tool_calls"),
        ({"tool_choice": {"type": "function", "function": {"name": "now"}}}, "itself, 'now'"),
        ({"tool_choice": now}, "pass the name itself, 'now'"),
        ({"tool_choice": ["now"]}, r"name of a tool \(now, noon\), got \['now'\]"),
        ({"tools": [now, now]}, "two tools are named 'now'"),
        ({"tools": [now, {"name": "now"}]}, "two tools are named 'now'"),
    ],
)
def test_bad_input_is_an_error_before_anything_runs(options: dict[str, Any], words: str) -> None:
    model = replying_model("Hi.")
    chats: tuple[Any, ...] = (model.chat, model.chat_stream)
    for chat in chats:
        with pytest.raises((ValueError, TypeError), match=words):
            chat(ASK, **{"tools": [now, noon], **options})
    assert not model.backend.count("decode")


def tool(parameters: Any, name: Any = "go") -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


@pytest.mark.parametrize("choice", ["auto", "required"])
@pytest.mark.parametrize("form", ["hermes", "glm", "gemma3"])
@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "tool 0 of tools has no name"),
        ({"function": None}, "tool 0 of tools has no name"),
        ({"function": ["go"]}, "tool 0 of tools has no name"),
        (tool({}, name=3), "tool 0 of tools has no name"),
        (tool("text"), "parameters of the tool go must be a JSON Schema as a dict, got 'text'"),
        (tool({"type": "string"}), r"the tool go: \$\.type must be 'object' for arguments"),
        (
            tool({"properties": {"a": {"type": "int"}}}),
            r"the tool go: \$\.properties\.a\.type must",
        ),
        (
            tool({"properties": {"a": {"minimum": 3, "maximum": 2, "type": "integer"}}} | REQUIRED),
            r"the tool go: \$\.properties\.a cannot be enforced: no value satisfies it",
        ),
    ],
)
def test_a_tool_that_cannot_be_enforced_is_named(
    given: Any, words: str, form: str, choice: str
) -> None:
    model = replying_model("Hi.")
    with pytest.raises(ValueError, match=words):
        model.chat_prompt(ASK, tools=[given], tool_choice=choice, reply_format=form)


def test_any_tool_is_shown_where_nothing_is_enforced() -> None:
    """Some chat templates read tools of their own kind, without a name."""
    replying_model("Hi.").chat_prompt(ASK, tools=[{"type": "web_search"}, {"type": "web_search"}])


def test_an_enum_takes_time_in_proportion(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each value looked at all of them: 5,000 took 46 s."""
    seen: list[Any] = []

    def counted(schema: Any) -> set[str]:
        seen.append(schema)
        return types_of(schema)

    monkeypatch.setattr("localgen.text.replies.arguments.types_of", counted)
    monkeypatch.setattr("localgen.text.replies.call_values.types_of", counted)
    given = tool({"properties": {"a": {"enum": [f"v{index}" for index in range(99)]}}})
    for form in ("glm", "qwen-xml"):
        replying_model("Hi.").chat_prompt(
            ASK, tools=[given], tool_choice="required", reply_format=form
        )
    assert 0 < len(seen) < 99


def test_what_compiles_names_the_tool_choice() -> None:
    model = replying_model("Hi.")
    grammar = CheckedGrammar("start: " + " ".join(["a"] * 40_000))
    with pytest.raises(ValueError, match=r"^tool_choice cannot be enforced: it has 40,001"):
        model.complete("a", grammar=grammar)


@pytest.mark.parametrize("choice", [None, "auto", "none"])
def test_the_model_decides(choice: str | None) -> None:
    done = replying_model("Hi.").chat(ASK, tools=[now], tool_choice=choice, max_new_tokens=9)
    assert done.text == "Hi."


def test_none_does_not_show_the_tools() -> None:
    model = replying_model("Hi.")
    shown, hidden = (
        model.chat(ASK, tools=[now], tool_choice=choice, max_new_tokens=9).prompt_token_ids
        for choice in ("auto", "none")
    )
    assert b"Tell the time" in bytes(shown)
    assert b"Tell the time" not in bytes(hidden)


def test_the_grammar_of_a_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mark is a special token of this model, written by its id."""
    model = replying_model("")
    both = options_of(model, monkeypatch, tool_choice="required")["grammar"]
    assert "<[256]>" in both
    assert '"now"' in both
    assert '"noon"' in both
    one = options_of(model, monkeypatch, tool_choice="now", parallel_tool_calls=False)["grammar"]
    assert '"noon"' not in one
    assert "*" not in one
    assert "grammar" not in options_of(model, monkeypatch)


def test_conversations_whose_prompts_end_differently() -> None:
    template = TEMPLATE + "{{ '<think>' if messages | length > 1 }}"
    with pytest.raises(ValueError, match="one at a time"):
        replying_model("", template=template).chat(SEVERAL, tools=[now], tool_choice="required")


def test_a_schema_that_cannot_be_enforced_is_an_error_with_its_tool_and_path() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "array", "uniqueItems": True}}}
    tool = {"type": "function", "function": {"name": "sort", "parameters": schema}}
    with pytest.raises(ValueError, match=r"the tool sort: \$\.properties\.a\.uniqueItems cannot"):
        replying_model("").chat(ASK, tools=[tool], tool_choice="required")


PLANS = {
    "hermes": '<tool_call>\n{"name": "plan", "arguments": {"day": "DAY", "number": "NUMBER", '
    '"count": 3}}\n</tool_call>',
    "qwen-xml": "<tool_call>\n<function=plan>\n<parameter=day>\nDAY\n</parameter>\n"
    "<parameter=number>\nNUMBER\n</parameter>\n<parameter=count>\n3\n</parameter>\n</function>\n"
    "</tool_call>",
    "gemma3": '```tool_code\nplan(day="DAY", number="NUMBER", count=3)\n```',
}


@pytest.mark.parametrize("name", PLANS)
def test_patterns_and_formats_mean_what_they_mean_in_json_schema(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To llguidance, each month has 31 days, and a digit may be of any alphabet."""
    properties = {
        "day": {"type": "string", "format": "date"},
        "number": {"type": "string", "pattern": r"^\d\D$"},
        "count": {"type": "integer"},
    }
    schema = {"type": "object", "properties": properties, "required": list(properties)}
    model, tools = replying_model(""), [{"name": "plan", "parameters": schema}]
    options: dict[str, Any] = {"tools": tools, "tool_choice": "required", "reply_format": name}
    grammar = options_of(model, monkeypatch, **options)["grammar"]

    constraint = model._requests.constraints.of(GenerationConfig(grammar=grammar))
    assert constraint is not None

    def takes(day: str, number: str) -> bool:
        matcher = constraint.matcher()
        text = PLANS[name].replace("DAY", day).replace("NUMBER", number)
        try:
            for token_id in ids_of(text)[:-1]:
                matcher.accept(token_id)
        except ValueError:
            return False
        return matcher.may_end

    assert takes("2024-02-29", "3x")
    assert not takes("2023-02-29", "3x")
    assert not takes("2024-02-29", "\u0663x")
    assert not takes("2024-02-29", "33")


def test_a_reply_that_must_call_a_tool_does() -> None:
    """Whatever the model would rather write, in whatever format."""
    model = replying_model("I would rather talk about it, at length.")
    options: dict[str, Any] = {"tools": [now, noon], "max_new_tokens": 200}
    (call,) = model.chat(ASK, tool_choice="noon", parallel_tool_calls=False, **options).tool_calls
    assert (call.name, call.arguments, call.error) == ("noon", {}, None)
    done = model.chat(ASK, tool_choice="required", reply_format="glm", **options)
    assert {each.name for each in done.tool_calls} <= {"now", "noon"}
    assert done.tool_calls
    stream = model.chat_stream(ASK, tool_choice="now", parallel_tool_calls=False, **options)
    assert [each.kind for each in stream.deltas()][-1] == "tool_call"
    assert stream.completion.tool_calls[0].name == "now"


def test_free_text_is_what_the_model_writes() -> None:
    """A mark inside the reasoning that begins no call is text."""
    reply = "<think>I write <tool_call> at times.</think>\nHi, {you}."
    model = replying_model(reply)
    free, auto = (
        model.chat(ASK, tools=[now], tool_choice=choice, max_new_tokens=99)
        for choice in (None, "auto")
    )
    assert auto.token_ids == free.token_ids
    assert (auto.text, auto.reasoning) == (free.text, free.reasoning)
    assert auto.finish_reason == "eos"


def test_a_call_is_enforced_once_it_begins() -> None:
    """The script has no name that is a tool's, and arguments that are none."""
    model = replying_model('I look.<tool_call>\n{"name": "nine", "arguments": [1, 2]}' + 99 * " ")
    options: dict[str, Any] = {"tools": [now, noon], "max_new_tokens": 200}
    for parallel in (None, False):
        done = model.chat(ASK, tool_choice="auto", parallel_tool_calls=parallel, **options)
        assert done.text.startswith("I look.")
        assert done.tool_calls[0].name in ("now", "noon")
        assert {each.error for each in done.tool_calls} == {None}
    assert (done.finish_reason, len(done.tool_calls)) == ("stop", 1)


@pytest.mark.parametrize("choice", ["auto", "required"])
def test_limited_reasoning_ends_where_the_model_would_call(choice: str) -> None:
    """A call inside the reasoning could not be ended by its limit, so none begins there."""
    model = replying_model("", template=TEMPLATE + "{#- enable_thinking #}<think>")
    tokens = 9 * ids_of('Hm<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>')[:-1]
    opens = "|<think>"

    def script(ids: list[int]) -> int:
        n_prompt = "".join(map(chr, ids)).index(opens) + len(opens)
        return tokens[len(ids) - n_prompt]

    model.backend.script = script
    done = model.chat(ASK, tools=[now, noon], tool_choice=choice, reasoning=5, max_new_tokens=150)
    assert done.reasoning is not None
    assert len(done.reasoning) <= 5
    assert "<tool_call>" not in done.reasoning
    assert done.tool_calls
    assert {each.error for each in done.tool_calls if not each.is_cut_off} == {None}


def test_a_constrained_reply_is_its_text() -> None:
    """Marks in it are no marks: the text is what the constraint says."""
    choice = "<think>a</think>b"
    done = replying_model("").chat(ASK, choices=[choice], max_new_tokens=50)
    assert (done.text, done.parsed, done.reasoning) == (choice, choice, None)


def test_names() -> None:
    tools: list[dict[str, Any]] = [{"type": "function", "function": {"name": "a"}}, {"name": "b"}]
    assert enforcement("required", None, tools) == Enforcement(names=["a", "b"], several=True)
    assert enforcement("b", False, tools) == Enforcement(names=["b"], several=False)
    assert enforcement("auto", True, tools) == Enforcement(names=None, several=True)
    assert enforcement(None, False, tools) == Enforcement(names=None, several=False)
    assert enforcement(None, True, tools) is None
    assert enforcement("auto", None, None) is None


def test_a_later_round_may_answer() -> None:
    options = {"parallel_tool_calls": True, "seed": 1}
    assert without_choice({"tool_choice": "now", **options}) == {"tool_choice": "auto", **options}
    assert without_choice({"tool_choice": "none"}) == {"tool_choice": "none"}


def test_numbers_and_patterns_of_arguments_are_narrowed_once() -> None:
    """Twice, a pattern would mean something else, and limits would be refused."""
    properties = {
        "nights": {"type": "integer"},
        "price": {"type": "number", "minimum": 0, "maximum": 9},
        "code": {"type": "string", "pattern": r"^.[\W]$"},
        "left": {"type": "object", "propertyNames": {"enum": ["a"]}},
    }
    schema = {"type": "object", "properties": properties, "required": list(properties)}
    tool = {"type": "function", "function": {"name": "book", "parameters": schema}}
    arguments = {"nights": 3, "price": 4.5, "code": "a-", "left": {}}
    model = replying_model(f'<tool_call>\n{{"name": "book", "arguments": {json.dumps(arguments)}}}')
    done = model.chat(ASK, tools=[tool], tool_choice="required", max_new_tokens=200,
                      parallel_tool_calls=False)  # fmt: skip
    assert [each.arguments for each in done.tool_calls] == [arguments]
