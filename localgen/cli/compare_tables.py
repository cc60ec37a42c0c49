"""Prints a comparison: its levels as a table, and what was measured of them as further ones."""

from __future__ import annotations

import sys

from localgen.cli.tables import print_table, printable
from localgen.compare import Comparison
from localgen.compare.extra_tables import extra_tables
from localgen.compare.formats import (
    KLD,
    Column,
    fixed_line,
    measured_columns,
    noise_line,
    shares_of_most,
)
from localgen.compare.level_result import LevelResult
from localgen.compare.task_table import DECIDES, TASK_TITLES, task_tables

_BAR_WIDTH = 12
_RIGHT = ("size", "bits/w", "load", "prefill", "decode", "ppl", "KLD", "KLD p99.9", "flips")


def print_tables(result: Comparison) -> None:
    """Print a comparison, and on stderr the errors of levels."""
    _print_levels([level for level in result.levels if level.error is None])
    _print_tasks(result)
    for table in extra_tables(result):
        print(table.heading)
        print_table([*table.titles], table.rows, right=table.titles[1:], wrapped=table.titles)
    for level in result.levels:
        if level.error is not None:
            print(f"localgen: {level.label}: {level.error}", file=sys.stderr)
    if fixed := fixed_line(result):
        print(printable(fixed))
    if noise := noise_line(result):
        print(noise)
    for note in result.notes:
        print(f"note: {note}")


def _print_tasks(result: Comparison) -> None:
    for name, cells in task_tables(result):
        print(printable(name))
        print_table([*TASK_TITLES], cells, right=TASK_TITLES[1:], wrapped=TASK_TITLES)
    if any(task.difference is not None for level in result.levels for task in level.tasks):
        print(DECIDES)


def _print_levels(levels: list[LevelResult]) -> None:
    columns = [column for column in measured_columns(levels) if column.in_terminal]
    titles = [column.title for column in columns]
    rows = [
        [text for column in columns for text in _cells(column, level, share)]
        for level, share in zip(levels, shares_of_most(levels), strict=True)
    ]
    headers = [title for column in columns for title in _headers(column)]
    print_table(headers, rows, right=_RIGHT, wrapped=titles)


def _headers(column: Column) -> list[str]:
    return [column.title, ""] if column is KLD else [column.title]


def _cells(column: Column, level: LevelResult, share: float) -> list[str]:
    """Return a figure, and after the KLD a bar, which has a column without a title."""
    # A figure and its error are two words: a narrow terminal breaks between them.
    text = column.text(level).replace("± ", "±")
    if column is not KLD:
        return [text]
    return [text, "█" * round(_BAR_WIDTH * share)]
