"""Draws the panels of a comparison with matplotlib; ``pictures`` writes them.

It decides nothing: the recommended level and the Pareto front are given.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from localgen.benchmark.measuring import Spread
from localgen.compare.labels import FRONT, NAME_LENGTH, PALETTE, Label, cut
from localgen.compare.level_result import LevelResult
from localgen.compare.metrics import KLD_PROBABILITIES
from localgen.compare.recommend import Recommendation
from localgen.compare.results import Comparison

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

    Canvas: TypeAlias = Figure | SubFigure

# The height of a panel, and of each row in a panel with rows.
_N_INCHES = 3.7
_ROW_INCHES = 0.3
# File sizes are on a logarithmic axis if the largest is at least so many times the smallest.
_LOG_SIZES = 3.0
# The largest quantile drawn; the maximum depends mostly on the text's length.
_RIGHT = 0.999
_LEGEND = {"frameon": False, "fontsize": 7, "handletextpad": 0.4, "labelcolor": PALETTE["muted"]}


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


def panels(result: Comparison, kept: Recommendation | None) -> tuple[Panel, ...]:
    """Return the panels for which there is data."""
    levels = [level for level in result.levels if level.error is None]
    sized = [level for level in levels if level.file_bytes]
    lossy = [level for level in sized if level.kld_mean is not None]
    spread = [level for level in levels if _quantiles(level).get(_RIGHT, 0.0) > 0]
    fast = [level for level in sized if level.decode_tps or level.prefill_tps]
    found = []
    if any((level.kld_mean or 0.0) > 0 for level in lossy):
        found.append(_loss_panel(lossy, kept))
    if fast:
        found.append(_speed_panel(fast, kept))
    if spread:
        found.append(_tokens_panel(spread, kept))
    return tuple(found)


# --- panels ---


def _loss_panel(levels: Sequence[LevelResult], kept: Recommendation | None) -> Panel:
    def draw(figure: Canvas) -> list[Label]:
        axes: Axes = figure.subplots()
        points = [(level, level.kld_mean or 0.0, level.kld_se or 0.0) for level in levels]
        positive = [(y, se) for _, y, se in points if y > 0]
        bottom = 0.5 * min(y for y, _ in positive)
        axes.set_yscale("log", nonpositive="clip")
        axes.set_ylim(bottom, 1.6 * max(y + se for y, se in positive))
        axes.set_ylabel("mean KLD, nats")
        unit = _size_axis(axes, levels)
        _plain_log_ticks(axes.yaxis, *axes.get_ylim())
        _draw_front(axes, levels, kept, unit)
        labels = []
        for level, y, se in points:
            x = (level.file_bytes or 0) / unit
            if y > 0:
                _point(axes, x, y, (se, se), level, kept)
            else:  # zero is not on a logarithmic axis: mark its lower end
                colour = PALETTE["accent" if is_kept(level, kept) else "ink"]
                axes.plot(x, bottom, "v", clip_on=False, ms=5, mfc=PALETTE["paper"], mec=colour)
            low, high = max(bottom, y - se), max(bottom, y + se)
            chosen = is_kept(level, kept)
            labels.append(Label(axes, level.label, x, max(bottom, y), low, high, chosen))
        _loss_legend(axes, levels, kept)
        return labels

    caption = (
        "Mean KLD ± standard error against file size: lower is closer to the reference, left is "
        "smaller. Labels that do not fit are left out."
    )
    return Panel("Quality against size", caption, _N_INCHES, draw)


def _draw_front(
    axes: Axes, levels: Sequence[LevelResult], kept: Recommendation | None, unit: float
) -> None:
    """Draw a line through the levels of the front with a lower KLD than all smaller ones.

    The other levels of the front are there for their speed.
    """
    if kept is None:
        return
    best = float("inf")
    line = []
    for level in kept.front:
        if level in levels and level.kld_mean is not None and level.kld_mean < best:
            best = level.kld_mean
            line.append(((level.file_bytes or 0) / unit, max(best, axes.get_ylim()[0])))
    axes.plot(*zip(*line, strict=True), color=PALETTE["band"], lw=1.4, zorder=1, gid=FRONT)


def _loss_legend(axes: Axes, levels: Sequence[LevelResult], kept: Recommendation | None) -> None:
    from matplotlib.lines import Line2D  # noqa: PLC0415

    ink, accent, paper = PALETTE["ink"], PALETTE["accent"], PALETTE["paper"]
    handles = []
    if kept is not None:
        if kept.level is not None:
            handles.append(Line2D([], [], ls="", marker="o", ms=7, c=accent, label="recommended"))
        handles.append(Line2D([], [], c=PALETTE["band"], marker="o", ms=4.5, mec=ink, mfc=ink))
        handles[-1].set_label("Pareto front: size, speed, KLD")
        if any(level not in kept.front for level in levels):
            handles.append(Line2D([], [], ls="", marker="o", ms=4.5, mec=ink, mfc=paper))
            handles[-1].set_label("beaten or over a limit")
    if any(not level.kld_mean or level.kld_mean <= 0 for level in levels):
        handles.append(Line2D([], [], ls="", marker="v", ms=4.5, mec=ink, mfc=paper))
        handles[-1].set_label("KLD 0, like the reference")
    axes.legend(handles=handles, loc="upper right", **_LEGEND)


def _speed_panel(levels: Sequence[LevelResult], kept: Recommendation | None) -> Panel:
    kinds = [kind for kind in ("decode", "prefill") if any(_speed(each, kind) for each in levels)]

    def draw(figure: Canvas) -> list[Label]:
        grid = figure.subplots(len(kinds), 1, sharex=True, squeeze=False)
        labels = []
        for (axes,), kind in zip(grid, kinds, strict=True):
            unit = _size_axis(axes, levels)
            axes.set_ylabel(f"{kind}, tokens/s")
            for level in levels:
                speed = _speed(level, kind)
                if speed is not None:
                    x, y = (level.file_bytes or 0) / unit, speed.median
                    _point(axes, x, y, (y - speed.low, speed.high - y), level, kept)
                    chosen = is_kept(level, kept)
                    labels.append(Label(axes, level.label, x, y, speed.low, speed.high, chosen))
            axes.margins(y=0.2)
            axes.set_ylim(bottom=max(0.0, axes.get_ylim()[0]))
            axes.label_outer()
        return labels

    found = [_speed(level, kind) for level in levels for kind in kinds]
    of = (
        "medians over rounds, bars from the slowest to the fastest"
        if any(speed.low < speed.high for speed in found if speed is not None)
        else "a single round, so its spread is unknown"
    )
    caption = f"Speed against file size: {of}. Labels that do not fit are left out."
    return Panel("Speed against size", caption, _N_INCHES, draw)


def _speed(level: LevelResult, kind: str) -> Spread | None:
    return level.decode_tps if kind == "decode" else level.prefill_tps


def _tokens_panel(levels: Sequence[LevelResult], kept: Recommendation | None) -> Panel:
    def draw(figure: Canvas) -> list[Label]:
        axes: Axes = figure.subplots()
        rows = [_quantiles(level) for level in levels]
        right = max(row[_RIGHT] for row in rows)
        left = max(min((row[0.01] for row in rows if row[0.01] > 0), default=0.0), right * 1e-7)
        axes.set_xscale("log")
        axes.set_xlim(left / 1.5, right * 1.5)
        _plain_log_ticks(axes.xaxis, *axes.get_xlim())
        axes.set_xlabel("KLD of a token, nats")
        axes.grid(visible=False, axis="y")
        box = 0.5 * min(1.0, len(levels) / 6)
        for y, (level, row) in enumerate(zip(levels, rows, strict=True)):
            colour = PALETTE["accent"] if is_kept(level, kept) else PALETTE["ink"]
            for low, high, width in ((0.01, _RIGHT, 0.8), (0.05, 0.95, 2.6)):
                axes.hlines(y, max(row[low], left), max(row[high], left), colour, lw=width)
            low, high = max(row[0.25], left), max(row[0.75], left)
            axes.barh(y, high - low, box, low, color=PALETTE["band"], ec=colour, lw=0.8, zorder=3)
            axes.vlines(max(row[0.5], left), y - box / 2, y + box / 2, colour, lw=1.8, zorder=4)
            if level.kld_mean and level.kld_mean > left:
                axes.plot(level.kld_mean, y, "D", ms=4, c=colour, mec=PALETTE["paper"], zorder=5)
        names = [cut(level.label, NAME_LENGTH) for level in levels]
        axes.set_yticks(range(len(levels)), names, parse_math=False)
        axes.tick_params("y", length=0, labelcolor=PALETTE["ink"])
        axes.set_ylim(len(levels) - 0.4, -0.6)
        return []

    caption = (
        "The KLD of single tokens. Thin lines: 1st to 99.9th percentile; thick lines: 5th to 95th; "
        "boxes: 25th to 75th; vertical bars: medians; diamonds: means."
    )
    n_inches = height_of_rows(len(levels))
    return Panel("The distribution over tokens", caption, n_inches, draw)


# --- parts of panels ---


def height_of_rows(n_rows: int) -> float:
    """Return the height of a panel with so many rows, in inches."""
    return max(_N_INCHES, 1.0 + _ROW_INCHES * n_rows)


def _quantiles(level: LevelResult) -> dict[float, float]:
    """Return the quantiles of the tokens' KLD by probability; empty if it was not measured."""
    return dict(zip(KLD_PROBABILITIES, level.kld_quantiles, strict=False))


