"""Parts of a job: which record of a row counts, whatever was written twice or cut."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pyarrow", reason="needs the extra localgen[ray]")

from localgen.errors import JobError
from localgen.jobs.ray.folder import MANIFEST, Folder
from localgen.jobs.ray.index import short_hash
from localgen.jobs.ray.parts import PartWriter, read_index, read_records


def hash_of(line: int) -> str:
    return f"{line:032x}"[::-1]


def record(line: int, *, error: bool = False, text: str = "x") -> dict[str, Any]:
    kind = {"error": {"type": "ValueError", "message": text}} if error else {"text": text}
    return {"id": line, "line": line, "file": 0, "line_hash": hash_of(line), **kind}


def write(folder: Folder, name: str, *records: dict[str, Any]) -> None:
    writer = PartWriter(folder, name)
    for each in records:
        writer.append(each)
    writer.close()


@pytest.fixture(params=["files", "objects"])
def folder(request: Any, tmp_path: Path) -> Folder:
    """A folder whose files can grow, and one of objects, which are written whole."""
    if request.param == "files":
        return Folder.at(str(tmp_path / "out"))
    pytest.importorskip("fsspec")
    return Folder.at(f"memory://{tmp_path.name}")


def test_each_row_is_read_once_and_a_result_counts_before_an_error(folder: Folder) -> None:
    write(folder, "part-0001-a", record(1), record(2, error=True), record(3, error=True))
    write(folder, "part-0001-b", record(1, text="again"), record(2), record(4))
    found = {each["line"]: each for each in read_records(folder)}
    assert len(list(read_records(folder))) == 4
    assert [found[n].get("text") for n in (1, 2, 3, 4)] == ["x", "x", None, "x"]


def test_of_a_row_that_only_failed_the_error_of_the_last_run_counts(folder: Folder) -> None:
    write(folder, "part-0001-a", record(1, error=True, text="old"), record(2, error=True))
    write(folder, "part-0002-a", record(1, error=True, text="new"), record(2))
    found = {each["line"]: each for each in read_records(folder)}
    assert found[1]["error"]["message"] == "new"
    assert found[2]["text"] == "x"


@pytest.mark.skipif(sys.platform == "win32", reason="an open file cannot be deleted there")
@pytest.mark.parametrize("is_replaced", [False, True])
def test_a_part_that_is_deleted_or_replaced_ends_its_job(tmp_path: Path, is_replaced: bool) -> None:
    """Its actor wrote on to a file that nobody could read, and the job said that all was done."""
    writer = PartWriter(Folder.at(str(tmp_path)), "part-0001-a")
    writer.append(record(1))
    writer.flush()
    part = tmp_path / "part-0001-a.jsonl"
    part.unlink()
    if is_replaced:
        part.write_bytes(b"")
    with pytest.raises(JobError, match=r"part-0001-a.jsonl was deleted, moved or replaced"):
        writer.close()


def test_the_index_tells_what_is_done_and_what_failed(folder: Folder) -> None:
    write(folder, "part-0001-a", record(1), record(2, error=True))
    index = read_index(folder)
    assert (index.n_done, index.n_failed) == (1, 1)
    assert index.hash_of((0, 1)) == short_hash(hash_of(1))
    assert index.is_failed((0, 2))


def test_the_index_of_a_run_knows_its_own_parts_only(folder: Folder) -> None:
    write(folder, "part-0001-a", record(1))
    write(folder, "part-0002-a", record(2))
    index = read_index(folder, "part-0002")
    assert (index.n_done, index.hash_of((0, 1))) == (1, None)


def test_a_line_that_was_cut_while_it_was_written_does_not_count(tmp_path: Path) -> None:
    folder = Folder.at(str(tmp_path))
    write(folder, "part-0001-a", record(1), record(2))
    path = tmp_path / "part-0001-a.jsonl"
    path.write_bytes(path.read_bytes()[:-5])
    index = read_index(folder)
    assert (index.n_done, index.hash_of((0, 2))) == (1, None)


def test_a_corrupt_line_is_named(tmp_path: Path) -> None:
    (tmp_path / "part-0001-a.jsonl").write_text("{}}\n")
    with pytest.raises(JobError, match=r"part-0001-a.jsonl, line 1 is corrupt"):
        read_index(Folder.at(str(tmp_path)))


@pytest.mark.parametrize("data", [
    "[]", '{"line": 1}', '{"file": 0, "line": "1", "text": ""}',
    f'{{"file": 0, "line": 1, "line_hash": {10**31}}}',
])  # fmt: skip
def test_a_line_that_is_no_record_is_named(tmp_path: Path, data: str) -> None:
    (tmp_path / "part-0001-a.jsonl").write_text(f"{data}\n")
    with pytest.raises(JobError, match=r"part-0001-a.jsonl, line 1 is corrupt"):
        read_index(Folder.at(str(tmp_path)))


def test_an_unknown_scheme_is_refused() -> None:
    with pytest.raises(JobError, match="nowhere://x cannot be opened"):
        Folder.at("nowhere://x")


def test_a_folder_without_results_is_refused_unless_its_job_has_no_rows(folder: Folder) -> None:
    write(folder, "part-0001-a")
    for manifest in (b'{"n_rows": 3}', b"{}", b"no JSON"):
        folder.write(MANIFEST, manifest)
        with pytest.raises(JobError, match=r"has no results: nothing of its job is done yet"):
            list(read_records(folder))
    folder.write(MANIFEST, b'{"n_rows": 0}')
    assert list(read_records(folder)) == []
