"""What tuning measured and found, and its JSON; it measures nothing."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from localgen.benchmark.measuring import Spread

SCHEMA = 1
# Why a trial does not count.
NOT_REACHED = "the time was over before it, or before all of its rounds"


@dataclass(frozen=True, slots=True)
class Speed:
    """Tokens per second: of prompts, and of new tokens; prefill is None where only those count.

    cpu_share: for which share of the time the calling thread had a CPU. Below 1, other programs
    took it: while it waits for the others of llama.cpp, it spins.
    """

    prefill: float | None
    decode: float
    cpu_share: float = 1.0

    def over(self, other: Speed) -> float:
        """Return this speed divided by another: the geometric mean of both phases."""
        decode = self.decode / other.decode
        if self.prefill is None or other.prefill is None:
            return decode
        return math.sqrt(self.prefill / other.prefill * decode)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One value of one setting: its rounds, in alternation with the other values of the setting.

    settings: all that differ from the defaults. ratios: of each round, the speed divided by that of
    the value that was the fastest so far. not_measured: why there are no rounds, or why they do
    not count.
    """

    setting: str
    value: Any
    settings: Mapping[str, Any]
    speeds: tuple[Speed, ...] = ()
    ratios: tuple[float, ...] = ()
    is_chosen: bool = False
    not_measured: str | None = None

    @property
    def prefill(self) -> Spread | None:
        """Prompt tokens per second; None without rounds, and where only new tokens count."""
        found = [each.prefill for each in self.speeds if each.prefill is not None]
        return Spread.of(found) if found else None

    @property
    def decode(self) -> Spread | None:
        """New tokens per second; None without rounds."""
        return Spread.of([each.decode for each in self.speeds]) if self.speeds else None

    @property
    def ratio(self) -> Spread | None:
        """The spread of ``ratios``; None without rounds."""
        return Spread.of(self.ratios) if self.ratios else None


@dataclass(frozen=True, slots=True, kw_only=True)
class TuneResult:
    """All trials, and the settings that they lead to.

    settings: those that differ from the defaults. prompt_lookup_num_tokens: the fastest value for
    calls with the given prompts; None if none was faster, or without prompts. speedup: the speed
    with the settings, 1.0 being that of the defaults. n_prompt, n_new: tokens of the prompt and new
    ones in each measurement. n_prompts: of the given prompts, those that drafts were tried on.
    machine: versions, CPU and platform. seconds: that tuning took. profile: the file that later
    loads use; None if it was not or could not be written. An earlier profile stays if the time was
    over before anything was found.
    """

    file: str
    trials: tuple[Trial, ...]
    settings: Mapping[str, Any]
    prompt_lookup_num_tokens: int | None
    speedup: float
    n_prompt: int
    n_new: int
    n_prompts: int
    seconds: float
    machine: Mapping[str, Any]
    profile: Path | None = None

    @property
    def found_nothing(self) -> bool:
        """Whether the time was over before a setting could be found: that says nothing about the
        defaults."""
        was_cut = any(trial.not_measured == NOT_REACHED for trial in self.trials)
        return was_cut and not self.settings

    def to_json(self) -> str:
        """Return one line of JSON: all rounds, and the figures computed from them."""
        data = dataclasses.asdict(self)
        for given, trial in zip(data["trials"], self.trials, strict=True):
            for name in ("prefill", "decode", "ratio"):
                spread = getattr(trial, name)
                given[name] = spread and dataclasses.asdict(spread)
        return json.dumps({"schema": SCHEMA, **data}, default=str)
