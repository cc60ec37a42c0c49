"""Follows the tokens of a text through a compiled grammar: llguidance's matcher, with errors.

Implements ``engine.constraint.Matcher``. llguidance raises nothing: after each call it is asked.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from typing import cast

import numpy as np
from llguidance import LLExecutor, LLMatcher

from localgen.engine.constraint import Matcher, PackedMask
from localgen.errors import ConstraintError, DecodeError

_WORD_BYTES = 4  # llguidance writes masks as words of 32 bits
_MOST_THREADS = 16  # one mask takes less time than waking many threads


class GrammarMatcher:
    """One text's way through a grammar.

    n_vocab: of the model; llguidance's own end-of-sequence token comes after it. grammar: what was
    compiled; all its matchers have the same one.
    """

    def __init__(self, matcher: LLMatcher, n_vocab: int, name: str, grammar: LLMatcher) -> None:
        self._matcher = matcher
        self.n_vocab = n_vocab
        self._name = name
        self.grammar = grammar

    @property
    def is_free(self) -> bool:
        """False: even where any text may come, special tokens may not."""
        return False

    @property
    def handle(self) -> LLMatcher:
        return self._matcher

    def accept(self, token_id: int) -> None:
        """Follow one more token. Raises ValueError for one that is not allowed, ConstraintError if
        the grammar became too complex to follow."""
        if not self._matcher.consume_token(token_id):
            if "doesn't satisfy the grammar" in self.reason:
                raise ValueError(f"token {token_id} is not allowed by {self._name}")
            self.check()

    def rollback(self, n_tokens: int) -> None:
        """Take the last accepted tokens back."""
        if n_tokens and not self._matcher.rollback(n_tokens):
            raise DecodeError(f"{self._name}: {self.reason}")

    def mask(self) -> PackedMask:
        """Return the tokens that may come next, as bits."""
        return masks_of([self])[0]

    def check(self) -> None:
        """Raise ConstraintError if the grammar became too complex to follow."""
        if self._matcher.is_error():
            raise ConstraintError(
                f"{self._name} is too complex to follow here: {self.reason}; use a simpler one"
            )

    @property
    def reason(self) -> str:
        """The first line of llguidance's error."""
        return self._matcher.get_error().partition("\n")[0]

    def forced_tokens(self) -> list[int]:
        """Return the tokens that must come next."""
        found = [int(each) for each in self._matcher.compute_ff_tokens()]
        self.check()
        return found

    def n_allowed(self, token_ids: Sequence[int]) -> int:
        """Return how many of these tokens, from the first on, may come one after the other."""
        found = int(self._matcher.validate_tokens(list(token_ids)))
        self.check()
        return found

    @property
    def may_end(self) -> bool:
        return bool(self._matcher.is_accepting())

    @property
    def is_done(self) -> bool:
        return bool(self._matcher.is_stopped() and self._matcher.is_accepting())

    def fork(self) -> GrammarMatcher:
        return GrammarMatcher(self._matcher.deep_copy(), self.n_vocab, self._name, self.grammar)


def masks_of(given: list[Matcher], n_threads: int = 1) -> list[PackedMask]:
    """Return the masks of a compiler's matchers, made without the GIL.

    Those of different grammars are made by up to ``n_threads`` at once. Matchers of one grammar
    share llguidance's lexer and its lock, so these would only wait for each other. Raises
    ConstraintError if a grammar became too complex to follow.
    """
    matchers = cast("list[GrammarMatcher]", given)
    n_vocab = matchers[0].n_vocab
    n_words = n_vocab // 32 + 1  # the end that llguidance knows has a bit, too
    masks = np.zeros((len(matchers), n_words * _WORD_BYTES), np.uint8)
    address, n_bytes = masks.ctypes.data, n_words * _WORD_BYTES
    n_grammars = len({id(each.grammar) for each in matchers})
    if n_threads > 1 and n_grammars > 1:
        numbered = [(each.handle, index) for index, each in enumerate(matchers)]
        _executor(min(n_threads, _MOST_THREADS)).unsafe_compute_mask_ptr(
            numbered, address, n_bytes, len(matchers)
        )
    else:
        for index, each in enumerate(matchers):
            each.handle.unsafe_compute_mask_ptr(address + index * n_bytes, n_bytes)
    for each in matchers:
        if not each.handle.is_accepting():
            each.check()
    n_used = -(-n_vocab // 8)
    masks[:, n_used - 1] &= 0xFF >> -n_vocab % 8
    return [mask[:n_used] for mask in masks]


@functools.cache
def _executor(n_threads: int) -> LLExecutor:
    return LLExecutor(n_threads)


if hasattr(os, "register_at_fork"):  # a child has none of its threads
    os.register_at_fork(after_in_child=_executor.cache_clear)
