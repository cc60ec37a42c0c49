"""Reports what is installed, how fast it is, and what is wrong with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from localgen.doctor.facts import diagnose

__all__ = ["diagnose"]


def __getattr__(name: str) -> Any:
    # Loaded on first use: ``python -m localgen.doctor.build_report`` imports this package first.
    if name != "diagnose":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from localgen.doctor.facts import diagnose  # noqa: PLC0415

    return diagnose
