"""tune(): searches the fastest settings of a model on this machine, and saves its profile."""

from __future__ import annotations

import datetime
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from localgen import hub
from localgen._util import system
from localgen._util.checks import check_bool, check_float
from localgen.benchmark.measuring import surroundings
from localgen.config import UNQUANTIZED, GenerationConfig, ModelConfig, replace_options
from localgen.errors import GenerationInterrupted
from localgen.llama.profile_key import build_id
from localgen.profiles import settings as profiles
from localgen.profiles.settings import Profile
from localgen.tuning.results import TuneResult
from localgen.tuning.search import Search, Settings
from localgen.tuning.workload import LOOKUP, TunePrompt, Workload

# Called with (seconds so far, seconds at most, what is measured next).
Progress = Callable[[int, int, str], object]

SECONDS = 120.0
# One measurement takes about this share of the time: all values of all settings then fit.
_SHARE = 1 / 60
_BATCHES = (64, 128, 256, 512, 1024, 2048)
_KV_TYPES = ("bf16", "q8_0")
_DRAFTED = (4, 10, 24)
_NO_VALUES = "the measured prompt is too short to show a difference; give it more seconds"
# More of a user's prompts would leave no time for the rounds.
_MOST_PROMPTS = 8


def tune(
    source: str | os.PathLike[str],
    *,
    seconds: float = SECONDS,
    allow_kv_types: bool = False,
    prompts: Iterable[TunePrompt] | None = None,
    save: bool = True,
    progress: Progress | None = None,
    **options: Any,
) -> TuneResult:
    """Find the fastest settings of a model on this machine, and save them as its profile.

    source: as in ``LocalModel.from_pretrained``, which uses the profile from then on. seconds: how
    long it may take, loading included; a round that has begun is finished. allow_kv_types: try
    other types of the KV cache, which change results by more than rounding. prompts: texts, lists
    of token ids, or lists of messages, on which drafts from the prompt
    (``prompt_lookup_num_tokens``) are tried. Only the text decides whether they help, so they are
    reported and not part of the profile: pass the option to calls. save: write the profile.
    progress: called with (seconds so far, seconds at most, what is measured). options: the fields
    of ``ModelConfig``; a setting that is given is not searched.

    Raises ValueError, ModelFileError or BackendError; on Ctrl-C GenerationInterrupted, whose
    ``partial`` is the TuneResult so far, and nothing is saved.
    """
    check_float("seconds", seconds, "at least 1", 1.0, 1e7)
    check_bool("allow_kv_types", allow_kv_types)
    check_bool("save", save)
    given = {name: value for name, value in options.items() if value is not None}
    config = _checked(given)
    texts = None if prompts is None else _checked_prompts(prompts)
    path = hub.resolve(source)
    run = _Run(path, config, given, seconds, progress)
    interrupt = None
    try:
        run.search(allow_kv_types=allow_kv_types, prompts=texts)
    except KeyboardInterrupt as error:
        interrupt = error
        run.steps.leave()
    result = run.result(saves=save and interrupt is None)
    if interrupt is not None:
        interrupted = GenerationInterrupted("tuning was interrupted; no profile was saved")
        interrupted.partial = result
        raise interrupted from interrupt
    return result


def forget_profile(source: str | os.PathLike[str]) -> int:
    """Remove what ``tune()`` found for a model, and return how many profiles there were.

    Profiles for other builds of llama.cpp, other machines that share the folder, and earlier
    contents of the file are removed too. Raises ModelFileError, OSError.
    """
    return profiles.remove(hub.resolve(source, local_files_only=True))


def _checked(given: dict[str, Any]) -> ModelConfig:
    config = replace_options(ModelConfig(), given)
    if config.deterministic:
        raise ValueError(
            "a model that is loaded with deterministic=True uses no profile, so there is nothing "
            "to tune; leave deterministic out"
        )
    return config


def _checked_prompts(prompts: Iterable[TunePrompt]) -> list[TunePrompt]:
    if isinstance(prompts, str) or not isinstance(prompts, Iterable):
        raise ValueError(f"prompts must be a list of prompts, got {prompts!r:.80}")
    # Refused now, before anything is measured, if this version has no such option.
    replace_options(GenerationConfig(), {LOOKUP: _DRAFTED[0]})
    found = list(prompts)[:_MOST_PROMPTS]
    if not found or not all(isinstance(each, Sequence) and each for each in found):
        raise ValueError("prompts must hold at least one prompt, and none that is empty")
    return found


