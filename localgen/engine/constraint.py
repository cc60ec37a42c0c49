"""Which tokens a constraint allows next: a tracker around a matcher that was compiled elsewhere.

The engine knows matchers as a Protocol, and nothing of schemas, grammars or the library behind
them. Masks are packed, a bit for each token, and made by a thread of their own while the model
computes. Ends are the engine's: a matcher never sees an end-of-sequence token.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from collections.abc import Sequence as Items
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

import numpy as np
import numpy.typing as npt

# (ceil(n_vocab / 8),): token i is bit i % 8, counted from the lowest, of byte i // 8.
PackedMask = npt.NDArray[np.uint8]


class Matcher(Protocol):
    """Follows the new tokens of one sequence through a constraint."""

    def accept(self, token_id: int) -> None:
        """Follow one more token. Raises ValueError for one that is not allowed."""

    def rollback(self, n_tokens: int) -> None:
        """Take the last ``n_tokens`` accepted tokens back."""

    def mask(self) -> PackedMask:
        """Return the tokens that may come next, a new array; bits of ends mean nothing."""

    def forced_tokens(self) -> Items[int]:
        """Return the tokens that must come next, since nothing else is allowed; empty if there is
        a choice."""

    def n_allowed(self, token_ids: Items[int]) -> int:
        """Return how many of these tokens, from the first on, may come one after the other."""

    @property
    def is_free(self) -> bool:
        """Whether any token may come next, ends included: there is nothing to mask."""

    @property
    def may_end(self) -> bool:
        """Whether the text is complete, though it may go on."""

    @property
    def is_done(self) -> bool:
        """Whether the text is complete and cannot go on."""

    def fork(self) -> Matcher:
        """Return a matcher in the same state that goes its own way from here."""


MasksOf = Callable[[list[Matcher]], list[PackedMask]]


def masks_one_by_one(matchers: list[Matcher]) -> list[PackedMask]:
    """Return the mask of each matcher."""
    return [matcher.mask() for matcher in matchers]


class MaskWorker:
    """Makes the masks of several trackers together.

    masks_of: makes those of several matchers, perhaps in parallel. runs_ahead: whether a thread
    makes them while the model computes. Where a pass uses all CPUs that saves nothing, since the
    pass waits for the slowest of its threads.
    """

    def __init__(self, masks_of: MasksOf = masks_one_by_one, *, runs_ahead: bool = True) -> None:
        self._masks_of = masks_of
        self.runs_ahead = runs_ahead
        self._threads: ThreadPoolExecutor | None = None

    def begin(self, trackers: list[ConstraintTracker]) -> None:
        """Begin to make the masks of these trackers, which lack them."""
        if self._threads is None:
            self._threads = ThreadPoolExecutor(1, "localgen-masks")
        future = self._threads.submit(self._masks_of, [each.matcher for each in trackers])
        for index, tracker in enumerate(trackers):
            tracker.expect(future, index)

    def make(self, trackers: list[ConstraintTracker]) -> None:
        """Make the masks of these trackers, which lack them, in this thread."""
        masks = self._masks_of([each.matcher for each in trackers])
        for mask, tracker in zip(masks, trackers, strict=True):
            tracker.take(mask)


class ConstraintTracker:
    """Follows a sequence's tokens through its constraint; implements ``Tracker``.

    name: the option, for messages. ends: the tokens that end the sequence, allowed where the
    matcher may end. never: other tokens that are no text, such as a model's further ends. forces:
    whether tokens that must come are taken unasked; no other option may remove one of them.

    Its mask is not among ``mask()`` of trackers: ``allowed`` is packed, and has a place of its own
    in the sampler. n_forced: tokens that were not sampled. n_passes: the passes that gave tokens.
    """

    def __init__(
        self,
        matcher: Matcher,
        name: str,
        *,
        ends: Iterable[int],
        never: Iterable[int] = (),
        worker: MaskWorker | None = None,
        forces: bool = True,
    ) -> None:
        self._matcher = matcher
        self.name = name
        self._ends = frozenset(ends)
        self._end_bits = _bits(self._ends)
        self._never = frozenset(never) - self._ends
        self._never_bits = _bits(self._never)
        self.worker = worker or MaskWorker()
        self._forces = forces
        self._is_told: list[bool] = []  # of each token: whether the matcher has it
        self._has_ended = False
        self._future: tuple[Future[list[PackedMask]], int] | None = None
        self._allowed: PackedMask | None = None
        self._required: list[int] | None = None
        self.stops = False
        self.n_forced = 0
        self.n_passes = 0

    @property
    def matcher(self) -> Matcher:
        return self._matcher

    @property
    def requirement(self) -> str:
        """What limits the tokens, as the clause of an error message."""
        return f"{self.name} allows only some tokens here"

    @property
    def may_end(self) -> bool:
        """Whether the text so far satisfies the constraint."""
        self._settle()
        return self._matcher.may_end

    # --- a tracker ---

    def accept(self, token_id: int) -> None:
        self._settle()
        is_end = token_id in self._ends
        if not self._is_allowed(token_id):
            raise ValueError(
                f"token {token_id} was chosen, but {self.requirement}: do not let a logits "
                f"processor raise scores of -inf"
            )
        if is_end:
            self._has_ended = True
        else:
            self._matcher.accept(token_id)
        self._is_told.append(not is_end)
        self.stops = not is_end and self._matcher.is_done
        follows = self._required is not None and self._required[:1] == [token_id]
        self._required = (self._required or [])[1:] or None if follows else None
        self._allowed = None

    def rollback(self, n_tokens: int) -> None:
        if not n_tokens:
            return
        self._settle()
        told = self._is_told[len(self._is_told) - n_tokens :]
        del self._is_told[len(self._is_told) - n_tokens :]
        self._matcher.rollback(sum(told))
        self._has_ended = self.stops = False
        self._allowed = self._required = None

    def mask(self) -> None:
        return None

    def copy(self) -> ConstraintTracker:
        self._settle()
        clone = object.__new__(ConstraintTracker)
        clone.__dict__.update(self.__dict__)
        clone._matcher = self._matcher.fork()
        clone._is_told = list(self._is_told)
        return clone

    def _is_allowed(self, token_id: int) -> bool:
        """Whether a token may come next, as far as that is known: the matcher knows the rest."""
        if self._allowed is not None:
            return _has(self._allowed, token_id)
        return not self._has_ended and (token_id not in self._ends or self._matcher.may_end)

    # --- what may come next ---

    @property
    def is_free(self) -> bool:
        """Whether any token may come next, so that there is no mask to apply."""
        return self._future is None and not self._has_ended and self._matcher.is_free

    def allowed(self) -> PackedMask:
        """Return the tokens that may come next, ends included where the text is complete."""
        if self._allowed is None:
            self.take(self._made())
        assert self._allowed is not None
        return self._allowed

    def take(self, mask: PackedMask) -> None:
        """Use the matcher's mask, which becomes this tracker's own."""
        if self._has_ended:
            mask[:] = 0
        _clear(mask, self._never_bits)
        if self._matcher.may_end:
            _set(mask, self._end_bits)
        else:
            _clear(mask, self._end_bits)
        self._allowed = mask

    def allows(self, token_id: int) -> bool:
        """Return whether a token may come next, as ``allowed`` says it. Costs far less than a mask,
        if none was begun."""
        self._settle()
        if self._allowed is not None:
            return _has(self._allowed, token_id)
        if token_id in self._ends:
            return self._matcher.may_end
        if self._has_ended or token_id in self._never:
            return False
        # A mask has only the tokenizer's own spelling of a text that must come.
        if required := self._must_come():
            return token_id == required[0]
        return self._matcher.n_allowed([token_id]) == 1

    def forced(self) -> list[int]:
        """Return the tokens that must come next, to be taken unasked."""
        if not self._forces:
            return []
        required = self._must_come()
        return required if self._ends.isdisjoint(required) else []

    def _must_come(self) -> list[int]:
        if self._has_ended or self.stops:
            return []
        if self._required is None:
            self._settle()
            self._required = list(self._matcher.forced_tokens())
        return self._required

    def n_allowed(self, token_ids: Items[int]) -> int:
        """Return how many of these tokens, from the first on, may come one after the other; ends
        are not counted."""
        self._settle()
        return 0 if self._has_ended else self._matcher.n_allowed(token_ids)

    def expect(self, future: Future[list[PackedMask]], index: int) -> None:
        """Take the mask from the result of ``future``, where it has this index."""
        self._future = future, index

    @property
    def lacks_mask(self) -> bool:
        """Whether nobody has begun to make the mask of what comes next."""
        return self._allowed is None and self._future is None and not self.is_free

    def _made(self) -> PackedMask:
        if self._future is None:
            return self._matcher.mask()
        (future, index), self._future = self._future, None
        return future.result()[index]

    def _settle(self) -> None:
        """Wait until nobody uses the matcher; the mask that was being made is kept."""
        if self._future is not None:
            self.allowed()


def prepare_masks(trackers: Iterable[ConstraintTracker]) -> None:
    """Begin to make the masks that these trackers will need after a pass, if it leaves CPUs idle;
    all have the same worker."""
    lacking = [each for each in trackers if each.lacks_mask]
    if lacking and lacking[0].worker.runs_ahead:
        lacking[0].worker.begin(lacking)


def complete_masks(trackers: Iterable[ConstraintTracker]) -> None:
    """Make the masks that these trackers need now and nobody began; all have the same worker."""
    lacking = [each for each in trackers if each.lacks_mask and not each.forced()]
    if lacking:
        lacking[0].worker.make(lacking)


def _bits(token_ids: Iterable[int]) -> list[tuple[int, int]]:
    """Return byte and bit of each token in a packed mask."""
    return [(token_id // 8, 1 << token_id % 8) for token_id in sorted(token_ids)]


def _has(mask: PackedMask, token_id: int) -> bool:
    return bool(mask[token_id // 8] >> token_id % 8 & 1)


def _set(mask: PackedMask, bits: list[tuple[int, int]]) -> None:
    for byte, bit in bits:
        mask[byte] |= bit


def _clear(mask: PackedMask, bits: list[tuple[int, int]]) -> None:
    for byte, bit in bits:
        mask[byte] &= ~bit & 0xFF
