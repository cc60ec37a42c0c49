"""The results of a job on Ray: files of records in one folder, written by many processes.

A row may be in several records: of runs that failed, and of actors that died before Ray knew that
they had done it. One of them counts, the first that is no error.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from localgen.errors import JobError
from localgen.jobs.ray.folder import Folder
from localgen.jobs.results import LINE_ENDS, Record

SUFFIX = ".jsonl"
# Where a file cannot grow, records are written in files of so many.
_MOST_KEPT = 512
# (file of the input, line)
Place = tuple[int, int]


@dataclass(slots=True)
class Index:
    """Which rows have records. done: line hashes; failed: those with errors only."""

    done: dict[Place, str] = field(default_factory=dict)
    failed: set[Place] = field(default_factory=set)

    def add(self, record: Record) -> bool:
        """Note a record; return whether it is the one that counts so far."""
        place = record["file"], record["line"]
        if place in self.done:
            return False
        if "error" in record:
            self.failed.add(place)
            return False
        self.done[place] = record["line_hash"]
        self.failed.discard(place)
        return True


def read_index(folder: Folder, run: str = "") -> Index:
    """Return the index of all parts, or of those of one run."""
    index = Index()
    for name in folder.names(SUFFIX):
        if name.startswith(run):
            for record in _records(folder, name):
                index.add(record)
    return index


def read_records(folder: Folder) -> Iterator[Record]:
    """Yield the record of each row once: the result, or the last error where there is none."""
    index = Index()
    errors: dict[Place, Record] = {}
    for name in folder.names(SUFFIX):
        for record in _records(folder, name):
            if index.add(record):
                yield record
            elif "error" in record:
                errors[record["file"], record["line"]] = record
    yield from (record for place, record in errors.items() if place in index.failed)


def _records(folder: Folder, name: str) -> Iterator[Record]:
    for number, line in enumerate(folder.lines(name), 1):
        try:
            record = json.loads(line)
        except ValueError:
            if not line.endswith(b"\n"):
                return  # cut while it was written
            raise JobError(
                f"{name}, line {number} is corrupt. Delete this line; the job then generates it "
                f"again."
            ) from None
        yield record


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
            while left:
                left = left[self._file.write(left) :]
            return
        self._kept.append(data)
        if len(self._kept) >= _MOST_KEPT:
            self.flush()

    def close(self) -> None:
        """Write what is kept, and end the file."""
        self.flush()
        if self._file is not None:
            self._file.close()

    def flush(self) -> None:
        """Write what is kept."""
        if self._kept:
            data, self._kept = b"".join(self._kept), []
            self._folder.write(f"{self._name}-{self._n_files:06d}{SUFFIX}", data)
            self._n_files += 1


def as_json(value: Any) -> bytes:
    """Return an object as indented JSON."""
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()
