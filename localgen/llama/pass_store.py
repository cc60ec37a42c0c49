"""Keeps what passes of each size took between runs; see ``profiles.store``."""

from __future__ import annotations

from localgen.engine.pass_costs import PassCosts
from localgen.gguf.gate import ModelFile
from localgen.llama.library import logger
from localgen.llama.profile_key import profile_key
from localgen.profiles import store


def kept_costs(file: ModelFile, setting: str) -> PassCosts:
    """Return what passes took before with this setting; costs without a measurement if nothing is
    usable."""
    try:
        return PassCosts.from_data(store.load(profile_key(file), _kind(setting)) or {})
    except (OSError, TypeError, ValueError) as error:
        logger.warning("kept times of passes are ignored: %s", error)
        return PassCosts()


def keep_costs(file: ModelFile, setting: str, costs: PassCosts) -> None:
    """Keep costs for later runs, if anything was measured and there is a place for them."""
    data = costs.as_data()
    try:
        if data:
            store.save(profile_key(file), _kind(setting), data)
    except OSError as error:
        logger.info("times of passes cannot be kept: %s", error)


def _kind(setting: str) -> str:
    return f"passes-{setting}"
