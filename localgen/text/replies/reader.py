"""Text that comes in pieces, read as if it was there: a read waits until it can be decided.

A parser is a generator. It yields deltas, and None where it needs more text. What a read returns
depends on the text alone, and not on the pieces in which it came.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import TypeVar

from localgen.text.replies.results import ReplyDelta

Result = TypeVar("Result")
# What a parser does: yields deltas, or None to wait for more text, and returns a result.
Steps = Generator["ReplyDelta | None", None, Result]
# Where text goes that is part of something larger: the deltas that it becomes.
Sink = Callable[[str], Iterable[ReplyDelta]]


def nowhere(_: str) -> Iterable[ReplyDelta]:
    """A sink that drops the text."""
    return ()


class Reader:
    """The text that has come and was not read yet. ``is_over``: no more will come."""

    def __init__(self) -> None:
        self.text = ""
        self.is_over = False
        self._kept: list[str] | None = None

    def start_keeping(self) -> None:
        """Keep what is read from here on, for ``kept``."""
        self._kept = []

    @property
    def kept(self) -> str:
        """What was read since ``start_keeping``."""
        return "".join(self._kept or ())

    def skip(self, n_chars: int) -> str:
        """Read and return the next ``n_chars``, which have come."""
        taken, self.text = self.text[:n_chars], self.text[n_chars:]
        if self._kept is not None:
            self._kept.append(taken)
        return taken

    def put_back(self, text: str) -> None:
        """Take back what was read last: ``text``."""
        self.text = text + self.text
        if self._kept is not None:
            self._kept = [self.kept.removesuffix(text)]

    def sees(self, marks: Sequence[str]) -> Steps[bool]:
        """Return whether one of ``marks`` comes next, after white space; nothing is read."""
        while True:
            text = self.text.lstrip()
            if any(text.startswith(mark) for mark in marks):
                return True
            if self.is_over or not any(mark.startswith(text) for mark in marks):
                return False
            yield None

    def space(self, characters: str = " \t\r\n") -> Steps[str]:
        """Read white space up to the next other character, which is returned without reading it;
        "" at the end."""
        while True:
            self.skip(len(self.text) - len(self.text.lstrip(characters)))
            if self.text or self.is_over:
                return self.text[:1]
            yield None

    def mark(self, marks: Sequence[str]) -> Steps[str | None]:
        """Read one of ``marks`` if it comes next, the longest one; None if none does."""
        longest_first = sorted(marks, key=len, reverse=True)
        while not self.is_over and any(
            len(self.text) < len(mark) and mark.startswith(self.text) for mark in longest_first
        ):
            yield None
        for mark in longest_first:
            if self.text.startswith(mark):
                self.skip(len(mark))
                return mark
        return None

    def until(self, marks: Sequence[str], sink: Sink) -> Steps[str | None]:
        """Read up to one of ``marks``, and the mark; the text before it goes to ``sink``.

        Returns the mark, the longest one at that place, or None at the end.
        """
        pattern = one_of(marks)
        while True:
            found = pattern.search(self.text)
            # One that is there may be the beginning of a longer one.
            n_certain = len(self.text) - (0 if self.is_over else overlap(self.text, marks))
            if found is not None and found.start() < n_certain:
                yield from sink(self.skip(found.start()))
                self.skip(len(found[0]))
                return found[0]
            if n_certain:
                yield from sink(self.skip(n_certain))
            if self.is_over:
                return None
            yield None

    def text_until(self, marks: Sequence[str]) -> Steps[tuple[str, str | None]]:
        """Return the text up to one of ``marks``, and that mark, None at the end; both are read."""
        pieces: list[str] = []

        def keep(piece: str) -> Iterable[ReplyDelta]:
            pieces.append(piece)
            return ()

        mark = yield from self.until(marks, keep)
        return "".join(pieces), mark


def one_of(marks: Sequence[str]) -> re.Pattern[str]:
    """Return a pattern for any of ``marks``, the longest one first; it never matches without."""
    longest_first = sorted(marks, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)) or "(?!)")


def overlap(text: str, marks: Sequence[str]) -> int:
    """Return the length of the longest end of ``text`` that a mark, longer than it, begins with."""
    longest = max(map(len, marks), default=1)
    tail = text[1 - longest :] if longest > 1 else ""
    if not any(mark[0] in tail for mark in marks):  # as for most text
        return 0
    for length in range(min(len(text), longest - 1), 0, -1):
        end = text[-length:]
        if any(len(mark) > length and mark.startswith(end) for mark in marks):
            return length
    return 0
