"""Reads results of comparisons from files and folders, as one; it measures nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from localgen.compare.machines import merge
from localgen.compare.results import Comparison
from localgen.compare.sensitivity import HeatMap, is_loss_file, load_heat_map
from localgen.compare.unfinished import how_to_finish
from localgen.errors import CompareError


@dataclass(frozen=True, slots=True)
class Collected:
    """What files hold: the comparison, the losses of single groups, and why others were skipped.

    unfinished: for each result that was interrupted, how to continue it.
    """

    result: Comparison
    heat_maps: tuple[HeatMap, ...]
    skipped: tuple[str, ...]
    unfinished: tuple[str, ...]


def collect(paths: Sequence[Path]) -> Collected:
    """Return what ``paths`` hold: files of ``compare -o`` and ``quantize --losses``, or folders.

    In a folder, only names that end in .json count, and other JSON files are skipped. Raises
    CompareError if a file that is named itself is neither, or if no comparison is found.
    """
    results: dict[Path, Comparison] = {}
    heat_maps: list[HeatMap] = []
    skipped: list[str] = []

    def read(path: Path) -> None:
        if is_loss_file(path):
            heat_maps.append(load_heat_map(path))
        else:
            results[path] = Comparison.load(path)

    for path in paths:
        if not path.is_dir():
            read(path)
            continue
        for each in sorted(path.glob("*.json")):
            try:
                read(each)
            except (CompareError, OSError) as error:
                skipped.append(str(error))
    if not results:
        reasons = "".join(f"; {reason}" for reason in skipped)
        raise CompareError(
            f"{', '.join(map(str, paths))}: there is no result of a comparison{reasons}. Make one "
            f"with: localgen compare MODEL --output FILE.json"
        )
    return Collected(
        merge(results.values()), tuple(heat_maps), tuple(skipped), how_to_finish(results)
    )
