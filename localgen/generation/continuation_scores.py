"""Log-probabilities of given token ids after given token ids: builds the requests, and the results
from what they find. Knows no text."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence as Items
from dataclasses import dataclass
from typing import Any

import numpy as np

from localgen.config import ModelConfig
from localgen.engine.backend import Backend
from localgen.engine.capacity import check_fits
from localgen.engine.request import Request
from localgen.errors import ContextFullError
from localgen.generation.choice_tokens import ChoiceTokens
from localgen.generation.inputs import id_row
from localgen.generation.scored_prompts import NewSequence, ScoredPrompt, requests_for

Ids = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ContinuationScore:
    """logprob: the sum of the natural log-probabilities of a continuation's tokens after its
    prompt. is_greedy: whether each of them is the most likely token, so that greedy decoding would
    write the continuation."""

    logprob: float
    is_greedy: bool


class ContinuationScores:
    """The call of ``score_continuations()``.

    Pairs with one prompt share it, and equal pairs are computed once. Prompts are computed in the
    order of their token ids, so that those with a common beginning follow one another.
    """

    def __init__(
        self,
        pairs: Items[Any],
        *,
        backend: Backend,
        config: ModelConfig,
        new_sequence: NewSequence,
    ) -> None:
        self._backend = backend
        self._max_sequences = config.max_sequences
        self._new_sequence = new_sequence
        self._pairs = [_checked(index, pair, backend.n_vocab) for index, pair in enumerate(pairs)]
        for index, (prompt, continuation) in enumerate(self._pairs):
            n_tokens = len(prompt) + len(continuation)
            if n_tokens > config.n_ctx:
                raise ContextFullError(n_tokens, config.n_ctx, f"pair {index}")
            check_fits(backend, n_tokens, config.max_sequences)
        self._index_of: dict[Ids, dict[Ids, int]] = {}
        for prompt, continuation in self._pairs:
            indices = self._index_of.setdefault(prompt, {})
            indices.setdefault(continuation, len(indices))
        self._prompts = {
            prompt: ScoredPrompt(ChoiceTokens(np.array(prompt, np.int32), [*indices]))
            for prompt, indices in sorted(self._index_of.items())
        }

    def requests(self) -> Iterator[Request]:
        """Yield one request after the other; each must be done before the next is asked for."""
        prompts = [*self._prompts.values()]
        n_vocab = self._backend.n_vocab
        return requests_for(prompts, self._new_sequence, n_vocab, self._max_sequences)

    def results(self) -> list[ContinuationScore]:
        """Return the score of each pair, once all requests are done."""
        return [self._result(*pair) for pair in self._pairs]

    def _result(self, prompt: Ids, continuation: Ids) -> ContinuationScore:
        index, found = self._index_of[prompt][continuation], self._prompts[prompt]
        return ContinuationScore(float(found.logprobs[index]), bool(found.greedy[index]))


def _checked(index: int, pair: Any, n_vocab: int) -> tuple[Ids, Ids]:
    """Return (prompt, continuation) as tuples of token ids. Raises TypeError or ValueError."""
    try:
        prompt, continuation = pair
    except (TypeError, ValueError):
        raise TypeError(
            f"pair {index} must be (token ids of a prompt, token ids after it), got {pair!r:.80}"
        ) from None
    return (
        _ids(prompt, n_vocab, f"the prompt of pair {index}"),
        _ids(continuation, n_vocab, f"the continuation of pair {index}"),
    )


def _ids(given: Any, n_vocab: int, what: str) -> Ids:
    return tuple(id_row(given, n_vocab, what).tolist())
