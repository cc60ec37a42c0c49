"""Random texts of a grammar, byte by byte, with the marks of a format where they fit."""

from __future__ import annotations

import random
from typing import Any

import llguidance
import numpy as np

from localgen.text.replies.formats import ReplyFormat

BYTES = llguidance.LLTokenizer("byte")
_PIECES = (
    *('"', '"', "}", "}}", "]", "{", "[", " ", "\n", "```", "3", "true", "None", "null"),
    *("to=", "functions.", "<escape>", '{"name": "work", "parameters":'),
)
_LIKELY = frozenset(b'"}]<>/=_abc01 \n')


def matcher_of(grammar: str) -> Any:
    source = llguidance.LLMatcher.grammar_from_lark(grammar)
    matcher = llguidance.LLMatcher(BYTES, source, log_level=0)
    assert not matcher.is_error(), f"{matcher.get_error()}\n{grammar}"
    return matcher


def takes(grammar: str, text: str) -> bool:
    """Whether ``text`` is a whole text of a grammar."""
    matcher = matcher_of(grammar)
    return _take(matcher, text.encode()) and bool(matcher.is_accepting())


def walk(
    grammar: str, form: ReplyFormat, seed: int, *, start: str = "", n_steps: int = 500
) -> str | None:
    """Return a text that begins with ``start``; None if it did not end in so many steps."""
    rng, matcher, pieces = random.Random(seed), matcher_of(grammar), _pieces(form)
    taken = start.encode()
    assert _take(matcher, taken)
    for _ in range(n_steps):
        if matcher.is_accepting() and (matcher.is_stopped() or rng.random() < 0.05):
            return taken.decode()
        piece = rng.choice(pieces)
        if rng.random() < 0.5 or not _take(matcher, piece):
            piece = _next_byte(matcher, rng)
            assert _take(matcher, piece)
        taken += piece
    return None


def _take(matcher: Any, data: bytes) -> bool:
    """Follow the bytes if the grammar allows all of them."""
    if matcher.validate_tokens(list(data)) < len(data):
        return False
    return bool(matcher.consume_tokens(list(data)))


def _next_byte(matcher: Any, rng: random.Random) -> bytes:
    mask = np.frombuffer(matcher.compute_bitmask(), np.uint8)
    allowed = np.flatnonzero(np.unpackbits(mask, bitorder="little")[:256]).tolist()
    likely = [byte for byte in allowed if byte in _LIKELY]
    return bytes([rng.choice(likely if likely and rng.random() < 0.7 else allowed)])


def _pieces(form: ReplyFormat) -> list[bytes]:
    """What a format is made of, so that a walk comes to its marks."""
    texts = [*_PIECES, *sorted(form.marks), *form.starts]
    tags = form.tags
    if tags is not None:
        ends = (tags.value_end, f"{tags.value_end}\n", f"\n{tags.value_end}\n")
        texts += [*ends, *ends, tags.key, tags.call_end, f"{tags.name}work{tags.name_end}"]
    return [text.encode() for text in texts if text]
