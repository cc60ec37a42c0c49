"""Folders of results: locks, errors and addresses."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pyarrow", reason="needs the extra localgen[ray]")

from localgen.errors import JobError
from localgen.jobs.ray import folder as folder_module
from localgen.jobs.ray.folder import Folder, file_errors, find_filesystem
from localgen.jobs.ray.parts import PartWriter
from localgen.jobs.ray.results import read_results


def _lock(location: str, answer: Any) -> None:
    try:
        with Folder.at(location).locked():
            answer.put("locked")
    except JobError as error:
        answer.put(str(error))


def locked_elsewhere(location: str) -> str:
    """What another process gets that locks a folder."""
    context = multiprocessing.get_context("spawn")
    answer: Any = context.Queue()
    process = context.Process(target=_lock, args=(location, answer))
    process.start()
    found: str = answer.get(timeout=100)
    process.join()
    return found


def test_a_folder_is_written_by_one_job_at_a_time(tmp_path: Path) -> None:
    location = str(tmp_path / "out")
    with Folder.at(location).locked():
        assert f"another job is writing to {location}" in locked_elsewhere(location)
    assert locked_elsewhere(location) == "locked"


def test_reading_results_makes_no_folder(tmp_path: Path) -> None:
    missing = tmp_path / "none"
    with pytest.raises(JobError, match="there is no folder"):
        list(read_results(missing))
    assert not missing.exists()


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("x")
    with pytest.raises(JobError, match=r"out cannot be used as a folder"):
        Folder.at(str(tmp_path / "out"))


def test_a_part_that_cannot_be_written_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = PartWriter(Folder.at(str(tmp_path)), "part-0001-a")

    class Full:
        name = "part-0001-a.jsonl"

        def write(self, _: bytes) -> int:
            raise OSError(28, "No space left on device")

    writer.close()
    monkeypatch.setattr(writer, "_file", Full())
    with pytest.raises(JobError, match=r"part-0001-a.jsonl cannot be written: No space left"):
        writer.append({"id": 1})


@pytest.mark.skipif(os.name == "nt", reason="paths of URIs are written otherwise there")
def test_a_file_uri_is_the_folder_itself(tmp_path: Path) -> None:
    Folder.at(f"file://{tmp_path}/out").write("a", b"x")
    assert (tmp_path / "out" / "a").read_bytes() == b"x"
    assert Folder.at(f"file://{tmp_path}/out").can_append


def test_errors_of_a_filesystem_name_the_file_and_the_reason() -> None:
    with (
        pytest.raises(JobError, match=r"^s3://b/x cannot be read: no credentials\.$"),
        file_errors("s3://b/x", "read"),
    ):
        raise OSError("no credentials.")


def test_an_address_that_no_package_opens_is_refused_with_the_reason() -> None:
    with pytest.raises(JobError, match=r"nowhere://x cannot be opened: .*nowhere.*\. Check the"):
        find_filesystem("nowhere://x")
    assert folder_module.find_filesystem("memory://x")[1]
