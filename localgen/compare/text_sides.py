"""Cuts two texts where they diverge, for a page that shows them side by side."""

from __future__ import annotations

import re
from dataclasses import dataclass

from localgen.compare.divergence import n_same
from localgen.compare.level_result import Divergence

# Visible white space; line breaks still break the line.
_SIGNS = str.maketrans({" ": "␣", "\t": "⇥\t", "\n": "↵\n", "\r": "␍", "\u00a0": "⍽"})


@dataclass(frozen=True, slots=True)
class Sides:
    """Two texts cut where they diverge: their common part, and each one's next word and rest.

    shows_space: whether the two words differ only in white space, or one is only white space.
    """

    prompt: str
    n_same: int
    same: str
    reference: tuple[str, str]
    text: tuple[str, str]

    @property
    def is_same(self) -> bool:
        return not any((*self.reference, *self.text))

    @property
    def shows_space(self) -> bool:
        ours, theirs = self.reference[0], self.text[0]
        return ours.split() == theirs.split() or any(each.isspace() for each in (ours, theirs))

    def mark(self, word: str) -> str:
        """Return a word with visible white space, if that is the difference."""
        return word.translate(_SIGNS) if self.shows_space else word


def sides(found: Divergence) -> Sides:
    """Cut both texts at the first character that differs; the word of a text that ends is ""."""
    n = n_same(found.reference, found.text)
    return Sides(
        found.prompt,
        found.n_same,
        found.text[:n],
        _word(found.reference[n:]),
        _word(found.text[n:]),
    )


def _word(text: str) -> tuple[str, str]:
    """Return the first word, with the space before it, and the rest."""
    match = re.match(r"\s*\S*", text)
    end = match.end() if match else 0
    return text[:end], text[end:]
