"""Collects the facts about this installation and its machine, and what is wrong with them.

Everything that calls C runs in child processes, since a library that aborts would end this one.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import shutil
import sys
from importlib import metadata
from pathlib import Path

from localgen import hub
from localgen._util import system
from localgen._util.child import Failure, run
from localgen._version import __version__
from localgen.doctor import build_report, speed_probe
from localgen.doctor.findings import Cache, Cpus, Diagnosis, Facts, Model, findings
from localgen.errors import LocalgenError
from localgen.hub import cache, inventory
from localgen.hub.catalog import catalog
from localgen.hub.names import parse_alias, parse_hub_name
from localgen.llama.library import openmp_binding
from localgen.profiles import store
from localgen.profiles.settings import KIND

_PACKAGES = ("llama-cpp-python", "numpy", "huggingface_hub", "matplotlib")
_TOOLS = ("c++", "g++", "clang++", "nvcc")
_DEV = Path("/dev")
_NVIDIA = Path("/proc/driver/nvidia/gpus")
_NVIDIA_SMI_SECONDS = 10.0


def diagnose(model: str | None = None, *, probe: bool = True) -> Diagnosis:
    """Return the facts and the findings; ``probe`` adds a model's speed, which takes two seconds.

    model: as in ``from_pretrained``, defaults to the default model; nothing is downloaded.
    """
    build = build_report.read()
    chosen = _model(model)
    runs = probe and chosen.file is not None and not isinstance(build, Failure)
    facts = Facts(
        localgen=__version__,
        python=platform.python_version(),
        executable=sys.executable,
        system=platform.system(),
        machine=platform.machine(),
        platform=platform.platform(),
        packages={name: _version(name) for name in _PACKAGES},
        build=build,
        cpus=_cpus(),
        memory=system.memory(),
        nvidia_gpus=_nvidia_gpus(),
        cuda_visible_devices=os.environ.get("CUDA_VISIBLE_DEVICES"),
        omp_wait_policy=os.environ.get("OMP_WAIT_POLICY"),
        omp_binding=openmp_binding(),
        tools=tuple(tool for tool in _TOOLS if shutil.which(tool)),
        hub_error=_hub_error(),
        cache=_cache(),
        default_file=catalog()[hub.DEFAULT_MODEL].package_file(),
        model=chosen,
        n_profiles=store.count(chosen.file, KIND) if chosen.file else 0,
        speed=speed_probe.measure(chosen.file) if runs and chosen.file else None,
    )
    return Diagnosis(facts, findings(facts))


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        # It may still be importable, as a folder on PYTHONPATH.
        module = package.removesuffix("-python").replace("-", "_")
        return "of unknown version" if importlib.util.find_spec(module) else None


def _cpus() -> Cpus:
    return Cpus(
        name=system.cpu_name(),
        usable=system.usable_cpus(),
        logical=os.cpu_count(),
        physical=system.physical_cpus(),
        flags=system.cpu_flags(),
        load=os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    )


def _nvidia_gpus() -> tuple[str, ...]:
    """Return the names of NVIDIA's GPUs, from the driver's files or else from nvidia-smi."""
    # A container sees its host's /proc, but not always its devices.
    if any(_DEV.glob("nvidia[0-9]*")):
        texts = [path.read_text("utf-8", "replace") for path in _NVIDIA.glob("*/information")]
        found = [re.search(r"^Model:\s*(.+)$", text, re.MULTILINE) for text in texts]
        if any(found):
            return tuple(each[1].strip() for each in found if each)
    if not shutil.which("nvidia-smi"):
        return ()
    ended = run(["nvidia-smi", "-L"], _NVIDIA_SMI_SECONDS)
    if isinstance(ended, Failure) or ended.code:
        return ()
    return tuple(re.findall(r"^GPU \d+: (.+?)(?: \(UUID|$)", ended.stdout, re.MULTILINE))


def _hub_error() -> str | None:
    try:
        import huggingface_hub  # noqa: F401, PLC0415
    except ImportError as error:
        return str(error)
    return None


def _cache() -> Cache | Failure:
    try:
        from huggingface_hub import constants  # noqa: PLC0415

        folder = cache.root()
        n_models, n_bytes = inventory.totals()
        existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        if not existing.is_dir():
            return Failure(f"cannot be read: {existing} is no folder")
        return Cache(
            folder=folder,
            n_models=n_models,
            n_bytes=n_bytes,
            free_bytes=shutil.disk_usage(existing).free,
            is_writable=os.access(existing, os.W_OK),
            offline=_offline_variable() if constants.HF_HUB_OFFLINE else None,
        )
    except (LocalgenError, ImportError, OSError, ValueError) as error:
        return Failure(f"cannot be read: {error}")


def _offline_variable() -> str:
    return "HF_HUB_OFFLINE" if os.environ.get("HF_HUB_OFFLINE") else "TRANSFORMERS_OFFLINE"


def _model(wanted: str | None) -> Model:
    name = wanted or hub.DEFAULT_MODEL
    file, missing = None, None
    try:
        file = hub.resolve(name, local_files_only=True)
    except (LocalgenError, ValueError, OSError, ImportError) as error:
        missing = str(error)
    return Model(
        name=name, file=file, missing=missing, get=_command_for(name), is_default=wanted is None
    )


def _command_for(name: str) -> str:
    """Return the command that installs or downloads a model, or one that lists local models."""
    alias = parse_alias(name)
    entry = catalog().get(alias.alias.lower()) if alias else None
    if entry and entry.install:
        return entry.install
    try:
        on_hub = entry or parse_hub_name(name)
    except ValueError:
        on_hub = None
    return f"localgen models pull {name}" if on_hub else "localgen models list"
