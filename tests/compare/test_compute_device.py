"""Where levels are computed: what may be named, and what its results are called."""

from __future__ import annotations

from pathlib import Path

import pytest

from localgen import BackendError
from localgen.compare import compare
from localgen.compare.compute_device import ComputeDevice
from localgen.compare.level_result import LevelResult
from localgen.compare.levels import Level, Variant
from localgen.llama import devices


@pytest.fixture
def with_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """This build of llama.cpp has CUDA."""
    monkeypatch.setattr(devices, "n_gpu_layers", lambda device, wanted: wanted or 0)


@pytest.mark.usefixtures("with_gpu")
@pytest.mark.parametrize(
    ("text", "device"),
    [
        ("auto", ComputeDevice("auto")),
        ("cpu", ComputeDevice("cpu")),
        ("cuda", ComputeDevice("cuda")),
        ("cuda:20", ComputeDevice("cuda", 20)),
        ("metal:0", ComputeDevice("metal", 0)),
    ],
)
def test_devices(text: str, device: ComputeDevice) -> None:
    """They are written as they are read."""
    assert ComputeDevice.of(text) == device
    assert str(device) == text
    config = Variant(Level("Q4_0", None), "q8_0", device).config(n_ctx=64, n_threads=1)
    assert (config.device, config.n_gpu_layers) == (device.name, device.n_gpu_layers)
    assert (config.kv_type, config.n_ctx, config.n_threads) == ("q8_0", 64, 1)


@pytest.mark.usefixtures("with_gpu")
@pytest.mark.parametrize("text", ["", "gpu", "cuda:", "cuda:x", "cuda:-1", "CPU", "cuda:1:2"])
def test_what_is_no_device(text: str) -> None:
    with pytest.raises(ValueError, match=r"each of devices must be auto, cpu, .* got"):
        ComputeDevice.of(text)


def test_a_device_that_is_not_there_is_named() -> None:
    with pytest.raises(ValueError, match="devices has 'cpu:3': n_gpu_layers=3 needs a GPU"):
        ComputeDevice.of("cpu:3")
    with pytest.raises(BackendError, match="devices has 'metal': device='metal' is not available"):
        ComputeDevice.of("metal")


@pytest.mark.usefixtures("with_gpu")
def test_a_device_by_two_names(tiny_bpe_path: Path) -> None:
    """Its results would share a name."""
    with pytest.raises(ValueError, match="devices has cuda:20 twice"):
        compare(tiny_bpe_path, ["F32"], devices=["cuda:20", "cuda:020"])


def test_results_name_a_device_that_was_chosen() -> None:
    assert LevelResult(name="Q4_0").label == "Q4_0"
    assert LevelResult(name="Q4_0", device="cuda:20").label == "Q4_0 on cuda:20"
    row = LevelResult(name="Q4_0", kv_type="q8_0", device="cpu")
    assert row.label == "Q4_0 kv q8_0 on cpu"
    assert Variant(Level("Q4_0", None), "q8_0", ComputeDevice("cpu")).label == row.label
