"""Option names of other programs: accepted, translated or refused."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
from typing import Any

import numpy as np
import pytest

from localgen import GenerationConfig, LocalModel, ModelConfig
from tests.fakes import fake_model

NOTHING: dict[str, Any] = {
    "num_beam_groups": 1,
    "use_cache": False,
    "cache_implementation": "static",
    "output_attentions": False,
    "output_hidden_states": False,
    "assistant_model": None,
    "penalty_alpha": None,
    "synced_gpus": False,
    "renormalize_logits": False,
    "remove_invalid_values": False,
    "diversity_penalty": 0.0,
    "guidance_scale": None,
    "past_key_values": None,
    "bos_token_id": 1,
    "encoder_repetition_penalty": 1,
    "min_length": None,
    "forced_eos_token_id": None,
    "num_assistant_tokens": 20,
    "disable_compile": True,
    "transformers_version": "5.24.0",
    "num_return_sequences": None,
    "output_scores": None,
    "do_sample": 0,
    "no_repeat_ngram_size": np.array(0),
}


def test_values_that_ask_for_nothing() -> None:
    """Regression: transformers' own defaults, passed explicitly, were refused."""
    model = fake_model()
    plain = model.generate([[65]], max_new_tokens=3).tolist()
    assert model.generate([[65]], max_new_tokens=3, **NOTHING).tolist() == plain
    assert model.complete("A", max_new_tokens=3, **NOTHING).token_ids == plain[0][1:]
    assert GenerationConfig(max_new_tokens=3, **NOTHING) == GenerationConfig(
        max_new_tokens=3, do_sample=False
    )
    assert GenerationConfig(top_k=-1) == GenerationConfig(top_k=0)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("num_beam_groups", 4),
        ("num_beam_groups", True),
        ("num_beam_groups", [1]),
        ("use_cache", "yes"),
        ("cache_implementation", "quantized"),
        ("cache_implementation", "paged"),
        ("cache_config", {}),
        ("penalty_alpha", 0.6),
    ],
)
def test_values_that_ask_for_something(name: str, value: Any) -> None:
    """What localgen cannot do is refused, in calls and in configs."""
    message = f"localgen does not have transformers' option '{name}'.*; only its no-op value "
    with pytest.raises(TypeError, match=message):
        fake_model().generate([[65]], **{name: value})
    with pytest.raises(TypeError, match=message):
        GenerationConfig(**{name: value})


@pytest.mark.parametrize(
    "name", ["num_beam_groups", "diversity_penalty", "force_words_ids", "penalty_alpha"]
)
def test_what_left_transformers_core(name: str) -> None:
    """Searches that transformers itself only loads from the Hub say so."""
    options: dict[str, Any] = {name: 2}
    with pytest.raises(TypeError, match="has left transformers"):
        GenerationConfig(**options)


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("max_new_token", "max_new_tokens"),
        ("top_k_", "top_k"),
        ("stop", "stop_strings"),
        ("max_tokens", "max_new_tokens"),
        ("n_predict", "max_new_tokens"),
        ("repeat_penalty", "repetition_penalty"),
        ("temp", "temperature"),
        ("logit_bias", "sequence_bias"),
    ],
)
def test_names_of_other_programs(wrong: str, right: str) -> None:
    """Regression: hints compared spelling only, and a config's constructor had none."""
    message = f"unknown option '{wrong}'; did you mean '{right}'"
    options: dict[str, Any] = {wrong: 1}
    with pytest.raises(TypeError, match=message):
        fake_model().complete("a", **options)
    with pytest.raises(TypeError, match=message):
        GenerationConfig(**options)


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("torch_dtype", "the weights keep the types of the file; load a file of another"),
        ("dtype", "the weights keep the types of the file"),
        ("device_map", "use device='auto', 'cpu', 'cuda' or 'metal'"),
        ("trust_remote_code", "leave it out: localgen never runs code from a model"),
        ("ngl", "did you mean 'n_gpu_layers'"),
        ("threads", "did you mean 'n_threads'"),
        ("max_tokens", "'max_new_tokens' is an option of complete\\(\\) and generate\\(\\)"),
        ("top_k", "'top_k' is an option of complete"),
        ("n_ctxx", "did you mean 'n_ctx'"),
        ("verbose", "leave it out: .* the logger 'localgen.llama'"),
        ("use_mmap", "leave it out: llama.cpp maps the file"),
        ("use_mlock", "leave it out: localgen never locks"),
        ("logits_all", r"leave it out: score\(\), logprobs=N"),
        ("lora_path", "localgen has no adapters; merge it into the model"),
    ],
)
def test_options_of_a_load(name: str, advice: str) -> None:
    """Regression: options of transformers' from_pretrained were unknown, without advice."""
    options: dict[str, Any] = {name: None}
    for load in (lambda **given: LocalModel.from_pretrained("no.gguf", **given), ModelConfig):
        with pytest.raises(TypeError, match=f"unknown option '{name}'.*{advice}"):
            load(**options)


