"""Formats what is measured only where it is asked for: chats, speed at depth, energy.

For the terminal and the page.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from localgen._util.format import counted
from localgen.benchmark.measuring import Spread
from localgen.compare.level_result import LevelResult
from localgen.compare.results import Comparison

MISSING = "-"


@dataclass(frozen=True, slots=True)
class Table:
    """A heading, what the figures are, the columns' titles, and a row of cells for each level that
    was measured."""

    heading: str
    meaning: str
    titles: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def extra_tables(result: Comparison) -> list[Table]:
    """Return the tables that have a row."""
    return [*_chats(result), *_depths(result), *_energy(result)]


def _chats(result: Comparison) -> Iterator[Table]:
    found = [(level, level.chats) for level in result.levels if level.chats is not None]
    if found:
        n_chats = len(found[0][1].replies)
        rows = []
        for level, chats in found:
            first = chats.first_difference
            cells = (
                f"{100 * chats.share_equal:.1f} %",
                f"{100 * chats.low:.1f} to {100 * chats.high:.1f}",
                MISSING if first is None else f"{first:g} token" + ("s" if first != 1 else ""),
            )
            rows.append((level.label, *cells))
        yield Table(
            f"Replies to {counted(n_chats, 'chat')}",
            "Greedy replies by the model's chat template: the share that is the reference's to the "
            "letter, with Wilson's interval, and the median number of tokens before the others "
            "differ.",
            ("level", "equal", "95 % interval", "others differ after"),
            tuple(rows),
        )


def _depths(result: Comparison) -> Iterator[Table]:
    depths = list(dict.fromkeys(at.depth for level in result.levels for at in level.at_depths))
    if depths:
        titles = [f"{what} @ {depth}" for depth in depths for what in ("prefill", "decode")]
        rows = [_at_depths(level, depths) for level in result.levels if level.at_depths]
        yield Table(
            "Speed at depth, in tokens per second",
            "After so many tokens in the KV cache: the speed of 512 more of a prompt, and "
            "of 64 new ones, one sequence.",
            ("level", *titles),
            tuple(rows),
        )


def _at_depths(level: LevelResult, depths: list[int]) -> tuple[str, ...]:
    found = {at.depth: at for at in level.at_depths}
    cells = []
    for depth in depths:
        at = found.get(depth)
        cells += [
            _spread(at.prefill_tps if at else None, 0),
            _spread(at.decode_tps if at else None, 1),
        ]
    return (level.label, *cells)


def _energy(result: Comparison) -> Iterator[Table]:
    rows = [
        (level.label, _spread(level.prefill_joules, 3), _spread(level.decode_joules, 3))
        for level in result.levels
        if level.decode_joules is not None
    ]
    if rows:
        yield Table(
            "Energy, in joules per token",
            "What the machine's processors take, whatever else runs on them: for a prompt "
            "of 512 tokens, and for 64 new ones.",
            ("level", "prefill", "decode"),
            tuple(rows),
        )


def _spread(found: Spread | None, digits: int) -> str:
    if found is None:
        return MISSING
    half = (found.high - found.low) / 2
    return f"{found.median:.{digits}f}" + (f" ±{half:.{digits}f}" if half else "")
