"""Places labels next to the points of a plot, where they cover the least."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.transforms import Bbox

# One colour per role, all different: a page replaces each of them by its own.
PALETTE = {
    "ink": "#1f1d1a",
    "muted": "#6f6a61",
    "rule": "#dfdbd2",
    "paper": "#fffefb",
    "accent": "#0b6e5a",
    "band": "#b9c7c2",
}
# The gid of lines that labels must not cover.
FRONT = "front"
NAME_LENGTH = 24
# A label is left out if more than this share of it would be covered.
_MOST_COVERED = 0.15
# Possible positions of a label relative to its point, in points; the best first.
_PLACES = tuple(
    (x * distance, y * distance)
    for distance in (1.0, 1.8, 2.8)
    for x, y in ((6, 0), (-6, 0), (0, 6), (0, -6), (5, 4), (-5, 4), (5, -4), (-5, -4))
)
_ALIGN: dict[int, tuple[Any, Any]] = {
    -1: ("right", "top"),
    0: ("center", "center"),
    1: ("left", "bottom"),
}


@dataclass(frozen=True, slots=True)
class Label:
    """The label of a point whose error bar goes from ``low`` to ``high``, in data units."""

    axes: Axes
    text: str
    x: float
    y: float
    low: float
    high: float
    is_kept: bool


def place(labels: Sequence[Label], renderer: Any) -> None:
    """Write each label where it covers the least of the edge, points, bars, the front and others.

    The recommended level's label is placed first.
    """
    taken = {label.axes: _drawn(label.axes, renderer) for label in labels}
    for label in labels:
        taken[label.axes] += _point_boxes(label, renderer)
    for label in sorted(labels, key=lambda label: not label.is_kept):
        box = _write_label(label, taken[label.axes], renderer)
        if box is not None:
            taken[label.axes].append(box)


def _drawn(axes: Axes, renderer: Any) -> list[Bbox]:
    """Return the boxes of the legend and of the front's line, in pixels."""
    from matplotlib.transforms import Bbox  # noqa: PLC0415

    legend = axes.get_legend()
    boxes = [] if legend is None else [legend.get_window_extent(renderer)]
    reach = renderer.points_to_pixels(1.0)
    for line in axes.get_lines():
        if line.get_gid() == FRONT:
            corners = axes.transData.transform(line.get_xydata())
            for start, end in itertools.pairwise(corners):
                n_dots = 1 + int(abs(end - start).max() / (2 * reach))
                for x, y in np.linspace(start, end, n_dots):
                    boxes.append(Bbox([(x - reach, y - reach), (x + reach, y + reach)]))
    return boxes


def _point_boxes(label: Label, renderer: Any) -> list[Bbox]:
    """Return the boxes of a point and its error bar, in pixels."""
    from matplotlib.transforms import Bbox  # noqa: PLC0415

    corners = [(label.x, label.low), (label.x, label.y), (label.x, label.high)]
    (x, low), (_, y), (_, high) = label.axes.transData.transform(corners)
    reach = renderer.points_to_pixels(4.0)
    return [
        Bbox([(x - reach, y - reach), (x + reach, y + reach)]),
        Bbox([(x - reach / 2, low), (x + reach / 2, high)]),
    ]


def _write_label(label: Label, taken: Sequence[Bbox], renderer: Any) -> Bbox | None:
    """Write a label and return its box, in pixels; None if there was no room for it."""
    text = label.axes.annotate(
        cut(label.text, NAME_LENGTH),
        (label.x, label.y),
        xytext=(0, 0),
        textcoords="offset points",
        fontsize=7.5,
        weight="bold" if label.is_kept else "normal",
        color=PALETTE["accent"] if label.is_kept else PALETTE["ink"],
        parse_math=False,
        annotation_clip=False,
        zorder=6,
    )
    inside = label.axes.get_window_extent(renderer)

    def stand(place: tuple[float, float]) -> Bbox:
        text.set_position(place)
        sides = [(value > 0) - (value < 0) for value in place]
        text.set_horizontalalignment(_ALIGN[sides[0]][0])
        text.set_verticalalignment(_ALIGN[sides[1]][1])
        return text.get_window_extent(renderer)

    def covered(place: tuple[float, float]) -> float:
        """Return the share of the label that is outside the axes or over something else."""
        box = stand(place)
        area = float(box.width * box.height) or 1.0
        return 1 - (_overlap(box, inside) - sum(_overlap(box, each) for each in taken)) / area

    best = min(_PLACES, key=covered)
    if not label.is_kept and covered(best) > _MOST_COVERED:
        text.remove()
        return None
    return stand(best)


def _overlap(a: Bbox, b: Bbox) -> float:
    """Return the area that two boxes have in common, in pixels."""
    width = float(min(a.x1, b.x1) - max(a.x0, b.x0))
    height = float(min(a.y1, b.y1) - max(a.y0, b.y0))
    return max(0.0, width) * max(0.0, height)


def cut(text: str, most: int) -> str:
    """Return the text on one line, cut to at most ``most`` characters."""
    text = " ".join(text.split())
    return text if len(text) <= most else f"{text[: most - 1]}…"
