"""Finds the settings that a model was tuned to on this machine, before it is loaded."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from localgen.config import ModelConfig
from localgen.llama.profile_key import build_id
from localgen.profiles.settings import fitting_profile

logger = logging.getLogger("localgen.profiles")


def find_tuned(path: Path, config: ModelConfig, options: Mapping[str, Any]) -> ModelConfig | None:
    """Return ``config`` with a profile's settings; None if there is no profile, or it changes none.

    options: those that the caller passed, which always win; None counts as not passed.
    """
    profile = fitting_profile(path, build_id(), config)
    if profile is None:
        return None
    given = [name for name, value in options.items() if value is not None]
    tuned = profile.applied(config, given)
    if tuned == config:
        return None
    logger.info("%s is loaded with the profile of %s: %s", path.name, profile.date, profile)
    return tuned
