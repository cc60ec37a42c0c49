"""The fastest settings of a model on this machine, as ``localgen tune`` found them.

They are applied to what a caller left at its default.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from localgen.config import UNQUANTIZED, ModelConfig, replace_options
from localgen.profiles import store
from localgen.profiles.store import ProfileKey

logger = logging.getLogger("localgen.profiles")

KIND = "settings"
# No setting makes a model so much faster: such a number is damage.
_MOST_SPEEDUP = 1e6
# The options of ModelConfig that a profile may set.
LOADING = ("n_threads", "n_batch", "flash_attention", "kv_type")


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What ``localgen tune`` found for a model.

    settings: the options of ``ModelConfig`` that differ from the defaults, by name. speedup: how
    fast the model is with them, 1.0 being the defaults.
    device, n_gpu_layers: what they were measured with. date: the day, ISO 8601.
    """

    settings: Mapping[str, Any]
    speedup: float
    device: str
    n_gpu_layers: int | None
    date: str

    def __post_init__(self) -> None:
        """Raise ValueError for what no version of ``localgen tune`` writes."""
        if not isinstance(self.settings, Mapping) or not {*self.settings} <= {*LOADING}:
            raise ValueError(f"unknown settings: {self.settings!r:.80}")
        if not isinstance(self.speedup, int | float) or not 0 < self.speedup < _MOST_SPEEDUP:
            raise ValueError(f"speedup must be a number, got {self.speedup!r:.80}")
        if not isinstance(self.date, str):
            raise ValueError(f"date must be a text, got {self.date!r:.80}")
        ModelConfig(**self.settings)
        ModelConfig(device=self.device, n_gpu_layers=self.n_gpu_layers)

    def __str__(self) -> str:
        return named(self.settings) or "the defaults"

    def applied(self, config: ModelConfig, given: Collection[str]) -> ModelConfig:
        """Return ``config`` with the settings of this profile for what was not ``given``.

        A setting that what was given rules out is left at its default.
        """
        taken = {name: self.settings[name] for name in self.settings if name not in given}
        if taken.get("n_batch", config.n_batch) < max(config.max_sequences, config.n_ubatch or 1):
            del taken["n_batch"]
        if "flash_attention" in given:
            taken.pop("kv_type", None)  # it may need flash attention
        if config.kv_type not in UNQUANTIZED or config.kv_type == "f32":
            taken.pop("flash_attention", None)  # measured with another KV cache, and may not suit
        return replace_options(config, taken)


def named(settings: Mapping[str, Any]) -> str:
    """Return settings as they are passed in Python: "n_threads=2, n_batch=256"."""
    return ", ".join(f"{name}={value!r}" for name, value in settings.items())


def read(path: Path, build: str) -> Profile | None:
    """Return the profile of a model's file; None if there is none that holds here."""
    try:
        found = store.load(ProfileKey.of([path], build), KIND)
        return None if found is None else Profile(**found)
    except (OSError, TypeError, ValueError) as error:
        logger.warning("the profile of %s cannot be used and is ignored: %s", path, error)
        return None


def write(path: Path, build: str, profile: Profile) -> Path | None:
    """Save the profile of a model's file and return where; None if it cannot be written.

    Raises OSError if the model's file is gone.
    """
    return store.save(ProfileKey.of([path], build), KIND, asdict(profile))


def remove(path: Path) -> int:
    """Remove all profiles of a model's file, and return how many there were. Raises OSError."""
    return store.forget(ProfileKey.of([path], ""), KIND)


def fitting_profile(path: Path, build: str, config: ModelConfig) -> Profile | None:
    """Return the profile to load a model with; None if there is none that holds.

    deterministic=True has none: its results must not depend on what was measured.
    """
    if config.deterministic:
        return None
    profile = read(path, build)
    if profile is None:
        return None
    if (profile.device, profile.n_gpu_layers) != (config.device, config.n_gpu_layers):
        logger.info(
            "the profile of %s is not used: it was measured with device=%r, n_gpu_layers=%r",
            path.name,
            profile.device,
            profile.n_gpu_layers,
        )
        return None
    return profile
