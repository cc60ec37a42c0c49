"""The reference of LocalModel: methods that it has from other classes are named one by one."""

from __future__ import annotations

from pathlib import Path

from localgen import LocalModel
from localgen.model.module_methods import ModuleMethods

PAGE = Path(__file__).parents[2] / "docs" / "api" / "model.md"


def test_every_method_of_a_model_is_in_the_reference() -> None:
    """Sphinx shows those of the class itself, and leaves out what a class inherits."""
    text = PAGE.read_text("utf-8")
    elsewhere = [
        kind for kind in LocalModel.__mro__ if kind not in (LocalModel, ModuleMethods, object)
    ]
    inherited = {name for kind in elsewhere for name in vars(kind) if not name.startswith("_")}
    assert {name for name in inherited if f"localgen.LocalModel.{name}\n" not in text} == set()
