"""What the llama.cpp of this environment is and sees: ``python -m localgen.llama.build_report``.

A process of its own asks it, since a library built for another machine can abort while it loads.
"""

from __future__ import annotations

import ctypes
from dataclasses import asdict, dataclass
from typing import Any

from localgen import child
from localgen.errors import BackendError
from localgen.llama import amx
from localgen.llama.library import bindings_version, llama, llama_commit, system_info

_LIMIT_SECONDS = 60.0
# ggml-backend.h's enum ggml_backend_dev_type.
_KINDS = {0: "cpu", 1: "gpu", 2: "integrated gpu", 3: "accelerator", 4: "meta"}


@dataclass(frozen=True, slots=True)
class Device:
    """A device as llama.cpp sees it; kind: cpu, gpu, integrated gpu, accelerator or meta.

    free_bytes: None for the CPU, of whose memory llama.cpp takes all to be free.
    """

    name: str
    description: str
    kind: str
    free_bytes: int | None
    total_bytes: int

    @property
    def is_gpu(self) -> bool:
        return self.kind.endswith("gpu")


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildReport:
    """version: llama-cpp-python's; commit: llama.cpp's. features: those of each backend that names
    any, as {"CPU": ("AVX2", "OPENMP")}. amx_is_safe: see ``amx.is_safe``."""

    version: str
    commit: str
    features: dict[str, tuple[str, ...]]
    devices: tuple[Device, ...]
    gpu_offload: bool
    amx_is_safe: bool


def read(limit_seconds: float = _LIMIT_SECONDS) -> BuildReport | child.Failure:
    """The report, or why there is none, from a child process."""
    said = child.ask("localgen.llama.build_report", limit_seconds=limit_seconds)
    if isinstance(said, child.Failure):
        return said
    features = {backend: tuple(names) for backend, names in said.pop("features").items()}
    devices = tuple(Device(**device) for device in said.pop("devices"))
    return BuildReport(features=features, devices=devices, **said)


def parse_features(text: str) -> dict[str, tuple[str, ...]]:
    """Backend → its features, from llama.cpp's line "CPU : AVX2 = 1 | OPENMP = 1 | CUDA : …".

    A feature with another value than 1 keeps it ("ARCHS=900"); one that is 0 is left out.
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
        devices=_devices(bindings._lib),
        gpu_offload=bool(bindings.llama_supports_gpu_offload()),
        amx_is_safe=amx.is_safe(),
    )
    return asdict(report)


def _devices(library: Any) -> tuple[Device, ...]:
    get = _function(library, "ggml_backend_dev_get", ctypes.c_void_p, ctypes.c_size_t)
    count = _function(library, "ggml_backend_dev_count", ctypes.c_size_t)()
    return tuple(_device(library, get(index)) for index in range(count))


def _device(library: Any, device: int) -> Device:
    def ask(name: str, result: Any) -> Any:
        return _function(library, name, result, ctypes.c_void_p)(device)

    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    size_pointer = ctypes.POINTER(ctypes.c_size_t)
    memory = _function(
        library, "ggml_backend_dev_memory", None, ctypes.c_void_p, size_pointer, size_pointer
    )
    memory(device, ctypes.byref(free), ctypes.byref(total))
    number = ask("ggml_backend_dev_type", ctypes.c_int)
    kind = _KINDS.get(number, f"kind {number}")
    return Device(
        name=_text(ask("ggml_backend_dev_name", ctypes.c_char_p)),
        description=_text(ask("ggml_backend_dev_description", ctypes.c_char_p)),
        kind=kind,
        free_bytes=None if kind == "cpu" else free.value,
        total_bytes=total.value,
    )


def _function(library: Any, name: str, result: Any, *arguments: Any) -> Any:
    """A C function of ggml, which the bindings do not declare."""
    function = library[name]
    function.restype, function.argtypes = result, arguments
    return function


def _text(text: bytes | None) -> str:
    return (text or b"").decode("utf-8", errors="replace").strip()


if __name__ == "__main__":
    child.answer(_report)
