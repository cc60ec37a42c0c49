"""What classes and OpenAPI say in keywords of their own is said in others."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any, Literal

import pydantic
import pytest

from localgen.constraints.equivalents import rewrite
from tests.constraints.vocabularies import allows, byte_compiler


def rewritten(schema: Any) -> Any:
    rewrite(schema)
    return schema


def test_formats_that_limit_nothing_are_left_out() -> None:
    assert rewritten({"items": {"type": "string", "format": "password"}}) == {
        "items": {"type": "string"}
    }
    assert rewritten({"format": "uuid"}) == {"format": "uuid"}
    assert rewritten({"format": 5}) == {"format": 5}


@pytest.mark.parametrize(
    ("names", "keywords"),
    [
        (
            {"enum": ["a", "b", 3]},
            {
                "properties": {"a": {"type": "null"}, "b": {"type": "null"}},
                "additionalProperties": False,
            },
        ),
        (
            {"type": "string", "pattern": "^x", "title": "Name"},
            {"patternProperties": {"^x": {"type": "null"}}, "additionalProperties": False},
        ),
    ],
)
def test_names_by_a_list_or_a_pattern_are_properties(
    names: dict[str, Any], keywords: dict[str, Any]
) -> None:
    assert rewritten({"propertyNames": names, "additionalProperties": {"type": "null"}}) == keywords


@pytest.mark.parametrize(
    "schema",
    [
        {"propertyNames": {"maxLength": 3}},
        {"propertyNames": {"enum": ["a"], "pattern": "b"}},
        {"propertyNames": {"enum": ["a"]}, "properties": {"c": True}},
        {"propertyNames": False},
        {"propertyNames": {"type": "integer", "enum": ["a"]}},
    ],
)
def test_other_names_stay_as_they_are_to_be_refused(schema: dict[str, Any]) -> None:
    assert rewritten(dict(schema)) == schema
    with pytest.raises(ValueError, match=r"\$\.propertyNames cannot be enforced"):
        byte_compiler()("json_schema", schema)


class Settings(pydantic.BaseModel):
    secret: pydantic.SecretStr
    file: Path
    limits: dict[Literal["low", "high"], int]


def test_a_class_with_names_and_formats_of_its_own_is_read() -> None:
    constraint = byte_compiler()("json_schema", Settings)
    text = '{"secret": "x", "file": "a/b", "limits": {"low": 1}}'
    assert allows(constraint, text)
    assert constraint.parse(text).limits == {"low": 1}
    assert not allows(constraint, text.replace("low", "lower"))
    with pytest.raises(ValueError, match=r"propertyNames"):
        byte_compiler()("json_schema", dict[uuid.UUID, int])