def is_kept(level: LevelResult, kept: Recommendation | None) -> bool:
    """Return whether a level is the recommended one."""
    return kept is not None and kept.keeps(level)


def _point(
    axes: Axes,
    x: float,
    y: float,
    errors: tuple[float, float],
    level: LevelResult,
    kept: Recommendation | None,
) -> None:
    """Draw a point and its error bar: filled on the Pareto front, large if recommended."""
    chosen = is_kept(level, kept)
    is_open = kept is not None and level not in kept.front
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


def _size_axis(axes: Axes, levels: Sequence[LevelResult]) -> float:
    """Set up an axis of file sizes; return the bytes of its unit."""
    sizes = [level.file_bytes or 0 for level in levels]
    name, unit = ("GB", 1e9) if max(sizes) >= 10**9 else ("MB", 1e6)
    low, high = min(sizes) / unit, max(sizes) / unit
    if high / low >= _LOG_SIZES:
        axes.set_xscale("log")
        axes.set_xlim(low * (low / high) ** 0.1, high * (high / low) ** 0.1)
        _plain_log_ticks(axes.xaxis, *axes.get_xlim())
    else:
        margin = 0.1 * (high - low) or 0.1 * high
        axes.set_xlim(low - margin, high + margin)
    axes.set_xlabel(f"file size, {name}")
    return unit


def _plain_log_ticks(axis: Any, low: float, high: float) -> None:
    """Label a logarithmic axis with plain numbers, and more of them on a short one."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter  # noqa: PLC0415

    decades = math.log10(high / low)
    steps = (1.0,) if decades > 3 else (1.0, 2.0, 5.0) if decades > 1 else (1.0, 2.0, 3.0, 4.0, 6.0)
    axis.set_major_locator(LogLocator(subs=steps, numticks=8))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())
