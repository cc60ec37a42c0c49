"""The options of an isolated model."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerConfig:
    """How the worker process of an isolated model is watched.

    close_seconds: how long ``close()`` waits for the process before it kills it. stall_seconds: the
    process is killed, and restarted, if a forward pass takes longer, or if no Python code of it has
    run for as long, at least a minute; None never kills it.
    n_load_attempts: how often a model is loaded again after a crash before calls fail with the
    error of the load; the next call then tries again. name: what the log calls the model, its
    file's name if None.
    """

    close_seconds: float = 5.0
    stall_seconds: float | None = 600.0
    n_load_attempts: int = 3
    name: str | None = None

    def __post_init__(self) -> None:
        for name in ("close_seconds", "stall_seconds"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise ValueError(f"{name} must be above 0, got {value!r}")
        if self.n_load_attempts < 1:
            raise ValueError(f"n_load_attempts must be at least 1, got {self.n_load_attempts!r}")
        if self.name is not None and not isinstance(self.name, str):
            raise ValueError(f"name must be a text, got {self.name!r:.80}")
