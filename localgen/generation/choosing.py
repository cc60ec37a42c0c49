"""Probabilities of choices after prompts: builds the requests, and the results from what they find.

The engine adds up log-probabilities (``engine.continuations``); what is compared is decided here.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from collections.abc import Sequence as Items
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np

from localgen._util.checks import check_choice
from localgen.config import ModelConfig
from localgen.engine.backend import Backend, TokenIds
from localgen.engine.capacity import check_fits
from localgen.engine.continuations import Logprobs
from localgen.engine.request import Request
from localgen.generation.choice_tokens import ChoiceTokens, check_choices_fit, tokens_of
from localgen.generation.inputs import Prompt, encode
from localgen.generation.scored_prompts import NewSequence, ScoredPrompt, requests_for
from localgen.text.tokenizer import Tokenizer

Normalization = Literal["sum", "mean", "unconditional"]
NORMALIZATIONS = ("sum", "mean", "unconditional")


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredChoice:
    """One choice: its ``text``, the ``token_ids`` that were scored, and the sum of their natural
    log-probabilities after the prompt.

    unconditional_logprob: the same without the prompt; None unless ``normalization`` is
    "unconditional". score: what is compared. probability: softmax of the scores of all choices.
    """

    text: str
    token_ids: tuple[int, ...]
    logprob: float
    unconditional_logprob: float | None
    score: float
    probability: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ChoiceStats:
    """What scoring the choices of one prompt took.

    n_prompt: tokens of the prompt that come before those of the choices. n_cached: those of them
    that were in the KV cache before. n_computed: tokens that went through the model, for all
    choices together. n_sequences: in how many sequences. wall_seconds: of the whole call.
    """

    n_prompt: int
    n_cached: int
    n_computed: int
    n_sequences: int
    wall_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ChoiceScores:
    """The choices after one prompt, in the order in which they were given.

    The probabilities add up to 1.
    """

    choices: tuple[ScoredChoice, ...]
    normalization: Normalization
    stats: ChoiceStats

    @property
    def best(self) -> ScoredChoice:
        """The choice with the largest score; of equal ones the first."""
        return max(self.choices, key=lambda choice: choice.score)

    @property
    def text(self) -> str:
        """The text of the best choice."""
        return self.best.text

    @property
    def probabilities(self) -> dict[str, float]:
        """The probability of each choice, by its text."""
        return {choice.text: choice.probability for choice in self.choices}


def check_normalization(value: str) -> Normalization:
    """Return ``value``; raise ValueError unless it is the name of a normalization."""
    return cast("Normalization", check_choice("normalization", value, NORMALIZATIONS))


def build(
    prompts: Items[Prompt],
    choices: list[str],
    texts: list[str],
    *,
    tokenizer: Tokenizer,
    backend: Backend,
    config: ModelConfig,
    new_sequence: NewSequence,
    normalization: str,
    unconditional_prompt: Prompt | None,
    split_special_tokens: bool,
) -> Choosing:
    """Check the arguments of ``choose()`` or ``classify()``, and return the call.

    texts: what the results call the ``choices``. new_sequence: see ``Choosing``.
    """
    started = time.perf_counter()
    kind = check_normalization(normalization)
    if unconditional_prompt is not None and kind != "unconditional":
        raise ValueError(
            f"unconditional_prompt needs normalization='unconditional', got {normalization!r}"
        )
    split = split_special_tokens
    tokens = [tokens_of(each, choices, tokenizer, split_special_tokens=split) for each in prompts]
    unconditional = None
    if kind == "unconditional":
        unconditional = _unconditional_ids(unconditional_prompt, tokenizer, split)
    for each in tokens:
        for start in (each.start,) if unconditional is None else (each.start, unconditional):
            n_tokens = check_choices_fit(start, each.continuations, config.n_ctx)
            check_fits(backend, n_tokens, config.max_sequences)
    return Choosing(
        texts,
        tokens,
        normalization=kind,
        unconditional=unconditional,
        new_sequence=new_sequence,
        n_vocab=backend.n_vocab,
        max_sequences=config.max_sequences,
        started=started,
    )


def _unconditional_ids(prompt: Prompt | None, tokenizer: Tokenizer, split: bool) -> TokenIds:
    """Return the tokens that stand for no prompt: BOS, or what ends another text."""
    if prompt is not None:
        return encode(prompt, tokenizer, "unconditional_prompt", split_special_tokens=split)
    token_id = tokenizer.bos_token_id
    if token_id is None:
        token_id = tokenizer.eos_token_id
    if token_id is None:
        raise ValueError(
            "the vocabulary has neither BOS nor EOS to stand for no prompt: pass "
            "unconditional_prompt"
        )
    return np.array([token_id], np.int32)


class Choosing:
    """The choices of one call of ``choose()`` or ``classify()``.

    texts: of the choices, for each of ``prompts``. unconditional: the tokens that stand for no
    prompt; None unless they are needed. new_sequence: returns a sequence of a prompt, with room for
    so many tokens. started: ``time.perf_counter()`` when the call came in.
    """

    def __init__(
        self,
        texts: list[str],
        prompts: list[ChoiceTokens],
        *,
        normalization: Normalization,
        unconditional: TokenIds | None,
        new_sequence: NewSequence,
        n_vocab: int,
        max_sequences: int,
        started: float,
    ) -> None:
        self._texts = texts
        self._normalization = normalization
        self._new_sequence = new_sequence
        self._n_vocab = n_vocab
        self._max_sequences = max_sequences
        self._started = started
        self._prompts = [ScoredPrompt(tokens) for tokens in prompts]
        # Mostly all prompts have the same tokens after them.
        self._unconditional: dict[tuple[tuple[int, ...], ...], ScoredPrompt] = {}
        if unconditional is not None:
            for tokens in prompts:
                key = tuple(tokens.continuations)
                if key not in self._unconditional:
                    free = ChoiceTokens(unconditional, tokens.continuations)
                    self._unconditional[key] = ScoredPrompt(free)

    def requests(self) -> Iterator[Request]:
        """Yield one request after the other; each must be done before the next is asked for."""
        prompts = [*self._prompts, *self._unconditional.values()]
        return requests_for(prompts, self._new_sequence, self._n_vocab, self._max_sequences)

    def results(self) -> list[ChoiceScores]:
        """Return the scores after each prompt, once all requests are done."""
        seconds = time.perf_counter() - self._started
        return [self._result(prompt, seconds) for prompt in self._prompts]

    def _result(self, prompt: ScoredPrompt, seconds: float) -> ChoiceScores:
        continuations = prompt.tokens.continuations
        free = self._unconditional.get(tuple(continuations)) if self._unconditional else None
        without = None if free is None else free.logprobs
        scores = _scores(prompt, self._normalization, without)
        return ChoiceScores(
            choices=tuple(
                ScoredChoice(
                    text=text,
                    token_ids=token_ids,
                    logprob=logprob,
                    unconditional_logprob=other,
                    score=score,
                    probability=probability,
                )
                for text, token_ids, logprob, other, score, probability in zip(
                    self._texts,
                    continuations,
                    prompt.logprobs.tolist(),
                    itertools.repeat(None, len(scores)) if without is None else without.tolist(),
                    scores.tolist(),
                    softmax(scores).tolist(),
                    strict=True,
                )
            ),
            normalization=self._normalization,
            stats=ChoiceStats(
                n_prompt=len(prompt.tokens.start),
                n_cached=prompt.n_cached or 0,
                n_computed=prompt.n_computed,
                n_sequences=prompt.n_sequences,
                wall_seconds=seconds,
            ),
        )


def _scores(
    prompt: ScoredPrompt, normalization: Normalization, without: Logprobs | None
) -> Logprobs:
    """Return the score (m,) of each choice."""
    if without is not None:
        return prompt.logprobs - without
    if normalization == "mean":
        return prompt.logprobs / [len(each) for each in prompt.tokens.continuations]
    return prompt.logprobs


def softmax(scores: Logprobs) -> Logprobs:
    """Return exp(scores) / sum(exp(scores)), float64 (m,)."""
    weights = np.exp(scores - scores.max())
    probabilities: Logprobs = weights / weights.sum()
    return probabilities
