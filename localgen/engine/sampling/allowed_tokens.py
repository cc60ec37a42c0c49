"""Asks a caller's function which tokens may come next: ``prefix_allowed_tokens_fn``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from localgen._util.arrays import plain, to_numpy
from localgen.engine.sequence import Sequence

Row = npt.NDArray[np.int64]
Ids = npt.NDArray[np.intp]
AllowedTokensFunction = Callable[[int, Row], Any]

_NAME = "prefix_allowed_tokens_fn"


class AllowedTokens:
    """A tracker of one sequence that asks its function after each token.

    It never stops its sequence. Its mask is applied by a processor, which has a place in the order
    of all others: ``forced.prefix_allowed_tokens_fn``. ``forces``: whether the tokens that it
    allows for a beam may be chosen even if all of them were removed; any other sequence may always.
    """

    stops = False
    forces = False

    def __init__(
        self, function: AllowedTokensFunction, batch_id: int, token_ids: list[int]
    ) -> None:
        """function: is called with ``batch_id``, the number of the prompt in its call, and an int64
        row (n,) of ``token_ids``, the prompt as the caller gave it, and the new tokens."""
        self._function = function
        self._batch_id = batch_id
        self._token_ids = token_ids

    def accept(self, token_id: int) -> None:
        self._token_ids.append(token_id)

    def rollback(self, n_tokens: int) -> None:
        del self._token_ids[len(self._token_ids) - n_tokens :]

    def mask(self) -> None:
        return None

    def copy(self) -> AllowedTokens:
        return AllowedTokens(self._function, self._batch_id, list(self._token_ids))

    def allowed(self, n_vocab: int, index: int) -> Ids:
        """Return the ids that may come next, at least one; ``index`` names the sequence in errors.

        Raises ValueError if the function returns anything else.
        """
        result = self._function(self._batch_id, np.array(self._token_ids, np.int64))
        ids = _ids(result)
        if ids is None:
            raise ValueError(
                f"sequence {index}: {_NAME} must return a list of token ids, got {result!r:.80}"
            )
        if not len(ids):
            raise ValueError(
                f"sequence {index}: {_NAME} allows no token after {len(self._token_ids)} tokens; "
                f"return at least one, such as an end-of-sequence token"
            )
        outside = ids[(ids < 0) | (ids >= n_vocab)]
        if len(outside):
            raise ValueError(
                f"sequence {index}: {_NAME} returned token id {outside[0]}, which is outside the "
                f"vocabulary, 0 to {n_vocab - 1}"
            )
        return ids.astype(np.intp)


def allowed_tokens(sequence: Sequence) -> AllowedTokens:
    """Return the tracker of a sequence that has one."""
    return next(each for each in sequence.trackers if isinstance(each, AllowedTokens))


def _ids(result: Any) -> npt.NDArray[Any] | None:
    """Return a list, an array or another iterable of integers as an array (n,); None for anything
    else."""
    result = to_numpy(result)
    if not isinstance(result, Iterable) or isinstance(result, str | bytes | Mapping):
        return None
    items = result if isinstance(result, np.ndarray) else _integers(result)
    try:
        array = np.asarray(items)
    except (ValueError, TypeError):  # lists of different lengths, for example
        return None
    is_row = array.ndim == 1 and (array.dtype.kind in "iu" or not array.size)
    return array if is_row else None


def _integers(items: Iterable[Any]) -> list[Any] | None:
    """Return the items with arrays of one number as numbers; None if there are flags among them."""
    listed = list(items)
    if any(type(each) is not int for each in listed):
        listed = [plain(each) for each in listed]
    return None if any(isinstance(each, bool) for each in listed) else listed
