"""Token ids of one sequence → text, incrementally; it knows bytes and stop strings, no models.

Text that was given out is never taken back: an incomplete UTF-8 character waits for its remaining
bytes, and text that could still become a stop string is held back until it can't.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable


class Detokenizer:
    """The text of one sequence, token by token.

    token_bytes: returns a token's bytes, empty for a token that is not shown. Bytes that are not
    UTF-8 become U+FFFD, as in ``bytes.decode(errors="replace")``. stop_match: the stop string that
    ended the text, or None.
    """

    def __init__(
        self, token_bytes: Callable[[int], bytes], stop_strings: tuple[str, ...] = ()
    ) -> None:
        self._token_bytes = token_bytes
        self._decode = codecs.getincrementaldecoder("utf-8")(errors="replace").decode
        self._stop_strings = stop_strings
        self._held = ""
        self._pieces: list[str] = []
        self._n_taken = 0
        self.stop_match: str | None = None

    @property
    def text(self) -> str:
        """All text that is certain so far."""
        return "".join(self._pieces)

    def push(self, token_id: int) -> bool:
        """Add one token; return True once a stop string is complete. Nothing follows a match."""
        piece = self._decode(self._token_bytes(token_id))
        if not piece:
            return self.stop_match is not None
        if not self._stop_strings:
            self._pieces.append(piece)
            return False
        self._match(self._held + piece)
        return self.stop_match is not None

    @property
    def n_taken(self) -> int:
        """How many pieces ``take()`` has returned."""
        return self._n_taken

    def skip(self, n_pieces: int) -> None:
        """Mark the first ``n_pieces`` as taken, since they were taken from another detokenizer.

        Raises RuntimeError if there are fewer: text that was read cannot be taken back.
        """
        if n_pieces > len(self._pieces):
            raise RuntimeError("text that was read cannot be taken back")
        self._n_taken = n_pieces

    @property
    def has_more(self) -> bool:
        """Whether ``take()`` would return any text."""
        return self._n_taken < len(self._pieces)

    def take(self) -> str:
        """Return the text that became certain since the last ``take()``."""
        pieces = self._pieces[self._n_taken :]
        self._n_taken = len(self._pieces)
        return "".join(pieces)

    def finish(self) -> None:
        """Release the held text: no token follows, so it can't become a stop string any more."""
        if self.stop_match is None:
            self._release(self._held)
        self._held = ""

    def _release(self, text: str) -> None:
        if text:
            self._pieces.append(text)

    def _match(self, text: str) -> None:
        """Release ``text`` up to the first stop string, or up to what could become one."""
        found = [(text.find(stop), stop) for stop in self._stop_strings if stop in text]
        if found:
            start, self.stop_match = min(found, key=lambda match: match[0])
            self._release(text[:start])
            self._held = ""
            return
        n_held = max(_overlap(text, stop) for stop in self._stop_strings)
        self._release(text[: len(text) - n_held])
        self._held = text[len(text) - n_held :]


def _overlap(text: str, stop: str) -> int:
    """Return the length of the longest suffix of ``text`` that is a proper prefix of ``stop``."""
    for length in range(min(len(text), len(stop) - 1), 0, -1):
        if stop.startswith(text[-length:]):
            return length
    return 0
