"""Plain tables on stdout: as wide as they need to be, or cut into parts as wide as the terminal."""

from __future__ import annotations

import functools
import itertools
import shutil
import sys
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

# Between columns; the narrower one where that saves a part.
_GAPS = (3, 2)
# Prose is not wrapped to less, if it has more.
_LEAST_PROSE = 24


def print_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    right: str = "",
    prose: Sequence[str] = (),
) -> None:
    """Print ``rows`` under ``columns``, no cell broken but those of ``prose``, between words.

    right: the columns that are set to the right, split by spaces. Where a terminal is too narrow,
    further columns stand in a part of their own below, after the first column once more. A column
    without a title belongs to the one before it, and is left out if that saves a part.
    """
    is_terminal = sys.stdout.isatty()
    width = shutil.get_terminal_size().columns if is_terminal else None
    encoding = (sys.stdout.encoding or "").lower()
    rule = "─" if encoding.startswith("utf") else "-"
    shown = [[printable(text) for text in row] for row in rows]
    table = [
        _Column(title, tuple(row[i] for row in shown), title in right.split(), title in prose)
        for i, title in enumerate(columns)
    ]
    print("\n".join(_lines(table, width, rule)))


def printable(text: str) -> str:
    """``text`` without what would move the cursor or change the terminal: files are not trusted."""
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text)


def _n_cells(text: str) -> int:
    """Its width in a terminal, where a character may take two cells."""
    from rich.cells import cell_len  # noqa: PLC0415  # only where a table is printed

    return cell_len(text)


@dataclass(frozen=True)
class _Column:
    """One column; widths are in cells of the terminal."""

    title: str
    cells: tuple[str, ...]
    is_right: bool
    is_prose: bool

    @functools.cached_property
    def width(self) -> int:
        """Of the column as it is."""
        return max(map(_n_cells, (self.title, *self.cells)))

    @functools.cached_property
    def least(self) -> int:
        """The narrowest that it may be."""
        if not self.is_prose:
            return self.width
        words = " ".join((self.title, *self.cells)).split()
        return max([min(self.width, _LEAST_PROSE), *map(_n_cells, words)])

    def padded(self, text: str, width: int) -> str:
        space = " " * (width - _n_cells(text))
        return space + text if self.is_right else text + space


def _lines(columns: list[_Column], width: int | None, rule: str) -> Iterator[str]:
    """The table's lines, an empty one around each part."""
    gap, parts = _layout(columns, width)
    yield ""
    for part in parts:
        widths = _widths(part, gap, width)
        yield _line(part, widths, [column.title for column in part], gap)
        yield f" {rule * (sum(widths) + gap * (len(part) - 1))}"
        for row in zip(*(column.cells for column in part), strict=True):
            for texts in _wrapped(part, widths, row):
                yield _line(part, widths, texts, gap)
        yield ""


def _layout(columns: list[_Column], width: int | None) -> tuple[int, list[list[_Column]]]:
    """The gap between columns, and the parts: as few as can be, and then as generous."""
    titled = [column for column in columns if column.title or column.is_prose]
    choices = [(gap, _parts(chosen, gap, width)) for chosen in (columns, titled) for gap in _GAPS]
    return min(choices, key=lambda choice: len(choice[1]))


def _parts(columns: list[_Column], gap: int, width: int | None) -> list[list[_Column]]:
    """The columns in parts that fit; in one, for the terminal to wrap, if any would not."""
    first, groups = columns[0], _groups(columns[1:])
    if width is None or any(_needed([first, *group], gap) > width for group in groups):
        return [columns]
    parts = [[first]]
    for group in groups:
        if _needed([*parts[-1], *group], gap) > width:
            parts.append([first])
        parts[-1] += group
    return parts


def _groups(columns: list[_Column]) -> list[list[_Column]]:
    """Columns that stay together: each with those without a title that follow it."""
    groups: list[list[_Column]] = []
    for column in columns:
        if column.title or not groups:
            groups.append([])
        groups[-1].append(column)
    return groups


def _needed(columns: Sequence[_Column], gap: int) -> int:
    """The width of a line, with the space before it."""
    return 1 + sum(column.least for column in columns) + gap * (len(columns) - 1)


def _widths(part: Sequence[_Column], gap: int, width: int | None) -> list[int]:
    """Each column's least width, and what is left for those that have more."""
    if width is None:
        return [column.width for column in part]
    widths = []
    spare = max(0, width - _needed(part, gap))
    for column in part:
        more = min(spare, column.width - column.least)
        widths.append(column.least + more)
        spare -= more
    return widths


def _wrapped(
    part: Sequence[_Column], widths: Sequence[int], row: Sequence[str]
) -> Iterator[Sequence[str]]:
    """The lines of one row's cells, "" where a cell has ended."""
    cells = [
        _words(text, width) if column.is_prose else [text]
        for column, width, text in zip(part, widths, row, strict=True)
    ]
    return itertools.zip_longest(*cells, fillvalue="")


def _words(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False) or [""]


def _line(part: Sequence[_Column], widths: Sequence[int], texts: Sequence[str], gap: int) -> str:
    padded = [
        column.padded(text, width) for column, width, text in zip(part, widths, texts, strict=True)
    ]
    return f" {(' ' * gap).join(padded)}".rstrip()
