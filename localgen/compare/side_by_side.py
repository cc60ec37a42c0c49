"""Puts the figures of several machines side by side, as a table of text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from localgen.compare.formats import DECODE, KLD, MISSING, PREFILL
from localgen.compare.results import Comparison

# The titles, and a row of cells for each level.
Table: TypeAlias = tuple[tuple[str, ...], list[tuple[str, ...]]]
_COMPARED = (KLD, PREFILL, DECODE)


def side_by_side(parts: Mapping[str, Comparison]) -> Table | None:
    """Return KLD and speed of each level on each machine that measured them; None for one machine.

    parts: each machine's comparison by its number. Levels come in the order in which machines
    first name them.
    """
    if len(parts) < 2:
        return None
    cells = {
        (number, level.label): level
        for number, part in parts.items()
        for level in part.levels
        if level.error is None
    }
    columns = [
        (column, number)
        for column in _COMPARED
        for number, part in parts.items()
        if any(column.value(level) is not None for level in part.levels)
    ]
    labels = dict.fromkeys(label for _, label in cells)
    rows = [
        (
            label,
            *(
                column.text(cells[number, label]) if (number, label) in cells else MISSING
                for column, number in columns
            ),
        )
        for label in labels
    ]
    return ("level", *(f"{column.title} {number}" for column, number in columns)), rows
