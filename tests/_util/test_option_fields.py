"""An option is declared once: its default, its check, and what the command line says of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import pytest

from localgen._util.option_fields import (
    check_callable,
    check_fields,
    check_path,
    check_str,
    help_of,
    integer,
    items,
    option,
    option_of,
    optional,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    n_rows: int | None = option(None, optional(integer(1, 9)), help="Use this many rows.")
    names: Sequence[str] = option(("a",), items())
    key: str = option("", check_str, is_secret=True)

    def __post_init__(self) -> None:
        check_fields(self)


def test_values_are_checked_and_kept_as_the_check_returns_them() -> None:
    assert Config(names=["x", "y"]).names == ("x", "y")
    assert Config().n_rows is None
    with pytest.raises(ValueError, match="n_rows must be between 1 and 9, got 10"):
        Config(n_rows=10)


def test_a_text_is_not_a_list_of_its_letters() -> None:
    with pytest.raises(TypeError, match="names must be a list, got 'ab'"):
        Config(names="ab")


def test_a_secret_is_not_shown() -> None:
    assert "s3cret" not in repr(Config(key="s3cret"))


def test_what_the_command_line_says_stands_with_the_field() -> None:
    told = {each.name: each.metadata["help"] for each in fields(Config)}
    assert told == {"n_rows": "Use this many rows.", "names": "", "key": ""}


def test_an_option_can_be_that_of_another_class() -> None:
    @dataclass(frozen=True, slots=True, kw_only=True)
    class Other:
        n_rows: int | None = option_of(Config, "n_rows")
        key: str = option_of(Config, "key")

        def __post_init__(self) -> None:
            check_fields(self)

    assert help_of(Other, "n_rows") == help_of(Config, "n_rows") == "Use this many rows."
    assert Other().n_rows is None
    assert "s3cret" not in repr(Other(key="s3cret"))
    with pytest.raises(ValueError, match="n_rows must be between 1 and 9, got 10"):
        Other(n_rows=10)


@pytest.mark.parametrize(
    ("check", "wrong", "message"),
    [
        (check_path, 3, "x must be a path, got 3"),
        (check_str, b"a", "x must be a text, got b'a'"),
        (check_callable, "a", "x must be a function, got 'a'"),
    ],
)
def test_values_of_another_type(check: Any, wrong: object, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        check("x", wrong)
