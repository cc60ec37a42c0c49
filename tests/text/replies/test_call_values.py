"""Arguments that are not JSON: what is written of each schema, and which schemas are refused."""

from __future__ import annotations

from typing import Any

import pytest

from localgen.text.replies.call_grammar import call_grammar
from localgen.text.replies.formats import choose_format
from localgen.text.replies.start import ReplyStart
from tests.text.replies.walks import takes


def call_of(form: str, value: str) -> str:
    """A call of ``go`` with one argument, ``a``."""
    return {
        "seed-oss": "<seed:tool_call>\n<function=go>\n<parameter=a>"
        f"{value}</parameter>\n</function>\n</seed:tool_call>",
        "functiongemma": f"<start_function_call>call:go{{a:{value}}}<end_function_call>",
        "gemma3": f"```tool_code\ngo(a={value})\n```",
    }[form]


def grammar_of(form: str, schema: dict[str, Any], **root: Any) -> str:
    found = choose_format(form, "")
    assert found is not None
    parameters = {"type": "object", "properties": {"a": schema}, "required": ["a"], **root}
    start = ReplyStart(form=found, tools=({"name": "go", "parameters": parameters},))
    return call_grammar(start, "", lambda _: None, names=["go"], several=False)


STRING: dict[str, Any] = {"type": "string"}
INTEGER: dict[str, Any] = {"type": "integer"}
TWO = {"type": "string", "minLength": 1, "maxLength": 2}
POINT = {
    "type": "object",
    "properties": {"x": INTEGER, "y": {"type": "boolean"}, "z": {"type": ["integer", "null"]}},
    "required": ["y"],
}
PATTERN = {"type": "string", "pattern": "^a/[bc]+$"}


@pytest.mark.parametrize(
    ("form", "schema", "right", "wrong"),
    [
        ("seed-oss", STRING, ["", 'a"b\n<c>', "3"], ["a</parameter>b", "</seed:tool_call>"]),
        ("seed-oss", TWO, ["ab"], ["", "abc"]),
        ("seed-oss", PATTERN, ["a/bc"], ["a/", "xa/b"]),
        ("seed-oss", {"type": "string", "pattern": "b|c"}, ["abd", "c"], ["a"]),
        ("seed-oss", INTEGER, ["-3"], ["03", "1.5", '"3"']),
        ("seed-oss", {"type": "boolean"}, ["true", "False"], ["TRUE", "1"]),
        ("seed-oss", {"anyOf": [STRING, {"type": "null"}]}, ["null", "abc"], []),
        ("seed-oss", {"enum": ["a", 3, None]}, ["a", "3", "null"], ["b", '"a"']),
        ("seed-oss", {"anyOf": [TWO, {**INTEGER, "minimum": 5}]}, ["x3", "7"], ["3", "-x"]),
        ("seed-oss", {"type": "array", "items": INTEGER}, ["[1, 2]"], ["[a]", "1"]),
        ("functiongemma", STRING, ["<escape><escape>", "<escape>a b<escape>"], ["a", '"a"']),
        ("functiongemma", TWO, ["<escape>ab<escape>"], ["<escape><escape>"]),
        ("functiongemma", POINT, ["{y:true}", "{x:1,y:true,z:null}"], ["{}", "{,y:true}", "{x:1}"]),
        ("functiongemma", {"type": "array", "minItems": 2}, ["[1,true]", "[[],{},1]"], ["[1]"]),
        ("functiongemma", {"enum": ["a", 3, True]}, ["<escape>a<escape>", "3", "true"], ["4"]),
        ("gemma3", STRING, ['""', '"a\\"b\\n"'], ["'a'", '"a"b"', '"```"', '"\\u0041"']),
        ("gemma3", PATTERN, ['"a/b"'], ['"a/"', '"a/b\\n"']),
        ("gemma3", POINT, ['{"y": True, "z": None}'], ['{"y": true}', "{'y': True}", '{"x": 1}']),
        ("gemma3", {"type": "array", "items": STRING, "maxItems": 1}, ["[]", '["a"]'], ["[1]"]),
        ("gemma3", {"type": "array", "maxItems": 0}, ["[]"], ["[1]"]),
        ("gemma3", {"type": "object"}, ["{}", '{"a": [1.5, None]}'], ['{"a": nil}', "[]"]),
    ],
)
def test_values(form: str, schema: dict[str, Any], right: list[str], wrong: list[str]) -> None:
    grammar = grammar_of(form, schema)
    assert [value for value in right if not takes(grammar, call_of(form, value))] == []
    assert [value for value in wrong if takes(grammar, call_of(form, value))] == []


@pytest.mark.parametrize("form", ["functiongemma", "gemma3"])
def test_a_schema_that_refers_to_itself(form: str) -> None:
    items = {"type": "array", "items": {"$ref": "#/$defs/list"}}
    grammar = grammar_of(form, {"$ref": "#/$defs/list"}, **{"$defs": {"list": items}})
    assert takes(grammar, call_of(form, "[[],[[]]]" if form == "functiongemma" else "[[], [[]]]"))
    assert not takes(grammar, call_of(form, "[1]"))


@pytest.mark.parametrize(
    ("form", "schema", "words"),
    [
        ("seed-oss", {**STRING, "format": "email"}, "'format'"),
        ("seed-oss", {"enum": ["</parameter>"]}, "enum with a mark"),
        ("seed-oss", {**STRING, "pattern": "^a|b$"}, "anchors in parts of it"),
        ("seed-oss", {"anyOf": [STRING, {"enum": [True]}]}, "union of a string"),
        ("seed-oss", {"$ref": "other.json"}, "reference 'other.json'"),
        ("functiongemma", {"oneOf": [STRING, INTEGER]}, "'oneOf'"),
        ("functiongemma", {"allOf": [STRING, TWO]}, "'allOf'"),
        ("functiongemma", {"type": "object", "properties": {"a b": {}}}, "'a b'"),
        ("functiongemma", {"enum": ["a<escape>"]}, "enum with a mark"),
        ("gemma3", {"type": "object", "required": ["b"]}, "'b', required but not listed"),
        ("gemma3", {"type": "array", "prefixItems": [STRING]}, "'prefixItems'"),
        ("gemma3", {"type": "array", "maxItems": 10**6}, "more than 1,000 items"),
        ("gemma3", {"const": [1]}, "enum of arrays"),
    ],
)
def test_what_is_refused(form: str, schema: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=f"the tool go: .*{words}.* cannot be enforced"):
        grammar_of(form, schema)
