"""The arguments of ``complete()``, ``stream()`` and their variants, each list once."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar

from localgen.config import GenerationConfig
from localgen.generation.hooks import Functions
from localgen.generation.inputs import Prompt

# Of several prompts: one config for all, or one for each.
Configs: TypeAlias = GenerationConfig | Sequence[GenerationConfig]
StreamArguments: TypeAlias = "TextArguments[Prompt, GenerationConfig]"

Prompts = TypeVar("Prompts")
Config = TypeVar("Config")


@dataclass(frozen=True, slots=True, kw_only=True)
class TextArguments(Generic[Prompts, Config]):
    """What is continued, and how; ``LocalModel.complete`` documents the fields."""

    prompts: Prompts
    generation_config: Config | None
    logits_processor: Functions | None
    stopping_criteria: Functions | None
    split_special_tokens: bool
    overrides: dict[str, Any]
    cancel: threading.Event | None = None
    progress: bool = False


def text_arguments(
    prompts: Prompts,
    *,
    generation_config: Config | None = None,
    logits_processor: Functions | None = None,
    stopping_criteria: Functions | None = None,
    split_special_tokens: bool = False,
    cancel: threading.Event | None = None,
    progress: bool = False,
    **overrides: Any,
) -> TextArguments[Prompts, Config]:
    """Return the arguments of ``complete()``."""
    return TextArguments(**locals())


def branching_arguments(
    prompts: str,
    *,
    num_return_sequences: int,
    generation_config: GenerationConfig | None = None,
    logits_processor: Functions | None = None,
    stopping_criteria: Functions | None = None,
    split_special_tokens: bool = False,
    cancel: threading.Event | None = None,
    progress: bool = False,
    **overrides: Any,
) -> TextArguments[str, GenerationConfig]:
    """Return the arguments of ``complete()`` for several continuations of one text.

    Only type checkers tell them apart: ``num_return_sequences`` is one of the overrides.
    """
    given = locals()
    return text_arguments(**given.pop("overrides"), **given)


def iter_arguments(
    prompts: Prompts,
    *,
    generation_config: Config | None = None,
    logits_processor: Functions | None = None,
    stopping_criteria: Functions | None = None,
    split_special_tokens: bool = False,
    cancel: threading.Event | None = None,
    **overrides: Any,
) -> TextArguments[Prompts, Config]:
    """Return the arguments of ``complete_iter()``."""
    return TextArguments(**locals())


def async_arguments(
    prompts: Prompts,
    *,
    generation_config: Config | None = None,
    logits_processor: Functions | None = None,
    stopping_criteria: Functions | None = None,
    split_special_tokens: bool = False,
    **overrides: Any,
) -> TextArguments[Prompts, Config]:
    """Return the arguments of ``acomplete()`` and ``astream_rows()``, which end with their task."""
    return TextArguments(**locals())


def stream_arguments(
    prompt: Prompt,
    *,
    generation_config: GenerationConfig | None = None,
    logits_processor: Functions | None = None,
    stopping_criteria: Functions | None = None,
    split_special_tokens: bool = False,
    cancel: threading.Event | None = None,
    **overrides: Any,
) -> StreamArguments:
    """Return the arguments of ``stream()``."""
    given = locals()
    return TextArguments(prompts=given.pop("prompt"), **given)


def async_stream_arguments(
    prompt: Prompt,
    *,
    generation_config: GenerationConfig | None = None,
    logits_processor: Functions | None = None,
    stopping_criteria: Functions | None = None,
    split_special_tokens: bool = False,
    **overrides: Any,
) -> StreamArguments:
    """Return the arguments of ``astream()``."""
    given = locals()
    return TextArguments(prompts=given.pop("prompt"), **given)
