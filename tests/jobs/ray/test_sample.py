"""The rows that stand for all of an input."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from localgen.errors import JobError
from localgen.jobs.ray import sample
from localgen.jobs.ray.sample import lines_of_input, take_sample
from localgen.jobs.rows import Line


def lines(n: int) -> Iterator[Line]:
    return (Line(i, b"%d" % i) for i in range(1, n + 1))


def test_a_sample_is_the_same_each_time_and_counts_all() -> None:
    first, again = take_sample(lines(5000), 50), take_sample(lines(5000), 50)
    assert first == again
    assert first.n_rows == 5000
    assert len({line.number for line in first.lines}) == 50
    assert first.hash == again.hash != take_sample(lines(5001), 50).hash


def test_a_sample_comes_from_all_of_the_input() -> None:
    numbers = [line.number for line in take_sample(lines(10_000), 200).lines]
    assert min(numbers) < 1000
    assert max(numbers) > 9000
    assert 4000 < sum(numbers) / 200 < 6000
    assert numbers != sorted(numbers)


def test_a_small_input_is_its_own_sample() -> None:
    found = take_sample(lines(3), 50)
    assert sorted(line.number for line in found.lines) == [1, 2, 3]
    assert take_sample(lines(0), 50).n_rows == 0


def test_json_lines_are_read_without_pyarrow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sample, "find_spec", lambda name: None)
    path = tmp_path / "in.jsonl"
    path.write_text('{"prompt": "a"}\n\n{"prompt": "b"}\n')
    assert [line.number for line in lines_of_input(str(path))] == [1, 3]
    for name in ("in.parquet", "s3://bucket/in.jsonl", str(tmp_path)):
        with pytest.raises(JobError, match="needs pyarrow, which is not installed"):
            list(lines_of_input(name))
