"""Tokens' places in a text, worked out by hand."""

from __future__ import annotations

import pytest

from localgen.text.offsets import token_offsets


@pytest.mark.parametrize(
    ("text", "pieces", "expected"),
    [
        ("", [], []),
        ("ab c", [b"ab", b" c"], [(0, 2), (2, 4)]),
        # é is two bytes, in a token each: both cover it.
        ("aéb", [b"a", b"\xc3", b"\xa9b"], [(0, 1), (1, 2), (1, 3)]),
        ("漢🙂", ["漢".encode(), "🙂".encode()[:3], "🙂".encode()[3:]], [(0, 1), (1, 2), (1, 2)]),
        ("ab", [b"a", b"", b"b", b""], [(0, 1), (1, 1), (1, 2), (2, 2)]),
    ],
)
def test_by_hand(text: str, pieces: list[bytes], expected: list[tuple[int, int]]) -> None:
    assert token_offsets(text, pieces) == expected


def test_tokens_that_do_not_spell_the_text() -> None:
    """A vocabulary may drop or change characters: then no place is right."""
    with pytest.raises(ValueError, match="changes the text when it encodes it"):
        token_offsets("a\x04b", [b"a", b"b"])
