"""Flags are made from the fields of a config class, and what is typed becomes their values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer

from localgen._util.checks import check_bool
from localgen._util.option_fields import (
    FilePath,
    FlagForm,
    check_fields,
    check_path,
    check_str,
    integer,
    items,
    option,
    optional,
)
from localgen.cli.declared_flags import DeclaredOptions
from localgen.cli.option_groups import with_options


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    n_rows: int = option(3, integer(1), help="Use this many rows.", shown="three")
    is_fast: bool = option(True, check_bool, help="Be fast.")
    is_loud: bool = option(False, check_bool, help="Be loud.")
    kinds: Sequence[str] = option(("a", "b"), items(), help="Kinds.", flag=FlagForm.WORDS)
    depths: Sequence[int] = option((), items(), help="Depths.", flag=FlagForm.INTEGERS)
    tasks: Sequence[str] = option((), items(), help="Tasks.", flag=FlagForm.NAMES)
    stops: Sequence[str] = option((), items(), help="Stops.")
    text: str | None = option(None, optional(check_str), help="A text.", flag=FlagForm.TEXT)
    target: FilePath | None = option(
        None, optional(check_path), help="Write here.", names=("-o", "--output")
    )
    progress: Any = option(None, check_bool)

    def __post_init__(self) -> None:
        check_fields(self)


class Options(DeclaredOptions, of=Config):
    """Config's options as they were typed."""


@with_options
def command(*, options: Options) -> None: ...


def flags_of(function: Any) -> dict[str, Any]:
    """The flags that typer makes, by the names of their options."""
    app = typer.Typer(add_completion=False)
    app.command()(function)
    return {flag.name: flag for flag in typer.main.get_command(app).params}


FLAGS = flags_of(command)


def given(**typed: Any) -> dict[str, Any]:
    """What is typed, the other flags being as they are by default."""
    return Options(**{flag.name: flag.default for flag in Options.flags()} | typed).given()


def test_each_option_with_a_help_text_is_a_flag() -> None:
    assert "progress" not in FLAGS
    rows, target = FLAGS["n_rows"], FLAGS["target"]
    assert (rows.opts, rows.help, rows.show_default) == (
        ["--n-rows"],
        "Use this many rows.",
        "three",
    )
    assert target.opts == ["-o", "--output"]


def test_a_switch_that_is_on_can_be_switched_off() -> None:
    assert FLAGS["is_fast"].secondary_opts == ["--no-is-fast"]
    assert (FLAGS["is_loud"].opts, FLAGS["is_loud"].secondary_opts) == (["--is-loud"], [])


def test_flags_that_are_not_typed_give_the_defaults() -> None:
    assert Config(**given()) == Config()


def test_words_and_integers_are_separated_by_commas() -> None:
    assert FLAGS["kinds"].default == "a,b"
    assert given(kinds="x, y")["kinds"] == ["x", "y"]
    assert given(depths="4,16")["depths"] == [4, 16]
    with pytest.raises(ValueError, match="--depths must be comma-separated integers, got '4,x'"):
        given(depths="4,x")


def test_a_comma_may_be_part_of_a_files_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a,b.csv").touch()
    assert given(tasks=["a,b.csv", "c,d"])["tasks"] == ["a,b.csv", "c", "d"]


def test_a_text_is_read_from_its_file(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("Words.", "utf-8")
    assert given(text=tmp_path / "t.txt")["text"] == "Words."
    with pytest.raises(ValueError, match="--text takes the name of a file"):
        given(text=tmp_path / "missing.txt")


def test_a_flag_that_is_repeated_is_a_list() -> None:
    assert FLAGS["stops"].default is None
    assert given(stops=["a,b", "c"])["stops"] == ["a,b", "c"]


class FewOptions(
    DeclaredOptions,
    of=Config,
    only=("kinds", "n_rows", "is_fast"),
    unset={"n_rows", "is_fast"},
    shown={"is_fast": "as measured"},
):
    """Some of Config's options, which Config need not choose the defaults of."""


def test_a_group_can_have_some_options_of_a_class() -> None:
    assert [flag.name for flag in FewOptions.flags()] == ["kinds", "n_rows", "is_fast"]


def test_an_option_that_is_left_to_the_library_is_given_only_if_typed() -> None:
    @with_options
    def command(*, options: FewOptions) -> None: ...

    flags = flags_of(command)
    assert (flags["n_rows"].default, flags["n_rows"].show_default) == (None, "three")
    assert (flags["is_fast"].default, flags["is_fast"].show_default) == (None, "as measured")
    untyped = {flag.name: flag.default for flag in FewOptions.flags()}
    assert FewOptions(**untyped).given() == {"kinds": ["a", "b"]}
    assert FewOptions(**{**untyped, "n_rows": 3, "is_fast": False}).given() == {
        "kinds": ["a", "b"],
        "n_rows": 3,
        "is_fast": False,
    }
