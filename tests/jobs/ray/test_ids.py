"""A look through the input: how many rows, and which id repeats."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pyarrow", reason="needs the extra localgen[ray]")

from localgen.errors import JobError, RepeatedIdError
from localgen.jobs.ray import ids
from localgen.jobs.ray.ids import look_through


def write(folder: Path, *rows: Any) -> str:
    path = folder / "in.jsonl"
    lines = (row if isinstance(row, str) else json.dumps({"prompt": "x", **row}) for row in rows)
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def test_ids_that_differ_are_counted(tmp_path: Path) -> None:
    file = write(tmp_path, {"id": "a"}, {"id": 7}, {"id": "7"}, {}, "", {"id": "b"})
    assert look_through(file) == (5, None)


def test_the_first_two_lines_with_the_same_id_are_named(tmp_path: Path) -> None:
    file = write(tmp_path, {"id": "a"}, {"id": "b"}, {}, {"id": "b"}, {"id": "a"}, {"id": "b"})
    assert look_through(file) == (6, ("b", 2, 4))


def test_a_line_without_an_id_uses_its_number(tmp_path: Path) -> None:
    assert look_through(write(tmp_path, {}, {}, {"id": 2})).repeat == (2, 2, 3)


def test_an_id_is_found_however_it_is_spelled(tmp_path: Path) -> None:
    file = write(tmp_path, {"id": "é"}, r'{"\u0069d": "\u00e9", "prompt": "x"}')
    assert look_through(file).repeat == ("é", 1, 2)


def test_lines_that_cannot_be_read_have_no_id(tmp_path: Path) -> None:
    file = write(tmp_path, "no JSON", {"id": 1}, {"id": [1]}, {"id": [1]}, '{"id": 1')
    assert look_through(file) == (5, None)


def test_equal_hashes_are_no_repeat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ids, "_hash", lambda row_id: 7)
    assert look_through(write(tmp_path, {"id": "a"}, {"id": "b"})).repeat is None
    assert look_through(write(tmp_path, {"id": "a"}, {}, {"id": "a"})).repeat == ("a", 1, 3)


def test_the_error_names_file_id_and_lines() -> None:
    error = pickle.loads(pickle.dumps(RepeatedIdError("in.jsonl", "b", (2, 4))))
    assert issubclass(RepeatedIdError, JobError)
    assert (error.file, error.id, error.lines) == ("in.jsonl", "b", (2, 4))
    assert str(error).startswith("the id 'b' of line 4 of in.jsonl is already used by line 2")
