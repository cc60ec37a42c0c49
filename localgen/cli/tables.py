"""Tables on stdout: one line a row in a pipe, and readable in a narrow terminal."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import RenderableType

_GAP = 2


def print_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    right: Collection[str] = (),
    wrapped: Collection[str] = (),
) -> None:
    """Print ``rows`` under the titles ``columns``.

    right: the columns to align to the right. wrapped: those whose cells may break between words.
    In a terminal that is too narrow, columns without a title are left out unless they wrap; then
    cells wrap; and if that is not enough, each row is printed as a list of its cells.
    """
    from rich.console import Console  # noqa: PLC0415  # only where a table is printed

    room = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    table = [[printable(text) for text in row] for row in rows]
    if room is not None and _widths(columns, table, (), room) is None:
        kept = [i for i, title in enumerate(columns) if title or title in wrapped]
        columns, table = _select(columns, kept), [_select(row, kept) for row in table]
    widths = _widths(columns, table, wrapped, room)
    body = _records(columns, table) if widths is None else _table(columns, table, right, widths)
    width = room or sum(widths or ()) + _GAP * len(columns)
    console = Console(width=width, color_system=None, highlight=False, markup=False, emoji=False)
    with console.capture() as capture:
        console.print(body)
    # rich pads the last column.
    lines = [line.rstrip() for line in capture.get().splitlines()]
    print("", *lines, "", sep="\n")


def printable(text: str) -> str:
    """Return ``text`` without characters that could control the terminal: files are not trusted."""
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text)


def _select(row: Sequence[str], indices: Sequence[int]) -> list[str]:
    return [row[i] for i in indices]


def _widths(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    wrapped: Collection[str],
    room: int | None,
) -> list[int] | None:
    """Return each column's width in cells of the terminal; None if they do not fit in ``room``."""
    from rich.cells import cell_len  # noqa: PLC0415

    least, widest = [], []
    for title, *cells in zip(columns, *rows, strict=True):
        texts = [title, *cells]
        words = [word for text in texts for word in text.split()] if title in wrapped else texts
        least.append(max(map(cell_len, words), default=0))
        widest.append(max(map(cell_len, texts)))
    if room is None:
        return widest
    spare = room - sum(least) - _GAP * (len(columns) - 1)
    if spare < 0:
        return None
    widths = []
    for low, high in zip(least, widest, strict=True):
        widths.append(min(high, low + spare))
        spare -= widths[-1] - low
    return widths


def _table(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    right: Collection[str],
    widths: Sequence[int],
) -> RenderableType:
    from rich import box  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    table = Table(
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, _GAP - 1, 0, 0),  # the box adds a space of its own
        header_style="",
    )
    for title, width in zip(columns, widths, strict=True):
        table.add_column(title, justify="right" if title in right else "left", width=width)
    for row in rows:
        table.add_row(*row)
    return table


def _records(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> RenderableType:
    from rich.table import Table  # noqa: PLC0415

    grid = Table.grid(padding=(0, _GAP, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for number, row in enumerate(rows):
        if number:
            grid.add_row()
        for title, text in zip(columns, row, strict=True):
            if text:
                grid.add_row(title, text)
    return grid
