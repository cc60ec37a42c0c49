"""The input of a job on Ray: files → lines, read in Ray's tasks as they are needed."""

from __future__ import annotations

import io
import json
import posixpath
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

import pyarrow.csv
import pyarrow.fs
import pyarrow.parquet

from localgen.errors import JobError
from localgen.jobs.ray.folder import find_filesystem
from localgen.jobs.ray.index import Index
from localgen.jobs.ray.prefixes import beginning_of, windows
from localgen.jobs.rows import Line, fields_of, read_lines

_LINES, _PARQUET, _CSV = "lines", "parquet", "csv"
_FORMATS = {
    ".jsonl": _LINES, ".ndjson": _LINES, ".json": _LINES, ".parquet": _PARQUET, ".csv": _CSV,
}  # fmt: skip
_ROWS_AT_A_TIME = 1024
# So many lines are sorted at a time.
_WINDOW_ROWS = 2**14
_WINDOW_BYTES = 2**26


def find_files(location: str) -> list[str]:
    """Return the files of an input, sorted: a file, or all of a folder, as paths or URIs.

    Raises JobError if there are none, or one of an unknown format.
    """
    filesystem, path = find_filesystem(location)
    info = filesystem.get_file_info(path)
    if info.type == pyarrow.fs.FileType.NotFound:
        raise JobError(f"there is no input at {location}")
    files = [location]
    if info.type == pyarrow.fs.FileType.Directory:
        infos = filesystem.get_file_info(pyarrow.fs.FileSelector(path, recursive=True))
        names = [each.path for each in infos if each.type == pyarrow.fs.FileType.File]
        base = location.rstrip("/")
        files = sorted(f"{base}/{posixpath.relpath(name, path)}" for name in names)
    if not files:
        raise JobError(f"the input folder {location} is empty")
    for file in files:
        if posixpath.splitext(file)[1] not in _FORMATS:
            raise JobError(
                f"the input {file} has an unknown format: its name must end in "
                f"{', '.join(_FORMATS)}"
            )
    return files


def lines_of(file: str) -> Iterator[Line]:
    """Yield the lines of a file that are not blank.

    The rows of a table, counted from 1, become JSON objects, without what is null.
    """
    kind = _FORMATS[posixpath.splitext(file)[1]]
    filesystem, path = find_filesystem(file)
    if kind == _LINES:
        with filesystem.open_input_file(path) as stream:
            yield from read_lines(io.BufferedReader(stream))
        return
    rows = (row for batch in _batches(kind, filesystem, path) for row in batch)
    for number, row in enumerate(rows, 1):
        given = {name: value for name, value in row.items() if value is not None}
        yield Line(number, json.dumps(given, ensure_ascii=False, default=str).encode())


def _batches(kind: str, filesystem: Any, path: str) -> Iterator[Iterable[Mapping[str, Any]]]:
    if kind == _PARQUET:
        with filesystem.open_input_file(path) as file:
            table = pyarrow.parquet.ParquetFile(file)
            for batch in table.iter_batches(batch_size=_ROWS_AT_A_TIME):
                yield batch.to_pylist()
        return
    with filesystem.open_input_stream(path) as stream:
        parsing = pyarrow.csv.ParseOptions(newlines_in_values=True)
        for batch in pyarrow.csv.open_csv(stream, parse_options=parsing):
            yield batch.to_pylist()


def pending_lines(number: int, file: str, done: Index) -> Iterator[dict[str, list[Any]]]:
    """Yield the lines of a file that are not done, as columns of a dataset.

    Of many lines, those whose prompts begin alike come together.
    number: of the file. done: what is known of the rows.
    """
    pending = (line for line in lines_of(file) if done.hash_of((number, line.number)) is None)
    lines = _grouped(pending)
    while some := list(islice(lines, _ROWS_AT_A_TIME)):
        yield {
            "file": [number] * len(some),
            "line": [each.number for each in some],
            "data": [each.data for each in some],
        }


def _grouped(lines: Iterator[Line]) -> Iterator[Line]:
    for window in windows(lines, _n_bytes, most_items=_WINDOW_ROWS, most_bytes=_WINDOW_BYTES):
        yield from sorted(window, key=lambda line: beginning_of(fields_of(line)))


def _n_bytes(line: Line) -> int:
    return len(line.data)
