"""The sampling defaults of a model's file, as llama.cpp reads them."""

from __future__ import annotations

import math
import warnings
from typing import Any

import pytest

from localgen.gguf import metadata
from localgen.gguf.metadata import sampling_defaults
from localgen.gguf.reader import Array
from tests.fakes import FakeBackend, fake_model


@pytest.fixture(autouse=True)
def _nothing_warned_of() -> None:
    metadata._warn_invalid.cache_clear()


def asked(**values: Any) -> dict[str, Any]:
    return {f"general.sampling.{name}": value for name, value in values.items()}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"temp": 0.6, "top_k": 20}, {"temperature": 0.6, "top_k": 20}),
        ({"top_p": 0.9, "min_p": 0.1}, {"top_p": 0.9, "min_p": 0.1}),
        ({"penalty_repeat": 1.1}, {"repetition_penalty": 1.1}),
        ({"top_k": -1}, {"top_k": 0}),
        ({"top_k": 20.0}, {"top_k": 20}),
        ({"top_p": 2.0, "min_p": -1}, {"top_p": 1.0, "min_p": 0}),
        ({"top_p": 0.0}, {"top_p": 0.0}),
        ({"temp": 0, "top_k": 20}, {}),
        ({"temp": -1.0, "top_k": 20}, {}),
        ({"temp": 1, "mirostat": 2.0}, {"temperature": 1, "mirostat": 2}),
        ({"mirostat": 1, "mirostat_eta": 0.2, "top_k": 9}, {"mirostat": 1, "mirostat_eta": 0.2}),
        (
            {"xtc_probability": 0.5, "xtc_threshold": 0.2},
            {"xtc_probability": 0.5, "xtc_threshold": 0.2},
        ),
        ({"xtc_threshold": 0.2}, {}),
        (
            {"sequence": "top-k;;temp;", "top_k": 9, "min_p": 0.1},
            {"top_k": 9, "samplers": ("top_k", "temperature")},
        ),
    ],
)
def test_values_mean_what_they_do_to_llama_cpp(
    values: dict[str, Any], expected: dict[str, float]
) -> None:
    """Regression: each complete("x") raised ValueError about an option that nobody had passed."""
    found = sampling_defaults(asked(**values))
    assert found == expected
    assert [type(value) for value in found.values()] == [type(v) for v in expected.values()]
    backend = FakeBackend()
    backend.sampling_defaults = found
    fake_model(backend=backend).complete("a", max_new_tokens=1)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("temp", math.nan, "nan"),
        ("temp", math.inf, "inf"),
        ("top_k", 20.5, "20.5"),
        ("top_p", -0.5, "-0.5"),
        ("min_p", 1.5, "1.5"),
        ("penalty_repeat", -1.0, "-1.0"),
        ("top_p", "0.9\x1b", r"'0\.9\\x1b'"),
        ("top_k", True, "True"),
        ("top_k", Array("int32", 9), "Array"),
        ("mirostat", 3, "3"),
        ("sequence", "top_k;magic", "'top_k;magic'"),
        ("sequence", "kt", "'kt'"),  # letters are of its command line
        ("sequence", 5, "5"),
    ],
)
def test_a_value_that_cannot_be_meant(name: str, value: Any, said: str) -> None:
    """It is ignored with one warning, however many calls read it; other values are kept."""
    given = {**asked(temp=0.5, min_p=0.25), **asked(**{name: value})}
    with pytest.warns(UserWarning, match=rf"general\.sampling\.{name} is {said}") as warned:
        found = sampling_defaults(given)
    assert len(warned) == 1
    left_out = {"temp": "temperature", "min_p": "min_p"}.get(name)
    kept = {"temperature": 0.5, "min_p": 0.25}
    assert found == {key: value for key, value in kept.items() if key != left_out}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert sampling_defaults(given) == found
