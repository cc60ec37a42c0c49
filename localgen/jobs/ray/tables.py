"""The rows of Parquet and CSV files, as the fields of a job's lines; it knows no filesystem."""

from __future__ import annotations

import dataclasses
import decimal
import io
import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow
import pyarrow.csv
import pyarrow.parquet

from localgen._util.suggestions import did_you_mean, similar_names
from localgen.config import GenerationConfig
from localgen.errors import JobError
from localgen.jobs.rows import COLUMNS, fields_of_rows

_FIELDS = frozenset(fields_of_rows())
_PROMPTS = frozenset(["prompt", "messages", "prompt_token_ids"])
_OPTIONS = [field.name for field in dataclasses.fields(GenerationConfig)]
# Names of vLLM, of which a dataset's rows may have some.
_OF_OTHERS = {
    "max_tokens": "max_new_tokens",
    "min_tokens": "min_new_tokens",
    "stop": "stop_strings",
}
# A typing error gives more; words such as "sample" give less.
_ALIKE = 0.92
_ROWS_AT_A_TIME = 1024
# A row must fit into a block.
_CSV_BLOCK = 2**24
_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,4000}")


def parquet_rows(file: Any) -> Iterator[Mapping[str, Any]]:
    """Yield the rows of an open Parquet file. Raises JobError, as ``check_columns()``."""
    table = pyarrow.parquet.ParquetFile(file)
    check_columns(table.schema_arrow.names)
    for batch in table.iter_batches(batch_size=_ROWS_AT_A_TIME):
        yield from batch.to_pylist()


def csv_columns(stream: Any) -> list[str]:
    """Return the names in the first line of a CSV file. Raises JobError, as ``check_columns()``."""
    with _open_csv(stream, {}) as reader:
        names: list[str] = reader.schema.names
    check_columns(names)
    return names


def check_columns(names: list[str]) -> None:
    """Raise JobError for columns that would make every row fail, or that look like an option.

    Other columns that are no fields of a line go to the records as they are.
    """
    for name in names:
        if names.count(name) > 1:
            raise JobError(f"two columns are named {name!r}. Rename one of them.")
    if not _PROMPTS & set(names):
        hints = ["", *(did_you_mean(name, _PROMPTS, n=1, shown=repr) for name in names)]
        raise JobError(
            f"it has no column prompt, messages or prompt_token_ids; its columns are "
            f"{', '.join(map(repr, names))}{max(hints, key=len)}. Rename the column of the prompts."
        )
    for name in names:
        if name not in _FIELDS and (option := _meant(name)):
            raise JobError(
                f"the column {name!r} looks like the option {option!r}, and is none of a job's "
                f"line. Rename it to {option!r} to set that, or to another name to keep it in the "
                f"records."
            )
    if "sampling_params" in names:
        raise JobError(
            "the column 'sampling_params' is only read by localgen.jobs.ray.generate(). Give each "
            "option a column of its own, such as 'max_new_tokens' and 'temperature'."
        )


def _meant(name: str) -> str | None:
    """Return the option for which a column's name may stand."""
    if name in _OF_OTHERS:
        return _OF_OTHERS[name]
    return next(iter(similar_names(name, _OPTIONS, n=1, cutoff=_ALIKE)), None)


def csv_rows(stream: Any, names: list[str]) -> Iterator[Mapping[str, Any]]:
    """Yield the rows of a CSV file: what a cell means depends on no other cell.

    A prompt is text. An id is an integer where it is written as one, or text. A cell of another
    field is JSON if it can be read so, or text; one of another column is text. An empty cell is
    null.
    Raises JobError, at the end, if a quote is not closed.
    """
    types = dict.fromkeys(names, pyarrow.string())
    counting = _QuoteCounter(stream)
    for batch in _open_csv(counting, types):
        for row in batch.to_pylist():
            yield {name: _value(name, cell) for name, cell in row.items()}
    if counting.n_quotes % 2:
        raise JobError(
            "it has an odd number of double quotes, so one is not closed, and all that follows it "
            "is in one cell. Close it, or restore the file if its end is missing. In a cell, a "
            'quote is written twice and the cell is quoted: "5"" pipe".'
        )


class _QuoteCounter(io.RawIOBase):
    """Counts the double quotes of a stream that is read: Arrow takes the end of a file for the end
    of a quoted cell."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.n_quotes = 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        data: bytes = self._stream.read(size if size >= 0 else None)
        self.n_quotes += data.count(b'"')
        return data


def as_json(row: Mapping[str, Any]) -> bytes:
    """Return a row as a JSON object, without what is null: its fields, and other columns as one.

    Raises JobError for binary values.
    """
    given = {name: value for name, value in row.items() if value is not None}
    fields = {name: value for name, value in given.items() if name in _FIELDS}
    if others := {name: _finite(given[name]) for name in given if name not in _FIELDS}:
        fields[COLUMNS] = others
    text = json.dumps(fields, ensure_ascii=False, default=_plain)
    return text.encode("utf-8", "backslashreplace")


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
    if cell is None or name == "prompt" or name not in _FIELDS:
        return cell
    if name == "id":
        return int(cell) if _INTEGER.fullmatch(cell) else cell
    try:
        return json.loads(cell)
    except (ValueError, RecursionError):
        return cell


def _finite(value: Any) -> Any:
    """Return a value with null for numbers that JSON lacks, such as NaN."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return value


def _plain(value: Any) -> Any:
    """Return what JSON has for a value of Arrow's."""
    if isinstance(value, bytes):
        raise JobError(
            "a value is binary, which JSON lacks. Convert its column to text, or leave it out."
        )
    if isinstance(value, decimal.Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    return str(value)
