"""What Linux reports in /proc and /sys: memory, the processor, and the limits of cgroups."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path, PurePosixPath

from localgen._util.system.energy import Counter
from localgen._util.system.platform import Platform, max_rss
from localgen.errors import BackendError

# A limit and what counts against it, in version 2 and in version 1 of cgroups.
_MEMORY_FILES = (
    ("memory.max", "memory.current"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes"),
)
_CGROUPS = "sys/fs/cgroup"
_POWERCAP = "sys/class/powercap"


class Linux(Platform):
    """Linux, and any system of which nothing else is known."""

    def __init__(self, root: Path = Path("/")) -> None:
        """root: the folder that holds /proc and /sys."""
        self._root = root

    def affinity(self) -> int:
        """Return how many CPUs the scheduler gives to this process, without loading psutil."""
        if sys.platform == "linux" and hasattr(os, "sched_getaffinity"):
            return len(os.sched_getaffinity(0))
        return super().affinity()

    def cpu_quota(self) -> float | None:
        """Return the tightest quota of this process's cgroups, in CPUs; None for no limit."""
        found = []
        for folder in self._cgroups("cpu"):
            quota, _, period = _read(folder / "cpu.max").partition(" ")
            if not quota:
                quota = _read(folder / "cpu.cfs_quota_us")
                period = _read(folder / "cpu.cfs_period_us")
            if quota.isdigit() and period.isdigit() and int(period):
                found.append(int(quota) / int(period))
        return min(found, default=None)

    def cpu_name(self) -> str:
        """Return the "model name" of the first CPU, which x86 has and ARM has not."""
        found = re.search(r"^model name\s*:\s*(.+)$", self._proc("cpuinfo"), re.MULTILINE)
        return found[1] if found else super().cpu_name()

    def cpu_flags(self) -> tuple[str, ...]:
        """Return the features of the first CPU: the line is "flags" on x86, "Features" on ARM."""
        found = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", self._proc("cpuinfo"), re.MULTILINE)
        return tuple(found[1].split()) if found else ()

    def ram(self) -> tuple[int | None, int | None]:
        """Return the machine's memory and how much of it is available, in bytes.

        psutil reads the same file, and warns where a sandbox's copy lacks other lines of it.
        """
        text = self._proc("meminfo")
        return _kilobytes("MemTotal", text), _kilobytes("MemAvailable", text)

    def memory_limit(self) -> tuple[int | None, int | None]:
        """Return the tightest limit that a cgroup sets and the bytes that count against it.

        Cached files do not count: the kernel drops them when memory is needed.
        """
        found = []
        for folder in self._cgroups("memory"):
            cached = re.findall(r"^(?:in)?active_file (\d+)$", _read(folder / "memory.stat"), re.M)
            for limit_file, used_file in _MEMORY_FILES:
                limit, used = _read(folder / limit_file), _read(folder / used_file)
                if limit.isdigit() and used.isdigit():
                    found.append((int(limit), max(0, int(used) - sum(map(int, cached)))))
        return min(found, key=lambda pair: pair[0] - pair[1]) if found else (None, None)

    def peak_memory(self) -> int:
        """Return VmHWM: getrusage's peak starts at the parent's, so it comes second."""
        peak = _kilobytes("VmHWM", self._proc("self/status"))
        if peak is None and (rss := max_rss()) is not None:
            peak = rss * 1024
        return super().peak_memory() if peak is None else peak

    def drop_from_page_cache(self, path: Path) -> bool:
        """Forget a file's cached pages with posix_fadvise."""
        if sys.platform == "linux" and hasattr(os, "posix_fadvise"):
            with path.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            return True
        return False

    def energy_counters(self) -> list[Counter]:
        """Return RAPL's counters of each processor and of its memory, where that is counted apart.

        The other zones are parts of a processor, or count what these count once more.
        """
        folder = self._root / _POWERCAP
        found = [
            Counter(name, zone / "energy_uj", int(most))
            for zone in sorted(folder.glob("intel-rapl:*"))
            if (name := _read(zone / "name")).startswith(("package", "dram"))
            and (most := _read(zone / "max_energy_range_uj")).isdecimal()
        ]
        if not any(each.name.startswith("package") for each in found):
            raise BackendError(
                f"energy cannot be measured: {folder} has no RAPL counters of a processor. Virtual "
                f"machines and containers often have none; on a real one, load the kernel module "
                f"intel_rapl_msr."
            )
        return found

    def _proc(self, name: str) -> str:
        return _read(self._root / "proc" / name)

    def _cgroups(self, controller: str) -> list[Path]:
        """Return the folders of this process's cgroup and of its parents, for either version."""
        top = self._root / _CGROUPS
        folders = [top, top / controller]
        for line in self._proc("self/cgroup").splitlines():
            _, _, rest = line.partition(":")
            controllers, _, path = rest.partition(":")
            if controllers and controller not in controllers.split(","):
                continue
            folder = top / controller if controllers else top
            for part in PurePosixPath(path).parts[1:]:
                folder /= part
                folders.append(folder)
        return folders


def _kilobytes(name: str, text: str) -> int | None:
    """Return the bytes of a line as "MemTotal:  123 kB"; None if there is no such line."""
    found = re.search(rf"^{name}:\s+(\d+) kB$", text, re.MULTILINE)
    return int(found[1]) * 1024 if found else None


def _read(path: Path) -> str:
    """Return a file's stripped text; empty if it cannot be read."""
    try:
        return path.read_text("utf-8", errors="replace").strip()
    except OSError:
        return ""
