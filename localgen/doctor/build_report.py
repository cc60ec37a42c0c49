"""Reports the version, features and devices of the installed llama.cpp.

    python -m localgen.doctor.build_report

This runs in a child process, since a library built for another machine can abort while it loads.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from localgen._util import child
from localgen.errors import BackendError
from localgen.llama import amx
from localgen.llama.ggml_devices import Device, ggml_devices
from localgen.llama.library import bindings_version, llama, llama_commit, system_info

_LIMIT_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildReport:
    """version: llama-cpp-python's; commit: llama.cpp's. features: by backend, as
    {"CPU": ("AVX2", "OPENMP")}. amx_is_safe: see ``amx.is_safe``."""

    version: str
    commit: str
    features: dict[str, tuple[str, ...]]
    devices: tuple[Device, ...]
    gpu_offload: bool
    amx_is_safe: bool


def read(limit_seconds: float = _LIMIT_SECONDS) -> BuildReport | child.Failure:
    """Return the report of a child process, or why there is none."""
    answer = child.run_json_child("localgen.doctor.build_report", limit_seconds=limit_seconds)
    if isinstance(answer, child.Failure):
        return answer
    features = {backend: tuple(names) for backend, names in answer.pop("features").items()}
    devices = tuple(Device(**device) for device in answer.pop("devices"))
    return BuildReport(features=features, devices=devices, **answer)


def parse_features(text: str) -> dict[str, tuple[str, ...]]:
    """Return {backend: features} of llama.cpp's line "CPU : AVX2 = 1 | OPENMP = 1 | CUDA : …".

    A feature with a value other than 1 keeps it ("ARCHS=900"); features with 0 are omitted.
    """
    found: dict[str, tuple[str, ...]] = {}
    backend = ""
    for part in text.split("|"):
        *backends, feature = part.split(" : ")
        for name in backends:
            backend = name.strip()
            found.setdefault(backend, ())
        name, _, value = (side.strip() for side in feature.partition("="))
        if name and value != "0":
            found[backend] += (name if value == "1" else f"{name}={value}",)
    return found


def _report() -> dict[str, Any]:
    try:
        bindings = llama()
    except BackendError as error:
        raise error.__cause__ or error from None
    report = BuildReport(
        version=bindings_version(),
        commit=llama_commit(),
        features=parse_features(system_info()),
        devices=ggml_devices(),
        gpu_offload=bool(bindings.llama_supports_gpu_offload()),
        amx_is_safe=amx.is_safe(),
    )
    return asdict(report)


if __name__ == "__main__":
    child.answer(_report)
