"""``localgen doctor``: check the installation, and print how to fix what is wrong."""

from __future__ import annotations

import json
import re
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import asdict
from typing import Annotated

import typer

from localgen._util.child import Failure
from localgen._util.console import is_terminal
from localgen._util.format import as_size, counted
from localgen._util.shell import LINE_CONTINUATION
from localgen.cli.options import ModelName
from localgen.doctor.build_report import BuildReport
from localgen.doctor.facts import diagnose
from localgen.doctor.findings import Diagnosis, Facts, Finding
from localgen.hub import DEFAULT_MODEL
from localgen.llama.ggml_devices import Device

_WIDTH, _LABEL = 79, 12
_QUOTED = re.compile(r"""'[^']*'|"[^"]*\"""")


def doctor(
    model: ModelName = None,
    no_probe: Annotated[bool, typer.Option("--no-probe", help="Skip the speed test.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object.")] = False,
) -> None:
    """Check what is installed, how fast it runs, and what is wrong.

    The exit code is 1 if there is a problem.
    """
    if is_terminal(sys.stderr):
        print("localgen: checking, this takes a few seconds", file=sys.stderr)
    diagnosis = diagnose(model, probe=not no_probe)
    if as_json:
        print(json.dumps({"ok": diagnosis.ok, **asdict(diagnosis)}, default=str))
    else:
        print_diagnosis(diagnosis)
    if not diagnosis.ok:
        raise typer.Exit(1)


def print_diagnosis(diagnosis: Diagnosis) -> None:
    """Print what ``diagnose`` found, for people."""
    for label, text in _lines(diagnosis.facts):
        indent = " " * (_LABEL + 1)
        print(_wrapped(text, f"{label:{_LABEL}} ", indent))
    for finding in diagnosis.findings:
        print(f"\n{_as_text(finding)}")
    if not diagnosis.findings:
        print("\nNo problems found.")


def _as_text(finding: Finding) -> str:
    sentence = _wrapped(f"{finding.severity}: {finding.sentence}", "", "  ")
    return f"{sentence}\n{_as_lines(finding.fix)}"


def _as_lines(command: str) -> str:
    """Return a command on lines that a shell takes as one."""
    whole = _QUOTED.sub(lambda quoted: quoted[0].replace(" ", "\0"), command)
    return (
        _wrapped(whole, "    ", "      ")
        .replace("\n", f" {LINE_CONTINUATION}\n")
        .replace("\0", " ")
    )


def _wrapped(text: str, first: str, rest: str) -> str:
    """Return ``text`` wrapped to 79 columns; words, such as paths, stay whole."""
    return textwrap.fill(
        text,
        _WIDTH - 2,  # room for a shell's " \\"
        initial_indent=first,
        subsequent_indent=rest,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _lines(facts: Facts) -> Iterator[tuple[str, str]]:
    """Yield the facts as (label, text)."""
    yield "localgen", f"{facts.localgen}, Python {facts.python}: {facts.executable}"
    yield "platform", facts.platform
    versions = {name: version or "not installed" for name, version in facts.packages.items()}
    yield "packages", ", ".join(f"{name} {version}" for name, version in versions.items())
    yield from _build_lines(facts)
    yield "CPUs", _cpus(facts)
    yield "memory", _memory(facts)
    if facts.nvidia_gpus:
        yield "NVIDIA", ", ".join(facts.nvidia_gpus)
    yield "models", _models(facts)
    yield "default", f"{DEFAULT_MODEL}: {_default(facts)}"
    if facts.n_profiles:
        yield "tuned", f"{facts.model.name}: {counted(facts.n_profiles, 'profile')} (localgen tune)"
    yield "probe", f"{facts.model.name}: {_speed(facts)}"


def _build_lines(facts: Facts) -> Iterator[tuple[str, str]]:
    build = facts.build
    if not isinstance(build, BuildReport):
        yield "llama.cpp", "not usable"
        return
    yield "llama.cpp", f"commit {build.commit}"
    for backend, features in build.features.items():
        yield "build", f"{backend}: {' '.join(features)}"
    for device in build.devices:
        yield "device", _device(device)
    yield "GPU offload", "yes" if build.gpu_offload else "no"


def _device(device: Device) -> str:
    free = "" if device.free_bytes is None else f"{as_size(device.free_bytes)} free of "
    return (
        f"{device.name} ({device.kind}): {device.description}, {free}{as_size(device.total_bytes)}"
    )


def _cpus(facts: Facts) -> str:
    cpus = facts.cpus
    of_all = f" of {cpus.logical}" if cpus.logical else ""
    cores = f" on {cpus.physical} cores" if cpus.physical else ""
    return f"{cpus.name}: {cpus.usable} usable{of_all}{cores}; n_threads defaults to {cpus.usable}"


def _memory(facts: Facts) -> str:
    memory = facts.memory
    parts = []
    if memory.available is not None:
        parts.append(f"{as_size(memory.available)} available")
    if memory.total is not None:
        parts.append(f"{as_size(memory.total)} in total")
        # Some systems write "no limit" as a huge one.
        if memory.limit is not None and memory.limit < memory.total:
            parts.append(f"cgroup limit {as_size(memory.limit)}")
    return ", ".join(parts) or "unknown"


def _models(facts: Facts) -> str:
    cache = facts.cache
    if isinstance(cache, Failure):
        return cache.reason
    return (
        f"{counted(cache.n_models, 'model')} in {cache.folder}: {as_size(cache.n_bytes)} used, "
        f"{as_size(cache.free_bytes)} free"
    )


def _default(facts: Facts) -> str:
    return facts.default_file.name if facts.default_file else "not installed"


def _speed(facts: Facts) -> str:
    speed = facts.speed
    if isinstance(speed, Failure):
        return speed.reason
    if speed is None:
        return "not found" if facts.model.file is None else "not measured"
    return (
        f"loads in {speed.load_seconds:.2f} s, prefill {speed.prefill_tps:.0f} tokens/s "
        f"(for {speed.n_prefill}), decode {speed.decode_tps:.1f} tokens/s (for {speed.n_decode})"
    )
