"""Places labels next to the points of a plot, where they cover the least."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Boxes in pixels, (n, 4): left, bottom, right, top.
Boxes: TypeAlias = npt.NDArray[np.float64]

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
# The most characters of a level's name in a plot.
NAME_LENGTH = 20
# A label is left out if more than this share of it would be covered.
_MOST_COVERED = 0.15
# Possible positions of a label relative to its point, in points; the best first.
_PLACES = tuple(
    (x * distance, y * distance)
    for distance in (1.0, 1.8, 2.8)
    for x, y in ((6, 0), (-6, 0), (0, 6), (0, -6), (5, 4), (-5, 4), (5, -4), (-5, -4))
)
# On which side of its point a label is at each: -1 is left or below, 1 is right or above.
_SIDES = np.sign(_PLACES).astype(int)
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
    by_axes: dict[Axes, list[Label]] = {}
    for label in sorted(labels, key=lambda label: not label.is_kept):
        by_axes.setdefault(label.axes, []).append(label)
    for axes, group in by_axes.items():
        taken = np.array([*_drawn(axes, renderer), *_point_boxes(axes, group, renderer)])
        for label in group:
            box = _write_label(label, taken, renderer)
            if box is not None:
                taken = np.vstack([taken, box])


def _drawn(axes: Axes, renderer: Any) -> Boxes:
    """Return the boxes of the legend and of the front's line."""
    legend = axes.get_legend()
    found = [] if legend is None else [legend.get_window_extent(renderer).extents]
    reach = renderer.points_to_pixels(1.0)
    for line in axes.get_lines():
        if line.get_gid() == FRONT:
            corners = axes.transData.transform(line.get_xydata())
            for start, end in itertools.pairwise(corners):
                dots = np.linspace(start, end, 1 + int(abs(end - start).max() / (2 * reach)))
                found += [*np.hstack([dots - reach, dots + reach])]
    return np.array(found).reshape(-1, 4)


def _point_boxes(axes: Axes, labels: Sequence[Label], renderer: Any) -> Boxes:
    """Return the boxes of points and of their error bars."""
    data = [(each.x, y) for each in labels for y in (each.low, each.y, each.high)]
    corners = axes.transData.transform(data).reshape(-1, 3, 2)
    reach = renderer.points_to_pixels(4.0)
    sides = np.array([reach / 2, 0.0])
    points = np.hstack([corners[:, 1] - reach, corners[:, 1] + reach])
    bars = np.hstack([corners[:, 0] - sides, corners[:, 2] + sides])
    return np.vstack([points, bars])


def _write_label(label: Label, taken: Boxes, renderer: Any) -> Boxes | None:
    """Write a label and return its box; None if there was no room for it."""
    text = label.axes.annotate(
        short_name(label.text),
        (label.x, label.y),
        xytext=(0, 0),
        textcoords="offset points",
        ha="left",
        va="bottom",
        fontsize=7.5,
        weight="bold" if label.is_kept else "normal",
        color=PALETTE["accent"] if label.is_kept else PALETTE["ink"],
        parse_math=False,
        annotation_clip=False,
        zorder=6,
    )
    boxes = _boxes_at_places(np.array(text.get_window_extent(renderer).extents), renderer)
    inside = np.array([label.axes.get_window_extent(renderer).extents])
    free = _overlaps(boxes, inside)[:, 0] - _overlaps(boxes, taken).sum(axis=1)
    # Rounded: of places that are equally free, the first is the best.
    covered = np.round(1 - free / max(float(np.prod(boxes[0, 2:] - boxes[0, :2])), 1.0), 6)
    best = int(covered.argmin())
    if not label.is_kept and covered[best] > _MOST_COVERED:
        text.remove()
        return None
    text.set_position(_PLACES[best])
    text.set_horizontalalignment(_ALIGN[_SIDES[best, 0]][0])
    text.set_verticalalignment(_ALIGN[_SIDES[best, 1]][1])
    return boxes[best : best + 1]


def _boxes_at_places(box: Boxes, renderer: Any) -> Boxes:
    """Return the boxes of a label at each of ``_PLACES``, of the one above and right of a point."""
    low, size = box[:2], box[2:] - box[:2]
    corners = low + renderer.points_to_pixels(1.0) * np.array(_PLACES) - (1 - _SIDES) / 2 * size
    return np.hstack([corners, corners + size])


def _overlaps(a: Boxes, b: Boxes) -> Boxes:
    """Return the areas that each of ``a`` has in common with each of ``b``, (len(a), len(b))."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    sides: Boxes = np.maximum(high - low, 0.0)
    areas: Boxes = sides[..., 0] * sides[..., 1]
    return areas


def short_name(name: str) -> str:
    """Return a level's name on one line, cut in the middle: the ends tell files apart."""
    name = " ".join(name.split())
    half = NAME_LENGTH // 2
    return name if len(name) <= NAME_LENGTH else f"{name[: half - 1]}…{name[-half:]}"


def cut(text: str, most: int) -> str:
    """Return the text on one line, cut to at most ``most`` characters."""
    text = " ".join(text.split())
    return text if len(text) <= most else f"{text[: most - 1]}…"
