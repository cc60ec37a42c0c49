"""When rows share the cells of their beginning, and how many cells they need then.

With a KV stream of its own a row looks at as many cells as the longest row has tokens. With one
stream for all it looks at the cells of all rows, but a beginning that they share is there once,
and attention goes over it for all rows in one matrix product, which takes less time a row. So
sharing is the faster one where the beginning is long, the ends are short and the rows are many.
"""

from __future__ import annotations

from collections.abc import Sequence as Rows
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from localgen.engine.backend import TokenIds
from localgen.engine.sequence import Sequence

if TYPE_CHECKING:
    from localgen.engine.kv_cache import Entry

_MIN_BEGINNING = 32
# Sharing is chosen if all cells are at most this many times those of the longest row, and at most
# half as many times as there are rows: benchmarks/layouts.py measures both sides.
_MOST_CELLS = 6
_CELLS = 256


@dataclass(frozen=True, slots=True)
class Plan:
    """The beginning (n,) that rows share, the cells and slots for all, and the entries to keep, the
    one that rows can go on from first; ``first_kept_shares``: it holds all of the beginning."""

    beginning: TokenIds
    n_cells: int
    n_slots: int
    kept: list[Entry]
    first_kept_shares: bool


def plan_sharing(waiting: Rows[Sequence], entries: Rows[Entry], max_slots: int) -> Plan | None:
    """How these rows would share cells, beside the pinned ones of ``entries``; None if each of them
    is better off with a KV stream of its own."""
    beginning = _common_beginning(waiting)
    if len(beginning) < _MIN_BEGINNING:
        return None
    matching = max(
        entries, key=lambda entry: common_length(entry.token_ids, beginning), default=None
    )
    if matching is not None and common_length(matching.token_ids, beginning) < _MIN_BEGINNING:
        matching = None
    kept = [] if matching is None else [matching]
    kept += [entry for entry in entries if entry.n_pins and entry is not matching]
    shares = matching is not None and common_length(matching.token_ids, beginning) == len(beginning)
    lengths = [len(row.tokens) for row in waiting]
    n_cells = len(beginning) + sum(lengths) - len(lengths) * len(beginning)
    most = min(_MOST_CELLS, len(lengths) / 2) * max(lengths)
    if n_cells > most:
        return None
    n_cells += sum(len(entry.token_ids) for entry in kept)
    if shares:
        n_cells -= len(beginning)
    n_slots = min(len(lengths) + len(kept), max_slots)
    return Plan(beginning, -(-n_cells // _CELLS) * _CELLS, n_slots, kept, shares)


def _common_beginning(rows: Rows[Sequence]) -> TokenIds:
    first = rows[0].prompt_ids
    n_common = min(common_length(first, row.prompt_ids) for row in rows)
    return first[:n_common]


def common_length(a: TokenIds, b: TokenIds) -> int:
    """How many tokens ``a`` and ``b`` begin with in common."""
    n = min(len(a), len(b))
    if not n or a[0] != b[0]:
        return 0
    differing = np.flatnonzero(a[:n] != b[:n])
    return int(differing[0]) if len(differing) else n
