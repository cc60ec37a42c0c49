"""After a reference pack is written, the next command is one that can be pasted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from localgen._util.shell import command_of
from localgen.cli.pack_advice import pack_advice
from localgen.compare import Comparison
from tests.comparisons import comparison, level

REFERENCE = level("F16", 16, 0.0, 10, is_reference=True)
OTHER = level("Q4_0", 4, 0.1, 20)


def _advice(*levels: Any, **given: Any) -> str:
    result: Comparison = comparison(levels=levels)
    said = pack_advice("m.gguf", {"save_reference_pack": "p/F16.pack", **given}, result)
    assert said is not None
    assert said.startswith("To measure a level against F16.pack, without the reference, run: ")
    return said.partition("run: ")[2]


def test_without_a_pack_there_is_no_advice() -> None:
    assert pack_advice("m.gguf", {}, comparison()) is None


def test_a_level_without_a_file_is_made_from_the_source() -> None:
    usual = "localgen compare m.gguf --levels {} --reference-pack p/F16.pack"
    assert _advice(REFERENCE) == usual.format("Q4_K_M")
    assert _advice(REFERENCE, OTHER) == usual.format("Q4_0")


def test_a_file_of_a_level_is_used(tmp_path: Path) -> None:
    """One that was kept, or one that was compared; its folder may have spaces."""
    folder = tmp_path / "my models"
    folder.mkdir()
    file = folder / "Q4_0.gguf"
    file.touch()
    command = command_of(["localgen", "compare", str(file), "--reference-pack", "p/F16.pack"])
    assert _advice(REFERENCE, OTHER, keep=str(folder)) == command
    assert _advice(REFERENCE, OTHER, levels=["F16", str(file)]) == command
