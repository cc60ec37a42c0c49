"""The columns of a dataset ↔ a job's rows and their results. It knows neither Ray nor models.

The names are those of ``ray.data.llm``, besides those of a job's lines.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from typing import Any, TypeAlias

import numpy as np
import pyarrow

from localgen._util.arrays import plain
from localgen.completion import Completion
from localgen.config import GenerationConfig
from localgen.jobs.rows import Line, Row, RowId, as_row, check_options, checked_id, fields_of_rows

# A batch of Ray Data's: with batch_format="pyarrow", or another.
Batch: TypeAlias = "pyarrow.Table | Mapping[str, Any]"

# The columns that are read.
_READ = frozenset([*fields_of_rows(), "sampling_params"])
# What Arrow raises for values such as a time in nanoseconds.
_UNREADABLE = (ValueError, TypeError, OverflowError, ImportError, pyarrow.ArrowException)
# The columns that results add, and their types.
_TYPES: Mapping[str, pyarrow.DataType] = {
    "generated_text": pyarrow.string(),
    "generated_tokens": pyarrow.list_(pyarrow.int64()),
    "num_input_tokens": pyarrow.int64(),
    "num_generated_tokens": pyarrow.int64(),
    "finish_reason": pyarrow.string(),
    "generated_reasoning": pyarrow.string(),
    "generated_logprobs": pyarrow.string(),
    "tool_calls": pyarrow.string(),
    "error": pyarrow.string(),
}
RESULTS = tuple(_TYPES)
# What a row that failed has there.
_EMPTY: Mapping[str, Any] = {**dict.fromkeys(RESULTS), "generated_tokens": []}
# vLLM's names of sampling parameters → the names of a job's line. Other names are the same.
_OWN_NAMES = {
    "max_tokens": "max_new_tokens",
    "min_tokens": "min_new_tokens",
    "stop": "stop_strings",
}
# Parameters of vLLM whose only value here changes nothing.
_FIXED = {"n": 1, "skip_special_tokens": True, "ignore_eos": False}
# It says which stage of ray.data.llm makes the text, which is there either way.
_WITHOUT_EFFECT = ("detokenize",)
_STRUCTURES = {
    "json": "json_schema",
    "json_object": "json_object",
    "regex": "regex",
    "choice": "choices",
    "grammar": "grammar",
}


def rows_of(batch: Batch) -> Iterator[dict[str, Any]]:
    """Yield what each row of a batch asks for, as plain Python values.

    Other columns are not converted: Arrow has types for which Python has none. Arrow fills what
    only other rows have with null, so null means not given.
    """
    names = [name for name in _names(batch) if name in _READ]
    columns = [_values(name, batch[name]) for name in names]
    n_rows = batch.num_rows if isinstance(batch, pyarrow.Table) else _n_rows(batch)
    for i in range(n_rows):
        yield {name: column[i] for name, column in zip(names, columns, strict=True)}


def _names(batch: Batch) -> list[str]:
    return list(batch.column_names if isinstance(batch, pyarrow.Table) else batch)


def _n_rows(batch: Mapping[str, Any]) -> int:
    return len(next(iter(batch.values()), ()))


def _values(name: str, column: Any) -> list[Any]:
    """Return the values of a column; a ValueError for each that Python cannot have."""
    if not isinstance(column, pyarrow.ChunkedArray):
        return [_plain(each) for each in column]
    try:
        return [_plain(each) for each in column.to_pylist()]
    except _UNREADABLE:
        return [_value(name, each) for each in column]


def _value(name: str, scalar: Any) -> Any:
    try:
        return _plain(scalar.as_py())
    except _UNREADABLE as error:
        return ValueError(f"{name} cannot be read: {error}")


def _plain(value: Any) -> Any:
    value = value.tolist() if isinstance(value, np.ndarray) else plain(value)
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items() if each is not None}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value


def call_of(given: Mapping[str, Any], defaults: GenerationConfig, seed: int) -> Row:
    """Return what a dataset's row asks for; columns that are no option are not read.

    Messages count before a prompt: ``ray.data.llm`` makes the prompt of a row with both from them.
    Raises ValueError or TypeError if something is wrong with it.
    """
    for value in given.values():
        if isinstance(value, Exception):
            raise value
    fields = {name: given[name] for name in fields_of_rows() if given.get(name) is not None}
    if "messages" in fields:
        fields.pop("prompt", None)
    if isinstance(fields.get("messages"), str):
        raise TypeError(
            "messages must be a list of messages, got text; parse it first, as with "
            "preprocess=lambda row: {'messages': json.loads(row['messages'])}"
        )
    fields |= _sampling(given.get("sampling_params") or {}, fields)
    row_id = checked_id(fields["id"]) if "id" in fields else content_id(fields)
    line = Line(0, b"")
    return as_row(line, row_id, fields, defaults, seed)


def content_id(fields: Mapping[str, Any]) -> RowId:
    """Return the id of a row that has none: a hash of its fields, so that its draws depend on
    nothing else. Equal rows give equal texts."""
    text = json.dumps(fields, sort_keys=True, default=repr)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _sampling(given: Any, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a row's ``sampling_params``."""
    if not isinstance(given, Mapping):
        hint = "; parse its JSON first" if isinstance(given, str) else ""
        raise TypeError(f"sampling_params must be a dict, got {type(given).__name__}{hint}")
    options: dict[str, Any] = {}
    for name, value in given.items():
        if name in _WITHOUT_EFFECT:
            continue
        if name in _FIXED:
            if value != _FIXED[name]:
                raise ValueError(f"sampling_params: {name} must be {_FIXED[name]!r}, got {value!r}")
        elif name in ("structured_outputs", "guided_decoding"):
            options |= _structure(name, value)
        else:
            own = _OWN_NAMES.get(str(name), str(name))
            if own in options:
                raise ValueError(f"sampling_params: {own} is given twice, under two names")
            options[own] = value
    try:
        check_options(options)
    except TypeError as error:
        raise TypeError(f"sampling_params: {error}") from None
    if options.get("top_k") == -1:
        options["top_k"] = 0
    if options.get("temperature") == 0:
        del options["temperature"]
        options["do_sample"] = False
    if both := sorted(options.keys() & fields.keys()):
        raise ValueError(f"{both[0]} is given twice: as a column and in sampling_params")
    return options


