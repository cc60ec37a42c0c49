"""Parquet and CSV: what a cell means, and what has no meaning as a line."""

from __future__ import annotations

import datetime
import decimal
import json
from pathlib import Path
from typing import Any

import pytest

pyarrow: Any = pytest.importorskip("pyarrow", reason="needs the extra localgen[ray]")

from pyarrow import parquet  # noqa: E402

from localgen.errors import JobError  # noqa: E402
from localgen.jobs.ray.source import lines_of  # noqa: E402


def of_csv(folder: Path, text: str | bytes) -> list[Any]:
    path = folder / "in.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return [json.loads(line.data) for line in lines_of(str(path))]


def of_column(folder: Path, name: str, values: Any) -> list[Any]:
    parquet.write_table(pyarrow.table({name: values}), folder / "in.parquet")
    return [json.loads(line.data)[name] for line in lines_of(str(folder / "in.parquet"))]


def test_what_a_cell_means_depends_on_no_other_cell(tmp_path: Path) -> None:
    """An inferred type of the whole column made 7 of "007" where all were digits."""
    many = "".join(f"{n},{n}\n" for n in range(100_000, 400_000))
    rows = of_csv(tmp_path, f"id,prompt\n007,1984\n{2**53 + 1},null\n{many}end,\u00e9nd\n")
    assert rows[0] == {"id": "007", "prompt": "1984"}
    assert rows[1] == {"id": 2**53 + 1, "prompt": "null"}
    assert rows[2] == {"id": 100_000, "prompt": "100000"}
    assert rows[-1] == {"id": "end", "prompt": "\u00e9nd"}


def test_cells_of_other_columns_are_json_or_text_and_empty_ones_are_left_out(
    tmp_path: Path,
) -> None:
    messages = [{"role": "user", "content": 'Say "hi", now'}]
    quoted = json.dumps(messages).replace('"', '""')
    text = f'messages,top_k,stop_strings,regex\n"{quoted}",5,###,[0-9]+\n"{quoted}",,,""\n'
    first, second = of_csv(tmp_path, text)
    assert first == {"messages": messages, "top_k": 5, "stop_strings": "###", "regex": "[0-9]+"}
    assert second == {"messages": messages, "regex": ""}


@pytest.mark.parametrize("text", [
    "id,prompt\n1,a\n2,b,c\n",  # too many cells
    "id,prompt\n1\n",
    b"id,prompt\n1,\xff\xfe\n",
    "",
])  # fmt: skip
def test_a_broken_csv_file_is_refused_by_name(tmp_path: Path, text: str | bytes) -> None:
    with pytest.raises(JobError, match=r"in.csv cannot be read"):
        of_csv(tmp_path, text)


def test_columns_with_the_same_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(JobError, match=r"in.csv: two columns are named 'prompt'"):
        of_csv(tmp_path, "prompt,prompt\na,b\n")


def test_values_that_json_lacks_become_those_that_it_has(tmp_path: Path) -> None:
    ids = [2**62, None, -1]
    assert of_column(tmp_path, "id", pyarrow.array([2**63 - 1])) == [2**63 - 1]
    assert of_column(tmp_path, "id", pyarrow.array([2**64 - 1], pyarrow.uint64())) == [2**64 - 1]
    numbers = [decimal.Decimal("0.5"), decimal.Decimal("3.0")]
    assert of_column(tmp_path, "top_k", pyarrow.array(numbers)) == [0.5, 3]
    times = [datetime.datetime(2024, 1, 2)]
    assert of_column(tmp_path, "id", pyarrow.array(times)) == ["2024-01-02 00:00:00"]
    words = pyarrow.array(["a", "b", "a"]).dictionary_encode()
    assert of_column(tmp_path, "prompt", words) == ["a", "b", "a"]
    parquet.write_table(pyarrow.table({"id": ids}), tmp_path / "n.parquet")
    assert [line.data for line in lines_of(str(tmp_path / "n.parquet"))][1] == b"{}"


def test_binary_values_are_refused_and_not_written_as_pythons_text(tmp_path: Path) -> None:
    with pytest.raises(JobError, match=r"in.parquet: a value is binary"):
        of_column(tmp_path, "prompt", pyarrow.array([b"Once"]))


def test_a_file_that_is_no_parquet_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "in.parquet").write_bytes(b"PAR1 and more")
    with pytest.raises(JobError, match=r"in.parquet cannot be read"):
        list(lines_of(str(tmp_path / "in.parquet")))


def test_all_row_groups_are_read_in_order(tmp_path: Path) -> None:
    table = pyarrow.table({"id": range(5000), "prompt": ["x"] * 5000})
    parquet.write_table(table, tmp_path / "in.parquet", row_group_size=1500)
    lines = list(lines_of(str(tmp_path / "in.parquet")))
    assert [line.number for line in lines] == list(range(1, 5001))
    assert [json.loads(line.data)["id"] for line in lines] == list(range(5000))
