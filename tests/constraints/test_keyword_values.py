"""A value of a wrong kind is named with its path, whatever stands there."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest

from localgen.constraints.compiler import Compiler
from localgen.constraints.keyword_values import _KINDS, wrong_values
from tests.constraints.vocabularies import byte_compiler

VALUES: list[Any] = [None, True, -1, 3, 1.5, "text", [], [1], ["text"], {}, {"text": 1}]


@pytest.fixture(scope="module")
def compiler() -> Compiler:
    return byte_compiler()


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        (
            {"type": "int"},
            r"\$\.type must be one of array, .*, got 'int'; did you mean 'integer'\?",
        ),
        ({"properties": {"a": {"type": ["str", "null"]}}}, r"\$\.properties\.a\.type.*'string'\?"),
        ({"type": []}, r"\$\.type must be one of"),
        ({"required": "a"}, r"\$\.required must be a list of names, got 'a'"),
        ({"enum": []}, r"\$\.enum must be a list of at least one value, got \[\]"),
        ({"items": {"minLength": "5"}}, r"\$\.items\.minLength must be an integer from 0, got '5'"),
        ({"maxItems": True}, r"\$\.maxItems must be an integer"),
        ({"anyOf": {}}, r"\$\.anyOf must be a list of at least one schema, got \{\}"),
        ({"format": ["date"]}, r"\$\.format must be a text, got \['date'\]"),
        ({"propertyNames": {"pattern": ["a"]}}, r"\$\.propertyNames cannot be enforced"),
    ],
)
def test_a_wrong_kind_is_an_error_with_its_path(
    schema: Any, message: str, compiler: Compiler
) -> None:
    with pytest.raises(ValueError, match=message):
        compiler("json_schema", schema)


@pytest.mark.parametrize("keyword", [*_KINDS, "items", "additionalProperties", "const", "minimum"])
def test_no_value_of_a_keyword_is_another_error(keyword: str, compiler: Compiler) -> None:
    """Some raised TypeError: unhashable, no index, not iterable."""
    for value in VALUES:
        with suppress(ValueError):
            compiler("json_schema", {"items": {keyword: value}, "type": "array"})


def test_right_values_have_nothing_wrong() -> None:
    right = {"type": ["string", "null"], "enum": [None], "required": [], "minLength": 0, "title": 3}
    assert not list(wrong_values({**right, "prefixItems": [], "properties": {}, "anyOf": [{}]}))
