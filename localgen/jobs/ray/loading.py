"""Loads a model as the actors of a job have it; it needs no Ray."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from localgen.model import LocalModel


def load_for_actor(path: Path, load_options: Mapping[str, Any]) -> LocalModel:
    """Return a model in a process of its own, without the profile that its node may have.

    The memory of actors is counted without a profile, and those of all nodes load alike.
    load_options: the fields of ``ModelConfig``.
    """
    return LocalModel.from_pretrained(path, isolated=True, use_profile=False, **load_options)
