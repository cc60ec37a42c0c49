"""The check of an input before a job: how many rows, which id repeats, what has changed."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pyarrow", reason="needs the extra localgen[ray]")

from localgen.errors import JobError, RepeatedIdError
from localgen.jobs.ray import input_check
from localgen.jobs.ray.index import Index
from localgen.jobs.ray.input_check import check_file
from localgen.jobs.ray.source import lines_of


def write(folder: Path, *rows: Any) -> str:
    path = folder / "in.jsonl"
    lines = (row if isinstance(row, str) else json.dumps({"prompt": "x", **row}) for row in rows)
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def facts(file: str) -> tuple[int, tuple[Any, int, int] | None]:
    """The number of rows, and the id and the lines of the error, which is of an id."""
    n_rows, error = check_file(0, file, Index())
    if error is None:
        return n_rows, None
    assert isinstance(error, RepeatedIdError)
    return n_rows, (error.id, *error.lines)


def test_ids_that_differ_are_counted(tmp_path: Path) -> None:
    file = write(tmp_path, {"id": "a"}, {"id": 7}, {"id": "7"}, {}, "", {"id": "b"})
    assert facts(file) == (5, None)


def test_the_first_two_lines_with_the_same_id_are_named(tmp_path: Path) -> None:
    file = write(tmp_path, {"id": "a"}, {"id": "b"}, {}, {"id": "b"}, {"id": "a"}, {"id": "b"})
    assert facts(file) == (6, ("b", 2, 4))


def test_a_line_without_an_id_uses_its_number(tmp_path: Path) -> None:
    assert facts(write(tmp_path, {}, {}, {"id": 2}))[1] == (2, 2, 3)


def test_an_id_is_found_however_it_is_spelled(tmp_path: Path) -> None:
    file = write(tmp_path, {"id": "é"}, r'{"\u0069d": "\u00e9", "prompt": "x"}')
    assert facts(file)[1] == ("é", 1, 2)


def test_lines_that_cannot_be_read_have_no_id(tmp_path: Path) -> None:
    file = write(tmp_path, "no JSON", {"id": 1}, {"id": [1]}, {"id": [1]}, '{"id": 1')
    assert facts(file) == (5, None)


def test_equal_hashes_are_no_repeat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(input_check, "_hash", lambda row_id: 7)
    assert facts(write(tmp_path, {"id": "a"}, {"id": "b"}))[1] is None
    assert facts(write(tmp_path, {"id": "a"}, {}, {"id": "a"}))[1] == ("a", 1, 3)


def done(file: str) -> Index:
    index = Index()
    for line in lines_of(file):
        index.set_done((0, line.number), line.hash)
    index.set_done((1, 1), "a" * 32)  # of another file
    return index


def test_a_file_whose_done_lines_are_the_same_may_grow(tmp_path: Path) -> None:
    index = done(write(tmp_path, {"id": 1}, {"id": 2}))
    assert check_file(0, write(tmp_path, {"id": 1}, {"id": 2}, {"id": 3}), index) == (3, None)


def test_a_line_that_changed_since_it_was_done_is_named(tmp_path: Path) -> None:
    index = done(write(tmp_path, {"id": 1}, {"id": 2}))
    error = check_file(0, write(tmp_path, {"id": 1}, {"id": 3}), index).error
    assert isinstance(error, JobError)
    assert "line 2 of" in str(error)
    assert "has changed" in str(error)


def test_lines_that_were_removed_since_they_were_done_are_counted(tmp_path: Path) -> None:
    index = done(write(tmp_path, {"id": 1}, {"id": 2}, {"id": 3}))
    error = check_file(0, write(tmp_path, {"id": 1}), index).error
    assert isinstance(error, JobError)
    assert str(error).startswith("2 lines of")


def test_the_error_names_file_id_and_lines() -> None:
    error = pickle.loads(pickle.dumps(RepeatedIdError("in.jsonl", "b", (2, 4))))
    assert issubclass(RepeatedIdError, JobError)
    assert (error.file, error.id, error.lines) == ("in.jsonl", "b", (2, 4))
    assert str(error).startswith("the id 'b' of line 4 of in.jsonl is already used by line 2")