@pytest.mark.parametrize(
    ("option", "hint"),
    [
        ({"n_gpu_layers": -1}, "got -1; leave it out to put all layers on the GPU"),
        ({"n_ctx": 0}, "got 0; 'localgen inspect MODEL' shows the context"),
        ({"n_threads": 0}, "got 0; leave it out to use every CPU"),
        ({"n_threads": -1}, "got -1; leave it out to use every CPU"),
    ],
)
def test_values_of_other_programs(option: dict[str, Any], hint: str) -> None:
    """llama.cpp's numbers for "all" and "what the model has" are no numbers here."""
    with pytest.raises(ValueError, match=hint):
        ModelConfig(**option)


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("ignore_eos", r"pass eos_token_id=\[\]"),
        ("response_format", "pass json_object=True"),
        ("max_steps", "max_rounds"),
        ("tools", r"an argument of chat\(\)"),
        ("function_call", "pass tool_choice="),
        ("stream", r"use model\.stream\(\)"),
        ("repeat_last_n", "leave it out: penalties look at the whole text"),
        ("penalty_last_n", "only DRY has a limit, dry_penalty_last_n"),
        ("penalize_nl", "leave it out: newlines are penalized as all other tokens"),
        ("min_keep", "leave it out: each filter keeps at least one token"),
        ("tfs_z", "use min_p or typical_p"),
        ("adaptive_target", "mirostat=2"),
        ("adaptive_decay", "mirostat=2"),
    ],
)
def test_options_without_a_name_here(name: str, advice: str) -> None:
    """Regression: nothing said what to do instead."""
    options: dict[str, Any] = {name: True}
    for call in (fake_model().complete, fake_model().generate):
        with pytest.raises(TypeError, match=f"unknown option '{name}': .*{advice}"):
            call([[65]], **options)


def test_options_of_a_load_in_a_call() -> None:
    """The message says where they belong."""
    with pytest.raises(TypeError, match=r"'n_ctx' is an option of from_pretrained\(\)"):
        fake_model().complete("a", n_ctx=9)
    with pytest.raises(TypeError, match=r"'n_threads' is an option of from_pretrained\(\)"):
        fake_model().complete("a", threads=9)


def test_a_config_is_still_a_dataclass() -> None:
    """Its signature has the fields; it can be replaced, compared and pickled."""
    config = GenerationConfig(top_k=5)
    assert inspect.signature(GenerationConfig).parameters["top_k"].default == 50
    assert pickle.loads(pickle.dumps(config)) == config
    assert dataclasses.replace(config, top_k=6).top_k == 6
    assert copy.deepcopy(config) == config
    with pytest.raises(
        dataclasses.FrozenInstanceError, match=r"dataclasses\.replace\(config, top_k=7\)"
    ):
        config.top_k = 7  # type: ignore[misc]


@pytest.mark.parametrize("config", [GenerationConfig(), ModelConfig()])
def test_setting_an_unknown_name(config: Any) -> None:
    """Regression: the message was Python's own, of a class that nobody had heard of."""
    with pytest.raises(AttributeError, match="unknown option 'foo'"):
        config.foo = 1


def test_every_field_of_transformers_is_known() -> None:
    """Regression: sixteen of them were unknown, so that ``**config.to_dict()`` was refused."""
    transformers = pytest.importorskip("transformers")
    config = transformers.GenerationConfig(max_new_tokens=3, temperature=0.5, do_sample=True)
    assert GenerationConfig(**config.to_dict()) == GenerationConfig(
        max_new_tokens=3, temperature=0.5, do_sample=True, top_k=0
    )
    for name in vars(config):
        unset: dict[str, Any] = {name: None}
        GenerationConfig(**unset)


def test_options_that_are_unset() -> None:
    """Programs for transformers pass None with do_sample=False, or to switch a filter off."""
    unset: dict[str, Any] = dict.fromkeys(
        ("temperature", "top_k", "top_p", "typical_p", "repetition_penalty")
    )
    assert GenerationConfig(do_sample=False, **unset) == GenerationConfig(do_sample=False)
    off = GenerationConfig(do_sample=True, **unset)
    assert (off.top_k, off.top_p, off.temperature) == (0, 1.0, 1.0)
