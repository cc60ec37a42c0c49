"""What this process may use: CPUs, memory, and the devices of this build of llama.cpp."""

from __future__ import annotations

import math
import os
import platform
import re
from dataclasses import dataclass
from pathlib import Path

from localgen.errors import BackendError
from localgen.llama.library import llama, rebuild_command, system_info

_CGROUP = Path("/sys/fs/cgroup")
_OWN_CGROUP = Path("/proc/self/cgroup")
# A limit and what is used of it, in version 2 and version 1.
_MEMORY_FILES = (
    ("memory.max", "memory.current"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes"),
)
_CPUINFO = Path("/proc/cpuinfo")
_TOPOLOGY = Path("/sys/devices/system/cpu")
# The names under which llama.cpp's system info lists the backend of each device.
BACKEND_NAMES = {"cuda": ("CUDA", "ROCm", "MUSA"), "metal": ("Metal", "MTL")}
BUILD_SETTINGS = {
    "cuda": 'CMAKE_ARGS="-DGGML_CUDA=on"',
    "metal": 'CMAKE_ARGS="-DGGML_METAL=on"',
}


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes; None where the system does not tell. limit and used: the cgroup's."""

    total: int | None
    available: int | None
    limit: int | None
    used: int | None


def usable_cpus() -> int:
    """CPUs that this process may use: its affinity, limited by its cgroup's quota."""
    if hasattr(os, "sched_getaffinity"):
        n_cpus = len(os.sched_getaffinity(0))
    else:
        n_cpus = os.cpu_count() or 1
    quota = _cgroup_cpus()
    return max(1, n_cpus if quota is None else min(n_cpus, math.ceil(quota)))


def cpu_name() -> str:
    """The processor's name, as the system tells it."""
    found = re.search(r"^model name\s*:\s*(.+)$", _read(_CPUINFO), re.MULTILINE)
    return found[1] if found else platform.processor() or platform.machine()


def cpu_flags() -> tuple[str, ...]:
    """What the processor can do, in the kernel's words (avx2, asimddp); empty if unknown."""
    found = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", _read(_CPUINFO), re.MULTILINE)
    return tuple(found[1].split()) if found else ()


def physical_cpus() -> int | None:
    """The machine's cores, each counted once however many threads it runs; None if unknown."""
    siblings = {_read(path) for path in _TOPOLOGY.glob("cpu[0-9]*/topology/thread_siblings_list")}
    return len(siblings - {""}) or None


def usable_memory() -> int | None:
    """Bytes of memory that can still be had, cgroup limits counted; None if it can't be told."""
    found = memory()
    left = None
    if found.limit is not None and found.used is not None:
        left = max(0, found.limit - found.used)
    free = found.total if found.available is None else found.available
    amounts = [amount for amount in (free, left) if amount is not None]
    return min(amounts) if amounts else None


def memory() -> Memory:
    """The machine's memory, and what this process's cgroup allows."""
    found = re.search(r"MemAvailable:\s+(\d+) kB", _read(Path("/proc/meminfo")))
    available = int(found[1]) * 1024 if found else None
    return Memory(_total_memory(), available, *_cgroup_memory())


def _total_memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def _cgroup_memory() -> tuple[int | None, int | None]:
    """The tightest limit that a cgroup sets, and what is used of it; None and None if none does.

    Cached files are not counted as used: they give way to whatever needs the memory.
    """
    found = []
    for folder in _cgroup_folders("memory"):
        for limit_file, used_file in _MEMORY_FILES:
            limit, used = _read(folder / limit_file), _read(folder / used_file)
            if limit.isdigit() and used.isdigit():
                cached = re.findall(
                    r"^(?:in)?active_file (\d+)$", _read(folder / "memory.stat"), re.M
                )
                found.append((int(limit), max(0, int(used) - sum(map(int, cached)))))
    return min(found, key=lambda pair: pair[0] - pair[1]) if found else (None, None)


def _cgroup_cpus() -> float | None:
    found = []
    for folder in _cgroup_folders("cpu"):
        quota, _, period = _read(folder / "cpu.max").partition(" ")
        if not quota:
            quota, period = _read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us")
        if quota.isdigit() and period.isdigit() and int(period):
            found.append(int(quota) / int(period))
    return min(found, default=None)


def _cgroup_folders(controller: str) -> list[Path]:
    """Of this process's cgroup and those that it is in, in either version of cgroups."""
    folders = [_CGROUP, _CGROUP / controller]
    for line in _read(_OWN_CGROUP).splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and controller not in controllers.split(","):
            continue
        folder = _CGROUP / controller if controllers else _CGROUP
        for part in Path(path).parts[1:]:
            folder /= part
            folders.append(folder)
    return folders


def _read(path: Path) -> str:
    """The file's stripped text; empty where there is no such file."""
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def n_gpu_layers(device: str, wanted: int | None) -> int:
    """How many layers to offload for ``device``; -1 means all.

    Raises BackendError if this build of llama.cpp lacks the device.
    """
    if device == "cpu":
        return 0
    if device in BACKEND_NAMES and not _has_backend(device):
        raise BackendError(
            f"device={device!r} was asked for, but this build of llama.cpp has no such backend "
            f"(`localgen doctor` tells what it has); get one with: "
            f"{rebuild_command(BUILD_SETTINGS[device])}"
        )
    has_gpu = bool(llama().llama_supports_gpu_offload())
    if wanted and not has_gpu:
        raise BackendError(
            f"n_gpu_layers={wanted} was asked for, but this build of llama.cpp has no GPU backend; "
            f"leave it out, or install llama-cpp-python with "
            f"{BUILD_SETTINGS['cuda']} or {BUILD_SETTINGS['metal']}"
        )
    if not has_gpu:
        return 0
    return -1 if wanted is None else wanted


def _has_backend(device: str) -> bool:
    if not llama().llama_supports_gpu_offload():
        return False
    return any(re.search(rf"\b{name}\b", system_info()) for name in BACKEND_NAMES[device])
