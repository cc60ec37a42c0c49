"""Dates and times are those of a calendar, durations fit a timedelta, and names have lengths."""

from __future__ import annotations

import datetime
import re

import pydantic
import pytest

from localgen.constraints.formats import PATTERNS
from tests.constraints.vocabularies import allows, byte_compiler

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


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("P1Y2M3DT4H5M6S", True),
        ("P3W", True),
        ("PT0S", True),
        ("P2M", True),
        ("P999999Y999999M999999DT999999H999999M999999S", True),
        ("P1000000D", False),
        ("P1Y2D", False),
        ("PT1H2S", False),
        ("P1W2D", False),
        ("P", False),
        ("P1DT", False),
    ],
)
def test_a_duration_leaves_no_unit_out_and_fits_a_timedelta(text: str, is_one: bool) -> None:
    assert bool(re.search(PATTERNS["duration"], text)) == is_one
    if is_one:
        assert pydantic.TypeAdapter(datetime.timedelta).validate_python(text) is not None


@pytest.mark.parametrize(
    ("name", "is_host"),
    [
        ("localhost", True),
        ("a-1.b.c.d.example.com", True),
        ("a-" * 31 + "b", True),
        ("a-" * 32 + "b", False),
        ("-a.com", False),
        ("a-.com", False),
        ("xn--a", False),
        ("a..b", False),
        ("", False),
    ],
)
def test_a_label_of_a_host_name_has_at_most_63_characters(name: str, is_host: bool) -> None:
    assert bool(re.search(PATTERNS["hostname"], name)) == is_host


def test_a_host_name_has_at_most_253_characters() -> None:
    constraint = byte_compiler()("json_schema", {"type": "string", "format": "hostname"})
    longest = ".".join([*["a-" * 31 + "b"] * 3, "a-" * 30 + "b"])
    assert len(longest) == 253
    assert allows(constraint, f'"{longest}"')
    assert not allows(constraint, f'"{longest}b"')
