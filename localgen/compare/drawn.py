"""Chooses which levels are drawn where there are more than a reader can tell apart."""

from __future__ import annotations

from collections.abc import Sequence

from localgen._util.format import counted
from localgen.compare.level_result import LevelResult
from localgen.compare.recommend import Recommendation

# Points in a plot, rows of a plot with a row for each level, and texts and replies on the page.
MOST_POINTS = 80
MOST_ROWS = 36
MOST_TEXTS = 24
# Machines with plots of their own.
MOST_MACHINES = 8


def drawn(
    levels: Sequence[LevelResult], kept: Recommendation | None, most: int
) -> list[LevelResult]:
    """Return at most ``most`` levels, in their order.

    The recommended level and the reference come first, then the Pareto front, then the others. Of
    those that do not all fit, some of each size are drawn.
    """
    if len(levels) <= most:
        return [*levels]
    front = {level.label for level in kept.front} if kept is not None else set()
    classes: tuple[list[LevelResult], ...] = ([], [], [])
    for level in levels:
        is_first = level.is_reference or (kept is not None and kept.keeps(level))
        classes[0 if is_first else 1 if level.label in front else 2].append(level)
    chosen: list[LevelResult] = []
    for each in classes:
        chosen += _spread(each, most - len(chosen))
    ids = {id(level) for level in chosen}
    return [level for level in levels if id(level) in ids]


def _spread(levels: Sequence[LevelResult], n: int) -> list[LevelResult]:
    """Return ``n`` levels, evenly from the smallest file to the largest."""
    by_size = sorted(levels, key=lambda level: level.file_bytes or 0)
    if len(by_size) <= n or n < 2:
        return by_size[:n]
    return [by_size[index * (len(by_size) - 1) // (n - 1)] for index in range(n)]


def left_out(n: int, thing: str) -> str:
    """Return a sentence that says how many are only in the tables, after a space; "" for none."""
    return f" {counted(n, f'more {thing}')} only in the tables." if n else ""
