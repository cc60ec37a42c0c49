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


@pytest.fixture
def cgroups(tmp_path, monkeypatch):
    """Write files below a folder that stands for /sys/fs/cgroup, and the process's own path."""
    monkeypatch.setattr(devices, "_CGROUP", tmp_path)
    own = tmp_path / "own"
    monkeypatch.setattr(devices, "_OWN_CGROUP", own)

    def write(own_path: str, files: dict[str, str]) -> None:
        own.write_text(own_path)
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)

    return write


def test_the_tightest_of_nested_cgroups_counts(cgroups):
    """A service's limit is set in the folder of the service or of its slice, not at the root."""
    cgroups(
        "0::/user.slice/job.service\n",
        {
            "user.slice/memory.max": str(3 * GIB),
            "user.slice/memory.current": str(2 * GIB),
            "user.slice/job.service/memory.max": str(4 * GIB),
            "user.slice/job.service/memory.current": str(GIB),
            "user.slice/job.service/cpu.max": "150000 100000",
            "user.slice/cpu.max": "max 100000",
        },
    )
    assert devices.memory().limit == 3 * GIB
    assert devices.memory().used == 2 * GIB
    assert devices._cgroup_cpus() == 1.5


def test_nested_cgroups_of_version_1(cgroups):
    """Each controller has its own tree and its own path."""
    cgroups(
        "5:cpu,cpuacct:/a\n4:memory:/b\n",
        {
            "memory/b/memory.limit_in_bytes": str(GIB),
            "memory/b/memory.usage_in_bytes": "1000",
            "memory/a/memory.limit_in_bytes": "1",
            "memory/a/memory.usage_in_bytes": "0",
            "cpu/a/cpu.cfs_quota_us": "50000",
            "cpu/a/cpu.cfs_period_us": "100000",
        },
    )
    assert (devices.memory().limit, devices.memory().used) == (GIB, 1000)
    assert devices._cgroup_cpus() == 0.5


def test_cached_files_do_not_count_as_used(cgroups):
    """A model that was just downloaded is in the cgroup's page cache, and would not fit itself."""
    cgroups(
        "0::/\n",
        {
            "memory.max": str(8 * GIB),
            "memory.current": str(7 * GIB),
            "memory.stat": f"anon {GIB}\nfile {6 * GIB}\ninactive_file {4 * GIB}\n"
            f"active_file {2 * GIB}\ninactive_anon 5\n",
        },
    )
    assert devices.memory().used == GIB


def test_cores_are_counted_once(tmp_path, monkeypatch):
    """However many threads each of them runs."""
    monkeypatch.setattr(devices, "_TOPOLOGY", tmp_path)
    assert devices.physical_cpus() is None
    for cpu, siblings in enumerate(["0,2", "1,3", "0,2", "1,3"]):
        (tmp_path / f"cpu{cpu}" / "topology").mkdir(parents=True)
        (tmp_path / f"cpu{cpu}" / "topology" / "thread_siblings_list").write_text(siblings)
    (tmp_path / "cpufreq").mkdir()
    assert devices.physical_cpus() == 2
