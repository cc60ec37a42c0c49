"""JSON read while it comes: where a value ends, and its text in pieces; it makes no values."""

from __future__ import annotations

from collections.abc import Sequence

from localgen.text.replies.reader import Reader, Sink, Steps

_AFTER_A_SCALAR = ",}] \t\r\n"


class JsonScan:
    """Finds the end of one JSON value, character by character.

    ends: marks that end the text around the value. They count outside strings, and inside a string
    at the beginning of a line: JSON has no line feed in a string, so the string was left open.
    is_closed: the value is complete. is_stopped: one of ``ends`` follows instead. is_in_string:
    whether what was read ends inside a string.
    """

    def __init__(self, ends: Sequence[str] = ()) -> None:
        self._ends = tuple(ends)
        self._ends_in_string = tuple(f"\n{end}" for end in ends)
        self._depth = 0
        self._is_escaped = self._in_scalar = False
        self.is_in_string = False
        self.is_closed = self.is_stopped = False

    def read(self, text: str, *, is_over: bool) -> int:
        """Return how many characters of ``text`` belong to the value, as far as it is certain."""
        for index, character in enumerate(text):
            ends = self._ends_in_string if self.is_in_string else self._ends
            for end in ends:
                if character != end[0]:
                    continue
                if text.startswith(end, index):
                    self.is_stopped = True
                    return index
                if not is_over and end.startswith(text[index : index + len(end)]):
                    return index
            if self._in_scalar and character in _AFTER_A_SCALAR:
                self.is_closed = True
                return index
            self._step(character)
            if self.is_closed:
                return index + 1
        return len(text)

    def _step(self, character: str) -> None:
        if self.is_in_string:
            if self._is_escaped:
                self._is_escaped = False
            elif character == "\\":
                self._is_escaped = True
            elif character == '"':
                self.is_in_string = False
                self.is_closed = not self._depth
        elif character == '"':
            self.is_in_string = True
        elif character in "{[":
            self._depth += 1
        elif character in "}]":
            self._depth -= 1
            self.is_closed = self._depth <= 0
        elif not self._depth:
            self._in_scalar = True


def read_json(reader: Reader, sink: Sink, ends: Sequence[str] = ()) -> Steps[bool]:
    """Read one JSON value, whose text goes to ``sink``; return whether it is complete."""
    scan = JsonScan(ends)
    while True:
        n_chars = scan.read(reader.text, is_over=reader.is_over)
        if n_chars:
            yield from sink(reader.skip(n_chars))
        if scan.is_closed:
            return True
        if scan.is_stopped or reader.is_over:
            return False
        yield None


def in_string(text: str) -> bool:
    """Return whether ``text`` begins a JSON value that goes on inside one of its strings; one that
    has a line feed was left open."""
    scan = JsonScan()
    scan.read(text.lstrip(), is_over=True)
    return scan.is_in_string and not text.endswith("\n")


def is_closed(text: str) -> bool:
    """Return whether ``text`` begins with a complete JSON object, array or string."""
    scan = JsonScan()
    scan.read(text.lstrip(), is_over=True)
    return scan.is_closed
