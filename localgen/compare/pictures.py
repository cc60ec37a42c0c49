"""Renders panels as files: alone as SVG, or side by side as PNG; with matplotlib, without pyplot.

Of a panel's content it knows only the labels, which it places last.
"""

from __future__ import annotations

import io
import re
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from localgen.compare.labels import PALETTE, Label, cut, place
from localgen.compare.plot_parts import Panel

if TYPE_CHECKING:
    from matplotlib.figure import Figure, SubFigure

_STYLE: dict[Any, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": PALETTE["muted"],
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.labelcolor": PALETTE["muted"],
    "axes.linewidth": 0.6,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.unicode_minus": True,
    "figure.facecolor": PALETTE["paper"],
    "font.family": ["DejaVu Sans"],
    "font.size": 8.0,
    "grid.color": PALETTE["rule"],
    "grid.linewidth": 0.5,
    "svg.fonttype": "none",
    "text.color": PALETTE["ink"],
    "text.usetex": False,
    "xtick.color": PALETTE["muted"],
    "ytick.color": PALETTE["muted"],
}
# The width of a panel in inches; on a page it is drawn larger, so that phones show legible text.
_WIDTH = 4.4
_PAGE_WIDTH = 3.2
_DPI = 160
_CAPTION_WIDTH = 82
# Characters of a title that fit above one panel.
_TITLE_WIDTH = 56


def as_png(rows: Sequence[Sequence[Panel]], title: str, subtitles: Sequence[str]) -> bytes:
    """Return a PNG of rows of panels under a title; each row has at least one."""
    from matplotlib.figure import Figure  # noqa: PLC0415  # an optional extra

    n_columns = max(map(len, rows))
    heights = [max(panel.n_inches for panel in row) + 0.5 for row in rows]
    with style():
        size = (_WIDTH * n_columns, sum(heights) + 0.6)
        figure = Figure(size, dpi=_DPI, layout="constrained")
        grid = figure.subfigures(
            len(rows), n_columns, squeeze=False, wspace=0.04, height_ratios=heights
        )
        labels = []
        for row, parts in zip(rows, grid, strict=True):
            for panel, part in zip(row, parts, strict=False):
                labels += _draw(panel, part)
        width = _TITLE_WIDTH * n_columns
        lines = [cut(title, width)]
        lines += [textwrap.fill(cut(each, max(3 * width, 300)), width) for each in subtitles]
        figure.suptitle("\n".join(lines), x=0.008, ha="left", fontsize=10, parse_math=False)
        return render(figure, labels, "png")


def _draw(panel: Panel, part: SubFigure) -> list[Label]:
    """Draw a panel between its title and its caption; return its labels."""
    part.set_facecolor("none")
    part.suptitle(panel.title, x=0.02, ha="left", fontsize=9, parse_math=False)
    caption = textwrap.fill(panel.caption, _CAPTION_WIDTH)
    part.supxlabel(caption, x=0.02, ha="left", fontsize=7, color=PALETTE["muted"])
    return panel.draw(part)


def as_svg(panel: Panel) -> str:
    """Return a panel as an ``<svg>`` element.

    The page provides the colours (``var(--ink)``, for each name of ``PALETTE``), font and width.
    """
    from matplotlib.figure import Figure  # noqa: PLC0415  # an optional extra

    with style(panel.title):
        figure = Figure((_PAGE_WIDTH, panel.n_inches), layout="constrained")
        text = render(figure, panel.draw(figure), "svg").decode("utf-8")
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<style type=\"text/css\">.*?</style>", "", text, flags=re.DOTALL)
    text = re.sub(r'<g id="[^"]*">', "<g>", text)  # those ids are the same in every figure
    text = re.sub(r'^<svg [^>]*?(viewBox="[^"]*")[^>]*>', r"<svg \1>", text)
    for name, colour in PALETTE.items():
        text = text.replace(colour, f"var(--{name})")
    return text


@contextmanager
def style(salt: str = "") -> Iterator[None]:
    """Set matplotlib's settings while a figure is made and rendered.

    salt: keeps the ids of one SVG apart from those of the others on a page; they are the same
    every time.
    """
    import matplotlib  # noqa: PLC0415  # an optional extra

    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": f"localgen {salt}"}):
        yield


def render(figure: Figure, labels: Sequence[Label], kind: str) -> bytes:
    """Place the labels and return the figure as a file of ``kind``, "png" or "svg"."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415

    canvas = FigureCanvasAgg(figure)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # the layout must not move the labels
    place(labels, canvas.get_renderer())  # type: ignore[no-untyped-call]
    data = io.BytesIO()
    metadata: dict[str, Any] = {"png": {"Software": None}, "svg": {"Date": None}}[kind]
    figure.savefig(data, format=kind, metadata=metadata)
    return data.getvalue()
