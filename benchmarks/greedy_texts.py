"""What a model answers greedily, token by token, and whether another text agrees with it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from servers import N_CTX

from localgen import LocalModel

_N_TOP = 20
# Of a character whose other bytes are in the next token, and of bytes that are no character. Where
# a text ends, these look alike: both texts are compared without them.
_HALF = "\ufffd"


@dataclass(frozen=True)
class GreedyText:
    """A greedy answer.

    text: all of it. ends: where each token ends in it. top: of each token, the text and the
    log-probability of the likeliest ones, itself first.
    """

    text: str
    ends: tuple[int, ...]
    top: tuple[tuple[tuple[str, float], ...], ...]

    def gap(self, text: str, *, n_new: int, is_whole: bool) -> float:
        """Return how much less likely another text of ``n_new`` tokens is at the first token that
        differs: 0.0 for an equal one, infinite for a token that is not among the likeliest.

        is_whole: whether it has all of its tokens; else it may end anywhere.
        """
        length = self.ends[n_new - 1] if n_new <= len(self.ends) else None
        text, wanted = text.rstrip(_HALF), self.text[:length].rstrip(_HALF)
        if text == wanted or (not is_whole and wanted.startswith(text)):
            return 0.0
        token = self._first_difference(text)
        rest = text[self.ends[token - 1] if token else 0 :]
        best = self.top[token][0][1]
        others = [logprob for piece, logprob in self.top[token][1:] if _agree(piece, rest)]
        return min((best - logprob for logprob in others), default=math.inf)

    def _first_difference(self, text: str) -> int:
        """Return the index of the first token that a text does not have, which may be the end."""
        differing = (i for i, end in enumerate(self.ends) if text[:end] != self.text[:end])
        return next(differing, len(self.ends) - 1)


def _agree(piece: str, rest: str) -> bool:
    """Return whether a text goes on with a token, of which it may have a part only; the end of a
    text has no piece."""
    if piece.endswith(_HALF):  # what character it becomes is not known
        piece = piece.rstrip(_HALF)
        following = rest[len(piece) : len(piece) + 1]
        return rest.startswith(piece) and not (following and following.isascii())
    return (rest.startswith(piece) or piece.startswith(rest)) if piece and rest else piece == rest


def greedy_texts(
    path: str, given: Sequence[Any], n_new: int, *, deterministic: bool
) -> list[GreedyText]:
    """Return what a model in this process answers to each chat."""
    options: Any = {"n_ctx": N_CTX, "deterministic": deterministic}
    with LocalModel.from_pretrained(path, **options) as model:
        prompts = [model.chat_prompt(messages) for messages in given]
        done = model.complete(prompts, max_new_tokens=n_new, do_sample=False, logprobs=_N_TOP)
        return [_greedy_text(model, each) for each in done]


def _greedy_text(model: LocalModel, done: Any) -> GreedyText:
    def text_of(token_ids: list[int]) -> str:
        return model.tokenizer.decode(token_ids, skip_special_tokens=True)

    ids = done.token_ids
    ends = tuple(len(text_of(ids[: n + 1]).rstrip(_HALF)) for n in range(len(ids)))
    top = tuple(tuple((text_of([i]), logprob) for i, logprob in each.top) for each in done.logprobs)
    return GreedyText(done.text, ends, top)
