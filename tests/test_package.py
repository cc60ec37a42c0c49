"""The package's root: its names, which modules they come from, and when these are imported."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import pytest

import localgen
from tests.conftest import RunChild


def test_each_public_name_is_there_for_programs_and_for_type_checkers() -> None:
    tree = ast.parse(Path(localgen.__file__).read_text("utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    typed = {
        alias.name: node.module
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert typed == localgen._MODULE_OF
    assert sorted([*typed, "__version__"]) == localgen.__all__ == dir(localgen)
    for name, module in typed.items():
        assert getattr(localgen, name) is getattr(importlib.import_module(str(module)), name)


def test_a_name_that_does_not_exist() -> None:
    with pytest.raises(AttributeError, match="module 'localgen' has no attribute 'LLM'"):
        localgen.LLM  # noqa: B018


def test_modules_are_imported_when_they_are_used(run_child: RunChild) -> None:
    code = """
import sys
import localgen
assert "numpy" not in sys.modules
assert localgen.errors.LocalgenError is localgen.LocalgenError
assert "numpy" not in sys.modules
assert localgen.LocalModel.__module__ == "localgen.model.local_model"
assert "numpy" in sys.modules
"""
    done = run_child(code)
    assert done.returncode == 0, done.stderr
