"""Loads a model as the actors of a job have it; it needs no Ray."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from localgen.config import ModelConfig, replace_options
from localgen.model import LocalModel


def for_actors(config: ModelConfig) -> ModelConfig:
    """Return how actors load what ``config`` describes: all with the same attention on CPUs.

    "auto" would follow speeds that each actor measures, and texts would depend on the actor. Flash
    attention is what llama.cpp itself uses wherever it can. An F32 KV cache, deterministic=True and
    a quantized KV cache fix it anyway, as do GPUs.
    """
    is_free = config.flash_attention == "auto" and not config.deterministic
    if is_free and config.device == "cpu" and config.kv_type != "f32":
        return replace(config, flash_attention="on")
    return config


def load_for_actor(path: Path, load_options: Mapping[str, Any]) -> LocalModel:
    """Return a model in a process of its own, without what one machine's measurements choose.

    It gets no profile, and the attention of ``for_actors``. load_options: the fields of
    ``ModelConfig``.
    """
    config = for_actors(replace_options(ModelConfig(), load_options))
    options = {**load_options, "flash_attention": config.flash_attention}
    return LocalModel.from_pretrained(path, isolated=True, use_profile=False, **options)