@dataclass(frozen=True, slots=True)
class Choice:
    """A setting, its default, and the other values to try."""

    setting: str
    default: Any
    values: tuple[Any, ...]


def choices(config: ModelConfig, n_prompt: int, *, allow_kv_types: bool) -> Iterator[Choice]:
    """Yield the settings in the order in which they are searched.

    config: what all measurements share. n_prompt: the length of the measured prompt; passes of more
    tokens would be the same.
    """
    yield Choice("n_threads", None, thread_counts(system.usable_cpus(), system.physical_cpus()))
    if config.kv_type in UNQUANTIZED:  # a quantized KV cache needs flash attention
        yield Choice("flash_attention", "auto", ("on", "off"))
    sizes = (n for n in _BATCHES if config.max_sequences <= n <= n_prompt and n != config.n_batch)
    yield Choice("n_batch", config.n_batch, tuple(sizes))
    if allow_kv_types:
        yield Choice("kv_type", "f16", _KV_TYPES)


def thread_counts(n_usable: int, n_physical: int | None) -> tuple[int, ...]:
    """Return the numbers of threads to try, from many to few; the default is all of them."""
    tried = {n_physical or n_usable, n_usable - 1, n_usable // 2, n_usable}
    return tuple(sorted((n for n in tried if 1 <= n <= n_usable), reverse=True))


class _Run:
    """One run of ``tune()``; ``steps`` holds what was found so far."""

    def __init__(
        self,
        path: Path,
        config: ModelConfig,
        given: dict[str, Any],
        seconds: float,
        progress: Progress | None,
    ) -> None:
        self._path = path
        self._config = config
        self._given = given
        self._seconds = seconds
        self._progress = progress
        self._started = time.perf_counter()
        self._speedup = 1.0
        self._work = Workload(path, given)
        self.steps = Search(self._is_over, self._report)

    @property
    def _elapsed(self) -> float:
        return time.perf_counter() - self._started

    def _is_over(self) -> bool:
        return self._elapsed >= self._seconds

    def _report(self, what: str) -> None:
        if self._progress is not None:
            most = int(self._seconds)
            self._progress(min(int(self._elapsed), most), most, what)

    def search(self, *, allow_kv_types: bool, prompts: Sequence[TunePrompt] | None) -> None:
        """Measure one setting after the other, then all that were chosen together."""
        self._report("a first prompt")
        first = self._work.speed({})
        n_most = self._config.n_ctx
        self._work = work = self._work.sized_for(first, self._seconds * _SHARE, n_most)
        for choice in choices(self._config, work.n_prompt, allow_kv_types=allow_kv_types):
            if choice.setting in self._given:
                continue
            if choice.values:
                self.steps.choose(choice.setting, choice.default, choice.values, work.speed)
            else:
                self.steps.skip(choice.setting, choice.default, _NO_VALUES)
        self._confirm()
        if prompts is not None:
            self.steps.choose(
                LOOKUP, None, _DRAFTED, lambda settings: work.speed_of(prompts, settings)
            )

    def _confirm(self) -> None:
        """Keep the settings only if they are faster together, too; one alone was measured."""
        best = self.steps.best
        if len(best) == 1:
            chosen = [trial for trial in self.steps.trials if trial.is_chosen and trial.settings]
            self._speedup = chosen[0].ratio.median if chosen and chosen[0].ratio else 1.0
        elif best:
            self._speedup = self.steps.confirm(self._work.speed, best) or 1.0
            if self._speedup <= 1:
                self.steps.best, self._speedup = {}, 1.0

    def result(self, *, saves: bool) -> TuneResult:
        """Return what was found, and save it if asked."""
        found = dict(self.steps.best)
        n_drafted = found.pop(LOOKUP, None)
        return TuneResult(
            file=self._path.name,
            trials=tuple(self.steps.trials),
            settings=found,
            prompt_lookup_num_tokens=n_drafted,
            speedup=self._speedup,
            n_prompt=self._work.n_prompt,
            n_new=self._work.n_new,
            seconds=self._elapsed,
            machine=surroundings(),
            profile=self._save(found) if saves else None,
        )

    def _save(self, found: Settings) -> Path | None:
        profile = Profile(
            settings=found,
            speedup=self._speedup,
            device=self._config.device,
            n_gpu_layers=self._config.n_gpu_layers,
            date=datetime.date.today().isoformat(),
        )
        return profiles.write(self._path, build_id(), profile)
