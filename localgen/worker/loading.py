"""Loads a model in a worker."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from localgen.worker.config import WorkerConfig
from localgen.worker.model import IsolatedModel
from localgen.worker.supervisor import Supervisor


def load_isolated(
    path: Path,
    options: Mapping[str, Any],
    isolated: bool | WorkerConfig,
    progress: Callable[[float], object] | None,
    *,
    use_profile: bool,
) -> IsolatedModel:
    """Return the model of a file, in a process of its own; see ``LocalModel.from_pretrained``."""
    if not isinstance(isolated, bool | WorkerConfig):
        raise TypeError(f"isolated must be True, False or a WorkerConfig, got {isolated!r}")
    config = WorkerConfig() if isinstance(isolated, bool) else isolated
    path = path.absolute()
    level = logging.getLogger("localgen").getEffectiveLevel()
    load = ("load", path, dict(options), use_profile, progress is not None, level)
    supervisor = Supervisor(load, config.name or path.name, config)
    return IsolatedModel(supervisor, path, supervisor.wait_loaded(progress))
