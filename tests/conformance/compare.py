"""Real models compared with themselves alone: tokens where the choice is clear, and logits nearly.

The KV cache is in F32 and flash attention is off, so that only the order of additions tells one way
of computing from another: that moves a logit by less than ``TOLERANCE``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from localgen import Completion, LocalModel
from localgen.engine.backend import Logits
from models.make_tiny import (
    make_gemma_swa,
    make_lfm2,
    make_llama_bpe,
    make_llama_spm,
    make_mamba,
)
from tests.conformance.invariants import forget_all

Prompt = list[int]
KINDS: dict[str, Callable[..., None]] = {
    "llama-bpe": make_llama_bpe,
    "llama-spm": make_llama_spm,
    "gemma-swa": make_gemma_swa,
    "mamba": make_mamba,
    "lfm2": make_lfm2,
}
OPTIONS: dict[str, Any] = {
    "n_ctx": 1024, "n_threads": 1, "kv_type": "f32", "flash_attention": "off",
}  # fmt: skip
TOLERANCE = 1e-2


class Alone:
    """What a model says of each prompt alone, on an empty KV cache; kept once it was asked for.

    tolerance: how far logits may be apart, from one way of computing to another.
    """

    def __init__(self, model: LocalModel, tolerance: float = TOLERANCE) -> None:
        self._model = model
        self._tolerance = tolerance
        self._rows: dict[tuple[tuple[int, ...], int], Completion] = {}

    def row(self, prompt: Prompt, n_new: int) -> Completion:
        key = tuple(prompt), n_new
        if key not in self._rows:
            self._forget()
            options: dict[str, Any] = {"max_new_tokens": n_new, "logprobs": 2, "do_sample": False}
            (self._rows[key],) = self._model.complete([prompt], **options)
        return self._rows[key]

    def n_clear(self, prompt: Prompt, n_new: int) -> int:
        """How many tokens there are before the first whose choice is not clear."""
        steps = self.row(prompt, n_new).logprobs or []
        gaps = [step.top[0][1] - step.top[1][1] for step in steps]
        return next((i for i, gap in enumerate(gaps) if gap < self._tolerance), len(gaps))

    def check(self, got: Prompt, prompt: Prompt, n_new: int, *, whole: bool = True) -> None:
        """``got`` are the tokens after ``prompt`` as far as their choice is clear; or, if not
        ``whole``, a beginning of them."""
        expected, n_clear = self.row(prompt, n_new).token_ids, self.n_clear(prompt, n_new)
        assert got[:n_clear] == expected[: min(n_clear, len(got))]
        if whole:
            assert len(got) >= n_clear
            assert n_clear < len(expected) or got == expected

    def check_row(self, got: Completion, n_new: int) -> None:
        """A row that ended by itself: its tokens, and its log-probabilities if it has them."""
        prompt = got.prompt_token_ids
        expected, n_clear = self.row(prompt, n_new), self.n_clear(prompt, n_new)
        self.check(got.token_ids, prompt, n_new)
        if n_clear == len(expected.token_ids):
            assert got.finish_reason == expected.finish_reason
        for mine, theirs in zip(
            (got.logprobs or [])[:n_clear], expected.logprobs or [], strict=False
        ):
            assert abs(mine.logprob - theirs.logprob) < self._tolerance

    def sampled(self, prompt: Prompt, **options: Any) -> Prompt | None:
        return None  # a draw may fall between the two ways of computing

    def scores(self, prompt: Prompt) -> Logits:
        self._forget()
        return self._model.score(prompt)

    def _forget(self) -> None:
        forget_all(self._model)


def prompt(row: int, length: int) -> Prompt:
    """Byte tokens, which have the same ids in both vocabularies; another text for each row."""
    return [3 + (7 * i + 31 * row + i * i) % 250 for i in range(length)]
