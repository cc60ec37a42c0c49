"""What this process may use: CPUs, memory, and the devices of this build of llama.cpp."""

from __future__ import annotations

import math
import os
import platform
import re
from pathlib import Path

from localgen.errors import BackendError
from localgen.llama.library import llama, system_info

_CGROUP = Path("/sys/fs/cgroup")
_CPUINFO = Path("/proc/cpuinfo")
# The names under which llama.cpp's system info lists the backend of each device.
_BACKEND_NAMES = {"cuda": ("CUDA", "ROCm", "MUSA"), "metal": ("Metal", "MTL")}
_BUILD_FLAGS = {"cuda": "-DGGML_CUDA=on", "metal": "-DGGML_METAL=on"}


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


def usable_memory() -> int | None:
    """Bytes of memory that can still be had, cgroup limits counted; None if it can't be told."""
    amounts = [amount for amount in (_available_memory(), _cgroup_memory()) if amount is not None]
    return min(amounts) if amounts else None


def _available_memory() -> int | None:
    found = re.search(r"MemAvailable:\s+(\d+) kB", _read(Path("/proc/meminfo")))
    if found:
        return int(found[1]) * 1024
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def _cgroup_memory() -> int | None:
    limit, used = _read(_CGROUP / "memory.max"), _read(_CGROUP / "memory.current")
    if not limit:
        folder = _CGROUP / "memory"
        limit = _read(folder / "memory.limit_in_bytes")
        used = _read(folder / "memory.usage_in_bytes")
    if not (limit.isdigit() and used.isdigit()):
        return None
    return max(0, int(limit) - int(used))


def _cgroup_cpus() -> float | None:
    quota, _, period = _read(_CGROUP / "cpu.max").partition(" ")
    if not quota:
        folder = _CGROUP / "cpu"
        quota, period = _read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us")
    if not (quota.isdigit() and period.isdigit() and int(period)):
        return None
    return int(quota) / int(period)


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
    if device in _BACKEND_NAMES and not _has_backend(device):
        raise BackendError(
            f"device={device!r} was asked for, but this build of llama.cpp has no such backend "
            f"({system_info() or 'no features listed'}); get one with: "
            f'CMAKE_ARGS="{_BUILD_FLAGS[device]}" pip install --force-reinstall --no-cache-dir '
            f"--no-binary llama-cpp-python llama-cpp-python"
        )
    has_gpu = bool(llama().llama_supports_gpu_offload())
    if wanted and not has_gpu:
        raise BackendError(
            f"n_gpu_layers={wanted} was asked for, but this build of llama.cpp has no GPU backend; "
            f"leave it out, or install llama-cpp-python with "
            f'CMAKE_ARGS="{_BUILD_FLAGS["cuda"]}" or CMAKE_ARGS="{_BUILD_FLAGS["metal"]}"'
        )
    if not has_gpu:
        return 0
    return -1 if wanted is None else wanted


def _has_backend(device: str) -> bool:
    if not llama().llama_supports_gpu_offload():
        return False
    return any(re.search(rf"\b{name}\b", system_info()) for name in _BACKEND_NAMES[device])
