"""The arguments of ``choose()`` and ``classify()``, listed once for them and their async twins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Generic, TypeVar

from localgen.generation.choice_tokens import (
    LABEL_TEMPLATE,
    checked_documents,
    checked_texts,
    prompts_from_template,
)
from localgen.generation.choosing import Normalization
from localgen.generation.inputs import Prompt

Texts = TypeVar("Texts")


@dataclass(frozen=True, slots=True, kw_only=True)
class ChoiceOptions:
    """How choices are scored; ``LocalModel.choose`` documents the fields."""

    normalization: Normalization = "sum"
    unconditional_prompt: Prompt | None = None
    split_special_tokens: bool = False


@dataclass(frozen=True, slots=True)
class ChooseArguments(ChoiceOptions):
    """The arguments of ``choose()``."""

    prompt: Prompt
    choices: Sequence[str]

    def scored(self) -> tuple[Sequence[Prompt], list[str], list[str]]:
        """Return prompts, the choices after each, and what the results call these.

        Raises TypeError or ValueError.
        """
        texts = checked_texts("choices", self.choices)
        return [self.prompt], texts, texts


@dataclass(frozen=True, slots=True)
class ClassifyArguments(ChoiceOptions, Generic[Texts]):
    """The arguments of ``classify()``, which documents them."""

    texts: Texts
    labels: Sequence[str]
    _: KW_ONLY
    template: str = LABEL_TEMPLATE
    instruction: str = ""

    def scored(self) -> tuple[Sequence[Prompt], list[str], list[str]]:
        """Return prompts, the choices after each, and what the results call these.

        Raises TypeError or ValueError.
        """
        names = checked_texts("labels", self.labels)
        texts = checked_documents(self.texts)  # type: ignore[arg-type]  # what a caller passed
        prompts, choices = prompts_from_template(self.template, self.instruction, texts, names)
        return prompts, choices, names
