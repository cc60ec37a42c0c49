"""Random texts of a grammar, byte by byte, with the marks of a format where they fit."""

from __future__ import annotations

import functools
import random
from typing import Any

import llguidance
import numpy as np

from localgen.text.replies.formats import ReplyFormat

_PIECES = (
    *('"', '"', "}", "}}", "]", "{", "[", " ", "\n", "```", "3", "true", "None", "null"),
    *("to=", "functions.", "<escape>", '{"name": "work", "parameters":'),
)
_LIKELY = frozenset(b'"}]<>/=_abc01 \n')


class _Bytes:
    """A vocabulary of bytes and of marks that are special tokens, by llguidance's names."""

    bos_token_id = None

    def __init__(self, marks: tuple[str, ...]) -> None:
        self.eos_token_id = 256 + len(marks)
        self.special_token_ids = list(range(256, self.eos_token_id + 1))
        self.tokens = [
            *(bytes([byte]) for byte in range(256)),
            *(b"<%d>" % token_id for token_id in self.special_token_ids),
        ]

    def __call__(self, text: bytes | str) -> list[int]:
        return list(text.encode() if isinstance(text, str) else text)


@functools.cache
def _vocabulary(marks: tuple[str, ...]) -> Any:
    wrapped = llguidance.TokenizerWrapper(_Bytes(marks))
    return llguidance.LLTokenizer(wrapped, n_vocab=257 + len(marks), slices=[])


def special_id(mark: str, marks: tuple[str, ...]) -> int | None:
    """The token of a mark, if it is one of ``marks``, the special tokens."""
    return 256 + marks.index(mark) if mark in marks else None


def matcher_of(grammar: str, marks: tuple[str, ...] = ()) -> Any:
    source = llguidance.LLMatcher.grammar_from_lark(grammar)
    matcher = llguidance.LLMatcher(_vocabulary(marks), source, log_level=0)
    assert not matcher.is_error(), f"{matcher.get_error()}\n{grammar}"
    return matcher


def takes(grammar: str, text: str) -> bool:
    """Whether ``text`` is a whole text of a grammar."""
    matcher = matcher_of(grammar)
    return _take(matcher, list(text.encode())) and bool(matcher.is_accepting())


class Walk:
    """A random text of a grammar. marks: those that are special tokens."""

    def __init__(
        self, grammar: str, form: ReplyFormat, seed: int, marks: tuple[str, ...] = ()
    ) -> None:
        self._rng = random.Random(seed)
        self._matcher = matcher_of(grammar, marks)
        self._marks = marks
        self._pieces = _pieces(form)
        self._taken: list[int] = []

    def text(self, n_steps: int = 500) -> str | None:
        """Return a text; None if it did not end in so many steps."""
        for _ in range(n_steps):
            is_whole = self._matcher.is_accepting()
            if is_whole and (self._matcher.is_stopped() or self._rng.random() < 0.05):
                return self._spelled().decode()
            if self._rng.random() < 0.5 or not self.take(self._rng.choice(self._pieces)):
                self._taken.append(self._next_token())
                assert self._matcher.consume_token(self._taken[-1])
        return None

    def take(self, piece: str) -> bool:
        """Go on with ``piece`` if it fits."""
        number = special_id(piece, self._marks)
        if number is None:
            tokens = list(piece.encode())
            fits = _take(self._matcher, tokens)
        else:  # llguidance validates no special tokens
            tokens = [number]
            fits = number in self._allowed() and self._matcher.consume_token(number)
        self._taken += tokens if fits else []
        return fits

    def _next_token(self) -> int:
        allowed = self._allowed()
        assert allowed, self._matcher.get_error()
        likely = [each for each in allowed if each in _LIKELY or each >= 256]
        return self._rng.choice(likely if likely and self._rng.random() < 0.7 else allowed)

    def _allowed(self) -> list[int]:
        mask = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
        bits = np.unpackbits(mask, bitorder="little")[: 256 + len(self._marks)]
        found: list[int] = np.flatnonzero(bits).tolist()
        return found

    def _spelled(self) -> bytes:
        return b"".join(
            bytes([each]) if each < 256 else self._marks[each - 256].encode()
            for each in self._taken
        )


def _take(matcher: Any, tokens: list[int]) -> bool:
    """Follow tokens if the grammar allows all of them."""
    if matcher.validate_tokens(tokens) < len(tokens):
        return False
    return bool(matcher.consume_tokens(tokens))


def _pieces(form: ReplyFormat) -> list[str]:
    """What a format is made of, so that a walk comes to its marks."""
    texts = [*_PIECES, *sorted(form.marks), *form.starts]
    tags = form.tags
    if tags is not None:
        ends = (tags.value_end, f"{tags.value_end}\n", f"\n{tags.value_end}\n")
        texts += [*ends, *ends, tags.key, tags.call_end, f"{tags.name}work{tags.name_end}"]
    return [text for text in texts if text]
