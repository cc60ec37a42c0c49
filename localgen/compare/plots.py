"""Draws the panels of a comparison with matplotlib; ``pictures`` writes them.

It decides nothing: the recommended level and the Pareto front are given.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from localgen.benchmark.measuring import Spread
from localgen.compare.drawn import MOST_POINTS, MOST_ROWS, drawn, left_out
from localgen.compare.labels import FRONT, PALETTE, Label, short_name
from localgen.compare.level_result import LevelResult
from localgen.compare.metrics import KLD_PROBABILITIES
from localgen.compare.plot_parts import (
    N_INCHES,
    Panel,
    height_of_rows,
    is_kept,
    is_on_front,
    plain_log_ticks,
    point,
    size_axis,
)
from localgen.compare.recommend import Recommendation
from localgen.compare.results import Comparison

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from localgen.compare.plot_parts import Canvas

# The largest quantile drawn; the maximum depends mostly on the text's length.
_RIGHT = 0.999
# Labels of the axis beside levels' names, which leave little room.
_MOST_TICKS = 4
_LEGEND = {"frameon": False, "fontsize": 7, "handletextpad": 0.4, "labelcolor": PALETTE["muted"]}


def panels(result: Comparison, kept: Recommendation | None) -> tuple[Panel, ...]:
    """Return the panels for which there is data; of very many levels they draw some."""
    levels = [level for level in result.levels if level.error is None]
    sized = [level for level in levels if level.file_bytes]
    lossy = [level for level in sized if level.kld_mean is not None]
    spread = [level for level in levels if _quantiles(level).get(_RIGHT, 0.0) > 0]
    fast = [level for level in sized if level.decode_tps or level.prefill_tps]
    return (
        *_panel(_loss_panel, lossy, kept, MOST_POINTS),
        *_panel(_speed_panel, fast, kept, MOST_POINTS),
        *_panel(_tokens_panel, spread, kept, MOST_ROWS),
    )


def _panel(
    make: Callable[[Sequence[LevelResult], Recommendation | None], Panel | None],
    measured: Sequence[LevelResult],
    kept: Recommendation | None,
    most: int,
) -> Iterator[Panel]:
    """Yield a panel of at most so many levels, if there is something to draw."""
    levels = drawn(measured, kept, most)
    panel = make(levels, kept) if levels else None
    if panel is not None:
        more = left_out(len(measured) - len(levels), "level")
        yield dataclasses.replace(panel, caption=f"{panel.caption}{more}")


# --- panels ---


def _loss_panel(levels: Sequence[LevelResult], kept: Recommendation | None) -> Panel | None:
    if all((level.kld_mean or 0.0) <= 0 for level in levels):
        return None

    def draw(figure: Canvas) -> list[Label]:
        axes: Axes = figure.subplots()
        points = [(level, level.kld_mean or 0.0, level.kld_se or 0.0) for level in levels]
        positive = [(y, se) for _, y, se in points if y > 0]
        bottom = 0.5 * min(y for y, _ in positive)
        axes.set_yscale("log", nonpositive="clip")
        axes.set_ylim(bottom, 1.6 * max(y + se for y, se in positive))
        axes.set_ylabel("mean KLD, nats")
        unit = size_axis(axes, levels)
        plain_log_ticks(axes.yaxis, *axes.get_ylim())
        _draw_front(axes, levels, kept, unit)
        labels = []
        for level, y, se in points:
            x = (level.file_bytes or 0) / unit
            if y > 0:
                point(axes, x, y, (se, se), level, kept)
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
    return Panel("Quality against size", caption, N_INCHES, draw)


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
    labels = {level.label for level in levels}
    for level in kept.front:
        if level.label in labels and level.kld_mean is not None and level.kld_mean < best:
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
        if not all(is_on_front(level, kept) for level in levels):
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
            unit = size_axis(axes, levels)
            axes.set_ylabel(f"{kind}, tokens/s")
            for level in levels:
                speed = _speed(level, kind)
                if speed is not None:
                    x, y = (level.file_bytes or 0) / unit, speed.median
                    point(axes, x, y, (y - speed.low, speed.high - y), level, kept)
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
    return Panel("Speed against size", caption, N_INCHES, draw)


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
        plain_log_ticks(axes.xaxis, *axes.get_xlim(), most=_MOST_TICKS)
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
        names = [short_name(level.label) for level in levels]
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


def _quantiles(level: LevelResult) -> dict[float, float]:
    """Return the quantiles of the tokens' KLD by probability; empty if it was not measured."""
    return dict(zip(KLD_PROBABILITIES, level.kld_quantiles, strict=False))
