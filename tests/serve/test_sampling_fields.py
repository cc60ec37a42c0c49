"""Sampling fields of requests become localgen's options, or a refusal that names the field."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

from localgen.config import GenerationConfig
from localgen.serve import sampling_fields
from localgen.serve.refusals import Refusal
from localgen.serve.sampling_fields import sampling_options
from localgen.serve.schemas.sampling import SamplingFields


def options(n: int = 1, **given: Any) -> dict[str, Any]:
    request = SamplingFields.model_validate(given)
    return sampling_options(request, n=n, max_sequences=4, eos_token_ids=[7], other={})


def test_nothing_given_is_sampling() -> None:
    assert options() == {"do_sample": True, "num_return_sequences": 1}


def test_temperature_zero_is_greedy_whatever_keeps_the_likeliest_token() -> None:
    found = options(temperature=0, top_p=0.9, top_k=5, min_p=0.1, seed=3)
    assert found == {"do_sample": False, "num_return_sequences": 1}
    assert options(n=2, temperature=0)["top_k"] == 1


def test_every_field_is_an_option_or_becomes_one() -> None:
    """A field that nothing reads would be ignored without a word."""
    own = {each.name for each in fields(GenerationConfig)}
    read = {*sampling_fields._RENAMED, *sampling_fields._OTHER}
    assert set(SamplingFields.model_fields) - own <= read
    assert set(sampling_fields._SAME) <= own


def test_names_of_other_servers() -> None:
    found = options(repeat_penalty=1.2, min_tokens=3, stop="x", logit_bias={"5": -100})
    assert found["repetition_penalty"] == 1.2
    assert (found["min_new_tokens"], found["stop_strings"]) == (3, "x")
    assert found["sequence_bias"] == {(5,): -100.0}
    assert options(stop_token_ids=[9])["eos_token_id"] == [7, 9]
    assert options(ignore_eos=True)["eos_token_id"] == []
    assert "seed" not in options(seed=-1)


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({"repeat_penalty": -1.0}, "repeat_penalty"),
        ({"min_tokens": -1}, "min_tokens"),
        ({"stop": ""}, "stop"),
        ({"logit_bias": {"5": 101}}, "logit_bias"),
        ({"logit_bias": {"a": 1}}, "logit_bias"),
        ({"logit_bias": {"٣": 1}}, "logit_bias"),
        ({"repeat_penalty": 1.1, "repetition_penalty": 1.1}, "repeat_penalty"),
        ({"structured_outputs": {}}, "structured_outputs"),
        ({"structured_outputs": {"regex": "a", "choice": ["a"]}}, "structured_outputs"),
        ({"structured_outputs": {"choice": []}}, "structured_outputs"),
        ({"xtc_threshold": 0.2}, "xtc_threshold"),
        ({"mirostat": 2, "temperature": 0}, "mirostat"),
        ({"length_penalty": 2.0}, "length_penalty"),
        ({"negative_prompt": "x"}, "negative_prompt"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(given: dict[str, Any], param: str) -> None:
    """Values out of range, two names of one option, and options that change nothing."""
    with pytest.raises(Refusal) as caught:
        options(**given)
    assert (caught.value.status, caught.value.param) == (400, param)
