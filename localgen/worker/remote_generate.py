"""``generate()`` of an isolated model: token ids go to the worker, and come back."""

from __future__ import annotations

from dataclasses import fields, replace
from functools import partial
from typing import Any

import numpy as np

from localgen._util.arrays import is_torch, to_numpy, to_torch
from localgen.completion import GenerateBeamOutput, GenerateOutput
from localgen.config import GenerationConfig
from localgen.generation.defaults import is_config
from localgen.generation.inputs import check_token_types, one_of
from localgen.generation.resolve import check_cancel, fresh_seed
from localgen.generation.streaming import ending
from localgen.text.tokenizer import Tokenizer
from localgen.worker.calls import RemoteCall
from localgen.worker.client import Client
from localgen.worker.options import SentOptions
from localgen.worker.so_far import output_so_far

_FUNCTIONS = ("logits_processor", "stopping_criteria")


def generate(
    client: Client,
    own_tokenizer: Tokenizer,
    defaults: GenerationConfig,
    given: dict[str, Any],
    overrides: dict[str, Any],
) -> Any:
    """Return what ``LocalModel.generate`` does, whose arguments ``given`` and ``overrides`` are."""
    streamer = given.get("streamer")
    with ending(streamer):
        arguments = _arguments(own_tokenizer, given, overrides)
        uses_torch = is_torch(arguments["input_ids"])
        if uses_torch:
            _draw_seed(arguments, overrides, defaults)
            if not any(given.get(name) for name in _FUNCTIONS):
                arguments["input_ids"] = to_numpy(arguments["input_ids"])
                arguments["attention_mask"] = to_numpy(arguments["attention_mask"])
        options = SentOptions(
            {"generation_config": arguments["generation_config"], **overrides}, defaults
        )
        arguments["generation_config"] = options.options.pop("generation_config")
        check_cancel(given.get("cancel"))
        call = client.new_call(
            "ids",
            {**arguments, "overrides": options.options},
            keeps_updates=streamer is not None,
            cancel=given.get("cancel"),
        )
        so_far = partial(output_so_far, uses_torch=uses_torch)
        if streamer is None:
            done = client.run(call, so_far)
        else:
            with client.carrying(call, so_far):
                done = _put_tokens(streamer, client, call, uses_torch=uses_torch)
    if streamer is not None:
        streamer.end()
    return _as_torch(done) if uses_torch else done


def _arguments(
    own_tokenizer: Tokenizer, given: dict[str, Any], overrides: dict[str, Any]
) -> dict[str, Any]:
    """Return the arguments that the worker gets."""
    tokenizer = given.get("tokenizer")
    if tokenizer is not None and tokenizer is not own_tokenizer:
        raise ValueError(
            f"tokenizer must be this model's own, model.tokenizer, or left out, got {tokenizer!r}"
        )
    mask, config = given.get("attention_mask"), given.get("generation_config")
    if is_config(mask):  # transformers' second argument
        if config is not None:
            raise TypeError("generate() got two generation_configs")
        mask, config = None, mask
    check_token_types(given.get("token_type_ids"))
    return {
        "input_ids": one_of(given.get("input_ids"), given.get("inputs"), overrides),
        "attention_mask": mask,
        "generation_config": config,
        **{name: given.get(name) for name in _FUNCTIONS},
        "negative": (
            given.get("negative_prompt_ids"),
            given.get("negative_prompt_attention_mask"),
        ),
        "has_streamer": given.get("streamer") is not None,
    }


def _draw_seed(
    arguments: dict[str, Any], overrides: dict[str, Any], defaults: GenerationConfig
) -> None:
    """Draw the seed of a sampled call without one here, where torch's generator is the caller's."""
    config = arguments["generation_config"]
    config = defaults if config is None else config
    seed = overrides.get("seed", getattr(config, "seed", None))
    samples = overrides.get("do_sample", getattr(config, "do_sample", None))
    if samples and seed is None and not isinstance(config, list | tuple):
        overrides["seed"] = fresh_seed(uses_torch=True)


def _put_tokens(streamer: Any, client: Client, call: RemoteCall, *, uses_torch: bool) -> Any:
    """Run a call, put its prompt and then each token to ``streamer``, and return its outcome."""
    wrap = to_torch if uses_torch else np.asarray
    client.begin(call)
    streamer.put(wrap(call.facts[0]))
    while not call.over or call.updates:
        client.wait(call, lambda: bool(call.updates))
        while call.updates:
            for update in call.updates.popleft():
                for token_id in update.token_ids:
                    streamer.put(wrap(np.array([token_id], np.int64)))
    return call.result()


def _as_torch(done: Any) -> Any:
    """Return a result with torch tensors."""
    if not isinstance(done, GenerateOutput | GenerateBeamOutput):
        return done if is_torch(done) else to_torch(done)
    names = [each.name for each in fields(done)]
    arrays = {
        name: to_torch(value)
        for name in names
        if isinstance(value := getattr(done, name), np.ndarray)
    }
    return replace(done, **arrays)
