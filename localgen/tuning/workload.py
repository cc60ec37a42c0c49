"""What is measured with each combination of settings: a prompt and its continuation, or the user's
own prompts. Every measurement loads the model anew: settings of the last one leave nothing behind,
and memory never holds the model twice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import harmonic_mean
from typing import Any

from localgen.benchmark.cases import Case, token_ids
from localgen.completion import Completion
from localgen.model import LocalModel
from localgen.tuning.results import Speed

# Tokens of the first measurement, which shows how long the others may be.
_FIRST_PROMPT, _FIRST_NEW = 64, 8
_MOST_PROMPT, _LEAST_PROMPT = 1024, 64
_MOST_NEW, _LEAST_NEW = 64, 8
LOOKUP = "prompt_lookup_num_tokens"

_GREEDY: dict[str, Any] = {"do_sample": False}
_ENDLESS: dict[str, Any] = {**_GREEDY, "eos_token_id": []}

# A text, its token ids, or the messages of a chat.
TunePrompt = str | Sequence[int] | Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Workload:
    """A model, the options that all measurements share, and the tokens of a measurement."""

    path: Path
    options: Mapping[str, Any]
    n_prompt: int = _FIRST_PROMPT
    n_new: int = _FIRST_NEW

    def sized_for(self, speed: Speed, seconds: float, n_most: int) -> Workload:
        """Return a workload of about ``seconds`` at this speed, and of at most ``n_most`` tokens.

        Half of the time is for the prompt, a warm-up included; a third for the new tokens.
        """
        prefill = speed.prefill or 0.0
        n_new = _within(int(seconds / 6 * speed.decode), _LEAST_NEW, _MOST_NEW)
        n_prompt = _within(int(seconds / 4 * prefill), _LEAST_PROMPT, _MOST_PROMPT)
        n_prompt = max(1, min(1 << n_prompt.bit_length() - 1, n_most - n_new))
        return Workload(self.path, self.options, n_prompt, n_new)

    def speed(self, settings: Mapping[str, Any]) -> Speed:
        """Return the speed of a prompt of random tokens, and of new tokens.

        Half of the new tokens follow that prompt, the others a single token: which settings are
        fast depends on the depth.
        """
        with self._loaded(settings) as model:
            warm_up, prompt = self._prompts(model.config.vocab_size)
            model.complete([warm_up], max_new_tokens=2, **_ENDLESS)
            deep, shallow = (
                model.complete([each], max_new_tokens=self.n_new, **_ENDLESS)[0].stats
                for each in (prompt, warm_up[1:2])
            )
        n_computed = deep.n_prompt - deep.n_cached
        return Speed(
            prefill=n_computed / deep.prefill_seconds,
            decode=harmonic_mean([each.tokens_per_second or 0.0 for each in (deep, shallow)]),
        )

    def speed_of(self, prompts: Sequence[TunePrompt], settings: Mapping[str, Any]) -> Speed:
        """Return the speed of the new tokens of ``prompts``, one after the other."""
        lookup = {LOOKUP: settings[LOOKUP]} if LOOKUP in settings else {}
        options = {**_GREEDY, **lookup, "max_new_tokens": max(2, self.n_new)}
        with self._loaded(settings) as model:
            _complete(model, prompts[0], {**_GREEDY, "max_new_tokens": 2})
            stats = [_complete(model, prompt, options).stats for prompt in prompts]
        rates = [(each.n_new - 1, each.tokens_per_second) for each in stats]
        seconds = sum(n_new / rate for n_new, rate in rates if rate)
        n_new = sum(n_new for n_new, rate in rates if rate)
        return Speed(None, n_new / seconds if seconds else 1.0)

    def _loaded(self, settings: Mapping[str, Any]) -> LocalModel:
        loading = {name: value for name, value in settings.items() if name != LOOKUP}
        options = {**self.options, **loading}
        return LocalModel.from_pretrained(self.path, use_profile=False, **options)

    def _prompts(self, n_vocab: int) -> list[list[int]]:
        """Return two prompts that begin differently, so that the second reuses nothing."""
        return token_ids(Case(kind="prefill", n_rows=2, n_prompt=self.n_prompt), n_vocab)


def _complete(model: LocalModel, prompt: TunePrompt, options: Mapping[str, Any]) -> Completion:
    if not isinstance(prompt, str) and isinstance(prompt[0], Mapping):
        return model.chat(list(prompt), **options)  # type: ignore[arg-type]
    return model.complete([prompt], **options)[0]  # type: ignore[list-item]


def _within(value: int, low: int, high: int) -> int:
    return max(low, min(value, high))
