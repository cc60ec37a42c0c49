"""A text of CSV → its records, and the lines that belong to none; it does not know what they mean.

After a broken record, no quotation mark is certain to open or to close a field. Reading goes on at
the next line that is a record on its own: its quotation marks are in pairs, and it has as many
fields as the last good record.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence

# A line with its fields: plain, or in quotation marks with those inside written twice.
_FIELD = r'(?:"(?:[^"]|"")*"|[^",]*)'
_LINE = re.compile(rf"{_FIELD}(?:,{_FIELD})*")
# What the csv module says of quotation marks.
_OF_QUOTES = ("unexpected end of data", "expected after '\"'")


class BrokenLineError(ValueError):
    """Why a line is not part of a record."""


def read_records(
    text: str, fewest_fields: int
) -> Iterator[tuple[int, list[str] | BrokenLineError]]:
    """Yield each record's fields, or why a line is broken, with the number of its first line.

    fewest_fields: of a line where reading goes on if no good record precedes it. Empty lines are
    left out.
    """
    lines = [*io.StringIO(text, newline="")]
    start, n_fields = 0, None
    while start < len(lines):
        try:
            record, end = _record(lines, start)
        except csv.Error as error:
            yield start + 1, BrokenLineError(_about_quotes(error))
            start += 1
            while start < len(lines) and not _is_whole(lines[start], n_fields, fewest_fields):
                if lines[start].strip():
                    yield start + 1, BrokenLineError(_after_broken(n_fields, fewest_fields))
                start += 1
            continue
        if record:
            yield start + 1, record
        if len(record) >= fewest_fields:
            n_fields = len(record)
        start = end


def _record(lines: Sequence[str], start: int) -> tuple[list[str], int]:
    """Return the fields of the record from a line on, and the index of the line after it."""
    reader = csv.reader((lines[index] for index in range(start, len(lines))), strict=True)
    record = next(reader)
    return record, start + reader.line_num


def _is_whole(line: str, n_fields: int | None, fewest_fields: int) -> bool:
    """Return whether a line is surely a record on its own."""
    line = line.rstrip("\r\n")
    if not _LINE.fullmatch(line):
        return False
    try:
        n_found = len(next(csv.reader([line], strict=True), ()))
    except csv.Error:  # a field too large
        return False
    return n_found >= fewest_fields if n_fields is None else n_found == n_fields


def _about_quotes(error: csv.Error) -> str:
    if any(each in str(error) for each in _OF_QUOTES):
        return (
            "a quotation mark is not closed, or text follows it. Close it at the end of the field, "
            "or write one within a field twice"
        )
    return f"it is not CSV: {error}"


def _after_broken(n_fields: int | None, fewest_fields: int) -> str:
    fields = f"at least {fewest_fields} fields" if n_fields is None else f"{n_fields} fields"
    return (
        f"it follows a broken line, and is not a record of {fields} on its own, where reading "
        f"could go on"
    )
