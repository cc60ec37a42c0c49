"""Writes a comparison as a PNG and as a self-contained HTML page; it measures nothing."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path

from localgen._util.atomic_write import atomic_write_bytes, check_writable
from localgen._util.format import counted
from localgen.compare import pictures, plots
from localgen.compare.advice import MachineAdvice, advice_by_machine
from localgen.compare.drawable import drawable
from localgen.compare.drawn import MOST_MACHINES
from localgen.compare.html_page import html_page
from localgen.compare.plot_parts import Panel
from localgen.compare.results import Comparison
from localgen.compare.sensitivity import HeatMap
from localgen.compare.task_plot import task_panels
from localgen.errors import CompareError

# Extensions of a page and of plots; a name may also have none.
_HTML, _PNG = (".html", ".htm"), (".png",)


def check_targets(*, html: Path | None, png: Path | None) -> None:
    """Raise CompareError or OSError if a page and plots cannot be written to these files, before
    anything is measured.

    It checks the extensions, the folders and matplotlib. None: it is not wanted.
    """
    for path, suffixes, what in ((html, _HTML, "reports"), (png, _PNG, "plots")):
        if path is None:
            continue
        _require_matplotlib()
        if path.suffix and path.suffix.lower() not in suffixes:
            raise CompareError(
                f"{path} has the wrong extension: {what} are written as "
                f"{suffixes[0][1:].upper()}. Use {path.stem}{suffixes[0]}."
            )
        check_writable(path)
    if html is not None and html == png:
        raise CompareError(f"{html} cannot be both the page and the plots: name two files")


def save_png(
    result: Comparison,
    path: str | os.PathLike[str],
    *,
    memory: int | str | None = None,
    max_kld: float | None = None,
) -> None:
    """Plot quality and speed against size, and the distribution of the KLD, to a PNG file.

    Each machine of a merged comparison has a row of plots, if there are at most ``MOST_MACHINES``.
    What was not measured is left out.
    memory, max_kld: as in ``Comparison.recommend``, for the level to highlight. Raises CompareError
    without matplotlib, or if nothing was measured.
    """
    _require_matplotlib()
    result = drawable(result)
    advice = advice_by_machine(result, memory, max_kld)
    rows = [row for row in _panels(advice) if row]
    if not rows:
        raise CompareError("no level was measured, so there is nothing to draw")
    sentences = [each.full_sentence for each in islice(advice.values(), MOST_MACHINES)]
    if n_more := len(advice) - len(sentences):
        sentences.append(f"{counted(n_more, 'more machine')}: see the report as HTML.")
    atomic_write_bytes(Path(path), pictures.as_png(rows, result.source, sentences))


def save_html(
    result: Comparison,
    path: str | os.PathLike[str],
    *,
    memory: int | str | None = None,
    max_kld: float | None = None,
    heat_maps: Sequence[HeatMap] = (),
) -> None:
    """Write a self-contained page: table, plots, texts side by side, and how to reproduce it.

    memory, max_kld: as in ``Comparison.recommend``, for the level to highlight. heat_maps: the
    losses of single groups of tensors; see ``sensitivity``. Raises CompareError without matplotlib.
    """
    _require_matplotlib()
    result = drawable(result)
    advice = advice_by_machine(result, memory, max_kld)
    page = html_page(result, advice, [*chain(*_panels(advice))], drawable(tuple(heat_maps)))
    atomic_write_bytes(Path(path), page.encode())


def _require_matplotlib() -> None:
    try:
        import matplotlib.figure  # noqa: F401, PLC0415  # an optional extra
    except ImportError as error:
        raise CompareError(
            f"reports need matplotlib, which cannot be imported ({error}). Install it with: "
            f"pip install 'localgen[report]'"
        ) from error


def _panels(advice: Mapping[str, MachineAdvice]) -> Iterator[list[Panel]]:
    """Yield the panels of the first machines; if there are several, titles have their number."""
    for number, each in islice(advice.items(), MOST_MACHINES):
        yield [
            dataclasses.replace(panel, title=f"{panel.title}, {number}") if number else panel
            for make in (plots.panels, task_panels)
            for panel in make(each.result, each.kept)
        ]
