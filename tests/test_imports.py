"""Imports point one way, only llama/ imports llama_cpp, and there is no circle."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "localgen"

# From the bottom to the top: a folder or module imports from its own line and those above it.
LAYERS = [
    ["_version", "errors"],
    ["_util"],
    ["refused_options", "option_names", "profiles", "samplers", "config"],
    ["engine"],
    ["completion", "text", "constraints"],
    ["generation", "gguf", "hub"],
    ["llama"],
    ["model", "inspection", "watermarking"],
    ["worker"],
    ["quantization", "benchmark", "evaluate"],
    ["compare", "doctor", "jobs", "serve", "tuning"],
    ["mixtures"],
    ["cli"],
    ["__init__", "__main__"],
]
# ``from_pretrained(isolated=True)`` imports what runs a model in another process when it is called.
LATE = ("localgen.model.local_model", "localgen.worker")
LEVEL = {room: level for level, rooms in enumerate(LAYERS) for room in rooms}


def module_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 2 else parts)


MODULES = {module_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def room_of(module: str) -> str:
    return module.split(".")[1] if "." in module else "__init__"


@functools.cache
def imports_of(module: str) -> tuple[str, ...]:
    """Every module that one imports, wherever in its file and whether at run time or for types."""
    return tuple(_imports_of(module))


def _imports_of(module: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(MODULES[module].read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{module}: relative import"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full in MODULES else node.module


def own(module: str) -> set[str]:
    """What a module of localgen imports of localgen."""
    names = {name for name in imports_of(module) if name.split(".")[0] == "localgen"}
    return {name for name in names if module != LATE[0] or not name.startswith(LATE[1])}


def test_every_room_has_a_level() -> None:
    assert {room_of(module) for module in MODULES} == set(LEVEL)


def test_no_import_points_upwards() -> None:
    wrong = [
        f"{module} imports {name}"
        for module in MODULES
        for name in own(module)
        if LEVEL[room_of(name)] > LEVEL[room_of(module)]
    ]
    assert not wrong


def test_nothing_inside_imports_the_package_itself() -> None:
    wrong = [m for m in MODULES if "localgen" in own(m) and room_of(m) != "__main__"]
    assert not wrong


def test_only_llama_imports_llama_cpp() -> None:
    wrong = [
        module
        for module in MODULES
        if room_of(module) != "llama"
        and any(name.split(".")[0] == "llama_cpp" for name in imports_of(module))
    ]
    assert not wrong


def test_no_circle_of_modules_or_of_rooms() -> None:
    modules = {module: own(module) - {module} for module in MODULES}
    rooms: dict[str, set[str]] = {}
    for module, names in modules.items():
        own_room = room_of(module)
        rooms.setdefault(own_room, set()).update({room_of(name) for name in names} - {own_room})
    for graph in (modules, rooms):
        try:
            tuple(TopologicalSorter(graph).static_order())
        except CycleError as error:
            raise AssertionError(f"a circle: {' → '.join(error.args[1])}") from None
