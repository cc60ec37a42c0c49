"""The rows of Parquet and CSV files, as the fields of a job's lines; it knows no filesystem."""

from __future__ import annotations

import decimal
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow
import pyarrow.csv
import pyarrow.parquet

from localgen.errors import JobError

_ROWS_AT_A_TIME = 1024
# A row must fit into a block.
_CSV_BLOCK = 2**24
_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,4000}")


def parquet_rows(file: Any) -> Iterator[Mapping[str, Any]]:
    """Yield the rows of an open Parquet file."""
    for batch in pyarrow.parquet.ParquetFile(file).iter_batches(batch_size=_ROWS_AT_A_TIME):
        yield from batch.to_pylist()


def csv_columns(stream: Any) -> list[str]:
    """Return the names in the first line of a CSV file. Raises JobError if one is there twice."""
    with _open_csv(stream, {}) as reader:
        names: list[str] = reader.schema.names
    for name in names:
        if names.count(name) > 1:
            raise JobError(f"two columns are named {name!r}. Rename one of them.")
    return names


def csv_rows(stream: Any, names: list[str]) -> Iterator[Mapping[str, Any]]:
    """Yield the rows of a CSV file: what a cell means depends on no other cell.

    A prompt is text. An id is an integer where it is written as one, or text. A cell of another
    column is JSON if it can be read so, or text. An empty cell is null.
    """
    types = dict.fromkeys(names, pyarrow.string())
    for batch in _open_csv(stream, types):
        for row in batch.to_pylist():
            yield {name: _value(name, cell) for name, cell in row.items()}


def as_json(row: Mapping[str, Any]) -> bytes:
    """Return a row as a JSON object, without what is null. Raises JobError for binary values."""
    given = {name: value for name, value in row.items() if value is not None}
    return json.dumps(given, ensure_ascii=False, default=_plain).encode("utf-8", "backslashreplace")


def _open_csv(stream: Any, types: Mapping[str, pyarrow.DataType]) -> Any:
    return pyarrow.csv.open_csv(
        stream,
        read_options=pyarrow.csv.ReadOptions(block_size=_CSV_BLOCK),
        parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True),
        convert_options=pyarrow.csv.ConvertOptions(
            column_types=types,
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        ),
    )


def _value(name: str, cell: str | None) -> Any:
    if cell is None or name == "prompt":
        return cell
    if name == "id":
        return int(cell) if _INTEGER.fullmatch(cell) else cell
    try:
        return json.loads(cell)
    except (ValueError, RecursionError):
        return cell


def _plain(value: Any) -> Any:
    """Return what JSON has for a value of Arrow's."""
    if isinstance(value, bytes):
        raise JobError("a value is binary, which no field of a line is. Convert it to text.")
    if isinstance(value, decimal.Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    return str(value)
