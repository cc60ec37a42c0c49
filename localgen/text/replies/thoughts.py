"""Where a reply's reasoning begins and ends, followed byte by byte; it knows no tokens.

It keeps no text, only what the next bytes depend on: a step is taken back by going on from an
earlier place.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple

from localgen.text.replies.formats import ReplyFormat

_Utf8Decoder = codecs.getincrementaldecoder("utf-8")
_MOST_OF_A_CHARACTER = 3  # bytes
_HARMONY_NEXT, _HARMONY_ANSWER = "<|start|>assistant", "<|channel|>final<|message|>"


class Place(NamedTuple):
    """Where a reply is.

    kind: "before" any text, in its "thoughts", in a "call" inside these, or in the "text".
    tail: the last bytes, in which a mark or a character may have begun. has_lines: whether the
    marks of the reasoning stand on lines of their own; None until that is known.
    """

    kind: Literal["before", "thoughts", "call", "text"] = "before"
    tail: bytes = b""
    has_lines: bool | None = None

    @property
    def is_thinking(self) -> bool:
        """Whether what comes next is reasoning, unless a call begins in it."""
        return self.kind == "thoughts"


@dataclass(frozen=True, slots=True, kw_only=True)
class ThoughtMarks:
    """The marks around the reasoning of a format.

    anywhere: whether it may follow text. closings: what ends it where the model does not: the first
    time, the second time and so on; the last one is for all further times. calls: what begins a
    call inside it, and call_ends what ends one; starts: what follows ``calls``, if they are not
    only mentioned. All three are empty where it is not known how a call ends.
    """

    opens: bytes
    closes: bytes
    anywhere: bool
    closings: tuple[bytes, ...]
    calls: tuple[bytes, ...] = ()
    call_ends: tuple[bytes, ...] = ()
    starts: tuple[bytes, ...] = ()

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
        if place.kind == "thoughts":
            return self._after_thoughts(place)
        if place.kind == "call":
            return self._after_call(place)
        if place.kind == "before":
            return self._after_space(place.tail)
        index, mark = _first(place.tail, (self.opens,) if self.anywhere else ())
        return Place("thoughts", place.tail[index + len(mark) :]) if mark else None

    def _after_space(self, text: bytes) -> Place | None:
        text = text.lstrip()
        if text.startswith(self.opens):
            return Place("thoughts", text[len(self.opens) :])
        if text.startswith(self.closes):  # the prompt has the one that opens
            return Place("before", text[len(self.closes) :])
        begins = self.opens.startswith(text) or self.closes.startswith(text)
        return None if begins else Place("text", text)

    def _after_call(self, place: Place) -> Place | None:
        index, mark = _first(place.tail, (*self.call_ends, self.closes))
        rest = place.tail[index + len(mark) :]
        if mark == self.closes:
            return Place("before", rest)
        return Place("thoughts", rest, place.has_lines) if mark else None

    def _after_thoughts(self, place: Place) -> Place | None:
        index, mark = _first(place.tail, (self.closes, *self.calls))
        rest = place.tail[index + len(mark) :]
        if not mark or mark == self.closes:
            return Place("before", rest) if mark else None
        if self._may_begin_call(rest):
            return None
        is_call = not self.starts or rest.lstrip().startswith(self.starts)
        return self._with_lines(place)._replace(kind="call" if is_call else "thoughts", tail=rest)

    def _may_begin_call(self, rest: bytes) -> bool:
        """Return whether more must come to tell a call from a mark that is only mentioned."""
        rest = rest.lstrip()
        return any(each.startswith(rest) and each != rest for each in self.starts)

    def _shortened(self, place: Place) -> Place:
        """Return a place that has no whole mark in its tail, without what no longer counts."""
        kind, text, _ = place
        if kind == "before":
            return Place("before", text.lstrip())
        if kind == "text":
            return Place("text", _end(text, len(self.opens) - 1 if self.anywhere else 0))
        if kind == "call":
            n_kept = max(map(len, (*self.call_ends, self.closes))) - 1
            return place._replace(tail=_end(text, n_kept))
        index, mark = _first(text, self.calls)
        n_kept = max(_MOST_OF_A_CHARACTER, *(len(each) - 1 for each in (self.closes, *self.calls)))
        n_kept = max(n_kept, len(text) - index) if mark else n_kept
        return self._with_lines(place)._replace(tail=_end(text, n_kept))

    def _with_lines(self, place: Place) -> Place:
        """Return a place inside the reasoning that knows whether marks stand on their own lines."""
        if place.has_lines is not None or not place.tail:
            return place
        return place._replace(has_lines=place.tail.startswith(b"\n"))

    def may_close(self, place: Place) -> bool:
        """Return whether the reasoning may be ended here: not in a character, nor in what may
        become a call."""
        decoder = _Utf8Decoder("replace")
        decoder.decode(place.tail)
        return (
            place.is_thinking
            and not decoder.getstate()[0]
            and not _first(place.tail, self.calls)[1]
        )

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
        closings=_encoded(closings),
        calls=_encoded(form.begins if form.ends else ()),
        call_ends=_encoded(form.ends),
        starts=_encoded(form.starts if form.ends else ()),
    )


def _encoded(texts: Iterable[str]) -> tuple[bytes, ...]:
    return tuple(each.encode() for each in texts)


def _first(text: bytes, marks: Iterable[bytes]) -> tuple[int, bytes]:
    """Return where the first of some marks is in a text, and that mark; an empty one without."""
    found = [(index, mark) for mark in marks if (index := text.find(mark)) >= 0]
    return min(found, default=(0, b""))


def _end(text: bytes, n_bytes: int) -> bytes:
    return text[-n_bytes:] if n_bytes else b""
