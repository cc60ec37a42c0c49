"""The caller's own functions: logits processors and stopping criteria, one sequence at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from localgen._util.arrays import to_numpy, to_torch
from localgen.engine.backend import Logits, TokenIds
from localgen.engine.sampling.processors import CustomProcessor
from localgen.engine.sequence import Sequence, StopCheck


@dataclass(frozen=True, slots=True, kw_only=True)
class Hooks:
    """The caller's functions, called for one sequence with arrays (1, …), or torch tensors."""

    logits_processor: tuple[Callable[..., Any], ...] = ()
    stopping_criteria: tuple[Callable[..., Any], ...] = ()
    use_torch: bool = False

    def processors(self) -> tuple[CustomProcessor, ...]:
        """Return the logits processors as the engine calls them."""
        return tuple(map(self._processor, self.logits_processor))

    def stop_checks(self) -> tuple[StopCheck, ...]:
        """Return the stopping criteria as the engine calls them."""
        return tuple(map(self._stop_check, self.stopping_criteria))

    def _batch_of_one(self, row: Any) -> Any:
        return to_torch(row[None, :]) if self.use_torch else row[None, :]

    def _processor(self, function: Callable[..., Any]) -> CustomProcessor:
        def process(token_ids: TokenIds, scores: Logits) -> Any:
            given = self._batch_of_one(token_ids.astype(np.int64)), self._batch_of_one(scores)
            result = np.asarray(to_numpy(function(*given)))
            return result[0] if result.ndim == 2 and len(result) == 1 else result

        return process

    def _stop_check(self, function: Callable[..., Any]) -> StopCheck:
        def check(sequence: Sequence) -> bool:
            token_ids = sequence.tokens[: sequence.n_tokens].astype(np.int64)
            return bool(np.all(to_numpy(function(self._batch_of_one(token_ids), None))))

        return check


NO_HOOKS = Hooks()
Functions = Callable[..., Any] | Iterable[Callable[..., Any]]


def as_hooks(
    logits_processor: Functions | None,
    stopping_criteria: Functions | None,
    *,
    use_torch: bool,
) -> Hooks:
    """Check that each is a function, or a list of functions like transformers' lists."""
    return Hooks(
        logits_processor=_functions("logits_processor", logits_processor),
        stopping_criteria=_functions("stopping_criteria", stopping_criteria),
        use_torch=use_torch,
    )


def _functions(name: str, value: Any) -> tuple[Callable[..., Any], ...]:
    if value is None:
        return ()
    # transformers' LogitsProcessorList is a list that can be called too: a list comes first.
    functions = tuple(value) if isinstance(value, Iterable) else (value,)
    for function in functions:
        if not callable(function):
            raise ValueError(f"{name} must hold callables, got {function!r}")
    return functions
