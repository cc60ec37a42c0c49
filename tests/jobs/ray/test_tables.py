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

from localgen.config import GenerationConfig  # noqa: E402
from localgen.errors import JobError  # noqa: E402
from localgen.jobs.ray.source import lines_of  # noqa: E402
from localgen.jobs.rows import Row, read_rows  # noqa: E402


def of_csv(folder: Path, text: str | bytes) -> list[Any]:
    path = folder / "in.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return [json.loads(line.data) for line in lines_of(str(path))]


def of_column(folder: Path, name: str, values: Any) -> list[Any]:
    others = {} if name == "prompt" else {"prompt": ["x"] * len(values)}
    parquet.write_table(pyarrow.table({**others, name: values}), folder / "in.parquet")
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
    table = pyarrow.table({"prompt": pyarrow.nulls(3, pyarrow.string()), "id": ids})
    parquet.write_table(table, tmp_path / "n.parquet")
    assert [line.data for line in lines_of(str(tmp_path / "n.parquet"))][1] == b"{}"


def test_binary_values_are_refused_and_not_written_as_pythons_text(tmp_path: Path) -> None:
    with pytest.raises(JobError, match=r"in.parquet: a value is binary"):
        of_column(tmp_path, "prompt", pyarrow.array([b"Once"]))


def test_columns_that_are_no_fields_come_together_as_they_are(tmp_path: Path) -> None:
    """Each row failed, with an unknown option."""
    (row,) = of_csv(tmp_path, 'prompt,category,text,n\na,007,"[1]",\n')
    assert row == {"prompt": "a", "columns": {"category": "007", "text": "[1]"}}
    values = [{"score": float("nan"), "at": [1.5, float("inf")]}]
    assert of_column(tmp_path, "columns", [0]) == [{"columns": 0}]
    table = pyarrow.table({"prompt": ["a"], "score": values})
    parquet.write_table(table, tmp_path / "k.parquet")
    (line,) = lines_of(str(tmp_path / "k.parquet"))
    (kept,) = read_rows([line], GenerationConfig(), 0, {})
    assert isinstance(kept, Row)
    assert kept.columns == {"score": {"score": None, "at": [1.5, None]}}


@pytest.mark.parametrize(("columns", "message"), [
    ("id,text", "it has no column prompt, messages or prompt_token_ids; its columns are 'id', "),
    ("id,Prompt", r"did you mean 'prompt'\?. Rename the column of the prompts"),
    ("prompt,max_tokens", "the column 'max_tokens' looks like the option 'max_new_tokens'"),
    ("prompt,temprature", "the column 'temprature' looks like the option 'temperature'"),
    ("prompt,num_return_sequences", "'num_return_sequences' looks like the option"),
    ("prompt,sampling_params", "'sampling_params' is only read by localgen.jobs.ray.generate"),
])  # fmt: skip
@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_table_whose_rows_would_all_fail_is_refused_once(
    tmp_path: Path, columns: str, message: str, kind: str
) -> None:
    path = tmp_path / f"in.{kind}"
    if kind == "csv":
        path.write_text(f"{columns}\na,b\n")
    else:
        parquet.write_table(pyarrow.table({name: ["a"] for name in columns.split(",")}), path)
    with pytest.raises(JobError, match=f"in.{kind}: .*{message}"):
        list(lines_of(str(path)))


@pytest.mark.parametrize("rows", ['1,"abc\n2,d\n', 'a,b\n2,"d', 'a,"b""\n', '1,5" pipe\n'])
def test_a_quote_that_is_not_closed_is_refused(tmp_path: Path, rows: str) -> None:
    """Arrow would take the rest of the file for one cell."""
    path = tmp_path / "in.csv"
    path.write_text(f"id,prompt\n{rows}")
    with pytest.raises(JobError, match=r"in.csv: it has an odd number of double quotes"):
        list(lines_of(str(path)))


def test_a_quote_in_a_quoted_cell_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_text('id,prompt\n1,"5"" pipe\nand more"\n')
    (line,) = lines_of(str(path))
    assert json.loads(line.data)["prompt"] == '5" pipe\nand more'


def test_a_table_without_columns_is_refused(tmp_path: Path) -> None:
    parquet.write_table(pyarrow.table({}), tmp_path / "in.parquet")
    with pytest.raises(JobError, match="it has no column prompt, messages or prompt_token_ids"):
        list(lines_of(str(tmp_path / "in.parquet")))


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
