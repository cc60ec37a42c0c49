"""Keeps the measured times of a model's attention between runs; see ``profiles.store``."""

from __future__ import annotations

from localgen.gguf.gate import ModelFile
from localgen.llama.attention import AttentionTimes
from localgen.llama.library import logger
from localgen.llama.profile_key import profile_key
from localgen.profiles import store


def kept_times(file: ModelFile, n_threads: int, kv_type: str) -> AttentionTimes | None:
    """Return what was measured before on this machine, with this build; None if nothing usable."""
    try:
        data = store.load(profile_key(file), _kind(n_threads, kv_type))
        return None if data is None else AttentionTimes.from_data(data)
    except (OSError, ValueError) as error:
        logger.warning("kept times of attention are ignored: %s", error)
        return None


def keep_times(file: ModelFile, n_threads: int, kv_type: str, times: AttentionTimes) -> None:
    """Keep times for later runs, if there is a place for them."""
    try:
        store.save(profile_key(file), _kind(n_threads, kv_type), times.as_data())
    except OSError as error:
        logger.info("times of attention cannot be kept: %s", error)


def _kind(n_threads: int, kv_type: str) -> str:
    return f"flash-attention-{n_threads}-{kv_type}"
