"""Where tokens are in a text: their bytes → ranges of characters; it knows no vocabulary."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

Offset = tuple[int, int]


def token_offsets(text: str, pieces: Sequence[bytes]) -> list[Offset]:
    """Return for each token its first character in ``text``, and the one after its last.

    pieces: the tokens' bytes. A token with part of a character covers all of it. Raises ValueError
    if the tokens together do not spell ``text``.
    """
    if b"".join(pieces) != text.encode("utf-8"):
        raise ValueError(
            "this vocabulary changes the text when it encodes it, so that its tokens are nowhere "
            "in the text; encode without return_offsets_mapping"
        )
    # The character of each byte; and at the end of the text, the number of characters.
    character = [i for i, char in enumerate(text) for _ in char.encode("utf-8")] + [len(text)]
    ends = list(accumulate(map(len, pieces)))
    return [
        (character[start], character[end - 1] + 1 if start < end else character[start])
        for start, end in zip([0, *ends], ends, strict=False)
    ]
