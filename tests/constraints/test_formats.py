"""Dates and times are those of a calendar."""

from __future__ import annotations

import datetime
import re

import pytest

from localgen.constraints.formats import PATTERNS

DAYS = [f"{month:02}-{day:02}" for month in range(14) for day in range(33)]


@pytest.mark.parametrize("year", ["0000", "0001", "0004", "1900", "2000", "2023", "2024", "9999"])
def test_a_date_is_a_day_of_its_year(year: str) -> None:
    for day in DAYS:
        try:
            datetime.date.fromisoformat(f"{year}-{day}")
            is_day = True
        except ValueError:
            is_day = False
        assert bool(re.search(PATTERNS["date"], f"{year}-{day}")) == is_day


@pytest.mark.parametrize(
    ("text", "is_time"),
    [
        ("00:00:00Z", True),
        ("23:59:59.123+01:30", True),
        ("24:00:00Z", False),
        ("23:59:60Z", False),
        ("10:00:00", False),
        ("10:00:00z", False),
        ("1:00:00Z", False),
    ],
)
def test_a_time_has_an_offset_and_no_leap_second(text: str, is_time: bool) -> None:
    assert bool(re.search(PATTERNS["time"], text)) == is_time
    assert bool(re.search(PATTERNS["date-time"], f"2024-02-29T{text}")) == is_time
