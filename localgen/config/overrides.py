"""A config with some of its options replaced."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar

from localgen.config.generation_config import GenerationConfig
from localgen.config.model_config import ModelConfig

Config = TypeVar("Config", ModelConfig, GenerationConfig)


def replace_options(config: Config, overrides: Mapping[str, Any]) -> Config:
    """Return ``config`` with ``overrides``; TypeError for unknown names, ValueError for values."""
    return dataclasses.replace(config, **overrides) if overrides else config
