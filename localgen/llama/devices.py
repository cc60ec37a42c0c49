"""Which devices this build of llama.cpp can compute on, and how many layers go there."""

from __future__ import annotations

import re

from localgen.errors import BackendError
from localgen.llama.library import llama, rebuild_command, system_info

# The names under which llama.cpp's system info lists the backend of each device.
BACKEND_NAMES = {"cuda": ("CUDA", "ROCm", "MUSA"), "metal": ("Metal", "MTL")}
BUILD_SETTINGS = {
    "cuda": 'CMAKE_ARGS="-DGGML_CUDA=on"',
    "metal": 'CMAKE_ARGS="-DGGML_METAL=on"',
}


def n_gpu_layers(device: str, wanted: int | None) -> int:
    """Return how many layers to offload for ``device``; -1 means all.

    Raises BackendError if this build of llama.cpp lacks the device.
    """
    if device == "cpu":
        return 0
    if device in BACKEND_NAMES and not _has_backend(device):
        raise BackendError(
            f"device={device!r} is not available: this build of llama.cpp has no such backend "
            f"(`localgen doctor` lists those it has). Build llama.cpp with it: "
            f"{rebuild_command(BUILD_SETTINGS[device])}"
        )
    has_gpu = bool(llama().llama_supports_gpu_offload())
    if wanted and not has_gpu:
        raise BackendError(
            f"n_gpu_layers={wanted} is not possible: this build of llama.cpp has no GPU backend. "
            f"Leave n_gpu_layers out, or rebuild llama-cpp-python with "
            f"{BUILD_SETTINGS['cuda']} or {BUILD_SETTINGS['metal']}"
        )
    if not has_gpu:
        return 0
    return -1 if wanted is None else wanted


def _has_backend(device: str) -> bool:
    if not llama().llama_supports_gpu_offload():
        return False
    return any(re.search(rf"\b{name}\b", system_info()) for name in BACKEND_NAMES[device])
