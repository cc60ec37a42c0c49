"""What is wrong with an installation, from facts about it; pure, ``doctor`` gathers the facts.

A problem keeps models from running, or keeps what was asked for from being done. A hint is about
what runs, but could run better.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from localgen._util.child import Failure
from localgen._util.shell import set_variable, unset_variable, with_variables
from localgen._util.system import Memory
from localgen.doctor.build_report import BuildReport
from localgen.doctor.speed_probe import Speed
from localgen.llama.amx import WORKING_AMX
from localgen.llama.devices import BACKEND_NAMES, BUILD_SETTINGS
from localgen.llama.library import INSTALL, rebuild_command

Severity = Literal["problem", "hint"]

# The kernel's word → llama.cpp's feature: those that its kernels gain most from, and that every
# compiler in use knows. AMX is left out: some compilers need to be told how (``llama.amx``).
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
    """Something to know. fix: the command that mends it, or that shows more where none does."""

    severity: Severity
    sentence: str
    fix: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Cpus:
    """usable: what this process may use, and n_threads by default. logical, physical: the
    machine's; None if unknown. flags: see ``system.cpu_flags``. load: how many processes ran or
    waited to, on average over the last minute; None if unknown."""

    name: str
    usable: int
    logical: int | None
    physical: int | None
    flags: tuple[str, ...]
    load: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cache:
    """The Hub's cache: models in it, bytes of all of it, bytes free on its disk. offline: the
    environment variable that forbids requests to the Hub, or None."""

    folder: Path
    n_models: int
    n_bytes: int
    free_bytes: int
    is_writable: bool
    offline: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """The model of the speed probe. file: None if it is not here. get: the command that brings it,
    or lists what is here. is_default: nobody named it."""

    name: str
    file: Path | None
    missing: str | None
    get: str
    is_default: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """An installation and its machine.

    system, machine: as the platform module names them ("Darwin", "arm64"). packages: name →
    version, None if not installed. build, cache, speed: a Failure where they could not be looked
    at; speed is None where it was not tried. nvidia_gpus: their names, as the system, not
    llama.cpp, tells them. cuda_visible_devices, omp_wait_policy: the environment variables. tools:
    the programs on PATH, of those that a build needs. hub_error: why huggingface_hub cannot be
    imported, if so. default_file: the default model's; None if it is not installed. model: the one
    of the speed probe.
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
    tools: tuple[str, ...]
    hub_error: str | None
    cache: Cache | Failure
    default_file: Path | None
    model: Model
    speed: Speed | Failure | None


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """The facts, and what follows from them: problems first."""

    facts: Facts
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether there is no problem; hints are none."""
        return all(finding.severity == "hint" for finding in self.findings)


def findings(facts: Facts) -> tuple[Finding, ...]:
    """What the facts mean: problems first, then hints."""
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
    """The features, in llama.cpp's words, that a processor with ``flags`` has and a build lacks."""
    has, built = set(flags), set(features)
    return [name for flag, name in _CPU_FEATURES.items() if flag in has and name not in built]


def _about_library(facts: Facts) -> Iterator[Finding]:
    if isinstance(facts.build, BuildReport):
        return
    version = facts.packages["llama-cpp-python"]
    if version is None:
        sentence = "llama-cpp-python is not installed, and no model runs without it."
        yield Finding("problem", sentence, with_variables(_build_settings(facts), INSTALL))
        return
    sentence = _ended(f"llama-cpp-python {version} cannot be used: loading it {facts.build.reason}")
    if facts.build.signal == "SIGILL":
        sentence += " It was compiled for another processor."
    yield Finding("problem", sentence, rebuild_command(*_build_settings(facts)))


def _about_gpus(facts: Facts) -> Iterator[Finding]:
    if isinstance(facts.build, Failure) or _sees_gpu(facts.build):
        return
    if facts.nvidia_gpus:
        yield _unused_nvidia(facts, facts.build)
    elif (facts.system, facts.machine) == ("Darwin", "arm64") and not _has(facts.build, "metal"):
        yield Finding(
            "hint",
            "This Mac has a GPU, but this build of llama.cpp has no Metal and computes on the CPU.",
            rebuild_command(BUILD_SETTINGS["metal"]),
        )


def _unused_nvidia(facts: Facts, build: BuildReport) -> Finding:
    name = facts.nvidia_gpus[0]
    if not _has(build, "cuda"):
        sentence = f"{name} is there, but this build of llama.cpp has no CUDA and does not use it."
        if "nvcc" not in facts.tools:
            sentence += " Building with CUDA needs NVIDIA's CUDA toolkit, with nvcc on PATH."
        settings = [each for each in _build_settings(facts) if each != BUILD_SETTINGS["cuda"]]
        return Finding("hint", sentence, rebuild_command(BUILD_SETTINGS["cuda"], *settings))
    if facts.cuda_visible_devices in ("", "-1"):
        sentence = f"CUDA_VISIBLE_DEVICES hides {name} from llama.cpp, which computes on the CPU."
        return Finding("hint", sentence, unset_variable("CUDA_VISIBLE_DEVICES"))
    sentence = (
        f"{name} is there and this build of llama.cpp has CUDA, but finds no GPU: the driver may "
        f"be too old for that version of CUDA; nvidia-smi shows the newest that it takes."
    )
    return Finding("hint", sentence, "nvidia-smi")