def _structure(name: str, given: Any) -> dict[str, Any]:
    if not isinstance(given, Mapping) or len(given) != 1 or not given.keys() <= _STRUCTURES.keys():
        raise ValueError(
            f"sampling_params: {name} takes one of {', '.join(_STRUCTURES)}, got {given!r:.200}"
        )
    return {_STRUCTURES[kind]: value for kind, value in given.items()}


def result_of(done: Completion) -> dict[str, Any]:
    """Return what a completion adds to its row."""
    logprobs = done.logprobs
    calls = [{"id": each.id, "name": each.name, "arguments": each.arguments, "error": each.error}
             for each in done.tool_calls]  # fmt: skip
    return {
        **_EMPTY,
        "generated_text": done.text,
        "generated_tokens": done.token_ids,
        "num_input_tokens": done.stats.n_prompt,
        "num_generated_tokens": done.stats.n_new,
        "finish_reason": done.finish_reason,
        "generated_reasoning": done.reasoning,
        "tool_calls": json.dumps(calls, ensure_ascii=False) if calls else None,
        "generated_logprobs": json.dumps([asdict(each) for each in logprobs]) if logprobs else None,
    }


def error_of(error: Exception) -> dict[str, Any]:
    """Return what a row that failed gets."""
    return {**_EMPTY, "error": f"{type(error).__name__}: {error}"}


def with_results(batch: Batch, results: Iterable[Mapping[str, Any]]) -> Batch:
    """Return a batch with the columns of its results, one result for each row."""
    found = list(results)
    columns = {name: [each[name] for each in found] for name in RESULTS}
    if not isinstance(batch, pyarrow.Table):
        return {**batch, **columns}
    table = batch.drop_columns([name for name in RESULTS if name in batch.column_names])
    for name, values in columns.items():
        table = table.append_column(name, pyarrow.array(values, _TYPES[name]))
    return table
