"""Where a reply's reasoning begins and ends, followed byte by byte; it knows no tokens.

It keeps no text, only what the next bytes depend on: a step is taken back by going on from an
earlier place.
"""

from __future__ import annotations

import codecs
from dataclasses import dataclass
from typing import Literal, NamedTuple

from localgen.text.replies.formats import ReplyFormat

_Utf8Decoder = codecs.getincrementaldecoder("utf-8")
_MOST_OF_A_CHARACTER = 3  # bytes
_HARMONY_NEXT, _HARMONY_ANSWER = "<|start|>assistant", "<|channel|>final<|message|>"


class Place(NamedTuple):
    """Where a reply is.

    kind: "before" any text, in its "thoughts", or in the "text". tail: the last bytes, in which a
    mark or a character may have begun. has_lines: whether the marks of the reasoning stand on lines
    of their own; None until that is known.
    """

    kind: Literal["before", "thoughts", "text"] = "before"
    tail: bytes = b""
    has_lines: bool | None = None

    @property
    def is_thinking(self) -> bool:
        """Whether what comes next is reasoning."""
        return self.kind == "thoughts"

    @property
    def is_between_characters(self) -> bool:
        """Whether the last character is complete."""
        decoder = _Utf8Decoder("replace")
        decoder.decode(self.tail)
        return not decoder.getstate()[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class ThoughtMarks:
    """The marks around the reasoning of a format.

    anywhere: whether it may follow text. closings: what ends it where the model does not: the first
    time, the second time and so on; the last one is for all further times.
    """

    opens: bytes
    closes: bytes
    anywhere: bool
    closings: tuple[bytes, ...]

    def follow(self, place: Place, data: bytes) -> Place:
        """Return where the reply is after more of its bytes."""
        place = place._replace(tail=place.tail + data)
        while True:
            following = self._after_mark(place)
            if following is None:
                return self._shortened(place)
            place = following

    def _after_mark(self, place: Place) -> Place | None:
        """Return the place after the first mark in the tail; None without a whole one."""
        kind, text, _ = place
        if kind == "thoughts":
            _, mark, rest = text.partition(self.closes)
            return Place("before", rest) if mark else None
        if kind == "text":
            _, mark, rest = text.partition(self.opens) if self.anywhere else (text, b"", b"")
            return Place("thoughts", rest) if mark else None
        text = text.lstrip()
        if text.startswith(self.opens):
            return Place("thoughts", text[len(self.opens) :])
        if text.startswith(self.closes):  # the prompt has the one that opens
            return Place("before", text[len(self.closes) :])
        begins = self.opens.startswith(text) or self.closes.startswith(text)
        return None if begins else Place("text", text)

    def _shortened(self, place: Place) -> Place:
        """Return a place that has no whole mark in its tail, without what no longer counts."""
        kind, text, has_lines = place
        if kind == "before":
            return Place("before", text.lstrip())
        if kind == "text":
            return Place("text", text[1 - len(self.opens) :] if self.anywhere else b"")
        if has_lines is None and text:
            has_lines = text.startswith(b"\n")
        n_tail = max(len(self.closes) - 1, _MOST_OF_A_CHARACTER)
        return Place("thoughts", text[-n_tail:], has_lines)

    def closing(self, place: Place, n_before: int) -> bytes:
        """Return what ends the reasoning here, without the part of a mark that has begun.

        n_before: how many times it was ended so.
        """
        mark = self.closings[min(n_before, len(self.closings) - 1)]
        for length in range(min(len(place.tail), len(self.closes) - 1), 0, -1):
            if mark.startswith(place.tail[-length:]):
                return mark[length:]
        needs_line = place.has_lines and not place.tail.endswith(b"\n")
        return b"\n" + mark if needs_line else mark


def thought_marks(form: ReplyFormat, *, has_tools: bool) -> ThoughtMarks:
    """Return the marks of a format that has reasoning.

    has_tools: whether a call may follow the reasoning instead of the answer.
    """
    opens, closes = form.thought
    closings = [closes]
    if form.body == "harmony":  # where the reasoning is a message, and the answer another one
        following = f"{closes}{_HARMONY_NEXT}"
        answer = f"{following}{_HARMONY_ANSWER}"
        closings = [following, answer] if has_tools else [answer]
    return ThoughtMarks(
        opens=opens.encode(),
        closes=closes.encode(),
        anywhere=form.thinks_anywhere,
        closings=tuple(each.encode() for each in closings),
    )
