"""What this process may use: Linux's files are written below a folder that stands for the root."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import psutil
import pytest

from localgen._util import system
from localgen._util.system.linux import Linux
from localgen._util.system.macos import MacOS
from localgen._util.system.platform import Platform, max_rss
from localgen._util.system.windows import Windows
from localgen.errors import BackendError

GIB = 2**30
Write = Callable[[dict[str, str]], None]


@pytest.fixture
def linux(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """``linux(files)`` is a machine of 8 CPUs with these files, and no others."""

    def write(files: dict[str, str]) -> None:
        root = tmp_path / str(len(list(tmp_path.iterdir())))
        root.mkdir()
        for name, text in files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)
        monkeypatch.setattr(system, "PLATFORM", Linux(root))
        monkeypatch.setattr(Linux, "affinity", lambda self: 8)

    return write


@pytest.fixture(autouse=True)
def _generic_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    """On Linux Python asks a program of the system for it."""
    monkeypatch.setattr("platform.processor", lambda: "generic")


@pytest.mark.parametrize(
    ("cpu_max", "expected"),
    [("max 100000", 8), ("200000 100000", 2), ("150000 100000", 2), ("50000 100000", 1), ("", 8)],
)
def test_cpus_are_limited_by_the_cgroup(linux: Write, cpu_max: str, expected: int) -> None:
    """A container's quota counts, rounded up; no quota leaves the affinity."""
    linux({"sys/fs/cgroup/cpu.max": cpu_max})
    assert system.usable_cpus() == expected


