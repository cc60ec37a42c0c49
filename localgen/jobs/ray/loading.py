"""Loads a model as the actors of a job have it; it needs no Ray."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from localgen.model import LocalModel


def load_for_actor(path: Path, load_options: Mapping[str, Any]) -> LocalModel:
    """Return a model in a process of its own, without a profile: that is one machine's, and texts
    would depend on the node that computes them.

    load_options: the fields of ``ModelConfig``.
    """
    return LocalModel.from_pretrained(path, isolated=True, use_profile=False, **load_options)
