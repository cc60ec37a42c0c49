"""Draws how many answers of each level are right, against the reference's, with intervals."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from localgen.compare.drawn import MOST_ROWS, drawn, left_out
from localgen.compare.labels import PALETTE, Label, short_name
from localgen.compare.level_result import LevelResult
from localgen.compare.plot_parts import Panel, height_of_rows, is_kept
from localgen.compare.recommend import Recommendation
from localgen.compare.results import Comparison
from localgen.compare.task_metrics import SIGNIFICANT, PairedDifference

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from localgen.compare.plot_parts import Canvas

# A level's name and its difference in one task.
Row = tuple[LevelResult, PairedDifference]


def task_panels(result: Comparison, kept: Recommendation | None) -> tuple[Panel, ...]:
    """Return the panel of all tasks, or none if no level answered one beside the reference."""
    answering = [
        level
        for level in result.levels
        if level.error is None and any(task.difference is not None for task in level.tasks)
    ]
    levels = drawn(answering, kept, MOST_ROWS - 1)
    tasks = _by_task(levels)
    shown = dict(_first(tasks))
    if not shown:
        return ()
    n_rows = sum(map(len, shown.values())) + len(shown)

    def draw(figure: Canvas) -> list[Label]:
        axes: Axes = figure.subplots()
        names: list[tuple[int, str]] = []
        y = 0
        for task, rows in shown.items():
            names.append((y, short_name(task)))
            axes.axhline(y, color=PALETTE["rule"], lw=0.5)
            for level, found in rows:
                y += 1
                names.append((y, short_name(level.label)))
                _interval(axes, y, found, kept=is_kept(level, kept))
            y += 1
        axes.axvline(0, color=PALETTE["muted"], lw=0.8)
        axes.set_xlabel("difference, percentage points")
        axes.grid(visible=False, axis="y")
        axes.set_yticks(*zip(*names, strict=True), parse_math=False)
        axes.tick_params("y", length=0, labelcolor=PALETTE["ink"])
        axes.set_ylim(y - 0.4, -0.6)
        return []

    caption = (
        "The difference in right answers from the reference's, with its 95 % interval. A filled "
        f"dot: p is below {SIGNIFICANT}, so the level differs from the reference."
    )
    caption += left_out(len(tasks) - len(shown), "task")
    caption += left_out(len(answering) - len(levels), "level")
    return (Panel("Right answers in tasks", caption, height_of_rows(n_rows), draw),)


def _by_task(levels: Sequence[LevelResult]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for level in levels:
        for task in level.tasks:
            if task.difference is not None:
                found.setdefault(task.name, []).append((level, task.difference))
    return found


def _first(tasks: dict[str, list[Row]]) -> Iterator[tuple[str, list[Row]]]:
    """Yield the first tasks whose rows fit; at least one."""
    n_rows = 0
    for name, rows in tasks.items():
        n_rows += 1 + len(rows)
        if n_rows > MOST_ROWS and n_rows > 1 + len(rows):
            return
        yield name, rows


def _interval(axes: Axes, y: int, found: PairedDifference, *, kept: bool) -> None:
    colour = PALETTE["accent" if kept else "ink"]
    axes.hlines(y, 100 * found.low, 100 * found.high, colour, lw=1.4)
    inside = colour if found.is_significant else PALETTE["paper"]
    axes.plot(100 * found.difference, y, "o", ms=7 if kept else 4.5, c=colour, mfc=inside)