def test_old_cgroups_count_too(linux: Write) -> None:
    """Version 1 files are read where those of version 2 are missing; -1 means no quota."""
    files = {"sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000"}
    linux({**files, "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "300000"})
    assert system.usable_cpus() == 3
    linux({**files, "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1"})
    assert system.usable_cpus() == 8


def test_memory_is_the_smaller_of_free_and_allowed(linux: Write) -> None:
    """What the cgroup still allows, or what the machine has free, whichever is less."""
    cgroup = "sys/fs/cgroup"
    free = {"proc/meminfo": f"MemTotal: 99 kB\nMemAvailable:   {8 * GIB // 1024} kB\n"}
    linux(free)
    assert system.available_memory() == 8 * GIB
    linux({**free, f"{cgroup}/memory.max": "max", f"{cgroup}/memory.current": str(GIB)})
    assert system.available_memory() == 8 * GIB
    linux({**free, f"{cgroup}/memory.max": str(3 * GIB), f"{cgroup}/memory.current": str(GIB)})
    assert system.available_memory() == 2 * GIB


def test_memory_that_is_not_reported(linux: Write) -> None:
    """Old kernels have no MemAvailable; without /proc nothing is known, and nothing is refused."""
    linux({"proc/meminfo": f"MemTotal: {GIB // 1024} kB\n"})
    assert system.available_memory() == GIB
    linux({})
    assert system.available_memory() is None
    assert system.memory() == system.Memory(None, None, None, None)


def test_what_a_processor_can_do(linux: Write) -> None:
    """The kernel's line is called flags on x86 and Features on ARM; elsewhere there is none."""
    linux({"proc/cpuinfo": "model name\t: A\nflags\t\t: fpu avx2\n\nflags\t\t: fpu avx2\n"})
    assert (system.cpu_name(), system.cpu_flags()) == ("A", ("fpu", "avx2"))
    linux({"proc/cpuinfo": "Features\t: asimd i8mm"})
    assert system.cpu_flags() == ("asimd", "i8mm")
    linux({})
    assert system.cpu_flags() == ()
    assert system.cpu_name() == "generic"


def test_the_tightest_of_nested_cgroups_counts(linux: Write) -> None:
    """A service's limit is set in the folder of the service or of its slice, not at the root."""
    slice_ = "sys/fs/cgroup/user.slice"
    linux(
        {
            "proc/self/cgroup": "0::/user.slice/job.service\n",
            f"{slice_}/memory.max": str(3 * GIB),
            f"{slice_}/memory.current": str(2 * GIB),
            f"{slice_}/job.service/memory.max": str(4 * GIB),
            f"{slice_}/job.service/memory.current": str(GIB),
            f"{slice_}/job.service/cpu.max": "150000 100000",
            f"{slice_}/cpu.max": "max 100000",
        },
    )
    found = system.memory()
    assert (found.limit, found.used) == (3 * GIB, 2 * GIB)
    assert system.PLATFORM.cpu_quota() == 1.5


def test_nested_cgroups_of_version_1(linux: Write) -> None:
    """Each controller has its own tree and its own path."""
    cgroup = "sys/fs/cgroup"
    linux(
        {
            "proc/self/cgroup": "5:cpu,cpuacct:/a\n4:memory:/b\n",
            f"{cgroup}/memory/b/memory.limit_in_bytes": str(GIB),
            f"{cgroup}/memory/b/memory.usage_in_bytes": "1000",
            f"{cgroup}/memory/a/memory.limit_in_bytes": "1",
            f"{cgroup}/memory/a/memory.usage_in_bytes": "0",
            f"{cgroup}/cpu/a/cpu.cfs_quota_us": "50000",
            f"{cgroup}/cpu/a/cpu.cfs_period_us": "100000",
        },
    )
    found = system.memory()
    assert (found.limit, found.used) == (GIB, 1000)
    assert system.PLATFORM.cpu_quota() == 0.5


def test_cached_files_do_not_count_as_used(linux: Write) -> None:
    """A model that was just downloaded is in the cgroup's page cache, and would not fit itself."""
    cgroup = "sys/fs/cgroup"
    linux(
        {
            "proc/self/cgroup": "0::/\n",
            f"{cgroup}/memory.max": str(8 * GIB),
            f"{cgroup}/memory.current": str(7 * GIB),
            f"{cgroup}/memory.stat": f"anon {GIB}\nfile {6 * GIB}\ninactive_file {4 * GIB}\n"
            f"active_file {2 * GIB}\ninactive_anon 5\n",
        },
    )
    assert system.memory().used == GIB


def test_cores_are_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many threads each of them runs; None where the system does not report them."""
    cores: dict[bool, int | None] = {False: 4, True: 8}
    monkeypatch.setattr(psutil, "cpu_count", lambda logical=True: cores[logical])
    assert system.physical_cpus() == 4
    cores[False] = None
    assert system.physical_cpus() is None


def test_peak_memory_is_the_systems_own_figure(linux: Write) -> None:
    """VmHWM, not getrusage's peak, which starts at that of the parent."""
    linux({"proc/self/status": "VmPeak:\t 9 kB\nVmHWM:\t     123 kB\n"})
    assert system.peak_memory() == 123 * 1024
    linux({})
    assert system.peak_memory() > 2**20


@pytest.mark.skipif(sys.platform != "linux", reason="the figures of a Linux machine")
@pytest.mark.parametrize("kind", [Platform, Windows, MacOS])
def test_the_platforms_agree_on_this_machine(kind: type[Platform]) -> None:
    """psutil's figures, which Windows and macOS use, are those that Linux's own files give."""
    here, other = Linux(), kind()
    assert other.affinity() == here.affinity()
    total, available = other.ram()
    assert total == here.ram()[0]
    assert available is not None
    assert 0 < available <= (total or 0)
    assert other.memory_limit() == (None, None)
    assert other.cpu_quota() is None


def test_peak_memory_of_every_platform(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows reports its peak through psutil, macOS through getrusage, in bytes."""
    info = SimpleNamespace(rss=3, peak_wset=7)
    monkeypatch.setattr(psutil, "Process", lambda: SimpleNamespace(memory_info=lambda: info))
    assert Platform().peak_memory() == 3
    assert Windows().peak_memory() == 7
    monkeypatch.setattr("localgen._util.system.macos.max_rss", lambda: 11)
    assert MacOS().peak_memory() == 11
    monkeypatch.setattr("localgen._util.system.macos.max_rss", lambda: None)
    assert MacOS().peak_memory() == 3


def test_a_system_without_affinity_has_all_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "Process", SimpleNamespace)
    monkeypatch.setattr("os.cpu_count", lambda: 6)
    assert MacOS().affinity() == 6


class Registry(ModuleType):
    """Windows' registry, with one processor in it, or none."""

    HKEY_LOCAL_MACHINE = 1

    def __init__(self, name: str | None) -> None:
        super().__init__("winreg")
        self.name = name

    def OpenKey(self, _root: int, path: str) -> Any:
        if self.name is None:
            raise FileNotFoundError(path)
        return self

    def __enter__(self) -> Registry:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def QueryValueEx(self, _key: object, value: str) -> tuple[str | None, int]:
        assert value == "ProcessorNameString"
        return self.name, 1


def test_the_processors_name_on_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "winreg", Registry("AMD Ryzen 7 7840U  "))
    assert Windows().cpu_name() == "AMD Ryzen 7 7840U"
    monkeypatch.setitem(sys.modules, "winreg", Registry(None))
    assert Windows().cpu_name() == "generic"


def test_the_processors_name_on_a_mac(monkeypatch: pytest.MonkeyPatch) -> None:
    def sysctl(command: list[str], **_: object) -> SimpleNamespace:
        assert command[-1] == "machdep.cpu.brand_string"
        return SimpleNamespace(stdout=b"Apple M2\n")

    monkeypatch.setattr("subprocess.run", sysctl)
    assert MacOS().cpu_name() == "Apple M2"

    def nothing(command: list[str], **_: object) -> SimpleNamespace:
        raise FileNotFoundError(command[0])

    monkeypatch.setattr("subprocess.run", nothing)
    assert MacOS().cpu_name() == "generic"


def test_a_cold_page_cache_where_there_is_a_way(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"data")
    assert Linux().drop_from_page_cache(tmp_path / "file") == (sys.platform == "linux")
    assert not Windows().drop_from_page_cache(tmp_path / "file")


def test_a_python_without_getrusage(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then psutil's figure serves, which is what the process holds now."""
    monkeypatch.setitem(sys.modules, "resource", None)
    assert max_rss() is None


# --- energy ---

POWERCAP = "sys/class/powercap"
with_zones = pytest.mark.skipif(sys.platform == "win32", reason="RAPL's names have a colon")


def zone(number: str, name: str, microjoules: int, most: int = 10_000_000) -> dict[str, str]:
    """Return the files of a RAPL zone."""
    folder = f"{POWERCAP}/intel-rapl:{number}"
    return {
        f"{folder}/name": f"{name}\n",
        f"{folder}/energy_uj": f"{microjoules}\n",
        f"{folder}/max_energy_range_uj": f"{most}\n",
    }


@with_zones
def test_energy_is_that_of_processors_and_their_memory(linux: Write, tmp_path: Path) -> None:
    """Cores are part of a package, psys holds it, and intel-rapl-mmio counts it a second time."""
    again = {f"{POWERCAP}/intel-rapl-mmio:0/name": "package-0\n"}
    others = zone("0:0", "core", 7) | zone("1", "psys", 7) | again
    linux(zone("0", "package-0", 1_000_000) | zone("0:1", "dram", 500_000) | others)
    meter = system.energy_meter()
    assert meter.names == ("package-0", "dram")
    assert meter.joules() == 0.0
    folder = tmp_path / "0" / POWERCAP
    (folder / "intel-rapl:0" / "energy_uj").write_text("3000000")
    (folder / "intel-rapl:0:1" / "energy_uj").write_text("750000")
    (folder / "intel-rapl:0:0" / "energy_uj").write_text("9000000")
    assert meter.joules() == 2.25


@with_zones
def test_a_counter_of_energy_restarts(linux: Write, tmp_path: Path) -> None:
    """From 9.5 J over the edge at 10 J to 0.25 J, and once more."""
    linux(zone("0", "package-0", 9_500_000))
    meter, file = system.energy_meter(), tmp_path / "0" / POWERCAP / "intel-rapl:0" / "energy_uj"
    file.write_text("250000")
    assert meter.joules() == 0.75
    file.write_text("0")
    assert meter.joules() == 10.5


@with_zones
def test_energy_that_cannot_be_measured_says_why(
    linux: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    linux(zone("1", "psys", 7))
    with pytest.raises(BackendError, match="no RAPL counters of a processor"):
        system.energy_meter()
    linux(zone("0", "package-0", 7) | {f"{POWERCAP}/intel-rapl:0/energy_uj": "x"})
    with pytest.raises(BackendError, match=r"energy_uj: invalid literal"):
        system.energy_meter()

    def refuse(*_: object) -> str:
        raise PermissionError

    linux(zone("0", "package-0", 7))
    counters = system.PLATFORM.energy_counters()
    with monkeypatch.context() as patched:
        patched.setattr(Path, "read_text", refuse)
        with pytest.raises(BackendError, match=r"only root may read .*energy_uj\. Run as root"):
            counters[0].read()


@pytest.mark.parametrize("other", [MacOS(), Windows()], ids=["macOS", "Windows"])
def test_energy_is_not_reported_elsewhere(other: Platform) -> None:
    with pytest.raises(BackendError, match="only Linux reports it"):
        other.energy_counters()
