"""Every example is listed and tested, and says how it is run."""

from __future__ import annotations

import ast

import pytest

from tests.examples.conftest import EXAMPLES, ROOT

PROGRAMS = sorted(path.name for path in EXAMPLES.glob("*.py"))


def test_there_are_examples() -> None:
    assert len(PROGRAMS) >= 6


@pytest.mark.parametrize("name", PROGRAMS)
def test_an_example_is_listed_tested_and_documented(name: str) -> None:
    assert f"]({name})" in (EXAMPLES / "README.md").read_text("utf-8")
    assert (ROOT / "tests" / "examples" / f"test_{name}").exists()
    doc = ast.get_docstring(ast.parse((EXAMPLES / name).read_text("utf-8")))
    assert f"python examples/{name} --model smollm2" in (doc or "")
