"""Says how a reference pack that was just written is used."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from localgen._util.home import expand_user
from localgen._util.shell import command_of
from localgen.compare.results import Comparison
from localgen.hub.levels import DEFAULT_LEVEL


def pack_advice(source: str, given: Mapping[str, Any], result: Comparison) -> str | None:
    """Return a sentence with the command that measures a level against a pack.

    given: the options of ``compare()``. None if they ask for no pack. The level is a file if there
    is one that was compared, else one to make from ``source``.
    """
    pack = given.get("save_reference_pack")
    if pack is None:
        return None
    others = [each for each in result.levels if not each.is_reference and each.error is None]
    files = [_file(each.file, given) for each in others if each.file is not None]
    what = next((["localgen", "compare", each] for each in files if each is not None), None)
    if what is None:
        level = others[0].name if others else DEFAULT_LEVEL
        what = ["localgen", "compare", source, "--levels", level]
    return (
        f"To measure a level against {Path(pack).name}, without the reference, run: "
        f"{command_of([*what, '--reference-pack', os.fspath(pack)])}"
    )


def _file(name: str, given: Mapping[str, Any]) -> str | None:
    """Return the path of a level's file; None if it was made and not kept."""
    if (folder := given.get("keep")) is not None and (expand_user(folder) / name).is_file():
        return str(Path(folder) / name)
    for level in given.get("levels", ()):
        if Path(level).name == name and expand_user(level).is_file():
            return str(level)
    return None
