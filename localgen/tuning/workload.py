"""What is measured with each combination of settings: a prompt and its continuation.

Every measurement loads the model anew: settings of the last one leave nothing behind, and memory
never holds the model twice.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import harmonic_mean
from typing import Any

from localgen.benchmark.cases import Case, token_ids
from localgen.model import LocalModel
from localgen.tuning.results import Speed

# Tokens of the first measurement, which shows how long the others may be.
_FIRST_PROMPT, _FIRST_NEW = 64, 8
_MOST_PROMPT, _LEAST_PROMPT = 1024, 64
_MOST_NEW, _LEAST_NEW = 64, 8
# A call of so many tokens has the settings of attention measured, if they may follow the work.
_PROMPT_OF_ATTENTION = 128

_ENDLESS: dict[str, Any] = {"do_sample": False, "eos_token_id": []}


@dataclass(frozen=True, slots=True)
class Workload:
    """A model, the options that all measurements share, and the tokens of a measurement.

    n_ctx: the most tokens that the model takes.
    """

    path: Path
    options: Mapping[str, Any]
    n_ctx: int
    n_prompt: int = _FIRST_PROMPT
    n_new: int = _FIRST_NEW

    def __post_init__(self) -> None:
        """Leave no more tokens than fit the context."""
        object.__setattr__(self, "n_new", min(self.n_new, self.n_ctx // 2))
        object.__setattr__(self, "n_prompt", min(self.n_prompt, self.n_ctx - self.n_new))

    def sized_for(self, speed: Speed, seconds: float) -> Workload:
        """Return a workload of about ``seconds`` at this speed.

        Half of the time is for the prompt, a warm-up included; a third for the new tokens.
        """
        prefill = speed.prefill or 0.0
        n_new = _within(int(seconds / 6 * speed.decode), _LEAST_NEW, _MOST_NEW)
        n_prompt = _within(int(seconds / 4 * prefill), _LEAST_PROMPT, _MOST_PROMPT)
        return replace(self, n_prompt=1 << n_prompt.bit_length() - 1, n_new=n_new)

    def speed(self, settings: Mapping[str, Any]) -> Speed:
        """Return the speed of a prompt of random tokens, and of new tokens.

        Half of the new tokens follow that prompt, the others a single token: which settings are
        fast depends on the depth.
        """
        with load(self.path, self.options, settings) as model:
            warm_up, prompt = self._prompts(model.config.vocab_size)
            model.complete([warm_up], max_new_tokens=2, **_ENDLESS)
            started, cpu_started = time.perf_counter(), time.thread_time()
            deep, shallow = (
                model.complete([each], max_new_tokens=self.n_new, **_ENDLESS)[0].stats
                for each in (prompt, warm_up[1:2])
            )
            cpu_seconds = time.thread_time() - cpu_started
            seconds = time.perf_counter() - started
        n_computed = deep.n_prompt - deep.n_cached
        return Speed(
            prefill=n_computed / deep.prefill_seconds,
            decode=harmonic_mean([each.tokens_per_second or 0.0 for each in (deep, shallow)]),
            cpu_share=cpu_seconds / seconds,
        )

    def _prompts(self, n_vocab: int) -> list[list[int]]:
        """Return two prompts that begin differently, so that the second reuses nothing."""
        return token_ids(Case(kind="prefill", n_rows=2, n_prompt=self.n_prompt), n_vocab)


def load(
    path: Path, options: Mapping[str, Any], settings: Mapping[str, Any] | None = None
) -> LocalModel:
    """Return the model with ``options`` and ``settings``, without a profile."""
    return LocalModel.from_pretrained(path, use_profile=False, **{**options, **(settings or {})})


def attention_adapts(model: LocalModel) -> bool:
    """Whether flash_attention="auto" follows the work, as measured at a first long call."""
    n_prompt = min(_PROMPT_OF_ATTENTION, model.config.n_ctx - 2)
    model.complete([[0] * n_prompt], max_new_tokens=2, **_ENDLESS)
    return model._backend.adapts


def _within(value: int, low: int, high: int) -> int:
    return max(low, min(value, high))
