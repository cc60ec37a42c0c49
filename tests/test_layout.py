"""Tests mirror the package: each module has a test of its own name, or CONTRIBUTING names it."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[1]
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
HEADING = "### Modules without a test of their own name"
ENTRY_POINTS = {"__init__.py", "__main__.py", "_version.py"}


def exceptions() -> list[str]:
    """The first cell of each row of CONTRIBUTING's table."""
    section = CONTRIBUTING.split(HEADING)[1].split("\n## ")[0]
    return [line.split("|")[1] for line in section.splitlines() if line.startswith("|")]


def is_named(module: Path) -> bool:
    folder = f"`{module.parts[0]}/`"
    for cell in exceptions():
        if f"`{module.as_posix()}`" in cell:
            return True
        if folder in cell and (f"`{module.stem}`" in cell or "the rest of" in cell):
            return True
    return False


def test_each_module_has_a_test_of_its_name_or_is_named() -> None:
    package = ROOT / "localgen"
    modules = [path.relative_to(package) for path in sorted(package.rglob("*.py"))]
    missing = [
        module.as_posix()
        for module in modules
        if module.name not in ENTRY_POINTS
        and not (ROOT / "tests" / module.parent / f"test_{module.name}").exists()
        and not is_named(module)
    ]
    assert not missing


def test_each_test_folder_that_mirrors_one_has_one_to_mirror() -> None:
    """A test that moved away from its module would be found by nobody."""
    own = {"conformance", "docs", "examples", "hostile", "models", "platforms", "real"}
    folders = {path.name for path in (ROOT / "tests").iterdir() if any(path.glob("test_*.py"))}
    assert folders - own <= {path.name for path in (ROOT / "localgen").iterdir()}
