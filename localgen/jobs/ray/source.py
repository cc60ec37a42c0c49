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
from localgen.jobs.rows import Line, read_lines

_LINES, _PARQUET, _CSV = "lines", "parquet", "csv"
_FORMATS = {
    ".jsonl": _LINES, ".ndjson": _LINES, ".json": _LINES, ".parquet": _PARQUET, ".csv": _CSV,
}  # fmt: skip
_ROWS_AT_A_TIME = 1024


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


def pending_lines(
    number: int, file: str, done: Mapping[tuple[int, int], str]
) -> Iterator[dict[str, list[Any]]]:
    """Yield the lines of a file that are not done, as columns of a dataset.

    number: of the file. done: the hashes of the lines that are, by file and line. Raises JobError
    for one that has changed since.
    """
    lines = _pending(number, file, done)
    while some := list(islice(lines, _ROWS_AT_A_TIME)):
        yield {
            "file": [number] * len(some),
            "line": [each.number for each in some],
            "data": [each.data for each in some],
        }


def _pending(number: int, file: str, done: Mapping[tuple[int, int], str]) -> Iterator[Line]:
    for line in lines_of(file):
        known = done.get((number, line.number))
        if known is None:
            yield line
        elif known != line.hash:
            raise JobError(
                f"line {line.number} of {file} has changed since its result was written. Restore "
                f"the line, or choose another output folder."
            )
