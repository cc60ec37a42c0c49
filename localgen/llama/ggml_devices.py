"""Lists the devices that llama.cpp sees in this process, and their memory."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

from localgen.llama.library import c_function

# ggml-backend.h's enum ggml_backend_dev_type.
_KINDS = {0: "cpu", 1: "gpu", 2: "integrated gpu", 3: "accelerator", 4: "meta"}


@dataclass(frozen=True, slots=True)
class Device:
    """A device as llama.cpp sees it; kind: cpu, gpu, integrated gpu, accelerator or meta.

    free_bytes: None for the CPU, all of whose memory llama.cpp reports as free.
    """

    name: str
    description: str
    kind: str
    free_bytes: int | None
    total_bytes: int

    @property
    def is_gpu(self) -> bool:
        return self.kind.endswith("gpu")


def ggml_devices() -> tuple[Device, ...]:
    """Return all devices, in ggml's order."""
    get = c_function("ggml_backend_dev_get", ctypes.c_void_p, ctypes.c_size_t)
    count = c_function("ggml_backend_dev_count", ctypes.c_size_t)()
    return tuple(_device(get(index)) for index in range(count))


def gpu_memory() -> int | None:
    """Return the bytes free on all GPUs together; None if there is no GPU or none reports it."""
    free = [device.free_bytes for device in ggml_devices() if device.is_gpu and device.free_bytes]
    return sum(free) if free else None


def _device(device: int) -> Device:
    def ask(name: str, result: Any) -> Any:
        return c_function(name, result, ctypes.c_void_p)(device)

    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    size_pointer = ctypes.POINTER(ctypes.c_size_t)
    memory = c_function(
        "ggml_backend_dev_memory", None, ctypes.c_void_p, size_pointer, size_pointer
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


def _text(text: bytes | None) -> str:
    return (text or b"").decode("utf-8", errors="replace").strip()
