"""Whatever a line of a job holds, and however often its process dies, each line has one result."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localgen import BackendError, JobError, LocalModel
from localgen.jobs import results
from localgen.jobs.results import Record
from localgen.jobs.rows import _NAMES
from tests.fakes import fake_model
from tests.jobs.test_job import SMALL_HEADER, Files, _repeatable

# Short answers, so that a million tokens are refused or cut, not generated.
N_CTX = 48

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3)
    ),
    max_leaves=8,
)
option_values = st.sampled_from([-1, 0, 1, 2, 0.5, 1.5, "e", ["e"], [1, 2], True, None, "", []])
rows = st.fixed_dictionaries(
    {},
    optional={
        "id": st.integers(0, 3) | st.text(max_size=2),
        "prompt": st.text(max_size=12),
        "prompt_token_ids": st.lists(st.integers(0, 130), max_size=9),
        "messages": st.just([{"role": "user", "content": "Hi"}]),
        **{
            name: option_values
            for name in _NAMES
            if name not in ("id", "prompt", "messages", "prompt_token_ids")
        },
        "columns": json_values,
    },
)


good_rows = st.fixed_dictionaries(
    {"prompt": st.text(min_size=1, max_size=12)},
    optional={
        "id": st.integers(0, 3) | st.text(max_size=2),
        "max_new_tokens": st.integers(1, 5),
        "temperature": st.floats(0.1, 3),
        "stop_strings": st.lists(st.text("abcde", min_size=1, max_size=2), min_size=1, max_size=2),
    },
)


@st.composite
def broken(draw: Callable[..., Any]) -> bytes:
    """A line of JSON that was cut, or in which a byte was changed."""
    line = bytearray(as_line(draw(rows)))
    at = draw(st.integers(0, len(line) - 1))
    if draw(st.booleans()):
        return bytes(line[:at])
    line[at] = draw(st.integers(0, 255))
    return bytes(line)


def as_line(value: object) -> bytes:
    return json.dumps(value).encode()


lines = st.lists(
    st.one_of(
        json_values.map(as_line),
        rows.map(as_line),
        good_rows.map(as_line),
        good_rows.map(as_line),
        st.binary(max_size=12),
        broken(),
    ).map(lambda line: line.replace(b"\n", b" ")),
    min_size=1,
    max_size=9,
)


@pytest.fixture(autouse=True)
def no_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda fd: None)


@pytest.fixture(scope="module")
def model() -> Iterator[LocalModel]:
    with fake_model(n_ctx=N_CTX) as model:
        yield model


@contextmanager
def job_files() -> Iterator[Files]:
    with tempfile.TemporaryDirectory() as folder:
        yield Files(Path(folder))


def blank(line: bytes) -> bool:
    return not line.removeprefix(b"\xef\xbb\xbf").strip()


@pytest.mark.slow
@given(lines=lines)
def test_each_line_has_one_record(lines: list[bytes], model: LocalModel) -> None:
    """A text or an error; the next run repeats the errors alone, and changes nothing."""
    expected = {
        n for n, line in enumerate(lines, 1) if line.strip() and not (n == 1 and blank(line))
    }
    with job_files() as files, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about options that change nothing
        files.source.write_bytes(b"\n".join(lines))
        reports = files.run(model, max_new_tokens=3)
        records = files.records()
        assert Counter(record["line"] for record in records) == Counter(expected)
        assert Counter(record["line"] for record in reports) == Counter(expected)
        assert all(("text" in record) != ("error" in record) for record in records)
        before = files.target.read_bytes()
        again = files.run(model, max_new_tokens=3)
        assert {r["line"] for r in again} == {r["line"] for r in records if "error" in r}
        assert files.target.read_bytes() == before


# --- any order of kills and resumes ---

N_ROWS = 6
HOT: dict[str, Any] = {"temperature": 3.0, "max_new_tokens": 4}
INPUT = [*({"id": f"r{i}", "prompt": "é" * i + "x"} for i in range(N_ROWS)), {"prompt": 1}, "{"]


class Ends:
    """Ways for a run to end early, each after ``n`` bytes or records."""

    def __init__(self, files: Files, model: LocalModel, monkeypatch: pytest.MonkeyPatch) -> None:
        self.files, self.model, self.patch = files, model, monkeypatch

    def run(self, **options: Any) -> None:
        self.files.run(self.model, header=SMALL_HEADER, **HOT, **options)

    def killed(self, n: int) -> None:
        """A kill at any byte: what the run wrote after it was never written."""
        size = self.files.target.stat().st_size if self.files.target.exists() else 0
        self.run()
        os.truncate(self.files.target, min(self.files.target.stat().st_size, size + n))

    def full_disk(self, n: int) -> None:
        """The disk has room for ``n`` more bytes."""
        left = n

        class Full:
            def __init__(self, file: Any) -> None:
                self._file = file

            def __getattr__(self, name: str) -> Any:
                return getattr(self._file, name)

            def write(self, data: Any) -> int:
                nonlocal left
                if not left:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                written: int = self._file.write(data[:left])
                left -= written
                return written

        open_file = results._open

        @contextmanager
        def full(path: str) -> Iterator[Any]:
            with open_file(path) as file:
                yield Full(file)

        with self.patch.context() as patch, contextlib.suppress(JobError):
            patch.setattr(results, "_open", full)
            self.run()

    def interrupted(self, n: int) -> None:
        """Ctrl-C when some records are written."""
        self._ended(n, lambda: signal.raise_signal(signal.SIGINT), KeyboardInterrupt)

    def failed(self, n: int) -> None:
        """An error that would hit every row."""

        def fail() -> None:
            raise BackendError("the GPU is gone")

        self._ended(n, fail, BackendError)

    def _ended(self, n: int, end: Callable[[], None], error: type[BaseException]) -> None:
        write = results.Results.write
        left = n % (N_ROWS + 3)

        def counted(written: results.Results, record: Record) -> None:
            nonlocal left
            if not left:
                end()
            left -= 1
            write(written, record)

        with self.patch.context() as patch, contextlib.suppress(error):
            patch.setattr(results.Results, "write", counted)
            self.run()


WAYS = ("killed", "full_disk", "interrupted", "failed")
ends = st.lists(st.tuples(st.sampled_from(WAYS), st.integers(0, 900)), max_size=6)


@pytest.fixture(scope="module")
def uninterrupted(model: LocalModel) -> dict[Any, Record]:
    with job_files() as files:
        files.write(*INPUT)
        files.run(model, header=SMALL_HEADER, **HOT)
        return by_line(files)


def by_line(files: Files) -> dict[Any, Record]:
    records = files.records()
    found = {record["line"]: _repeatable(record) for record in records}
    assert len(found) == len(records), "a line came twice"
    return found


@pytest.mark.slow
@settings(max_examples=60)
@given(ends=ends)
def test_any_order_of_ends_and_resumes(
    ends: list[tuple[str, int]], model: LocalModel, uninterrupted: dict[Any, Record]
) -> None:
    """The last run completes the file: the same records, each once, and none of them rewritten."""
    with job_files() as files, pytest.MonkeyPatch.context() as monkeypatch:
        files.write(*INPUT)
        way = Ends(files, model, monkeypatch)
        for name, n in ends:
            before = files.target.read_bytes() if files.target.exists() else b""
            getattr(way, name)(n)
            whole = before[: before.rfind(b"\n") + 1]
            assert files.target.read_bytes().startswith(whole), name
        way.run()
        assert by_line(files) == uninterrupted
