"""The results of a job on Ray: files of records in one folder, written by many processes.

A row may be in several records: of runs that failed, and of actors that died before Ray knew that
they had done it. One of them counts, the first that is no error.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator
from typing import Any, BinaryIO

from localgen.errors import JobError
from localgen.jobs.ray.folder import MANIFEST, Folder, file_errors
from localgen.jobs.ray.index import Index, Place
from localgen.jobs.results import LINE_ENDS, Record

SUFFIX = ".jsonl"
# How many rows the job had when it was last run, in its manifest.
N_ROWS = "n_rows"
# Where a file cannot grow, records are written in files of so many.
_MOST_KEPT = 512
_HASH = re.compile("[0-9a-f]{32}")


def read_index(folder: Folder, run: str = "") -> Index:
    """Return the index of all parts, or of those of one run."""
    index = Index()
    for name in folder.names(SUFFIX):
        if name.startswith(run):
            for record in _records(folder, name):
                _add(index, record)
    return index


def read_records(folder: Folder) -> Iterator[Record]:
    """Yield the record of each row once: the first result, or an error of the last run where there
    is none. Raises JobError for a folder without results, unless its job has no rows."""
    names = folder.names(SUFFIX)
    index = Index()
    for name in names:
        for record in _records(folder, name):
            if _add(index, record) and "error" not in record:
                yield record
    if not index.n_done and not index.n_failed:
        _check_has_none(folder)
    if index.n_failed:
        yield from _last_errors(folder, names, index)


def _check_has_none(folder: Folder) -> None:
    """Raise JobError if a folder without records is that of a job with rows."""
    with contextlib.suppress(ValueError, TypeError, KeyError, RecursionError):
        if int(json.loads(folder.read(MANIFEST) or b"")[N_ROWS]) == 0:
            return
    raise JobError(
        f"{folder.path} has no results: nothing of its job is done yet, or it is not a job's "
        f"folder. Run the job, or give the folder that it writes to."
    )


def _last_errors(folder: Folder, names: list[str], index: Index) -> Iterator[Record]:
    told = Index()
    for name in reversed(names):  # later runs have later names
        for record in _records(folder, name):
            place = _place(record)
            if index.is_failed(place) and told.set_failed(place):
                yield record


def _add(index: Index, record: Record) -> bool:
    """Note a record; return whether it tells something new."""
    if "error" in record:
        return index.set_failed(_place(record))
    return index.set_done(_place(record), record["line_hash"])


def _place(record: Record) -> Place:
    return record["file"], record["line"]


def _records(folder: Folder, name: str) -> Iterator[Record]:
    for number, line in enumerate(folder.lines(name), 1):
        record: Any = None
        with contextlib.suppress(ValueError, RecursionError):
            record = json.loads(line)
        if _is_record(record):
            yield record
        elif line.endswith(b"\n"):
            raise JobError(
                f"{name}, line {number} is corrupt. Delete this line; the job then generates it "
                f"again."
            )


def _is_record(given: Any) -> bool:
    """Return whether this is a record; a line that was cut while it was written is none."""
    return (
        isinstance(given, dict)
        and type(given.get("file")) is type(given.get("line")) is int
        and isinstance(found := given.get("line_hash"), str)
        and _HASH.fullmatch(found) is not None
    )


class PartWriter:
    """Writes the records of one process; its files are its own."""

    def __init__(self, folder: Folder, name: str) -> None:
        """name: begins the files' names; no other process uses it."""
        self._folder = folder
        self._name = name
        self._n_files = 0
        self._kept: list[bytes] = []
        self._file: BinaryIO | None = None
        if folder.can_append:
            self._file = folder.open_to_append(name + SUFFIX)

    def append(self, record: Record) -> None:
        """Write a record, now or with those that follow."""
        text = json.dumps(record, ensure_ascii=False).translate(LINE_ENDS) + "\n"
        data = text.encode("utf-8", "backslashreplace")
        if self._file is not None:
            left = memoryview(data)
            with file_errors(self._file.name, "written"):
                while left:
                    left = left[self._file.write(left) :]
            return
        self._kept.append(data)
        if len(self._kept) >= _MOST_KEPT:
            self.flush()

    def close(self) -> None:
        """Write what is kept, and end the file."""
        try:
            self.flush()
        finally:
            if self._file is not None:
                self._file.close()

    def flush(self) -> None:
        """Write what is kept. Raises JobError if the file is no longer in the folder."""
        if self._file is not None:
            _check_in_place(self._file)
        if self._kept:
            data, self._kept = b"".join(self._kept), []
            self._folder.write(f"{self._name}-{self._n_files:06d}{SUFFIX}", data)
            self._n_files += 1


def _check_in_place(file: BinaryIO) -> None:
    """Raise JobError if a file was deleted, moved or replaced: its records would be lost."""
    with file_errors(file.name, "found"), contextlib.suppress(FileNotFoundError):
        if os.path.samestat(os.stat(file.name), os.fstat(file.fileno())):
            return
    raise JobError(
        f"{file.name} was deleted, moved or replaced while the job wrote it. Put it back if you "
        f"can; rows without a record in the folder are generated again."
    )


def as_json(value: Any) -> bytes:
    """Return an object as indented JSON."""
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()
