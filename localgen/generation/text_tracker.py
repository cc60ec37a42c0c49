"""The text of one sequence as a tracker: its tokens become text, a stop string ends it."""

from __future__ import annotations

import time
from collections.abc import Callable
from copy import copy

from localgen.engine.sequence import Sequence
from localgen.text.detokenizer import Detokenizer


class Clock:
    """Adds up the seconds spent in its ``with`` blocks."""

    __slots__ = ("_started", "seconds")

    def __init__(self) -> None:
        self.seconds = 0.0

    def __enter__(self) -> None:
        self._started = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self.seconds += time.perf_counter() - self._started


class TextTracker:
    """Feeds ``stream`` with a sequence's new tokens, an EOS excepted; implements ``Tracker``.

    clock: adds up the time that this takes.
    """

    def __init__(
        self,
        new_stream: Callable[[], Detokenizer],
        eos_token_ids: frozenset[int],
        clock: Clock,
    ) -> None:
        self._new_stream = new_stream
        self._eos_token_ids = eos_token_ids
        self._clock = clock
        self._token_ids: list[int] = []
        self.stream = new_stream()
        self.stops = False

    def accept(self, token_id: int) -> None:
        self._token_ids.append(token_id)
        if token_id in self._eos_token_ids:
            return
        with self._clock:
            self.stops = self.stream.push(token_id)

    def rollback(self, n_tokens: int) -> None:
        """Take the last tokens back: the text is made again from those before them.

        Raises RuntimeError if text of theirs was already read.
        """
        if not n_tokens:
            return
        n_taken = self.stream.n_taken
        self._replay(self._token_ids[: len(self._token_ids) - n_tokens])
        self.stream.skip(n_taken)

    def mask(self) -> None:
        return None

    def copy(self) -> TextTracker:
        clone = copy(self)
        clone._token_ids = list(self._token_ids)
        clone.stream = self.stream.copy()
        return clone

    def _replay(self, token_ids: list[int]) -> None:
        self._token_ids, self.stream, self.stops = [], self._new_stream(), False
        for token_id in token_ids:
            self.accept(token_id)


def text_tracker(sequence: Sequence) -> TextTracker:
    """Return the text of a sequence that keeps one."""
    return next(each for each in sequence.trackers if isinstance(each, TextTracker))
