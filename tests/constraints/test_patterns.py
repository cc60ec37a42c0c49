"""Patterns match only what they match in JSON Schema's dialect and in Python's."""

from __future__ import annotations

import re

import pytest

from localgen.constraints.patterns import portable_pattern
from tests.constraints.vocabularies import byte_compiler

COMPILER = byte_compiler()
# Words, digits and blanks of Unicode, line ends, and what has a meaning in a class of Rust's.
CHARACTERS = "a_5é٣ \n\x85\u2028\ufeff\x1c&-~[ʰ"


def matched(pattern: str) -> set[str]:
    """The CHARACTERS that a pattern of one character lets through."""
    constraint = COMPILER("json_schema", {"type": "string", "pattern": f"^{pattern}$"})
    found = set()
    for character in CHARACTERS:
        matcher = constraint.matcher()
        try:
            for code in f'"{character}"'.replace("\n", "\\n").encode():
                matcher.accept(code)
        except ValueError:
            continue
        found.add(character)
    return found


@pytest.mark.parametrize(
    "pattern",
    [
        *(
            r"\w",
            r"\W",
            r"\d",
            r"\D",
            r"\s",
            r"\S",
            r"[^\w]",
            r"[^\W]",
            r"[^\s]",
            r"[^\d]",
            r"[\W]",
        ),
        *(
            ".",
            "[&~-]",
            "[^a]",
            r"\x61",
            r"\u00e9",
            "(a|5)",
            "(?:a)",
            "(?P<n>a)",
        ),
    ],
)
def test_what_is_let_through_matches_in_python(pattern: str) -> None:
    found = matched(pattern)
    assert found
    assert {each for each in found if not re.search(f"^{pattern}$", each)} == set()


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("(?=a)b", "look-around"),
        ("a(?!b)", "look-around"),
        ("(?<=a)b", "look-around"),
        (r"(a)\1", r"a reference to a group \\1"),
        (r"a\b", r"the escape \\b"),
        (r"\Aa", r"the escape \\A"),
        ("a{,3}", "without a minimum"),
        ("[]a]", "begins with ]"),
        ("[a--b]", "escape the hyphens"),
        (r"\ud800", "the character"),
        ("[a", "is not complete"),
        ("a\\", "is not complete"),
        ("a**", "a quantifier of a quantifier"),
        ("a++", "a quantifier of a quantifier"),
    ],
)
def test_what_cannot_be_enforced_is_refused(pattern: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        portable_pattern(pattern)


def test_operators_of_rust_in_a_class_are_plain_characters() -> None:
    assert matched("[a&&_]") == set("a&_")
    assert matched("[[a~~5]") == set("[a~5")
