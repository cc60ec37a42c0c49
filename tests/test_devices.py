"""What this process may use, read from the files in which Linux says it."""

from __future__ import annotations

from pathlib import Path

import pytest

from localgen.llama import devices

GIB = 2**30


@pytest.fixture
def machine(monkeypatch):
    """Set what the kernel's files say; those not named do not exist."""

    def set_files(cpus: int, files: dict[str, str]) -> None:
        monkeypatch.setattr(devices, "_read", lambda path: files.get(Path(path).name, ""))
        monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(cpus)), raising=False)

    return set_files


@pytest.mark.parametrize(
    ("cpu_max", "expected"),
    [("max 100000", 8), ("200000 100000", 2), ("150000 100000", 2), ("50000 100000", 1), ("", 8)],
)
def test_cpus_are_limited_by_the_cgroup(machine, cpu_max, expected):
    """A container's quota counts, rounded up; no quota leaves the affinity."""
    machine(8, {"cpu.max": cpu_max})
    assert devices.usable_cpus() == expected


def test_old_cgroups_count_too(machine):
    """Version 1 files are read where those of version 2 are missing; -1 means no quota."""
    machine(8, {"cpu.cfs_quota_us": "300000", "cpu.cfs_period_us": "100000"})
    assert devices.usable_cpus() == 3
    machine(8, {"cpu.cfs_quota_us": "-1", "cpu.cfs_period_us": "100000"})
    assert devices.usable_cpus() == 8


def test_memory_is_the_smaller_of_free_and_allowed(machine):
    """What the cgroup still allows, or what the machine has free, whichever is less."""
    free = {"meminfo": f"MemTotal: 99 kB\nMemAvailable:   {8 * GIB // 1024} kB\n"}
    machine(1, free)
    assert devices.usable_memory() == 8 * GIB
    machine(1, {**free, "memory.max": "max", "memory.current": str(GIB)})
    assert devices.usable_memory() == 8 * GIB
    machine(1, {**free, "memory.max": str(3 * GIB), "memory.current": str(GIB)})
    assert devices.usable_memory() == 2 * GIB


def test_what_a_processor_can_do(machine):
    """The kernel's line is called flags on x86 and Features on ARM; elsewhere there is none."""
    machine(1, {"cpuinfo": "model name\t: A\nflags\t\t: fpu avx2\n\nflags\t\t: fpu avx2\n"})
    assert devices.cpu_flags() == ("fpu", "avx2")
    machine(1, {"cpuinfo": "Features\t: asimd i8mm"})
    assert devices.cpu_flags() == ("asimd", "i8mm")
    machine(1, {})
    assert devices.cpu_flags() == ()


def test_cores_are_counted_once(tmp_path, monkeypatch):
    """However many threads each of them runs."""
    monkeypatch.setattr(devices, "_TOPOLOGY", tmp_path)
    assert devices.physical_cpus() is None
    for cpu, siblings in enumerate(["0,2", "1,3", "0,2", "1,3"]):
        (tmp_path / f"cpu{cpu}" / "topology").mkdir(parents=True)
        (tmp_path / f"cpu{cpu}" / "topology" / "thread_siblings_list").write_text(siblings)
    (tmp_path / "cpufreq").mkdir()
    assert devices.physical_cpus() == 2
