"""Options that messages and help texts name: as they are in --help, and of a command that has them.

Regression: a message said -t where the help says --type, and -m where it says --model.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

import localgen
from localgen.cli.app import app

PACKAGE = Path(localgen.__file__).parent
_OPTION = re.compile(r"(?<![\w/.'`-])(--[a-z][\w-]*|-[a-zA-Z])(?![\w])")
# What a command may advise for another one.
_FOR_ANOTHER = {"tune": {"--prompt-lookup-num-tokens"}}
# Texts with options of other programs.
_OF_OTHERS = (
    "pip install",
    "llama-server",
    "xcode-select",
    "ulimit",
    "--no-binary",
    "ray start",
    "tart Ray",
)


def _leaves(group: Any, name: str = "localgen") -> Iterator[tuple[str, set[str]]]:
    """Yield each command's name and its long options, those before it included."""
    own = {flag for each in group.params for flag in (*each.opts, *each.secondary_opts)}
    flags = {flag for flag in own if flag.startswith("--")} | {"--help"}
    for child, command in getattr(group, "commands", {}).items():
        yield from ((each, found | flags) for each, found in _leaves(command, child))
    yield name, flags


FLAGS = dict(_leaves(typer.main.get_command(app)))
ANY = set().union(*FLAGS.values())


def _texts(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield the line and text of each string that people read: prose that is no docstring."""
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    first = [each.body[0] for each in ast.walk(tree) if isinstance(each, kinds) and each.body]
    docs = {id(each.value) for each in first if isinstance(each, ast.Expr)}
    constants = [each for each in ast.walk(tree) if isinstance(each, ast.Constant)]
    for each in constants:
        text = each.value
        if isinstance(text, str) and id(each) not in docs and " " in text.strip():
            yield each.lineno, text


def _named(path: Path) -> Iterator[tuple[str, str]]:
    """Yield where a text names an option, and the option."""
    for line, text in _texts(ast.parse(path.read_text("utf-8"))):
        if not any(program in text for program in _OF_OTHERS):
            for option in _OPTION.findall(text):
                yield f"{path.relative_to(PACKAGE)}:{line}: {text.strip()!r}", option


def _flags_of(path: Path) -> set[str]:
    """Return the options that texts of a module may name: its command's own, or any command's."""
    if path.parent.name != "cli" or path.stem not in FLAGS:
        return ANY
    return FLAGS[path.stem] | _FOR_ANOTHER.get(path.stem, set())


def test_each_option_that_a_text_names_is_in_a_commands_help() -> None:
    named = {path: [*_named(path)] for path in sorted(PACKAGE.rglob("*.py"))}
    wrong = [
        f"{where} names {option}"
        for path, found in named.items()
        for where, option in found
        if option not in _flags_of(path)
    ]
    assert sum(map(len, named.values())) > 50
    assert wrong == []


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("give -t LEVEL", ["-t"]),
        ("use --type or --no-speed.", ["--type", "--no-speed"]),
        ("a well-known `--code` of -inf", []),
    ],
)
def test_options_are_found_in_a_text(text: str, options: list[str]) -> None:
    assert _OPTION.findall(text) == options
