"""What a model answers to the questions of a task; it needs no lm-eval."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """The answers to the questions of one task, in order.

    ids: what each question is called, such as the number of its line. texts: the answers: the
    numbers of choices, or what was generated. right: whether each is right. right_norm: of
    questions with choices, whether the choice with the largest log-probability by character is
    right; empty without such.
    """

    name: str
    ids: tuple[str, ...]
    texts: tuple[str, ...]
    right: tuple[bool, ...]
    right_norm: tuple[bool, ...] = ()
