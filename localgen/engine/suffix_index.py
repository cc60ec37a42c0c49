"""Where a sequence's last tokens stood before: an index of its n-grams, kept token by token.

For each n-gram it knows the last position at which it ended, and for each position the one before
it with the same n-gram. So a look-up, a new token and one that is taken back take the same short
time, however long the sequence is.
"""

from __future__ import annotations

from collections.abc import Iterable

# Chances are kept by the length of the match that a token continues, in classes of 1, 2, 3 to 4, 5
# to 8, 9 to 16 tokens, and more. These are what they start from, as if seen in so many tokens.
_FIRST_CHANCES = (0.25, 0.5, 0.7, 0.85, 0.92, 0.97)
_FIRST_WEIGHT = 4.0
# What was seen longer ago counts for less: by half after about 20 tokens of the class.
_KEPT = 0.97


def match_class(length: int) -> int:
    """Return the class of a match of ``length`` tokens, at least 1."""
    return min((length - 1).bit_length(), len(_FIRST_CHANCES) - 1)


class MatchChances:
    """How likely it is that the next token continues a match, learned by the match's length."""

    def __init__(self) -> None:
        self._hits = [chance * _FIRST_WEIGHT for chance in _FIRST_CHANCES]
        self._trials = [_FIRST_WEIGHT] * len(_FIRST_CHANCES)

    def of(self, length: int) -> float:
        """Return the chance after a match of ``length`` tokens."""
        number = match_class(length)
        return self._hits[number] / self._trials[number]

    def learn(self, length: int, hit: bool) -> None:
        """Take note of whether the next token continued a match."""
        number = match_class(length)
        self._hits[number] = self._hits[number] * _KEPT + hit
        self._trials[number] = self._trials[number] * _KEPT + 1.0

    def copy(self) -> MatchChances:
        clone = MatchChances()
        clone._hits, clone._trials = list(self._hits), list(self._trials)
        return clone


class SuffixIndex:
    """Follows one sequence, and says what followed its last tokens before.

    A match is the position of an earlier token and its length: so many tokens up to there are the
    last ones of the sequence. While the sequence repeats what followed, the match grows; it is not
    looked for again.

    max_ngram: the most tokens that a new match is looked for with, at least 1. chances: those of
    several sequences, which learn them together; None for its own. Implements ``trackers.Tracker``;
    it masks nothing and stops nothing.
    """

    stops = False

    def __init__(
        self, token_ids: Iterable[int], max_ngram: int, chances: MatchChances | None = None
    ) -> None:
        self._max_ngram = max_ngram
        self._tokens: list[int] = []
        # For each size from 1: where each n-gram ended last, and for each position the one before.
        self._last: list[dict[tuple[int, ...], int]] = [{} for _ in range(max_ngram)]
        self._before: list[list[int]] = [[] for _ in range(max_ngram)]
        self._position = -1
        self._length = 0
        self._chances = chances or MatchChances()
        for token_id in token_ids:
            self._add(token_id)
        self._look_up()

    @property
    def match(self) -> tuple[int, int] | None:
        """The position of the earlier token that the last one repeats, and how many tokens up to
        there are repeated; None if there is no such token."""
        return None if self._position < 0 else (self._position, self._length)

    def accept(self, token_id: int) -> None:
        hit = False
        if self._position >= 0:
            hit = self._tokens[self._position + 1] == token_id
            self._chances.learn(self._length, hit)
        self._add(token_id)
        if hit:
            self._position += 1
            self._length += 1
        else:
            self._look_up()

    def rollback(self, n_tokens: int) -> None:
        for _ in range(n_tokens):
            for size, (last, before) in enumerate(zip(self._last, self._before, strict=True), 1):
                earlier, key = before.pop(), tuple(self._tokens[-size:])
                if earlier >= 0:
                    last[key] = earlier
                else:
                    last.pop(key, None)
            self._tokens.pop()
        if n_tokens:
            self._look_up()

    def mask(self) -> None:
        return None

    def copy(self) -> SuffixIndex:
        clone = object.__new__(SuffixIndex)
        self._copy_to(clone)
        return clone

    def _copy_to(self, clone: SuffixIndex) -> None:
        clone._max_ngram = self._max_ngram
        clone._tokens = list(self._tokens)
        clone._last = [dict(each) for each in self._last]
        clone._before = [list(each) for each in self._before]
        clone._position, clone._length = self._position, self._length
        clone._chances = self._chances.copy()  # a copy may be made to look at what it would be

    def guess(self, n_tokens: int) -> tuple[list[int], list[float]]:
        """Return what followed the match, at most ``n_tokens`` tokens, and for each the chance that
        it follows again if all before it do.

        At most twice as many as the match has tokens, so that a wrong one does not cost much. Where
        the match reaches the last token, what followed is taken to repeat.
        """
        if self._position < 0:
            return [], []
        n_tokens = min(n_tokens, 2 * self._length)
        first = self._position + 1
        followed = self._tokens[first : first + n_tokens]
        period = len(followed)
        while len(followed) < n_tokens:
            followed.append(followed[-period])
        lengths = range(self._length, self._length + n_tokens)
        return followed, [self._chances.of(length) for length in lengths]

    def _add(self, token_id: int) -> None:
        position = len(self._tokens)
        self._tokens.append(token_id)
        for size, (last, before) in enumerate(zip(self._last, self._before, strict=True), 1):
            key = tuple(self._tokens[-size:])
            # The first tokens have no n-gram of this size; their shorter keys match no longer one.
            before.append(last.get(key, -1))
            last[key] = position

    def _look_up(self) -> None:
        """Find the last place where as many of the last tokens as possible stood before."""
        for size in range(self._max_ngram, 0, -1):
            position = self._before[size - 1][-1] if self._tokens else -1
            if position >= 0:
                self._position, self._length = position, size
                return
        self._position, self._length = -1, 0
