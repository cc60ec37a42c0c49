"""What every platform can report, through psutil; subclasses add what theirs alone reports."""

from __future__ import annotations

import os
import platform
import sys
from dataclasses import dataclass
from pathlib import Path

from localgen._util.system.energy import Counter
from localgen.errors import BackendError


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes; None where the system does not report them. limit and used: the cgroup's."""

    total: int | None
    available: int | None
    limit: int | None
    used: int | None


class Platform:
    """A system without cgroups, of whose processor only a generic name is known."""

    def affinity(self) -> int:
        """Return how many CPUs the scheduler gives to this process."""
        import psutil  # noqa: PLC0415  # importing localgen stays light

        process = psutil.Process()
        if hasattr(process, "cpu_affinity"):  # macOS has no affinity
            return len(process.cpu_affinity())
        return os.cpu_count() or 1

    def cpu_quota(self) -> float | None:
        """Return how many CPUs' worth of time this process gets; None for no limit."""
        return None

    def physical_cpus(self) -> int | None:
        """Return the number of cores; None if unknown."""
        import psutil  # noqa: PLC0415

        found = psutil.cpu_count(logical=False)
        return int(found) if found else None

    def cpu_name(self) -> str:
        """Return the processor's name, or at least its architecture."""
        return platform.processor() or platform.machine()

    def cpu_flags(self) -> tuple[str, ...]:
        """Return the processor's features in Linux's words; empty if unknown."""
        return ()

    def ram(self) -> tuple[int | None, int | None]:
        """Return the machine's memory and how much of it is available, in bytes."""
        import psutil  # noqa: PLC0415

        found = psutil.virtual_memory()
        return int(found.total), int(found.available)

    def memory_limit(self) -> tuple[int | None, int | None]:
        """Return the tightest limit on this process's memory and the bytes that count against it.

        None and None if there is no limit.
        """
        return None, None

    def peak_memory(self) -> int:
        """Return the most bytes that this process has held; what it holds now, if unknown."""
        import psutil  # noqa: PLC0415

        return int(psutil.Process().memory_info().rss)

    def drop_from_page_cache(self, path: Path) -> bool:
        """Forget a file's cached pages; False where the system takes no such request."""
        return False

    def energy_counters(self) -> list[Counter]:
        """Return the counters of the processors' energy. Raises BackendError if there are none."""
        raise BackendError(
            "energy cannot be measured on this system: only Linux reports it, for the processors "
            "of Intel and AMD"
        )


def max_rss() -> int | None:
    """Return getrusage's peak in the system's own unit; None on a system without getrusage."""
    if sys.platform != "win32":
        try:
            import resource  # noqa: PLC0415
        except ImportError:
            return None
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return None
