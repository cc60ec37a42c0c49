"""Derives what is wrong with an installation from facts about it, without looking at anything.

A problem stops models from running, or stops what was requested. A hint is about something that
works but could work better.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from localgen._util.child import Failure
from localgen._util.format import counted
from localgen._util.shell import set_variable, unset_variable, with_variables
from localgen._util.system import Memory
from localgen.doctor.build_report import BuildReport
from localgen.doctor.speed_probe import Speed
from localgen.llama.amx import WORKING_AMX
from localgen.llama.devices import BACKEND_NAMES, BUILD_SETTINGS
from localgen.llama.library import INSTALL, rebuild_command

Severity = Literal["problem", "hint"]

# Linux's name → llama.cpp's, of the features that matter most for speed and that every compiler in
# use supports. AMX is left out, since some compilers need an option for it (``llama.amx``).
_CPU_FEATURES = {
    "avx": "AVX",
    "avx2": "AVX2",
    "fma": "FMA",
    "f16c": "F16C",
    "avx512f": "AVX512",
    "avx512_vnni": "AVX512_VNNI",
    "asimddp": "DOTPROD",
    "i8mm": "MATMUL_INT8",
}
_OTHER_CACHE = set_variable('HF_HUB_CACHE="$HOME/models"')
_LITTLE_DISK = 10**9


@dataclass(frozen=True, slots=True)
class Finding:
    """A problem or a hint. fix: the command that fixes it or, if none does, shows more about it."""

    severity: Severity
    sentence: str
    fix: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Cpus:
    """usable: the CPUs that this process may use, and the default of n_threads. logical, physical:
    the machine's; None if unknown. flags: see ``system.cpu_flags``. load: the average number of
    processes running or ready to run in the last minute; None if unknown."""

    name: str
    usable: int
    logical: int | None
    physical: int | None
    flags: tuple[str, ...]
    load: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cache:
    """The Hub's cache: its models, its size in bytes, the bytes free on its disk. offline: the
    environment variable that forbids requests to the Hub, or None."""

    folder: Path
    n_models: int
    n_bytes: int
    free_bytes: int
    is_writable: bool
    offline: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """The model of the speed probe. file: None if it is not on the disk. get: the command that
    installs or downloads it, or lists local models. is_default: the user named none."""

    name: str
    file: Path | None
    missing: str | None
    get: str
    is_default: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """An installation and its machine.

    system, machine: as the platform module names them ("Darwin", "arm64"). packages: {name:
    version}, None if not installed. build, cache, speed: a Failure if they could not be examined;
    speed is None if it was not measured. nvidia_gpus: their names as reported by the system, not by
    llama.cpp. cuda_visible_devices, omp_wait_policy: the environment variables. omp_binding: the
    name of the one that binds OpenMP's threads to CPUs, or None. tools: the programs on PATH, of
    those that a build needs. hub_error: why huggingface_hub cannot be imported. default_file: the
    default model's; None if it is not installed. model: the one of the speed probe.
    n_profiles: how many ``localgen tune`` saved for it.
    """

    localgen: str
    python: str
    executable: str
    system: str
    machine: str
    platform: str
    packages: dict[str, str | None]
    build: BuildReport | Failure
    cpus: Cpus
    memory: Memory
    nvidia_gpus: tuple[str, ...]
    cuda_visible_devices: str | None
    omp_wait_policy: str | None
    omp_binding: str | None
    tools: tuple[str, ...]
    hub_error: str | None
    cache: Cache | Failure
    default_file: Path | None
    model: Model
    speed: Speed | Failure | None
    n_profiles: int = 0


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """The facts and the findings, problems first."""

    facts: Facts
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether there is no problem; hints do not count."""
        return all(finding.severity == "hint" for finding in self.findings)


def findings(facts: Facts) -> tuple[Finding, ...]:
    """Return what follows from the facts: problems first, then hints."""
    found = [
        *_about_library(facts),
        *_about_gpus(facts),
        *_about_kernels(facts),
        *_about_model(facts),
        *_about_speed(facts),
        *_about_cache(facts),
        *_about_packages(facts),
    ]
    found += _about_compiler(facts, found)
    return tuple(sorted(found, key=lambda finding: finding.severity != "problem"))


def unused_features(flags: Iterable[str], features: Iterable[str]) -> list[str]:
    """Return llama.cpp's names of the features that the processor has and the build lacks."""
    has, built = set(flags), set(features)
    return [name for flag, name in _CPU_FEATURES.items() if flag in has and name not in built]


