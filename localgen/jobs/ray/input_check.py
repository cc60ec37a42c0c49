"""Reads an input file once before a job: whether ids repeat, and lines that are done are the same.

It runs in Ray's tasks, one for each file.
"""

from __future__ import annotations

import hashlib
import json
from array import array
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from localgen.errors import JobError, RepeatedIdError
from localgen.jobs.ray.failures import of_node
from localgen.jobs.ray.index import Index, short_hash
from localgen.jobs.ray.source import lines_of
from localgen.jobs.rows import Line, RowId, id_of


class FileFacts(NamedTuple):
    """How many rows a file holds, and what is wrong with it."""

    n_rows: int
    error: Exception | None


def check_file(number: int, file: str, index: Index) -> FileFacts:
    """Return the facts of a file; it takes some 24 bytes of memory a row.

    number: of the file. index: what is known of the rows.
    """
    hashes = array("Q")
    n_rows = 0
    try:
        for line in _unchanged(number, file, index):
            n_rows += 1
            # Parsing takes most of the time. Whether a line without an id can be read does not
            # matter.
            has_id = b'"id"' in line.data or b"\\u" in line.data
            row_id = id_of(line) if has_id else line.number
            if row_id is not None:
                hashes.append(_hash(row_id))
    except JobError as error:
        return FileFacts(n_rows, of_node(error))
    suspects = _repeats(np.frombuffer(hashes, np.uint64))
    return FileFacts(n_rows, _first_repeat(file, suspects) if suspects else None)


def _unchanged(number: int, file: str, index: Index) -> Iterator[Line]:
    """Yield the lines of a file. Raises JobError if one that is done has changed or is missing."""
    n_missing = index.n_done_of(number)
    for line in lines_of(file):
        known = index.hash_of((number, line.number))
        if known is not None:
            n_missing -= 1
            if known != short_hash(line.hash):
                raise _other_input(f"line {line.number} of {file} has changed since its result was")
        yield line
    if n_missing:
        raise _other_input(f"{n_missing} lines of {file} were removed since their results were")


def _other_input(what: str) -> JobError:
    return JobError(f"{what} written. Restore the file, or choose another output folder.")


def _first_repeat(file: str, suspects: set[int]) -> RepeatedIdError | None:
    """Return the error of the first id that repeats, of those whose hashes do."""
    first: dict[RowId, int] = {}
    for line in lines_of(file):
        row_id = id_of(line)
        if row_id is None or _hash(row_id) not in suspects:
            continue
        other = first.setdefault(row_id, line.number)
        if other != line.number:
            return RepeatedIdError(file, row_id, (other, line.number))
    return None


def _repeats(hashes: npt.NDArray[np.uint64]) -> set[int]:
    ordered = np.sort(hashes)
    return set(ordered[1:][ordered[1:] == ordered[:-1]].tolist())


def _hash(row_id: RowId) -> int:
    key = json.dumps(row_id).encode()  # tells 1 from "1"
    return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "little")
