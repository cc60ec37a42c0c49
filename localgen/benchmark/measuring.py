"""What all measurements share: medians of rounds, the memory of a process, and what ran where."""

from __future__ import annotations

import platform
import re
import resource
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from localgen._version import __version__
from localgen.llama import devices
from localgen.llama.library import llama_version, system_info

_STATUS = Path("/proc/self/status")


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of some rounds, and their extremes."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(statistics.median(values), min(values), max(values))


def peak_rss() -> int:
    """The most bytes of memory that this process has held, mapped weights included.

    Linux's ru_maxrss starts at the parent's peak, so VmHWM is read where there is one.
    """
    found = re.search(r"VmHWM:\s+(\d+) kB", _STATUS.read_text()) if _STATUS.exists() else None
    if found:
        return int(found[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def surroundings() -> dict[str, Any]:
    """The versions and the machine that speed depends on; llama.cpp is loaded for it."""
    return {
        "localgen": __version__,
        "llama_cpp": llama_version(),
        "features": system_info(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cpu": devices.cpu_name(),
    }
