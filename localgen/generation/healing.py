"""Token healing: the last tokens of a prompt are generated again, so that a longer one may follow.

A prompt that ends in the middle of a word ends with tokens that the word does not have. They are
backed up. Generation then goes through the same tokens, and at each may choose one instead that
spells all that is left of the prompt and goes on beyond its end. That is by bytes: nothing is
encoded again, and a token may end in the middle of a character.

Other tokens that spell a part of the prompt are not allowed: no tokenizer makes them of this text,
so a model's probability of them is that of other texts.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from localgen.engine.backend import TokenIds
from localgen.engine.sequence import Sequence
from localgen.engine.trackers import Mask
from localgen.text.byte_index import ByteIndex


def n_to_back_up(
    token_ids: TokenIds, n_fixed: int, index: ByteIndex, banned: Collection[int] = ()
) -> int:
    """Return how many tokens at the end of a prompt are generated again.

    The most such that a longer token begins with all of their bytes, and could take their place; 0
    if there are none. The first ``n_fixed`` tokens stay, at least one; and all tokens up to the
    last one that is ``banned`` or not in ``index``.
    """
    last = _last_tokens(token_ids.tolist(), max(n_fixed, 1), index, banned)
    rest = b"".join(index.pieces[token_id] for token_id in last)
    for number, token_id in enumerate(last):
        if len(index.extending(rest)):
            return len(last) - number
        rest = rest[len(index.pieces[token_id]) :]
    return 0


def _last_tokens(
    ids: list[int], n_fixed: int, index: ByteIndex, banned: Collection[int]
) -> list[int]:
    """Return the last of ``ids`` that may be backed up, as many as the longest token can span."""
    first, n_bytes = len(ids), 0
    while first > n_fixed and n_bytes < index.longest:
        token_id = ids[first - 1]
        if not index.pieces[token_id] or token_id in banned:
            break
        first -= 1
        n_bytes += len(index.pieces[token_id])
    return ids[first:]


class PromptEnd:
    """The tokens that are generated again, and what may follow each; a prompt's sequences share it.

    token_ids: the tokens that are backed up. data: their bytes.
    """

    def __init__(self, token_ids: TokenIds, index: ByteIndex) -> None:
        self.token_ids: list[int] = token_ids.tolist()
        self.data = b"".join(index.pieces[token_id] for token_id in self.token_ids)
        self._index = index
        self._masks: dict[int, Mask] = {}
        self._beyond: dict[int, list[tuple[int, list[int]]]] = {}

    def rest(self, n_spelled: int) -> bytes:
        """Return the bytes after the first ``n_spelled`` tokens."""
        return b"".join(self._index.pieces[token_id] for token_id in self.token_ids[n_spelled:])

    def beyond(self, n_spelled: int) -> list[tuple[int, list[int]]]:
        """Return the tokens that go on beyond the prompt after its first ``n_spelled`` ones, each
        with the tokens that spell its bytes after the prompt."""
        if n_spelled not in self._beyond:
            ids = self._index.extending(self.rest(n_spelled)).tolist()
            split = ((token_id, self.split_beyond(n_spelled, token_id)) for token_id in ids)
            self._beyond[n_spelled] = [(token_id, told) for token_id, told in split if told]
        return self._beyond[n_spelled]

    def split_beyond(self, n_spelled: int, token_id: int) -> list[int]:
        """Return the tokens that spell what one has after the prompt; none if there are none."""
        return self._index.split(self._index.pieces[token_id][len(self.rest(n_spelled)) :])

    def mask(self, n_spelled: int) -> Mask:
        """Return the tokens that may follow the first ``n_spelled`` ones, bool (n_vocab,): the next
        one, and those that begin with all the bytes that are left and have more."""
        if n_spelled not in self._masks:
            mask: Mask = np.zeros(len(self._index.pieces), np.bool_)
            mask[self._index.extending(self.rest(n_spelled))] = True
            mask[self.token_ids[n_spelled]] = True
            self._masks[n_spelled] = mask
        return self._masks[n_spelled]


class HealingTracker:
    """Lets a sequence spell the end of its prompt first; implements ``Constraint``."""

    stops = False

    def __init__(self, end: PromptEnd) -> None:
        self._end = end
        self._n_accepted = 0
        # With how many accepted tokens all of the prompt was spelled; None until then.
        self._done_at: int | None = None

    @property
    def is_done(self) -> bool:
        """Whether all of the prompt is spelled, so that any token may follow."""
        return self._done_at is not None

    def accept(self, token_id: int) -> None:
        if self._done_at is None:
            self._spell(token_id)
        self._n_accepted += 1

    def _spell(self, token_id: int) -> None:
        own = self._end.token_ids
        if not self._end.mask(self._n_accepted)[token_id]:
            raise ValueError(
                f"token {token_id} was chosen, but {self.requirement}: do not let a logits "
                f"processor raise scores of -inf, or use token_healing=False"
            )
        if token_id != own[self._n_accepted] or self._n_accepted == len(own) - 1:
            self._done_at = self._n_accepted + 1

    def rollback(self, n_tokens: int) -> None:
        self._n_accepted -= n_tokens
        if self._done_at is not None and self._done_at > self._n_accepted:
            self._done_at = None

    def mask(self) -> Mask | None:
        return self._end.mask(self._n_accepted) if self._done_at is None else None

    @property
    def requirement(self) -> str:
        rest = self._end.rest(self._n_accepted)
        return f"token healing allows only tokens that continue the prompt with {rest!r}"

    def copy(self) -> HealingTracker:
        clone = HealingTracker(self._end)
        clone._n_accepted, clone._done_at = self._n_accepted, self._done_at
        return clone


def is_healing(sequence: Sequence) -> bool:
    """Return whether a sequence has not spelled all of its prompt yet."""
    trackers = (each for each in sequence.trackers if isinstance(each, HealingTracker))
    return any(not tracker.is_done for tracker in trackers)
