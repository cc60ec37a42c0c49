"""Requests of lm-eval as options and token ids, by hand; without lm-eval."""

from __future__ import annotations

from typing import Any

import pytest

from localgen.config import GenerationConfig
from localgen.evaluate.requests import (
    device_name,
    generation_config,
    n_sequences,
    scoring_request,
)


@pytest.mark.parametrize(
    ("context", "continuation", "kept", "n_cut"),
    [
        ([1, 2, 3], [4, 5], (1, 2, 3), 0),  # 4 tokens go through the model: all but the last
        ([0, 1, 2, 3], [4, 5], (1, 2, 3), 1),
        ([1, 2, 3], [4, 5, 6, 7], (3,), 2),
    ],
)
def test_what_goes_through_the_model_is_at_most_max_length(
    context: list[int], continuation: list[int], kept: tuple[int, ...], n_cut: int
) -> None:
    found = scoring_request(context, continuation, 4, "")
    assert (found.context, found.continuation) == (kept, tuple(continuation))
    assert found.n_cut == n_cut


@pytest.mark.parametrize(
    ("context", "continuation", "message"),
    [
        ([1], [], "the continuation of a request has no tokens"),
        ([], [1], "the context of a request has no tokens"),
        ([1], [1, 2, 3, 4, 5], "5 tokens does not fit max_length=4"),
    ],
)
def test_what_cannot_be_scored_is_refused(
    context: list[int], continuation: list[int], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        scoring_request(context, continuation, 4, "the request")


def config(**options: Any) -> GenerationConfig:
    return generation_config(options, max_gen_toks=256, end_text="</s>", seed=7)


def test_greedy_is_the_default_and_a_temperature_samples() -> None:
    assert config() == GenerationConfig(do_sample=False, max_new_tokens=256, stop_strings=["</s>"])
    assert not config(temperature=0.0).do_sample
    assert not config(do_sample=False, temperature=0.7).do_sample
    sampled = config(temperature=0.7, top_p=0.9)
    assert (sampled.do_sample, sampled.temperature, sampled.top_p) == (True, 0.7, 0.9)
    assert (sampled.seed, config(do_sample=True, seed=1).seed) == (7, 1)


def test_the_first_of_lm_evals_names_of_a_length_counts() -> None:
    assert config(max_tokens=3).max_new_tokens == 3
    assert config(max_new_tokens=4, max_gen_toks=5).max_new_tokens == 5


def test_empty_and_equal_ends_are_left_out() -> None:
    assert config(until="\n").stop_strings == ("\n", "</s>")
    assert config(until=["", "a", "</s>", "a"]).stop_strings == ("a", "</s>")
    assert generation_config({}, max_gen_toks=1, end_text=None, seed=0).stop_strings is None


def test_an_unknown_option_is_refused() -> None:
    with pytest.raises(TypeError, match="tempature"):
        config(tempature=1)


def test_devices_have_pytorchs_names_too() -> None:
    names = ["cpu", "cuda", "cuda:0", "mps", "auto"]
    assert [*map(device_name, names)] == ["cpu", "cuda", "cuda", "metal", "auto"]
    with pytest.raises(ValueError, match="CUDA_VISIBLE_DEVICES"):
        device_name("cuda:1")


def test_batch_sizes_are_sequences() -> None:
    assert n_sequences(None, None) is None
    assert n_sequences("auto:4", None) is None
    assert n_sequences("auto", 8) == 8
    assert (n_sequences(3, None), n_sequences("5", None)) == (3, 5)
    for bad in (0, "many", -1):
        with pytest.raises(ValueError, match="batch_size must be a number above 0"):
            n_sequences(bad, None)
    with pytest.raises(ValueError, match="max_batch_size needs"):
        n_sequences(2, 8)
