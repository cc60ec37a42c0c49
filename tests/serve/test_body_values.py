"""Bodies of very many values are refused before they are parsed, whatever their texts hold."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest

from localgen.serve import body_values
from localgen.serve.body_values import check_values
from localgen.serve.refusals import Refusal


@pytest.fixture(autouse=True)
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_values, "MOST_VALUES", 100)
    monkeypatch.setattr(body_values, "MOST_OBJECTS", 20)


@pytest.mark.parametrize(
    "data",
    [
        {"prompt": [1] * 80},
        {"text": "a, b, [c], {d} " * 1000},
        {"text": '"a", "b", {"c": [1]}, \\" ' * 1000},
        {"text": "\\" * 999, "more": [1] * 70},
        [{}] * 20,
        "a,b" * 100,
    ],
)
@pytest.mark.parametrize("indent", [None, 2])
def test_texts_may_hold_what_separates_values(data: Any, indent: int | None) -> None:
    check_values(json.dumps(data, indent=indent).encode())


@pytest.mark.parametrize(
    "data",
    [
        {"prompt": [1] * 120},
        {"prompt": ["a"] * 120},
        {"prompt": [[1]] * 60},
        [{}] * 21,
        {str(n): n for n in range(120)},
        {"text": "\\" * 999, "more": [1] * 120},
    ],
)
def test_too_many_values_are_refused(data: Any) -> None:
    """Lists of 16 MB held up all other clients for seconds."""
    with pytest.raises(Refusal) as caught:
        check_values(json.dumps(data).encode())
    assert (caught.value.status, caught.value.code) == (400, "too_many_values")


@pytest.mark.parametrize("part", [b'"', b'"a', b",", b'\\"', b"{"])
def test_what_is_no_json_ends_as_well(part: bytes) -> None:
    with suppress(Refusal):
        check_values(part * 1000)
