"""Schemas that cannot be enforced are refused by keyword and path."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from localgen.constraints import schema_check
from localgen.constraints.schema_check import FORMATS, check_schema, close_objects, plain
from tests.constraints.vocabularies import byte_compiler

LIST: dict[str, Any] = {
    "type": "object", "properties": {"next": {"$ref": "#"}}, "required": ["next"]
}  # fmt: skip


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"not": {}}, r"\$\.not cannot be enforced"),
        ({"items": {"uniqueItems": True}}, r"\$\.items\.uniqueItems"),
        ({"properties": {"a": {"anyOf": [{}, {"if": {}}]}}}, r"\$\.properties\.a\.anyOf\[1\]\.if"),
        ({"$defs": {"x": {"propertyNames": {}}}}, r"\$\.\$defs\.x\.propertyNames"),
        ({"type": "string", "format": "iri"}, r"\$\.format 'iri'.*use a pattern, or date,"),
        ({"x-guidance": {"lenient": True}, "not": {}}, r"\$\.x-guidance is not taken"),
        ({"minProperties": 2}, r"\$\.minProperties cannot be enforced beside names"),
        ({"enum": ["fine", {"a\x01": 1}]}, r"\$\.enum has a control character"),
        ({"properties": {"a": 5}}, r"\$\.properties\.a must be a schema"),
        ([], "must be a schema"),
        ({"minlength": 3}, r"\$\.minlength is no keyword.*did you mean minLength\?"),
        ({"multipleOf": 0.01}, r"\$\.multipleOf 0\.01 is not exact in binary"),
        ({"minimum": "3"}, r"\$\.minimum must be a number, got '3'"),
        ({"items": {"minimum": 1e30}}, r"\$\.items\.minimum 1e\+30 cannot be enforced"),
        ({"$ref": "#/x-a", "x-a": {"minlength": 3}}, r"\$\.\$ref points to '#/x-a', no schema"),
        (
            {"prefixItems": [{"$ref": f"#/$defs/d{i}"} for i in range(1_001)]},
            r"\$ref is one of more than 1,000; use fewer",
        ),
        ({"items": {"$id": "b"}}, r"\$\.items\.\$id changes what references mean"),
        (LIST, "never ends"),
        ({"$ref": "#"}, "never ends"),
        ({"type": "array", "minItems": 1, "items": {"$ref": "#"}}, "never ends"),
        ({"anyOf": [{"$ref": "#/anyOf/1"}, {"$ref": "#/anyOf/0"}]}, "never ends"),
    ],
)
def test_what_cannot_be_enforced_is_named_with_its_path(schema: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_schema(plain(schema))


@pytest.mark.parametrize(
    "schema",
    [
        True,
        {"title": "a", "x-order": 1, "nullable": True, "uniqueItems": False, "multipleOf": 0.25},
        {"properties": {"not": {"type": "string"}, "if": True}},
        {"default": {"not": 1}, "examples": [{"if": 1}], "const": {"uniqueItems": 2}},
        {**LIST, "properties": {"next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}}},
        {"type": ["object", "null"], "properties": {"a": {"$ref": "#"}}, "required": ["a"]},
        {"type": "array", "items": {"$ref": "#"}},
        {"minProperties": 2, "required": ["a", "b"]},
        {
            "minProperties": 2,
            "additionalProperties": False,
            "properties": {"a": {}, "b": {}, "c": {}},
        },
    ],
)
def test_names_and_values_are_no_keywords_and_recursion_may_end(schema: Any) -> None:
    check_schema(plain(schema))


def test_a_schema_of_a_thousand_levels_is_refused() -> None:
    """Neither Python's stack nor the library's grows with it."""
    schema: dict[str, Any] = {}
    for _ in range(500):
        schema = {"items": schema}
    with pytest.raises(ValueError, match="nested deeper than 100 levels"):
        check_schema(schema)
    for text in ('{"items":' * 100_000, "[" * 100_000, "{", "nonsense", "NaN"):
        with pytest.raises(ValueError, match="json_schema"):
            check_schema(plain(text))
    schema["items"] = schema
    with pytest.raises(ValueError, match="not JSON"):
        plain(schema)


def test_the_guide_lists_each_keyword_and_format() -> None:
    """As one that is enforced, that says nothing, or that is refused."""
    guide = (Path(__file__).parents[2] / "docs" / "constraints.md").read_text("utf-8")
    section = guide.partition("## Keywords of a schema")[2].partition("\n## ")[0]
    enforced, _, rest = section.partition("say nothing about values")
    silent, _, refused = rest.partition("| refused |")
    for names, text in (
        (schema_check._ENFORCED - {"format"} | FORMATS, enforced),
        (schema_check.ANNOTATIONS - {"id"}, silent),
        (schema_check._NOT_ENFORCED - {"propertyNames"}, refused),
    ):
        assert [name for name in sorted(names) if f"`{name}`" not in text] == []


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_each_format_compiles(name: str) -> None:
    byte_compiler()("json_schema", {"type": "string", "format": name})


def test_objects_are_closed_where_nothing_is_put_together() -> None:
    inner = {"type": "object", "properties": {"b": {}}}
    schema = {"properties": {"a": {"anyOf": [inner, {"type": "null"}]}}}
    closed = plain(schema)
    close_objects(closed)
    assert closed["additionalProperties"] is False
    assert closed["properties"]["a"]["anyOf"][0]["additionalProperties"] is False
    for open_one in (
        {"properties": {}, "additionalProperties": True},
        {"allOf": [inner, {"properties": {"c": {}}}]},
        {"properties": {"a": {}}, "anyOf": [inner]},
        {"required": ["a"]},
    ):
        same = plain(open_one)
        close_objects(same)
        assert same == open_one
