"""Which devices there are, on builds and machines that are made up."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from localgen import BackendError
from localgen.llama import devices, ggml_devices
from localgen.llama.ggml_devices import Device, gpu_memory


def build(monkeypatch: pytest.MonkeyPatch, info: str | None) -> None:
    """A build of llama.cpp with that system info; None for one without a GPU backend."""
    bindings = SimpleNamespace(llama_supports_gpu_offload=lambda: info is not None)
    monkeypatch.setattr(devices, "llama", lambda: bindings)
    monkeypatch.setattr(devices, "system_info", lambda: info or "CPU : AVX2 = 1 | ")


@pytest.mark.parametrize(
    ("info", "device", "wanted", "n_layers"),
    [
        (None, "auto", None, 0),
        (None, "auto", 0, 0),
        ("CUDA : ARCHS = 900 | CPU : AVX2 = 1 |", "auto", None, -1),
        ("CUDA : ARCHS = 900 | CPU : AVX2 = 1 |", "cuda", 7, 7),
        ("CUDA : ARCHS = 900 | CPU : AVX2 = 1 |", "cpu", None, 0),
        ("ROCm : NO_VMM = 1 |", "cuda", None, -1),
        ("MTL : EMBED_LIBRARY = 1 |", "metal", 0, 0),
    ],
)
def test_layers_on_the_gpu(
    info: str | None,
    device: str,
    wanted: int | None,
    n_layers: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All of them, unless a number is given; none without a GPU backend."""
    build(monkeypatch, info)
    assert devices.n_gpu_layers(device, wanted) == n_layers


@pytest.mark.parametrize(
    ("info", "device"),
    [(None, "cuda"), ("MTL : EMBED_LIBRARY = 1 |", "cuda"), ("NOCUDA : X = 1 |", "cuda")],
)
def test_device_that_the_build_lacks(
    info: str | None, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another GPU backend, or a longer name, is not that device's."""
    build(monkeypatch, info)
    with pytest.raises(BackendError, match="device='cuda' is not available"):
        devices.n_gpu_layers(device, None)


@pytest.mark.parametrize(
    ("found", "free"),
    [
        ([], None),
        ([("cpu", None)], None),
        ([("cpu", None), ("gpu", 5), ("integrated gpu", 7), ("accelerator", 9)], 12),
        ([("gpu", 0), ("gpu", None)], None),
    ],
)
def test_memory_of_all_gpus(
    found: list[tuple[str, int | None]], free: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their sum, as far as they report it; the CPU's and an accelerator's do not count."""
    machine = tuple(Device("x", "x", kind, n_bytes, 100) for kind, n_bytes in found)
    monkeypatch.setattr(ggml_devices, "ggml_devices", lambda: machine)
    assert gpu_memory() == free
