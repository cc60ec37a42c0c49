"""Functions as tools: the schemas that transformers makes, and what is refused."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import pytest

from localgen.text.tool_schema import as_schemas, tool_schema
from tests.text.tools.functions import FUNCTIONS, REFUSED

EXPECTED: dict[str, dict[str, Any] | None] = json.loads(
    (Path(__file__).parent / "tools" / "expected.json").read_text(encoding="utf-8")
)["expected"]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_as_transformers(name: str) -> None:
    """The text is the same, too: templates print a schema as it is, so key order matters."""
    assert EXPECTED[name] is not None
    assert json.dumps(tool_schema(FUNCTIONS[name])) == json.dumps(EXPECTED[name])


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("no_docstring", ValueError, "has no docstring; describe what no_docstring does"),
        ("no_description", ValueError, "not describe the argument y; add 'y: description'"),
        ("no_args_section", ValueError, "not describe the argument x"),
        (
            "no_hint",
            TypeError,
            "argument x of the tool no_hint has no type hint; add one, for example x: str",
        ),
        ("custom_class", TypeError, "x of custom_class has no JSON type; use one of int, float"),
        ("set_hint", TypeError, r"set\[int\].* has no JSON type"),
        ("callable_hint", TypeError, "has no JSON type"),
        ("single_tuple", TypeError, "use list"),
        ("endless_tuple", TypeError, "use list"),
        ("bytes_literal", TypeError, "must contain one or more of str, int"),
        ("bad_choices", ValueError, r'must be a JSON list such as \(choices: \["a", "b"\]\)'),
        ("unknown_name", TypeError, "cannot be evaluated: name 'Nowhere' is not defined"),
    ],
)
def test_what_has_no_schema(name: str, kind: type[Exception], message: str) -> None:
    """What transformers refuses is refused here, with advice."""
    assert EXPECTED[name] is None
    with pytest.raises(kind, match=message):
        tool_schema(REFUSED[name])


def any_number(*values: int) -> None:
    """Takes any number of them.

    Args:
        values: Numbers.
    """


def empty_description(x: int) -> None:
    """Describes nothing.

    Args:
        x:
    """


def no_list_of_choices(x: str) -> None:
    """Has a choice.

    Args:
        x: It (choices: "a")
    """


def no_name(x: str, /) -> None:
    """Has an argument without a name.

    Args:
        x: It.
    """


def test_what_would_mislead_a_model() -> None:
    """Stricter than transformers: arguments without a name or a description are refused."""
    with pytest.raises(TypeError, match="values of the tool any_number takes any number"):
        tool_schema(any_number)
    with pytest.raises(TypeError, match="argument x of the tool no_name has no name in a call"):
        tool_schema(no_name)
    with pytest.raises(ValueError, match="does not describe the argument x"):
        tool_schema(empty_description)
    with pytest.raises(ValueError, match=r'must be a JSON list.*got "a"'):
        tool_schema(no_list_of_choices)


@pytest.mark.parametrize("tool", [print, functools.partial(any_number), int, "weather", 3])
def test_what_is_no_function(tool: Any) -> None:
    with pytest.raises(TypeError, match="must be a Python function, or the JSON schema"):
        as_schemas([tool])


@pytest.mark.parametrize("tools", [FUNCTIONS["scalars"], {"type": "function"}, "weather"])
def test_a_tool_without_a_list(tools: Any) -> None:
    with pytest.raises(TypeError, match="tools must be a list"):
        as_schemas(tools)


def test_schemas_are_left_as_they_are() -> None:
    """They can be mixed with functions."""
    own = {"type": "function", "function": {"name": "own", "x": [1]}}
    assert as_schemas([own, FUNCTIONS["nothing"]]) == [own, EXPECTED["nothing"]]
    assert as_schemas([]) == []
    assert as_schemas(None) is None


def test_a_function_that_is_wrapped() -> None:
    """A decorator that keeps the function's name keeps its schema."""

    @functools.wraps(FUNCTIONS["defaults"])
    def logged(*args: Any, **kwargs: Any) -> Any:
        return None

    assert tool_schema(logged) == EXPECTED["defaults"]


async def waits(x: int) -> None:
    """Waits.

    Args:
        x: Seconds.
    """


def test_an_async_function() -> None:
    schema = tool_schema(waits)["function"]
    assert schema["parameters"]["properties"] == {
        "x": {"type": "integer", "description": "Seconds."}
    }
