"""The text of one kind, text or reasoning, that markup may interrupt."""

from __future__ import annotations

from typing import Literal

from localgen.text.replies.results import ReplyDelta


class Part:
    """Gives the text out as deltas, without the white space that only belongs to markup.

    White space between markup and the beginning or the end is dropped. Between two texts that
    markup separates, it stays; a line feed is put where there is none.
    """

    def __init__(self, kind: Literal["text", "reasoning"]) -> None:
        self._kind = kind
        self._waiting = ""  # white space
        self._has_markup = False  # since the last text
        self.has_begun = False

    def push(self, text: str) -> list[ReplyDelta]:
        """Return what follows from more text: white space at its end waits."""
        text = self._waiting + text
        shown = text.rstrip()
        self._waiting = text[len(shown) :]
        if not shown:
            return []
        if self._has_markup:
            stripped = shown.lstrip()
            if not self.has_begun:
                shown = stripped
            elif len(stripped) == len(shown):
                shown = f"\n{shown}"
        self._has_markup, self.has_begun = False, True
        return [ReplyDelta(kind=self._kind, text=shown)]

    def mark(self) -> None:
        """Note that markup comes here."""
        self._has_markup = True

    def forget_space(self) -> None:
        """Drop the white space that waits: it is the prompt's."""
        self._waiting = ""

    def finish(self) -> list[ReplyDelta]:
        """Return what is left if nothing follows."""
        if self._has_markup or not self._waiting:
            return []
        return [ReplyDelta(kind=self._kind, text=self._waiting)]