def _about_kernels(facts: Facts) -> Iterator[Finding]:
    if isinstance(facts.build, Failure):
        return
    unused = unused_features(facts.cpus.flags, facts.build.features.get("CPU", ()))
    # With a GPU little is left for the CPU.
    if unused and not _sees_gpu(facts.build):
        yield Finding(
            "hint",
            f"The processor has {_listed(unused)}, which this build of llama.cpp does not use: one "
            f"compiled on this machine is faster.",
            rebuild_command(*_build_settings(facts)),
        )
    if not facts.build.amx_is_safe:
        yield Finding(
            "hint",
            "The AMX kernels of this build of llama.cpp crash (some versions of GCC compile them "
            "wrongly), so weights are not repacked, which is much slower.",
            rebuild_command(*_build_settings(facts)),
        )


def _about_model(facts: Facts) -> Iterator[Finding]:
    model = facts.model
    if model.file is not None:
        return
    if model.is_default:
        sentence = (
            f"The default model, {model.name}, is not installed; localgen models pull NAME fetches "
            f"another one, which -m takes."
        )
        yield Finding("hint", sentence, model.get)
    else:
        yield Finding("problem", _ended(f"There is no model to probe: {model.missing}"), model.get)


def _about_speed(facts: Facts) -> Iterator[Finding]:
    if isinstance(facts.speed, Failure):
        sentence = _ended(f"The speed probe with {facts.model.name} {facts.speed.reason}")
        show = f"localgen -v generate -m {shlex.quote(facts.model.name)} --stats Hello"
        if facts.speed.signal == "SIGKILL":
            sentence += " Most likely there was too little memory."
        elif facts.speed.signal:
            show = rebuild_command(*_build_settings(facts))
        yield Finding("problem", sentence, show)
    yield from _about_load(facts)


def _about_load(facts: Facts) -> Iterator[Finding]:
    """Threads that wait for each other spin, as OpenMP's do by default, or sleep. SmolLM2 on two
    CPUs decodes 3 times as fast with spinning threads, and 0.1 times where others want the CPUs."""
    load, n_cpus = facts.cpus.load, facts.cpus.logical
    if load is None or n_cpus is None:
        return
    sleeps = (facts.omp_wait_policy or "").lower() == "passive"
    if load > n_cpus:
        sentence = f"Other processes keep the CPUs busy: a load of {load:.1f} on {n_cpus}."
        fix = "taskmgr" if facts.system == "Windows" else "top"
        if _has_openmp(facts) and not sleeps:
            sentence += (
                " As long as that lasts, threads that sleep while they wait for each other decode "
                "faster; on a quiet machine they are slower."
            )
            fix = set_variable('OMP_WAIT_POLICY="passive"')
        yield Finding("hint", sentence, fix)
    elif sleeps and load < n_cpus / 2 and _has_openmp(facts):
        sentence = "OMP_WAIT_POLICY=passive slows down decoding on a machine as quiet as this one."
        yield Finding("hint", sentence, unset_variable("OMP_WAIT_POLICY"))


def _about_cache(facts: Facts) -> Iterator[Finding]:
    cache = facts.cache
    if facts.hub_error is not None:
        sentence = _ended(f"huggingface_hub cannot be imported: {facts.hub_error}")
        yield Finding("problem", sentence, "pip install --force-reinstall huggingface_hub")
        return
    if isinstance(cache, Failure):
        yield Finding("problem", _ended(f"The Hub's cache {cache.reason}"), _OTHER_CACHE)
        return
    if cache.offline:
        sentence = f"{cache.offline} is set, so nothing is fetched from the Hub."
        yield Finding("hint", sentence, unset_variable(cache.offline))
    if not cache.is_writable:
        sentence = f"{cache.folder} cannot be written to, so no model can be fetched into it."
        yield Finding("hint", sentence, _OTHER_CACHE)
    elif cache.free_bytes < _LITTLE_DISK:
        sentence = f"Only {cache.free_bytes / 1e6:.0f} MB are free where models are kept."
        yield Finding("hint", sentence, "localgen models list")


def _about_packages(facts: Facts) -> Iterator[Finding]:
    if facts.packages["matplotlib"] is None:
        sentence = "matplotlib is not installed, so reports have no plots."
        yield Finding("hint", sentence, "pip install 'localgen[report]'")


def _about_compiler(facts: Facts, found: Iterable[Finding]) -> Iterator[Finding]:
    """What a build that another finding asks for would stop at.

    Windows' compiler is not on PATH: CMake finds it by itself.
    """
    builds = any("llama-cpp-python" in finding.fix for finding in found)
    if builds and facts.system != "Windows" and not {"c++", "g++", "clang++"} & set(facts.tools):
        mac = facts.system == "Darwin"
        where = "" if mac else " (the command is Debian's and Ubuntu's)"
        sentence = f"Building llama-cpp-python needs a C++ compiler, and none is on PATH{where}."
        fix = "xcode-select --install" if mac else "sudo apt-get install g++"
        yield Finding("hint", sentence, fix)


def _build_settings(facts: Facts) -> list[str]:
    """What a build for this machine is told, so that it loses nothing that this one has."""
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


def _ended(text: str) -> str:
    """``text``, which may end in somebody else's sentence, with one full stop."""
    return f"{text.rstrip('. ')}."


def _listed(names: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
