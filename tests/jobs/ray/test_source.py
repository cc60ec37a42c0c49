"""The input of a job on Ray: JSON Lines, Parquet and CSV give the same rows."""

from __future__ import annotations

import bz2
import gzip
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

pyarrow: Any = pytest.importorskip("pyarrow", reason="needs the extra localgen[ray]")

from pyarrow import csv, parquet  # noqa: E402

from localgen.errors import JobError  # noqa: E402
from localgen.jobs.ray.index import Index  # noqa: E402
from localgen.jobs.ray.source import (  # noqa: E402
    check_folders,
    find_files,
    lines_of,
    names_in,
    pending_lines,
)

ROWS = [{"id": 1, "prompt": "One"}, {"id": 2, "prompt": 'Two, "three"\n'}]


def write(folder: Path, kind: str) -> str:
    path = folder / f"in.{kind}"
    table = pyarrow.Table.from_pylist(ROWS)
    if kind == "jsonl":
        path.write_text("\n".join(map(json.dumps, ROWS)) + "\n\n", encoding="utf-8")
    elif kind == "parquet":
        parquet.write_table(table, path)
    else:
        csv.write_csv(table, path)
    return str(path)


@pytest.mark.parametrize("kind", ["jsonl", "parquet", "csv"])
def test_each_format_gives_the_same_rows(tmp_path: Path, kind: str) -> None:
    lines = list(lines_of(write(tmp_path, kind)))
    assert [line.number for line in lines] == [1, 2]
    assert [json.loads(line.data) for line in lines] == ROWS


def test_null_is_left_out(tmp_path: Path) -> None:
    table = pyarrow.Table.from_pylist([{"prompt": "x", "top_k": None}, {"prompt": "y", "top_k": 3}])
    parquet.write_table(table, tmp_path / "in.parquet")
    first, second = lines_of(str(tmp_path / "in.parquet"))
    assert json.loads(first.data) == {"prompt": "x"}
    assert json.loads(second.data) == {"prompt": "y", "top_k": 3}


def test_lines_that_are_done_are_left_out(tmp_path: Path) -> None:
    file = write(tmp_path, "jsonl")
    first, _ = lines_of(file)
    done = Index()
    done.set_done((0, 1), first.hash)
    (batch,) = pending_lines(0, file, done)
    assert batch["line"] == [2]


def test_rows_that_begin_alike_come_together_and_none_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    rows: list[dict[str, Any]] = []
    for i in range(6):
        system = {"role": "system", "content": f"Rules {i % 2}"}
        rows.append({"messages": [system, {"role": "user", "content": str(i)}]})
        rows.append({"prompt": f"Text {i % 3}, number {i}"})
        rows.append({"prompt_token_ids": [i % 2, 7, i]})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + "no JSON\n")
    (batch,) = pending_lines(0, str(path), Index())
    assert sorted(batch["line"]) == list(range(1, 20))
    given = [rows[n - 1] for n in batch["line"] if n < 19]
    systems = [row["messages"][0]["content"] for row in given if "messages" in row]
    assert systems == sorted(systems)
    texts = [row["prompt"][:6] for row in given if "prompt" in row]
    assert texts == sorted(texts)
    firsts = [row["prompt_token_ids"][0] for row in given if "prompt_token_ids" in row]
    assert firsts == sorted(firsts)


def test_a_folder_is_all_of_its_files_in_order(tmp_path: Path) -> None:
    for name in ("b.jsonl", "a.jsonl"):
        (tmp_path / name).write_text("{}\n")
    assert [Path(file).name for file in find_files(str(tmp_path))] == ["a.jsonl", "b.jsonl"]


def test_an_input_that_is_missing_empty_or_of_an_unknown_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="there is no input at"):
        find_files(str(tmp_path / "none.jsonl"))
    with pytest.raises(JobError, match="is empty"):
        find_files(str(tmp_path))
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(JobError, match="unknown format"):
        find_files(str(tmp_path / "a.txt"))


@pytest.mark.parametrize("end", ["gz", "bz2"])
@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_compressed_files_give_the_same_rows(tmp_path: Path, kind: str, end: str) -> None:
    plain = Path(write(tmp_path, kind))
    packed = tmp_path / f"{plain.name}.{end}"
    data = plain.read_bytes()
    packed.write_bytes(gzip.compress(data) if end == "gz" else bz2.compress(data))
    assert find_files(str(packed)) == [str(packed)]
    assert list(lines_of(str(packed))) == list(lines_of(str(plain)))
    packed.write_bytes(packed.read_bytes()[:-9])
    with pytest.raises(JobError, match=rf"{plain.name}.{end} cannot be read"):
        list(lines_of(str(packed)))


def test_marks_of_other_programs_are_no_input(tmp_path: Path) -> None:
    (tmp_path / "_temporary").mkdir()
    for name in ("a.jsonl", "_SUCCESS", ".a.jsonl.crc", "_temporary/b.jsonl"):
        (tmp_path / name).write_text("{}\n")
    assert [Path(file).name for file in find_files(str(tmp_path))] == ["a.jsonl"]


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_a_link_to_a_folder_above_repeats_no_file(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.jsonl").write_text('{"prompt": "a"}\n')
    (folder / "self").symlink_to(folder)
    (folder / "again.jsonl").symlink_to(folder / "a.jsonl")  # whoever wants it twice gets it twice
    names = [Path(file).relative_to(folder).as_posix() for file in find_files(str(folder))]
    assert names == ["a.jsonl", "again.jsonl"]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_a_name_that_is_no_unicode_is_an_error_that_names_the_input(tmp_path: Path) -> None:
    with open(os.fsencode(tmp_path) + b"/\xff.jsonl", "w"):
        pass
    with pytest.raises(JobError, match=f"{tmp_path} cannot be read"):
        find_files(str(tmp_path))


def test_files_of_the_same_name_are_told_apart(tmp_path: Path) -> None:
    """Their rows got the same seeds: of two rows with the same id, the same draws."""
    for name in ("x", "y"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "part.jsonl").write_text("{}\n")
    files = find_files(f"{tmp_path}/")
    assert names_in(f"{tmp_path}/", files) == ["x/part.jsonl", "y/part.jsonl"]
    assert names_in(files[0], files[:1]) == ["part.jsonl"]


def test_a_pattern_and_stdin_are_refused_with_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="Patterns are not expanded: give the folder"):
        find_files(f"{tmp_path}/*.jsonl")
    with pytest.raises(JobError, match="Give a file or folder"):
        find_files("-")


@pytest.mark.parametrize("target", ["in", "in/", "in/out", "in/../in/out"])
def test_results_are_not_written_where_they_would_be_read_as_input(
    tmp_path: Path, target: str
) -> None:
    (tmp_path / "in").mkdir()
    with pytest.raises(JobError, match="would be read as input"):
        check_folders(f"{tmp_path}/in", f"{tmp_path}/{target}")
    check_folders(f"{tmp_path}/in", f"{tmp_path}/in2")
    check_folders(f"{tmp_path}/in/in.jsonl", f"{tmp_path}/in")
