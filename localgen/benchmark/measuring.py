"""What all measurements share: medians of rounds, and the versions and the machine."""

from __future__ import annotations

import platform
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from localgen._util import system
from localgen._version import __version__
from localgen.llama.library import llama_version, system_info


@dataclass(frozen=True, slots=True)
class Spread:
    """The median, minimum and maximum of several rounds."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Return the spread of at least one value."""
        return cls(statistics.median(values), min(values), max(values))


def surroundings() -> dict[str, Any]:
    """Return the versions and the machine that speed depends on; this loads llama.cpp."""
    return {
        "localgen": __version__,
        "llama_cpp": llama_version(),
        "features": system_info(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cpu": system.cpu_name(),
    }
