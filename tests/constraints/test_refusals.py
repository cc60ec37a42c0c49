"""What llguidance refuses is told by its place: a schema's path, a pattern's character."""

from __future__ import annotations

from typing import Any

import pytest

from localgen.constraints import refusals
from localgen.constraints.compiler import Compiler, check_compiles
from tests.constraints.vocabularies import byte_compiler


@pytest.fixture(scope="module")
def compiler() -> Compiler:
    return byte_compiler()


def nested(part: Any) -> dict[str, Any]:
    """A schema that needs a value of ``part``: what need not be there is left out instead."""
    items = {"type": "array", "items": part, "minItems": 1}
    return {"type": "object", "properties": {"a": items, "b": {}}, "required": ["a"]}


@pytest.mark.parametrize(
    ("part", "reason"),
    [
        ({"type": "string", "pattern": "ab("}, r"unclosed group in 'ab\('"),
        ({"type": "integer", "minimum": 3, "maximum": 2}, r"no value satisfies it: minimum \(3\)"),
        ({"type": "string", "pattern": r"^[^\s\S]$"}, "no value satisfies it: no text matches it"),
        ({"oneOf": [{"type": "string"}, {"maxLength": 3}]}, "oneOf may both hold"),
    ],
)
def test_a_part_is_named_with_its_path(part: Any, reason: str, compiler: Compiler) -> None:
    with pytest.raises(
        ValueError, match=rf"^json_schema: \$\.properties\.a\.items cannot be enforced: .*{reason}"
    ):
        compiler("json_schema", nested(part))


def test_a_part_that_refers_to_others_is_judged_with_them() -> None:
    """Alone it would be refused because what it refers to is missing."""
    good, bad = {"type": "string"}, {"type": "string", "minLength": 2, "maxLength": 1}
    schema = {**nested({"$ref": "#/$defs/good"}), "$defs": {"good": good, "bad": bad}}
    check_compiles(schema)
    schema["properties"]["b"] = {"$ref": "#/$defs/bad"}
    schema["required"] = ["b"]
    with pytest.raises(ValueError, match=r"json_schema: \$\.\$defs\.bad cannot be enforced"):
        check_compiles(schema)


@pytest.mark.parametrize("limit", ["_MOST_PARTS", "_MOST_CHARACTERS"])
def test_a_large_schema_is_refused_without_a_search(
    limit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refusals, limit, 1)
    with pytest.raises(ValueError, match=r"^json_schema cannot be enforced: no value satisfies it"):
        check_compiles(nested({"type": "integer", "minimum": 3, "maximum": 2}))


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("ab(cd", r"unclosed group, at character 3, '\(cd'"),
        ("/é\n/[cd", r"unclosed character class, at character 5, '\[cd'"),
        (r"\/\n\\*(", r"unclosed group, at character 8, '\('"),
        ("foo(?=bar)", r"look-around.*, at character 4, '\(\?=bar\)'"),
        (r"\bfoo", r"\\b is not supported"),
        ("a^b", r"\^ in the middle is not supported"),
        ("ab\\", "ends with one backslash"),
        ("\ud800", r"half of a character"),
    ],
)
def test_a_pattern_is_told_by_its_character(pattern: str, message: str, compiler: Compiler) -> None:
    with pytest.raises(ValueError, match=f"^regex .*{message}"):
        compiler("regex", pattern)


def test_a_pattern_may_end_with_a_backslash_that_is_escaped(compiler: Compiler) -> None:
    compiler("regex", "ab\\\\")
