"""The input of a job on Ray: files → lines, read in Ray's tasks as they are needed."""

from __future__ import annotations

import io
import os
import posixpath
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

import pyarrow.fs

from localgen.errors import JobError
from localgen.jobs.ray import tables
from localgen.jobs.ray.folder import file_errors, find_filesystem
from localgen.jobs.ray.index import Index
from localgen.jobs.ray.prefixes import beginning_of, windows
from localgen.jobs.rows import Line, fields_of, numbered_lines

_LINES, _PARQUET, _CSV = "lines", "parquet", "csv"
_FORMATS = {
    ".jsonl": _LINES, ".ndjson": _LINES, ".json": _LINES, ".parquet": _PARQUET, ".csv": _CSV,
}  # fmt: skip
# Pyarrow decompresses these by their names; Parquet files are compressed inside.
_COMPRESSED = (".gz", ".bz2", ".zst", ".lz4")
_ROWS_AT_A_TIME = 1024
# So many lines are sorted at a time.
_WINDOW_ROWS = 2**14
_WINDOW_BYTES = 2**26


def find_files(location: str) -> list[str]:
    """Return the files of an input, sorted: a file, or all of a folder, as paths or URIs.

    Names of a folder that begin with "." or "_" are not input: programs that write folders of data
    put marks and checksums there. Raises JobError if there are none, or one of an unknown format.
    """
    if location == "-":
        raise JobError(
            "stdin cannot be the input of a job on Ray, whose nodes read it. Give a file or folder."
        )
    filesystem, path = find_filesystem(location)
    with file_errors(location, "read"):
        info = filesystem.get_file_info(path)
        if info.type == pyarrow.fs.FileType.NotFound:
            is_pattern = any(each in location for each in "*?[")
            hint = ". Patterns are not expanded: give the folder" if is_pattern else ""
            raise JobError(f"there is no input at {location}{hint}")
        files = [location]
        if info.type == pyarrow.fs.FileType.Directory:
            files = _files_in(location, filesystem, path)
    for file in files:
        if _kind(file) is None:
            hint = ". Move it elsewhere if it is no input" if file != location else ""
            raise JobError(
                f"the input {file} has an unknown format: its name must end in "
                f"{', '.join(_FORMATS)}, but for Parquet also with {', '.join(_COMPRESSED)} after "
                f"it{hint}"
            )
    return files


def _files_in(location: str, filesystem: Any, path: str) -> list[str]:
    infos = filesystem.get_file_info(pyarrow.fs.FileSelector(path, recursive=True))
    paths = [each.path for each in infos if each.type == pyarrow.fs.FileType.File]
    if isinstance(filesystem, pyarrow.fs.LocalFileSystem):
        paths = [each for each in paths if not _is_in_circle(each, path)]
    names = [posixpath.relpath(each, path) for each in paths]
    names = [name for name in names if not any(part[0] in "._" for part in name.split("/"))]
    if not names:
        raise JobError(f"the input folder {location} is empty")
    return sorted(f"{location.rstrip('/')}/{name}" for name in names)


def _is_in_circle(path: str, root: str) -> bool:
    """Return whether a link on the way from ``root`` to a file leads to a folder above it."""
    seen = set()
    folder = posixpath.dirname(path)
    while len(folder) >= len(root.rstrip("/")):
        real = os.path.realpath(folder)
        if real in seen:
            return True
        seen.add(real)
        if folder == posixpath.dirname(folder):
            break
        folder = posixpath.dirname(folder)
    return False


def names_in(location: str, files: list[str]) -> list[str]:
    """Return the name of each file of ``find_files(location)``, which no other of them has."""
    if files == [location]:
        return [posixpath.basename(location)]
    return [file[len(location.rstrip("/")) + 1 :] for file in files]


def check_folders(source: str, target: str) -> None:
    """Raise JobError if the results would be in the input's folder, or are to go to stdout."""
    if target == "-":
        raise JobError("a job on Ray writes a folder of results, not stdout. Give its name.")
    given, path = find_filesystem(source)
    taken, folder = find_filesystem(target)
    if given == taken and f"{folder.rstrip('/')}/".startswith(f"{path.rstrip('/')}/"):
        raise JobError(
            f"the output folder {target} is the input {source}, or in it, and would be read as "
            f"input. Choose a folder elsewhere."
        )


def _kind(file: str) -> str | None:
    name, end = posixpath.splitext(file)
    if end in _COMPRESSED:
        kind = _FORMATS.get(posixpath.splitext(name)[1])
        return None if kind == _PARQUET else kind
    return _FORMATS.get(end)


def lines_of(file: str) -> Iterator[Line]:
    """Yield the lines of a file that are not blank.

    The rows of a table, counted from 1, become JSON objects, without what is null. Raises JobError,
    which names the file, if it cannot be read.
    """
    kind = _kind(file)
    filesystem, path = find_filesystem(file)
    with _named(file):
        if kind == _LINES:
            with filesystem.open_input_stream(path) as stream:
                yield from numbered_lines(io.BufferedReader(stream))
            return
        rows = _parquet if kind == _PARQUET else _csv
        for number, row in enumerate(rows(filesystem, path), 1):
            yield Line(number, tables.as_json(row))


@contextmanager
def _named(file: str) -> Iterator[None]:
    """Name the file in errors, those of its content included."""
    try:
        with file_errors(file, "read"):
            yield
    except (ValueError, TypeError, OverflowError) as error:
        raise JobError(f"{file} cannot be read: {error}") from error
    except JobError as error:
        if file in str(error):
            raise
        raise JobError(f"{file}: {error}") from error


def _parquet(filesystem: Any, path: str) -> Iterator[Any]:
    with filesystem.open_input_file(path) as file:
        yield from tables.parquet_rows(file)


def _csv(filesystem: Any, path: str) -> Iterator[Any]:
    with filesystem.open_input_stream(path) as stream:
        names = tables.csv_columns(stream)
    with filesystem.open_input_stream(path) as stream:
        yield from tables.csv_rows(stream, names)


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
