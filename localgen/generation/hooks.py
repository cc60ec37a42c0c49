"""The caller's own functions: logits processors and stopping criteria, and what they are given."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from localgen._util.arrays import to_numpy, to_torch
from localgen._util.interrupts import second_interrupt_raises
from localgen.engine.backend import Logits, TokenIds
from localgen.engine.sampling.allowed_tokens import AllowedTokensFunction
from localgen.engine.sampling.processors import CustomProcessor, checked_scores
from localgen.engine.sequence import Sequence, StopCheck

IdMatrix = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
Scores = tuple[npt.NDArray[np.float32], ...]


@dataclass(frozen=True, slots=True)
class Hook:
    """A function of the caller's, which takes arrays, or torch tensors if ``uses_torch``."""

    function: Callable[..., Any]
    uses_torch: bool = False

    def __call__(self, token_ids: IdMatrix | TokenIds, scores: Any) -> Any:
        """Return what the function returns for a copy of ``token_ids`` (rows, length), as NumPy.

        scores: float32 (rows, n_vocab), which the function may change; or a tuple of them, or None.
        """
        given = self._array(token_ids.astype(np.int64))
        if isinstance(scores, tuple):
            scores = tuple(map(self._array, scores))
        elif scores is not None:
            scores = self._array(scores)
        with second_interrupt_raises():
            return to_numpy(self.function(given, scores))

    def _array(self, array: Any) -> Any:
        return to_torch(array) if self.uses_torch else array


@dataclass(frozen=True, slots=True, kw_only=True)
class Hooks:
    """The functions of one call, in the order in which they run."""

    logits_processor: tuple[Hook, ...] = ()
    stopping_criteria: tuple[Hook, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.logits_processor or self.stopping_criteria)

    # --- all sequences of the call together ---

    def processed(self, token_ids: IdMatrix, scores: Logits) -> Logits:
        """Return ``scores`` (rows, n_vocab) after the processors; ``token_ids``: (rows, length)."""
        for process in self.logits_processor:
            scores = _checked(process(token_ids, scores.copy()), scores)
        return scores

    def stopped(self, token_ids: IdMatrix, scores: Scores | None) -> Flags:
        """Return for each row of ``token_ids`` whether a criterion ends it; all of them are called.

        scores: those of each step, if they are kept.
        """
        flags = np.zeros(len(token_ids), np.bool_)
        for criterion in self.stopping_criteria:
            flags |= _flags(criterion(token_ids, scores), len(token_ids))
        return flags

    # --- one sequence at a time, as a batch of one ---

    def processors(self) -> tuple[CustomProcessor, ...]:
        """Return the logits processors as the engine calls them."""
        return tuple(map(_processor, self.logits_processor))

    def stop_checks(self) -> tuple[StopCheck, ...]:
        """Return the stopping criteria as the engine calls them."""
        return tuple(map(_stop_check, self.stopping_criteria))


NO_HOOKS = Hooks()
Functions = Callable[..., Any] | Iterable[Callable[..., Any]]


def as_hooks(
    logits_processor: Functions | None,
    stopping_criteria: Functions | None,
    *,
    uses_torch: bool = False,
) -> Hooks:
    """Check that each is a function, or a list of functions like transformers' lists.

    uses_torch: whether they take tensors; instances of transformers' classes always do.
    """
    return Hooks(
        logits_processor=_hooks("logits_processor", logits_processor, uses_torch),
        stopping_criteria=_hooks("stopping_criteria", stopping_criteria, uses_torch),
    )


def _hooks(name: str, value: Any, uses_torch: bool) -> tuple[Hook, ...]:
    if value is None:
        return ()
    # transformers' LogitsProcessorList is a list that can be called too: a list comes first.
    is_list = isinstance(value, Iterable) and not isinstance(value, str | bytes | Mapping)
    functions = tuple(value) if is_list else (value,)
    for function in functions:
        if not callable(function):
            raise ValueError(f"{name} must hold callables, got {function!r}")
    return tuple(
        Hook(function, uses_torch or _is_of_transformers(function)) for function in functions
    )


def allowed_tokens_function(
    function: Callable[..., Any], *, uses_torch: bool
) -> AllowedTokensFunction:
    """Return ``prefix_allowed_tokens_fn`` as the engine calls it, with a NumPy array."""

    def allowed(batch_id: int, token_ids: Any) -> Any:
        given = to_torch(token_ids) if uses_torch else token_ids
        with second_interrupt_raises():
            return function(batch_id, given)

    return allowed


def _is_of_transformers(function: object) -> bool:
    """Return whether it is an instance of a class of transformers, or of one derived from it."""
    modules = {base.__module__.partition(".")[0] for base in type(function).__mro__}
    return "transformers" in modules and "torch" in sys.modules


def _processor(hook: Hook) -> CustomProcessor:
    def process(token_ids: TokenIds, scores: Logits) -> Logits:
        row = scores[None, :]
        checked: Logits = _checked(hook(token_ids[None, :], row.copy()), row)[0]
        return checked

    return process


def _checked(result: Any, scores: Logits) -> Logits:
    """Return a processor's result for ``scores`` (rows, n_vocab); for one row it may be flat."""
    is_row = len(scores) == 1 and np.ndim(result) == 1
    return checked_scores(np.asarray(result)[None, :] if is_row else result, scores)


def _stop_check(hook: Hook) -> StopCheck:
    def check(sequence: Sequence) -> bool:
        token_ids: TokenIds = sequence.tokens[None, : sequence.n_tokens]
        return bool(_flags(hook(token_ids, None), 1)[0])

    return check


def _flags(result: Any, n_rows: int) -> Flags:
    """Return a criterion's answer as one flag for each row; a single flag is for all of them."""
    flags = np.asarray(result)
    if flags.dtype.kind not in "biu" or flags.size not in (1, n_rows):
        raise ValueError(
            f"a stopping criterion must return True or False for each of {n_rows} rows, or one for "
            f"all, got {flags.dtype} {flags.shape}"
        )
    return np.broadcast_to(flags.reshape(-1).astype(np.bool_), (n_rows,))
