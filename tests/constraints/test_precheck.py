"""What is refused before a model loads, and what only a model's vocabulary can decide."""

from __future__ import annotations

from typing import Any

import pytest

from localgen.constraints.precheck import check_constraint


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("json_schema", {"not": {}}, r"\$\.not"),
        ("json_schema", "nope", "is not JSON"),
        ("regex", "a(?=b)", "look-around"),
        ("regex", "[^\\x00-\\U0010ffff]", "allows no text"),
        ("grammar", "start: missing", "grammar cannot be enforced"),
        ("grammar", 'start: ""', "allows only an empty text"),
        ("regex", "^$", "allows only an empty text"),
    ],
)
def test_what_no_vocabulary_can_enforce(name: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_constraint(name, value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("json_schema", {"type": "object"}),
        ("json_object", True),
        ("regex", "é+"),
        ("choices", ("a", "漢")),
        ("grammar", 'start: "a" | "b"'),
        ("grammar", 'root ::= "a" | "b"'),
    ],
)
def test_what_every_vocabulary_can(name: str, value: Any) -> None:
    check_constraint(name, value)


@pytest.mark.parametrize("token", ["<|im_end|>", "<[100000]>", "<tool_call>"])
def test_a_grammar_that_names_tokens_is_left_to_the_model(token: str) -> None:
    """This vocabulary has neither that text nor that id."""
    check_constraint("grammar", f'start: "a" {token}')
