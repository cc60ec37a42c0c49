"""Rows of a CSV file get their labels, in order, whatever the file looks like."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from tests.examples.conftest import RunExample

ROWS = [
    ("1", "The food was delicious,\nand the staff was friendly.", "positive"),
    ("2", "Terrible, slow and rude service.", "negative"),
    ("3", "", ""),
    ("4", "I would buy this again.", "positive"),
    ("5", "A waste of money. " * 300, "negative"),
]


@pytest.mark.slow
@pytest.mark.real
def test_every_row_gets_its_label(run_example: RunExample, tmp_path: Path) -> None:
    """With what spreadsheets write: a byte order mark, CRLF, line breaks in a cell."""
    source, target = tmp_path / "in.csv", tmp_path / "out.csv"
    with source.open("w", newline="", encoding="utf-8-sig") as file:
        csv.writer(file).writerows([("id", "review"), *(row[:2] for row in ROWS)])
    done = run_example("label_csv.py", source, target, "--column", "review")
    assert done.returncode == 0, done.stderr
    assert "4 of 5 rows labelled" in done.stderr
    with target.open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    assert header == ["id", "review", "label"]
    assert [tuple(row) for row in rows] == ROWS


@pytest.mark.slow
@pytest.mark.real
def test_a_wrong_column_is_named(run_example: RunExample, tmp_path: Path) -> None:
    source, target = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_text("id,review\n1,fine\n", "utf-8")
    done = run_example("label_csv.py", source, target)
    assert done.returncode == 2
    assert "no column 'text'; it has id, review" in done.stderr
    assert not target.exists()
