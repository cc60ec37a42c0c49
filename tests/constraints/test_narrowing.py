"""What llguidance takes too widely is written anew, and cases of a oneOf are put in place."""

from __future__ import annotations

from typing import Any

import pytest

from localgen.constraints.narrowing import narrow
from tests.constraints.vocabularies import byte_compiler


def narrowed(schema: Any) -> Any:
    narrow(schema)
    return schema


def test_a_format_becomes_a_pattern_beside_the_one_that_is_there() -> None:
    assert narrowed({"format": "date"}).keys() == {"pattern"}
    both = narrowed({"format": "date", "pattern": "^2"})
    assert both["pattern"] == "^2"
    assert both["allOf"][0].keys() == {"pattern"}
    assert narrowed({"format": "uuid"}) == {"format": "uuid"}


def test_cases_of_a_one_of_that_are_references_can_be_told_apart() -> None:
    def case(tag: str) -> dict[str, Any]:
        properties = {"kind": {"const": tag}, "next": {"$ref": "#"}}
        return {"type": "object", "properties": properties, "required": ["kind"]}

    schema = {
        "oneOf": [{"$ref": "#/$defs/A"}, {"$ref": "#/$defs/B", "title": "B"}],
        "$defs": {"A": case("a"), "B": case("b")},
    }
    matcher = byte_compiler()("json_schema", schema).matcher()
    for code in b'{"kind": "b", "next": {"kind": "a"}}':
        matcher.accept(code)
    assert matcher.is_done


def test_a_reference_to_itself_is_left_alone() -> None:
    schema = {"oneOf": [{"$ref": "#/oneOf/0"}]}
    assert narrowed(dict(schema)) == schema


def test_a_pattern_is_refused_with_its_path() -> None:
    with pytest.raises(ValueError, match=r"\$\.items\.pattern cannot be enforced: .*look-around"):
        narrow({"items": {"pattern": "(?=a)"}})
