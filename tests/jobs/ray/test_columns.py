"""A dataset's columns become calls, and results columns: no Ray, no model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pyarrow: Any = pytest.importorskip("pyarrow", reason="needs the extra localgen[ray]")

from localgen.config import GenerationConfig  # noqa: E402
from localgen.jobs.ray.columns import (  # noqa: E402
    RESULTS,
    call_of,
    error_of,
    rows_of,
    with_results,
)
from localgen.jobs.rows import fields_of_rows  # noqa: E402

DEFAULTS = GenerationConfig(max_new_tokens=32)


def test_a_batch_of_arrays_becomes_rows_of_plain_values() -> None:
    messages = np.array([{"role": "user", "content": "Hi", "name": None}], dtype=object)
    batch = {"id": np.array([7]), "messages": [messages]}
    (row,) = rows_of(batch)
    assert row == {"id": 7, "messages": [{"role": "user", "content": "Hi"}]}
    assert type(row["id"]) is int


def test_a_table_becomes_rows_whose_numbers_stay_whole_beside_null() -> None:
    table = pyarrow.Table.from_pylist(
        [
            {"prompt": "x", "max_new_tokens": 3, "messages": None},
            {"prompt": "y", "messages": [{"role": "user", "content": "Hi"}]},
        ]
    )
    first, second = rows_of(table)
    assert first == {"prompt": "x", "max_new_tokens": 3, "messages": None}
    assert type(first["max_new_tokens"]) is int
    assert second["max_new_tokens"] is None
    assert second["messages"] == [{"role": "user", "content": "Hi"}]


def test_columns_that_no_row_reads_are_not_converted() -> None:
    """Python has no value for some of Arrow's types: one such column failed all rows."""
    odd = {
        "nanoseconds": pyarrow.array([2**62 + 1, None], pyarrow.time64("ns")),
        "time": pyarrow.array([1, None], pyarrow.timestamp("ns")),
        "binary": pyarrow.array([b"\xff", None]),
        "nested": pyarrow.array([[{"x": [{"y": 1}]}], None]),
        "nothing": pyarrow.array([None, None]),
    }
    table = pyarrow.table({"prompt": ["a", "b"], **odd})
    assert list(rows_of(table)) == [{"prompt": "a"}, {"prompt": "b"}]
    found: Any = with_results(table, [error_of(ValueError("x"))] * 2)
    assert found.select(list(odd)) == table.select(list(odd))


def test_a_value_that_python_lacks_fails_its_row_alone() -> None:
    ids = pyarrow.array([2**62 + 1, None], pyarrow.duration("ns"))
    first, second = rows_of(pyarrow.table({"prompt": ["a", "b"], "id": ids}))
    with pytest.raises(ValueError, match="id "):
        call_of(first, DEFAULTS, 0)
    assert call_of(second, DEFAULTS, 0).prompt == "b"


@pytest.mark.parametrize("row_id", [1.5, True, b"x", [1]])
def test_an_id_that_is_none_fails_its_row_sampled_or_not(row_id: object) -> None:
    with pytest.raises(ValueError, match="id must be a string or an integer"):
        call_of({"prompt": "x", "id": row_id}, DEFAULTS, 0)


def test_sampling_params_have_vllms_names() -> None:
    given = {
        "prompt": "x",
        "sampling_params": {"max_tokens": 5, "stop": ["."], "top_k": -1, "temperature": 0.5},
    }
    config = call_of(given, DEFAULTS, 0).config
    assert (config.max_new_tokens, config.stop_strings) == (5, (".",))
    assert (config.top_k, config.temperature, config.do_sample) == (0, 0.5, True)


def test_of_a_prompt_and_messages_the_messages_count() -> None:
    messages = [{"role": "user", "content": "Hi"}]
    row = call_of({"prompt": "Hi", "messages": messages}, DEFAULTS, 0)
    assert (row.kind, row.prompt) == ("messages", messages)


@pytest.mark.parametrize("value", [True, False])
def test_detokenize_has_no_effect(value: bool) -> None:
    given = {"prompt": "x", "sampling_params": {"max_tokens": 5, "detokenize": value}}
    assert call_of(given, DEFAULTS, 0) == call_of({"prompt": "x", "max_new_tokens": 5}, DEFAULTS, 0)


