"""Parts that plots have in common: points, axes of sizes, ticks."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from localgen.compare.labels import PALETTE, Label
from localgen.compare.level_result import LevelResult
from localgen.compare.recommend import Recommendation

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

    Canvas: TypeAlias = Figure | SubFigure

# The height of a panel, and of each row in a panel with rows.
N_INCHES = 3.7
_ROW_INCHES = 0.3
# File sizes are on a logarithmic axis if the largest is at least so many times the smallest.
_LOG_SIZES = 3.0


@dataclass(frozen=True, slots=True)
class Panel:
    """One plot.

    caption: how to read it. n_inches: its height. draw: draws it on a figure and returns its
    labels.
    """

    title: str
    caption: str
    n_inches: float
    draw: Callable[[Canvas], list[Label]]


def height_of_rows(n_rows: int) -> float:
    """Return the height of a panel with so many rows, in inches."""
    return max(N_INCHES, 1.0 + _ROW_INCHES * n_rows)


def is_kept(level: LevelResult, kept: Recommendation | None) -> bool:
    """Return whether a level is the recommended one."""
    return kept is not None and kept.keeps(level)


def is_on_front(level: LevelResult, kept: Recommendation) -> bool:
    """Return whether no other level beats a level."""
    return any(each.label == level.label for each in kept.front)


def point(
    axes: Axes,
    x: float,
    y: float,
    errors: tuple[float, float],
    level: LevelResult,
    kept: Recommendation | None,
) -> None:
    """Draw a point and its error bar: filled on the Pareto front, large if recommended."""
    chosen = is_kept(level, kept)
    is_open = kept is not None and not is_on_front(level, kept)
    colour = PALETTE["accent"] if chosen else PALETTE["ink"]
    axes.errorbar(
        x,
        y,
        yerr=[[errors[0]], [errors[1]]],
        fmt="o",
        color=colour,
        ms=7 if chosen else 4.5,
        mfc=PALETTE["paper"] if is_open else colour,
        mec=colour,
        ecolor=colour,
        elinewidth=0.8,
        capsize=2,
        capthick=0.8,
        zorder=4 if chosen else 3,
    )


def size_axis(axes: Axes, levels: Sequence[LevelResult]) -> float:
    """Set up an axis of file sizes; return the bytes of its unit."""
    sizes = [level.file_bytes or 0 for level in levels]
    name, unit = ("GB", 1e9) if max(sizes) >= 10**9 else ("MB", 1e6)
    low, high = min(sizes) / unit, max(sizes) / unit
    if high / low >= _LOG_SIZES:
        axes.set_xscale("log")
        axes.set_xlim(low * (low / high) ** 0.1, high * (high / low) ** 0.1)
        plain_log_ticks(axes.xaxis, *axes.get_xlim())
    else:
        margin = 0.1 * (high - low) or 0.1 * high
        axes.set_xlim(low - margin, high + margin)
    axes.set_xlabel(f"file size, {name}")
    return unit


def plain_log_ticks(axis: Any, low: float, high: float, *, most: int = 8) -> None:
    """Label a logarithmic axis with at most so many plain numbers, with more on a short one."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter  # noqa: PLC0415

    decades = math.log10(high / low)
    steps = (1.0,) if decades > 3 else (1.0, 2.0, 5.0) if decades > 1 else (1.0, 2.0, 3.0, 4.0, 6.0)
    axis.set_major_locator(LogLocator(subs=steps, numticks=most))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())
