"""GivenJob: a job of ``localgen batch`` as its command line describes it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from localgen.config import GenerationConfig, ModelConfig
from localgen.gguf.gate import ModelFile
from localgen.text.replies.reasoning import Reasoning


@dataclass(frozen=True, kw_only=True)
class GivenJob:
    """What is to be computed, on this machine or another.

    source: of the rows. model: as it was named; path, file: what that is here. defaults: the
    options of rows that do not set them. load_options: those that were given. header: of results.
    """

    source: str
    model: str
    path: Path
    file: ModelFile
    header: dict[str, Any]
    defaults: GenerationConfig
    config: ModelConfig
    load_options: dict[str, Any]
    split_special_tokens: bool
    reasoning: Reasoning | None