def test_a_temperature_of_0_is_greedy() -> None:
    config = call_of({"prompt": "x", "sampling_params": {"temperature": 0}}, DEFAULTS, 0).config
    assert config.do_sample is False


def test_columns_may_be_the_fields_of_a_jobs_line() -> None:
    row = call_of({"prompt": "x", "min_p": 0.1, "topic": "birds"}, DEFAULTS, 0)
    assert (row.config.min_p, row.config.max_new_tokens) == (0.1, 32)


def test_null_is_not_given() -> None:
    row = call_of({"prompt": "x", "messages": None, "min_p": None}, DEFAULTS, 0)
    assert (row.kind, row.config.min_p) == ("prompt", None)


def test_structured_outputs_constrain_the_text() -> None:
    given = {"prompt": "x", "sampling_params": {"structured_outputs": {"choice": ["a", "b"]}}}
    assert call_of(given, DEFAULTS, 0).config.choices == ("a", "b")


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"n": 2}, "n must be 1, got 2"),
        ({"max_tokenz": 2}, "sampling_params: unknown option 'max_tokenz'"),
        ({"prompt": "x"}, "sampling_params: unknown option 'prompt'$"),
        ({"top_p": 0.5, "min_tokens": 1, "min_new_tokens": 1}, "min_new_tokens is given twice"),
        ({"structured_outputs": {"json": "{}", "regex": "a"}}, "takes one of json"),
        ({"max_new_tokens": 3}, "is given twice"),
        ("fast", "must be a dict, got str"),
    ],
)
def test_what_cannot_be_honoured_is_an_error(params: object, message: str) -> None:
    given = {"prompt": "x", "max_new_tokens": 2, "sampling_params": params}
    with pytest.raises((ValueError, TypeError), match=message):
        call_of(given, DEFAULTS, 0)


def seed_of(given: dict[str, object], seed: int = 0) -> object:
    return call_of({"temperature": 0.7, **given}, DEFAULTS, seed).config.seed


def test_a_rows_draws_depend_on_its_id_alone() -> None:
    assert seed_of({"prompt": "x", "id": 1}) == seed_of({"prompt": "y", "id": 1})
    assert seed_of({"prompt": "x", "id": 1}) != seed_of({"prompt": "x", "id": 2})
    assert seed_of({"prompt": "x", "id": 1}, seed=1) != seed_of({"prompt": "x", "id": 1})


def test_without_an_id_a_rows_draws_depend_on_its_content_alone() -> None:
    assert seed_of({"prompt": "x"}) == seed_of({"prompt": "x", "topic": "birds"})
    assert seed_of({"prompt": "x"}) != seed_of({"prompt": "y"})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"messages": '[{"role": "user"}]'}, "messages must be a list of messages, got text; pars"),
        ({"prompt": "x", "sampling_params": "{}"}, "sampling_params must be a dict, got str; pars"),
    ],
)
def test_json_as_text_is_refused_with_what_to_do(given: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        call_of(given, DEFAULTS, 0)


def test_a_row_that_failed_has_empty_results_and_the_reason() -> None:
    batch = with_results({"prompt": ["x"]}, [error_of(ValueError("too long"))])
    assert batch["error"] == ["ValueError: too long"]
    assert batch["generated_text"] == [None]
    assert set(batch) == {"prompt", *RESULTS}


def test_no_column_of_results_is_read_so_that_they_can_be_the_input_of_another_call() -> None:
    assert not {*RESULTS} & {*fields_of_rows(), "sampling_params"}


def test_results_of_a_table_have_types_even_where_all_are_null() -> None:
    table = pyarrow.table({"prompt": ["x"], "error": ["an old column"]})
    found: Any = with_results(table, [error_of(ValueError("too long"))])
    assert found.column_names == ["prompt", *RESULTS]
    assert found["error"].to_pylist() == ["ValueError: too long"]
    assert found.schema.field("num_generated_tokens").type == pyarrow.int64()
    assert found.schema.field("generated_tokens").type == pyarrow.list_(pyarrow.int64())