def _about_library(facts: Facts) -> Iterator[Finding]:
    if isinstance(facts.build, BuildReport):
        return
    version = facts.packages["llama-cpp-python"]
    if version is None:
        sentence = "llama-cpp-python is not installed; models cannot run without it."
        yield Finding("problem", sentence, with_variables(_build_settings(facts), INSTALL))
        return
    sentence = _sentence(
        f"llama-cpp-python {version} cannot be used: the process that loads it {facts.build.reason}"
    )
    if facts.build.signal == "SIGILL":
        sentence += " It was compiled for a different processor."
    yield Finding("problem", sentence, rebuild_command(*_build_settings(facts)))


def _about_gpus(facts: Facts) -> Iterator[Finding]:
    if isinstance(facts.build, Failure) or _sees_gpu(facts.build):
        return
    if facts.nvidia_gpus:
        yield _unused_nvidia(facts, facts.build)
    elif (facts.system, facts.machine) == ("Darwin", "arm64") and not _has(facts.build, "metal"):
        yield Finding(
            "hint",
            "This Mac has a GPU, but this build of llama.cpp lacks Metal and computes on the CPU.",
            rebuild_command(BUILD_SETTINGS["metal"]),
        )


def _unused_nvidia(facts: Facts, build: BuildReport) -> Finding:
    name = facts.nvidia_gpus[0]
    if not _has(build, "cuda"):
        sentence = f"This build of llama.cpp lacks CUDA and does not use {name}."
        if "nvcc" not in facts.tools:
            sentence += " Building it with CUDA requires NVIDIA's CUDA toolkit, with nvcc on PATH."
        settings = [each for each in _build_settings(facts) if each != BUILD_SETTINGS["cuda"]]
        return Finding("hint", sentence, rebuild_command(BUILD_SETTINGS["cuda"], *settings))
    if facts.cuda_visible_devices in ("", "-1"):
        sentence = f"CUDA_VISIBLE_DEVICES hides {name} from llama.cpp, which computes on the CPU."
        return Finding("hint", sentence, unset_variable("CUDA_VISIBLE_DEVICES"))
    sentence = (
        f"This build of llama.cpp has CUDA but does not find {name}: the driver may be too old for "
        f"its version of CUDA. nvidia-smi shows the newest version that the driver supports."
    )
    return Finding("hint", sentence, "nvidia-smi")


def _about_kernels(facts: Facts) -> Iterator[Finding]:
    if isinstance(facts.build, Failure):
        return
    unused = unused_features(facts.cpus.flags, facts.build.features.get("CPU", ()))
    # With a GPU, little work is left for the CPU.
    if unused and not _sees_gpu(facts.build):
        yield Finding(
            "hint",
            f"The processor has {_listed(unused)}, which this build of llama.cpp does not use. A "
            f"build compiled on this machine is faster.",
            rebuild_command(*_build_settings(facts)),
        )
    if not facts.build.amx_is_safe:
        yield Finding(
            "hint",
            "The AMX kernels of this build of llama.cpp crash (some versions of GCC miscompile "
            "them), so weights are not repacked, which is much slower.",
            rebuild_command(*_build_settings(facts)),
        )


def _about_model(facts: Facts) -> Iterator[Finding]:
    model = facts.model
    if model.file is not None:
        return
    if model.is_default:
        sentence = (
            f"The default model, {model.name}, is not installed. To use another one, download it "
            f"with localgen models pull NAME and pass it with --model."
        )
        yield Finding("hint", sentence, model.get)
    else:
        yield Finding("problem", _sentence(f"No model to probe: {model.missing}"), model.get)


def _about_speed(facts: Facts) -> Iterator[Finding]:
    if isinstance(facts.speed, Failure):
        sentence = _sentence(f"The speed probe with {facts.model.name} {facts.speed.reason}")
        show = f"localgen --verbose generate --model {shlex.quote(facts.model.name)} --stats Hello"
        if facts.speed.signal == "SIGKILL":
            sentence += " The most likely reason is too little memory."
        elif facts.speed.signal:
            show = rebuild_command(*_build_settings(facts))
        yield Finding("problem", sentence, show)
    yield from _about_load(facts)
    if facts.omp_binding is not None and _has_openmp(facts):
        sentence = (
            f"{facts.omp_binding} binds each of llama.cpp's threads to a CPU, where it waits for "
            f"whatever else runs there. localgen binds only these threads, not yours."
        )
        yield Finding("hint", sentence, unset_variable(facts.omp_binding))


