"""Prompts whose continuations are scored → the engine's requests, and what those find.

What the log-probabilities are for is decided by ``choosing`` and ``continuation_scores``.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from collections.abc import Sequence as Items
from dataclasses import dataclass, field

import numpy as np

from localgen.engine.backend import TokenIds
from localgen.engine.continuations import (
    ContinuationScoring,
    Flags,
    Logprobs,
    Path,
    PathLogprobs,
    paths_of,
)
from localgen.engine.request import Request
from localgen.engine.sequence import Sequence
from localgen.generation.choice_tokens import ChoiceTokens

NewSequence = Callable[[TokenIds, int], Sequence]
# Sequences of one request. More wait outside the engine, so that memory stays bounded.
MOST_SEQUENCES = 256


@dataclass(slots=True, eq=False)
class ScoredPrompt:
    """A prompt whose continuations are scored, and what was found of them.

    logprobs, greedy: of each continuation: its log-probability, and whether greedy decoding would
    choose it.
    """

    tokens: ChoiceTokens
    logprobs: Logprobs = field(init=False)
    greedy: Flags = field(init=False)
    n_cached: int | None = None
    n_computed: int = 0
    n_sequences: int = 0

    def __post_init__(self) -> None:
        self.logprobs = np.full(len(self.tokens.continuations), np.nan)
        self.greedy = np.zeros(len(self.tokens.continuations), bool)

    def take(self, sequence: Sequence, found: PathLogprobs) -> None:
        """Take what a finished sequence found."""
        self.logprobs[found.path.indices] = found.sums()
        self.greedy[found.path.indices] = found.greedy()
        self.n_sequences += 1
        self.n_computed += sequence.n_tokens - sequence.n_cached
        if self.n_cached is None:
            self.n_cached = sequence.n_cached


def requests_for(
    prompts: Items[ScoredPrompt], new_sequence: NewSequence, n_vocab: int, max_sequences: int
) -> Iterator[Request]:
    """Yield one request after the other; each must be done before the next is asked for.

    new_sequence: returns a sequence of a prompt, with room for so many tokens.
    """
    paths = ((prompt, path) for prompt in prompts for path in paths_of(prompt.tokens.continuations))
    while some := list(itertools.islice(paths, MOST_SEQUENCES)):
        sequences = _sequences(some, new_sequence)
        logprobs = {
            sequence: PathLogprobs(path)
            for sequence, (_, path) in zip(sequences, some, strict=True)
        }
        yield Request(sequences, strategy=ContinuationScoring(logprobs, n_vocab, max_sequences))
        for sequence, (prompt, _) in zip(sequences, some, strict=True):
            prompt.take(sequence, logprobs[sequence])


def _sequences(paths: list[tuple[ScoredPrompt, Path]], new_sequence: NewSequence) -> list[Sequence]:
    """Return a sequence for each path; those of one prompt come one after the other."""
    sequences: list[Sequence] = []
    first_of: dict[int, Sequence] = {}
    for prompt, path in paths:
        sequence = new_sequence(prompt.tokens.start, len(path.token_ids) + 1)
        first = first_of.setdefault(id(prompt), sequence)
        sequence.index = len(sequences)
        sequence.prompt_of = None if first is sequence else first
        sequences.append(sequence)
    return sequences
