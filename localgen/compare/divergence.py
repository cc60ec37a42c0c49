"""Compares greedy texts of two levels: how long they agree."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from localgen.compare.level_result import Divergence

N_NEW = 64
PROMPTS = (
    "The capital of France is",
    "To make bread, you need",
    "Once upon a time, in a village by the sea,",
    "The difference between a list and a tuple in Python is",
    "def fibonacci(n):\n",
    "Water boils at",
    "My favourite season is autumn, because",
    "In 1969, the first people",
)


class Text(Protocol):
    """A generated text, such as a Completion."""

    @property
    def text(self) -> str: ...
    @property
    def token_ids(self) -> Sequence[int]: ...


@dataclass(frozen=True, slots=True)
class GreedyText:
    """A level's greedy text after a prompt."""

    prompt: str
    text: str
    token_ids: tuple[int, ...]


def divergences(
    prompts: Sequence[str], reference: Sequence[Text], texts: Sequence[Text]
) -> tuple[Divergence, ...]:
    """Return each prompt's two texts, with the number of tokens in their common beginning."""
    return tuple(
        Divergence(prompt, theirs.text, ours.text, n_same(theirs.token_ids, ours.token_ids))
        for prompt, theirs, ours in zip(prompts, reference, texts, strict=True)
    )


def n_same(a: Sequence[object], b: Sequence[object]) -> int:
    """Return the length of the common beginning of two lists of tokens, or of two texts."""
    for index, (x, y) in enumerate(zip(a, b, strict=False)):
        if x != y:
            return index
    return min(len(a), len(b))


def median_tokens(found: Sequence[Divergence]) -> float:
    """Return the median of ``n_same``."""
    return float(statistics.median(each.n_same for each in found))