def _about_load(facts: Facts) -> Iterator[Finding]:
    """Compare the load with how idle threads wait.

    They spin, which is OpenMP's default, or sleep. SmolLM2 on two quiet CPUs decodes 160 tokens/s
    with spinning threads, 3 times as fast as with sleeping ones. Beside two other busy processes it
    is 1 to 5 with spinning threads, and 27 to 45 with sleeping ones.
    """
    load, n_cpus = facts.cpus.load, facts.cpus.logical
    if load is None or n_cpus is None:
        return
    sleeps = (facts.omp_wait_policy or "").lower() == "passive"
    if load >= n_cpus - 0.5:  # an average: as many busy processes as CPUs
        cpus = counted(n_cpus, "CPU")
        sentence = f"Other processes keep the CPUs busy: the load is {load:.1f} on {cpus}."
        fix = "taskmgr" if facts.system == "Windows" else "top"
        if _has_openmp(facts) and not sleeps:
            sentence += (
                " While that lasts, decoding is faster with threads that sleep when idle; on a "
                "quiet machine it is slower."
            )
            fix = set_variable('OMP_WAIT_POLICY="passive"')
        yield Finding("hint", sentence, fix)
    elif sleeps and load < n_cpus / 2 and _has_openmp(facts):
        sentence = "OMP_WAIT_POLICY=passive slows down decoding on a quiet machine like this one."
        yield Finding("hint", sentence, unset_variable("OMP_WAIT_POLICY"))


def _about_cache(facts: Facts) -> Iterator[Finding]:
    cache = facts.cache
    if facts.hub_error is not None:
        sentence = _sentence(f"huggingface_hub cannot be imported: {facts.hub_error}")
        yield Finding("problem", sentence, "pip install --force-reinstall huggingface_hub")
        return
    if isinstance(cache, Failure):
        yield Finding("problem", _sentence(f"The Hub's cache {cache.reason}"), _OTHER_CACHE)
        return
    if cache.offline:
        sentence = f"{cache.offline} is set, so nothing is downloaded from the Hub."
        yield Finding("hint", sentence, unset_variable(cache.offline))
    if not cache.is_writable:
        sentence = f"{cache.folder} is not writable, so no model can be downloaded to it."
        yield Finding("hint", sentence, _OTHER_CACHE)
    elif cache.free_bytes < _LITTLE_DISK:
        sentence = f"Only {cache.free_bytes / 1e6:.0f} MB are free on the disk of the model cache."
        yield Finding("hint", sentence, "localgen models list")


def _about_packages(facts: Facts) -> Iterator[Finding]:
    if facts.packages["matplotlib"] is None:
        sentence = "matplotlib is not installed, so reports have no plots."
        yield Finding("hint", sentence, "pip install 'localgen[report]'")


def _about_compiler(facts: Facts, found: Iterable[Finding]) -> Iterator[Finding]:
    """Name the compiler that is missing if another finding suggests a build.

    On Windows the compiler is not on PATH; CMake finds it.
    """
    builds = any("llama-cpp-python" in finding.fix for finding in found)
    if builds and facts.system != "Windows" and not {"c++", "g++", "clang++"} & set(facts.tools):
        mac = facts.system == "Darwin"
        where = "" if mac else " (the command is for Debian and Ubuntu)"
        sentence = f"Building llama-cpp-python needs a C++ compiler, but none is on PATH{where}."
        fix = "xcode-select --install" if mac else "sudo apt-get install g++"
        yield Finding("hint", sentence, fix)


def _build_settings(facts: Facts) -> list[str]:
    """Return the settings of a build for this machine that keep what the present build has."""
    build = facts.build if isinstance(facts.build, BuildReport) else None
    settings = []
    if (build and "CUDA" in build.features) or (facts.nvidia_gpus and "nvcc" in facts.tools):
        settings.append(BUILD_SETTINGS["cuda"])
    if build and not build.amx_is_safe:
        settings += WORKING_AMX
    return settings


def _has_openmp(facts: Facts) -> bool:
    build = facts.build
    return isinstance(build, BuildReport) and "OPENMP" in build.features.get("CPU", ())


def _has(build: BuildReport, device: str) -> bool:
    return any(name in build.features for name in BACKEND_NAMES[device])


def _sees_gpu(build: BuildReport) -> bool:
    return any(device.is_gpu for device in build.devices)


def _sentence(text: str) -> str:
    """Return ``text``, which may end with a quoted sentence, with one full stop."""
    return f"{text.rstrip('. ')}."


def _listed(names: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
