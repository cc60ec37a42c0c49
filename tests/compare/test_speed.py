"""The speed of one level: at depth, and with the energy that it takes."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from localgen._util import system
from localgen.compare import Comparison, compare, speed
from localgen.config import ModelConfig
from localgen.errors import BackendError
from models.make_tiny import make_lfm2, make_llama_bpe


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("speed") / "tiny.gguf"
    make_llama_bpe(path, n_ctx_train=1024)
    return path


def task(path: Path, **options: Any) -> speed.Task:
    config = ModelConfig(n_ctx=1024, n_threads=1)
    token_ids = [7 + index % 50 for index in range(speed.n_tokens((256,)))]
    return speed.Task(str(path), dataclasses.asdict(config), token_ids, cold=False, **options)


def test_speed_at_depth(source: Path, tmp_path: Path) -> None:
    """Each depth has its own speeds, and the file of results has them."""
    options: dict[str, Any] = {"quality": False, "n_rounds": 1, "n_threads": 1, "depths": [32, 256]}
    found = compare(source, ["F32"], **options, results=tmp_path / "r.json")
    level = found["F32"]
    assert level.error is None
    assert [each.depth for each in level.at_depths] == [32, 256]
    for each in level.at_depths:
        assert each.prefill_tps is not None
        assert each.prefill_tps.median > 0
        assert each.decode_tps.median > 0
    assert Comparison.load(tmp_path / "r.json") == found
    assert found.settings["depths"] == [32, 256]
    assert " --depths 32,256 " in found.settings["command"]


def test_a_recurrent_model_at_depth(tmp_path: Path) -> None:
    """Its prompt continues where an earlier one ended, and nowhere else."""
    make_lfm2(tmp_path / "lfm2.gguf", n_ctx_train=1024)
    found = speed._run(task(tmp_path / "lfm2.gguf", depths=(32, 256)))
    assert [prefill is not None for prefill, _ in found.at_depths] == [True, True]


def test_joules_are_those_of_the_call(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """512 prompt tokens take 1 J, and 64 new ones 1 J: the meter adds one at each reading."""

    class Meter:
        n_joules = 0.0

        def joules(self) -> float:
            self.n_joules += 1
            return self.n_joules

    monkeypatch.setattr(system, "energy_meter", Meter)
    found = speed._run(task(source, energy=True))
    assert (found.prefill_joules, found.decode_joules) == (1 / 512, 1 / 64)
    assert speed._run(task(source)).decode_joules is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depths": [0]}, "each of depths must be at least 1, got 0"),
        ({"depths": [512]}, r"depths has 512, which is too deep: .* it takes 1088, .* on 1024"),
        ({"depths": [8, 16, 8]}, "depths has 8 twice"),
        ({"depths": [8], "speed": False}, "depths needs speed=True"),
        ({"energy": True, "speed": False}, "energy=True needs speed=True"),
        ({"energy": 1}, "energy must be True or False, got 1"),
        ({"devices": ["gpu"]}, "each of devices must be auto, cpu"),
        ({"devices": []}, "devices is empty"),
        ({"devices": ["cpu", "cpu"]}, "devices has cpu twice"),
    ],
)
def test_wrong_options(options: dict[str, Any], message: str, source: Path) -> None:
    with pytest.raises(ValueError, match=message):
        compare(source, ["F32"], **options)


def test_energy_that_is_not_reported_is_refused(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything runs, with the reason."""

    def refuse() -> None:
        raise BackendError("energy cannot be measured: no counters")

    monkeypatch.setattr(system, "energy_meter", refuse)
    with pytest.raises(BackendError, match="no counters"):
        compare(source, ["F32"], energy=True)


def test_levels_on_several_devices(source: Path) -> None:
    """The reference is on the first; each has a row."""
    found = compare(
        source, ["F32", "Q8_0"], text="the cat sat on the mat " * 40, n_ctx=16, n_chunks=1,
        speed=False, n_threads=1, devices=["cpu", "auto"],
    )  # fmt: skip
    assert {level.label for level in found.levels} == {
        *("F32 on cpu", "F32", "Q8_0 on cpu", "Q8_0"),
    }
    assert found["F32 on cpu"].is_reference
    assert found["F32"].kld_mean == 0.0
    assert found["Q8_0"].kld_mean == found["Q8_0 on cpu"].kld_mean
    assert "--devices cpu,auto" in found.settings["command"]
