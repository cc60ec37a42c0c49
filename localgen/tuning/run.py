"""tune(): searches the fastest settings of a model on this machine, and saves its profile."""

from __future__ import annotations

import dataclasses
import datetime
import os
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from localgen import hub
from localgen._util.checks import check_bool, check_float
from localgen.benchmark.measuring import surroundings
from localgen.config import ModelConfig, replace_options
from localgen.errors import GenerationInterrupted
from localgen.llama.profile_key import build_id
from localgen.profiles import settings as profiles
from localgen.profiles.settings import Profile
from localgen.tuning.choices import Choice, choices
from localgen.tuning.drafts import (
    LENGTHS,
    LOOKUP,
    Drafts,
    TunePrompt,
    check_drafts,
    checked_prompts,
)
from localgen.tuning.results import NOT_REACHED, Speed, TuneResult
from localgen.tuning.search import Search, Settings
from localgen.tuning.workload import Workload, attention_adapts, load

# Called with (seconds so far, seconds at most, what is measured next).
Progress = Callable[[int, int, str], object]

SECONDS = 120.0
# One measurement takes about this share of the time: all values of all settings then fit.
_SHARE = 1 / 60
# The rest is left for the user's prompts, if there are any.
_SHARE_OF_SETTINGS = 0.6


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
    reported and not part of the profile: pass the option to calls. At most 8 prompts are used, and
    fewer of a slow model. save: write the profile.
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
    texts = None if prompts is None else checked_prompts(prompts)
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
        self._end = seconds
        self._n_prompts = 0
        self._started = time.perf_counter()
        self._speedup = 1.0
        self._work = Workload(path, given, config.n_ctx)
        self.steps = Search(self._is_over, self._report)

    @property
    def _elapsed(self) -> float:
        return time.perf_counter() - self._started

    def _is_over(self) -> bool:
        return self._elapsed >= self._end

    def _report(self, what: str) -> None:
        if self._progress is not None:
            most = int(self._seconds)
            self._progress(min(int(self._elapsed), most), most, what)

    def search(self, *, allow_kv_types: bool, prompts: Sequence[TunePrompt] | None) -> None:
        """Measure one setting after the other, all that were chosen together, and then drafts."""
        self._report("a first prompt")
        with load(self._path, self._given) as model:
            obstacle = None if prompts is None else check_drafts(model, prompts)
            adapts = self._config.flash_attention != "auto" or attention_adapts(model)
            first = Workload(self._path, self._given, model.config.n_ctx)
        speed = first.speed({})
        self._work = first.sized_for(speed, self._seconds * _SHARE)
        if prompts is not None:
            self._end = self._seconds * _SHARE_OF_SETTINGS
        for choice in choices(
            self._config,
            self._work.n_prompt,
            given=self._given,
            attention_adapts=lambda: adapts or self._adapts_now(),
            allow_kv_types=allow_kv_types,
        ):
            self._choose(choice)
        self._confirm()
        self._end = self._seconds
        if obstacle is not None:
            self.steps.skip(LOOKUP, None, obstacle)
        elif prompts is not None:
            self._choose_drafts(prompts, speed)

    def _adapts_now(self) -> bool:
        """Ask again: on a machine that was busy for some seconds, attention was not measured."""
        with load(self._path, self._given) as model:
            return attention_adapts(model)

    def _choose(self, choice: Choice) -> None:
        setting, default = choice.setting, choice.default
        if choice.values:
            self.steps.choose(
                setting,
                default,
                choice.values,
                self._work.speed,
                least_gain=choice.least_gain,
                least_cpu_share=choice.least_cpu_share,
            )
        else:
            self.steps.skip(setting, default, choice.without_values)

    def _choose_drafts(self, prompts: Sequence[TunePrompt], speed: Speed) -> None:
        n_tokens = int(self._seconds * _SHARE * speed.decode)
        if self._is_over():
            self.steps.skip(LOOKUP, None, NOT_REACHED)
            return
        with load(self._path, self._given, self.steps.best) as model:
            drafts = Drafts(model, prompts, n_tokens)
            self._n_prompts = drafts.n_prompts
            self._report("the prompts")
            drafts.warm_up()
            self.steps.choose(LOOKUP, None, LENGTHS, drafts.speed)

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
        result = TuneResult(
            file=self._path.name,
            trials=tuple(self.steps.trials),
            settings=found,
            prompt_lookup_num_tokens=n_drafted,
            speedup=self._speedup,
            n_prompt=self._work.n_prompt,
            n_new=self._work.n_new,
            n_prompts=self._n_prompts,
            seconds=self._elapsed,
            machine=surroundings(),
        )
        if not saves or result.found_nothing:
            return result
        return dataclasses.replace(result, profile=self._save(found))

    def _save(self, found: Settings) -> Path | None:
        profile = Profile(
            settings=found,
            speedup=self._speedup,
            device=self._config.device,
            n_gpu_layers=self._config.n_gpu_layers,
            date=datetime.date.today().isoformat(),
        )
        return profiles.write(self._path, build_id(), profile)
