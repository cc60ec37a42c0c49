"""Token ids of one sequence → text, incrementally; it knows bytes and stop strings, no models.

Text that was given out is never taken back: an incomplete UTF-8 character waits for its remaining
bytes, and text that could still become a stop string is held back until it can't.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable
from copy import copy
from itertools import compress

_Utf8Decoder = codecs.getincrementaldecoder("utf-8")


class Detokenizer:
    """The text of one sequence, token by token.

    token_bytes: returns a token's bytes, empty for a token that is not shown. hidden_bytes: returns
    the bytes of a token that is not shown, which stop strings match all the same; empty for others.
    n_skipped: how many bytes at the beginning are not part of the text.
    Bytes that are not UTF-8 become U+FFFD, as in ``bytes.decode(errors="replace")``. stop_match:
    the stop string that ended the text, or None.
    """

    def __init__(
        self,
        token_bytes: Callable[[int], bytes],
        stop_strings: tuple[str, ...] = (),
        hidden_bytes: Callable[[int], bytes] = lambda _: b"",
        n_skipped: int = 0,
    ) -> None:
        self._token_bytes = token_bytes
        self._n_to_skip = n_skipped
        self._hidden_bytes = hidden_bytes
        self._decoder = _Utf8Decoder(errors="replace")
        self._decode = self._decoder.decode
        self._stop_strings = stop_strings
        # Text that could become a stop string, and which of its characters are shown.
        self._held, self._shown = "", b""
        self._pieces: list[str] = []
        self._n_taken = 0
        self.stop_match: str | None = None

    def copy(self) -> Detokenizer:
        """Return a detokenizer in the same state that goes its own way from here."""
        clone = copy(self)
        clone._decoder = _Utf8Decoder(errors="replace")
        clone._decoder.setstate(self._decoder.getstate())
        clone._decode = clone._decoder.decode
        clone._pieces = list(self._pieces)
        return clone

    @property
    def text(self) -> str:
        """All text that is certain so far."""
        return "".join(self._pieces)

    @property
    def text_if_over(self) -> str:
        """All text if no token followed: what is held too."""
        return self.text + self._shown_of_held(len(self._held))

    def push(self, token_id: int) -> bool:
        """Add one token; return True once a stop string is complete. Nothing follows a match."""
        data = self._token_bytes(token_id)
        if self._n_to_skip:
            n_skipped = min(self._n_to_skip, len(data))
            self._n_to_skip -= n_skipped
            data = data[n_skipped:]
        if not self._stop_strings:
            if piece := self._decode(data):
                self._pieces.append(piece)
            return False
        hidden = self._hidden_bytes(token_id).decode("utf-8", errors="replace")
        piece = hidden or self._decode(data)
        if piece:
            self._held += piece
            self._shown += bytes([not hidden]) * len(piece)
            self._match()
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
        self._n_taken += len(pieces)  # another thread may add some meanwhile
        return "".join(pieces)

    def finish(self) -> None:
        """Release the held text: no token follows, so it can't become a stop string any more."""
        if self.stop_match is None:
            self._release(len(self._held))
        self._held, self._shown = "", b""

    def _release(self, n: int) -> None:
        """Give out the first ``n`` characters of what is held, as far as they are shown."""
        piece = self._shown_of_held(n)
        self._held, self._shown = self._held[n:], self._shown[n:]
        if piece:
            self._pieces.append(piece)

    def _shown_of_held(self, n: int) -> str:
        """What is shown of the first ``n`` characters that are held."""
        return "".join(compress(self._held[:n], self._shown))

    def _match(self) -> None:
        """Release text up to the first stop string, or up to what could become one."""
        text = self._held
        found = [(text.find(stop), stop) for stop in self._stop_strings if stop in text]
        if found:
            start, self.stop_match = min(found, key=lambda match: match[0])
            self._release(start)
            self._held, self._shown = "", b""
            return
        n_held = max(_overlap(text, stop) for stop in self._stop_strings)
        self._release(len(text) - n_held)


def _overlap(text: str, stop: str) -> int:
    """Return the length of the longest suffix of ``text`` that is a proper prefix of ``stop``."""
    for length in range(min(len(text), len(stop) - 1), 0, -1):
        if stop.startswith(text[-length:]):
            return length
    return 0
