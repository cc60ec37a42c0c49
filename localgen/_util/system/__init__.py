"""What this process may use of the machine: CPUs, memory, energy.

The platform is chosen here alone.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

from localgen._util.system.energy import EnergyMeter
from localgen._util.system.platform import Memory, Platform

if sys.platform == "win32":
    from localgen._util.system.windows import Windows as _Platform
elif sys.platform == "darwin":
    from localgen._util.system.macos import MacOS as _Platform
else:
    from localgen._util.system.linux import Linux as _Platform

__all__ = [
    "EnergyMeter", "Memory", "available_memory", "cpu_flags", "cpu_name", "drop_from_page_cache",
    "energy_meter", "memory", "peak_memory", "physical_cpus", "usable_cpus",
]  # fmt: skip

PLATFORM: Platform = _Platform()


def usable_cpus() -> int:
    """Return how many CPUs this process may use: its affinity, limited by its cgroup's quota."""
    n_cpus, quota = PLATFORM.affinity(), PLATFORM.cpu_quota()
    return max(1, n_cpus if quota is None else min(n_cpus, math.ceil(quota)))


def physical_cpus() -> int | None:
    """Return the number of the machine's cores, not of their threads; None if unknown."""
    return PLATFORM.physical_cpus()


def cpu_name() -> str:
    """Return the processor's name as the system reports it."""
    return PLATFORM.cpu_name()


def cpu_flags() -> tuple[str, ...]:
    """Return the processor's features in Linux's words (avx2, asimddp); empty if unknown."""
    return PLATFORM.cpu_flags()


def memory() -> Memory:
    """Return the machine's memory and the limit of this process's cgroup."""
    return Memory(*PLATFORM.ram(), *PLATFORM.memory_limit())


def available_memory() -> int | None:
    """Return the bytes of memory available to this process, within its cgroup's limit.

    None if the system reports neither.
    """
    found = memory()
    free = found.total if found.available is None else found.available
    amounts = [] if free is None else [free]
    if found.limit is not None and found.used is not None:
        amounts.append(max(0, found.limit - found.used))
    return min(amounts, default=None)


def peak_memory() -> int:
    """Return the most bytes of memory that this process has held, mapped files included."""
    return PLATFORM.peak_memory()


def drop_from_page_cache(path: Path) -> bool:
    """Ask the system to forget a file's cached pages; False where it takes no such request."""
    return PLATFORM.drop_from_page_cache(path)


def energy_meter() -> EnergyMeter:
    """Return a meter of the processors' energy.

    Raises BackendError, with the reason, where this system does not report it.
    """
    return EnergyMeter(PLATFORM.energy_counters())
