"""A plain table on stdout, as wide as it needs to be where that is no terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

_WIDTH = 400


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]], right: str = "") -> None:
    """Print ``rows`` under ``columns``; those named in ``right``, split by spaces, on the right."""
    from rich import box  # noqa: PLC0415  # only where a table is printed
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console = Console(highlight=False, markup=False, width=_WIDTH)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for number, column in enumerate(columns):
        justify: Literal["left", "right"] = "right" if column in right.split() else "left"
        table.add_column(column, justify=justify, overflow="fold", no_wrap=number == 0)
    for row in rows:
        table.add_row(*row)
    console.print(table)
