"""The constraints of calls: options → compiled constraints → the trackers of sequences."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from localgen.config import GenerationConfig
from localgen.constraints.enforceable import name_of
from localgen.engine.constraint import (
    ConstraintTracker,
    MasksOf,
    MaskWorker,
    Matcher,
    PackedMask,
    masks_one_by_one,
)
from localgen.engine.sampling.chain import Sampler
from localgen.engine.sampling.guided import is_guided
from localgen.generation.answer_matcher import AnswerMatcher
from localgen.generation.healed_matcher import HealedMatcher
from localgen.generation.thought_matcher import ThoughtMatcher


class Constraint(Protocol):
    """What was compiled from an option, for any number of sequences."""

    def matcher(self) -> Matcher:
        """Return a matcher of a text that has not begun."""

    def parse(self, text: str) -> Any:
        """Return what a complete text says, as an object."""


# Compiles the option of a name with a value. Raises ValueError for what cannot be enforced.
Compile = Callable[[str, Any], Constraint]


class Constraints:
    """The constraints of one model.

    ends: all of the model's end-of-sequence tokens. runs_ahead: see ``MaskWorker``.
    """

    def __init__(
        self,
        compile_option: Compile,
        masks_of: MasksOf,
        ends: Iterable[int],
        *,
        runs_ahead: bool = True,
    ) -> None:
        self._compile = compile_option
        self._worker = MaskWorker(functools.partial(_masks, masks_of), runs_ahead=runs_ahead)
        self._ends = frozenset(ends)

    def of(self, config: GenerationConfig) -> Constraint | None:
        """Return the constraint that a config asks for, if any."""
        return None if config.constraint is None else self._compile(*config.constraint)

    def tracker(
        self,
        matcher: Matcher,
        config: GenerationConfig,
        sampler: Sampler,
        eos_token_ids: frozenset[int],
    ) -> ConstraintTracker:
        """Return the tracker of a new sequence."""
        name = "reasoning" if config.constraint is None else name_of(*config.constraint)
        # A guide has no logits of its own for tokens of a draft, which is how forced ones come
        # where logits are recorded.
        records = config.logprobs is not None or config.output_scores or config.output_logits
        return ConstraintTracker(
            matcher,
            name,
            ends=eos_token_ids,
            never=self._ends,
            worker=self._worker,
            forces=sampler.may_force and not (is_guided(config) and records),
        )


def _masks(masks_of: MasksOf, matchers: list[Matcher]) -> list[PackedMask]:
    """Return the masks of matchers, made together where no matcher around them has its own."""
    inner = [_innermost(each) for each in matchers]
    if any(isinstance(each, HealedMatcher | ThoughtMatcher | AnswerMatcher) for each in inner):
        return masks_one_by_one(matchers)
    return masks_of(inner)


def _innermost(matcher: Matcher) -> Matcher:
    """Return the matcher that makes the mask of this one."""
    if isinstance(matcher, HealedMatcher) and not matcher.is_healing:
        return _innermost(matcher.inner)
    if isinstance(matcher, ThoughtMatcher) and matcher.inner is not None and not matcher.is_ending:
        return _innermost(matcher.inner)
    if isinstance(matcher, AnswerMatcher) and matcher.is_in_answer:
        return _innermost(matcher.inner)
    return matcher
