"""Loads a model as the actors of a job have it; it needs no Ray."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from localgen.config import ModelConfig, replace_options
from localgen.gguf.gate import check_model
from localgen.gguf.memory import flash_attention_mode
from localgen.gguf.metadata import Hyperparameters
from localgen.model import LocalModel


def load_for_actor(path: Path, load_options: Mapping[str, Any]) -> LocalModel:
    """Return a model in a process of its own, without what one machine's measurements choose.

    Texts would depend on the actor that computes them: it gets no profile and, on CPUs, an
    attention that does not follow measured speeds. load_options: the fields of ``ModelConfig``.
    """
    options = dict(load_options)
    if options.get("device") == "cpu":
        options["flash_attention"] = _attention(path, options)
    return LocalModel.from_pretrained(path, isolated=True, use_profile=False, **options)


def _attention(path: Path, options: Mapping[str, Any]) -> str:
    config = replace_options(ModelConfig(), options)
    n_head = Hyperparameters(check_model(path).metadata).n_head
    return flash_attention_mode(n_head, config, uses_gpu=False)
