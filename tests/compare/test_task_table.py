"""Tables of tasks in the terminal and on the page, from answers that a person can count."""

from __future__ import annotations

from pathlib import Path

from localgen.compare import Comparison, save_html
from localgen.compare.task_table import TASK_TITLES, task_tables
from tests.comparisons import comparison, level, task_result

REFERENCE, LEVEL = "rrrrrrww", "rrrrwwxr"


def answered() -> Comparison:
    """Return two levels: two answers are lost, one is gained, and one is wrong otherwise."""
    tasks = (task_result("own.jsonl", LEVEL, REFERENCE),)
    return comparison(
        levels=(
            level(
                "F16", 16, 0.0, 10, is_reference=True, tasks=(task_result("own.jsonl", REFERENCE),)
            ),
            level("Q4_0", 4, 0.1, 20, tasks=tasks),
            level("Q2_K", 2, 0.5, 20),
        )
    )


def test_levels_that_answered_are_rows_beside_the_reference() -> None:
    ((heading, (reference, other)),) = task_tables(answered())
    assert heading == "own.jsonl: 8 questions"
    assert reference[:4] == ["F16", "75.0 % ±16.4", "-", "reference"]
    assert other[:5] == ["Q4_0", "62.5 % ±18.3", "-", "50.0 %", "-12.5"]
    assert other[6:] == ["1", "no"]
    assert len(reference) == len(other) == len(TASK_TITLES)


def test_the_p_value_decides_whether_a_level_differs() -> None:
    reference = "r" * 10
    for n_lost, decision in ((5, "no"), (6, "yes")):
        lost = task_result("own.jsonl", "w" * n_lost + reference[n_lost:], reference)
        levels = (level("Q4_0", 4, 0.1, 20, tasks=(lost,)),)
        ((_, ((*_, interval, _, differs),)),) = task_tables(comparison(levels=levels))
        assert (differs, interval.split()[2][0]) == (decision, "-")


def test_the_page_has_the_tables(tmp_path: Path) -> None:
    save_html(answered(), tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text("utf-8")
    assert "own.jsonl: 8 questions</h3>" in page
    assert "<td>50.0 %</td>" in page
    save_html(comparison(), tmp_path / "page.html")
    assert "<h2>Tasks</h2>" not in (tmp_path / "page.html").read_text("utf-8")
