"""tune(): what it searches, and that a later load uses what it found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import localgen
from localgen import GenerationInterrupted, LocalModel, ModelConfig
from localgen._util import system
from localgen.tuning.results import Speed
from localgen.tuning.run import choices, thread_counts
from localgen.tuning.search import Settings
from localgen.tuning.workload import Workload


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCALGEN_PROFILES", str(tmp_path / "profiles"))


def made_up(settings: Settings) -> Speed:
    """One thread is twice as fast, and nothing else matters."""
    return Speed(1000.0, 200.0 if settings.get("n_threads") == 1 else 50.0)


@pytest.fixture
def _two_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Workload, "speed", lambda _, settings: made_up(settings))
    monkeypatch.setattr(system, "usable_cpus", lambda: 2)
    monkeypatch.setattr(system, "physical_cpus", lambda: 2)


def test_counts_of_threads_go_from_all_to_half() -> None:
    assert thread_counts(16, 8) == (16, 15, 8)
    assert thread_counts(4, 64) == (4, 3, 2)
    assert thread_counts(1, None) == (1,)


def searched(n_prompt: int = 1024, **options: Any) -> dict[str, tuple[Any, ...]]:
    found = choices(ModelConfig(**options), n_prompt, allow_kv_types=True)
    return {choice.setting: choice.values for choice in found}


def test_passes_are_no_longer_than_the_prompt_nor_smaller_than_max_sequences() -> None:
    assert searched()["n_batch"] == (64, 128, 256, 1024)
    assert searched(n_prompt=128, max_sequences=100)["n_batch"] == (128,)


def test_a_quantized_cache_leaves_no_choice_of_attention() -> None:
    assert "flash_attention" not in searched(kv_type="q8_0")


@pytest.mark.slow
@pytest.mark.usefixtures("_two_cpus")
def test_a_later_load_uses_what_was_found(tiny_bpe_path: Path) -> None:
    result = localgen.tune(tiny_bpe_path, seconds=60)
    assert result.settings == {"n_threads": 1}
    assert result.speedup == 2
    assert json.loads(result.to_json())["settings"] == {"n_threads": 1}

    def n_threads(**options: Any) -> int | None:
        with LocalModel.from_pretrained(tiny_bpe_path, **options) as model:
            return model.config.n_threads

    assert n_threads() == 1
    assert n_threads(use_profile=False) is None
    assert n_threads(n_threads=2) == 2
    assert n_threads(deterministic=True) is None
    assert localgen.forget_profile(tiny_bpe_path) == 1
    assert n_threads() is None


@pytest.mark.slow
@pytest.mark.usefixtures("_two_cpus")
def test_a_setting_that_is_given_is_not_searched(tiny_bpe_path: Path) -> None:
    result = localgen.tune(tiny_bpe_path, n_threads=2, save=False)
    assert "n_threads" not in {trial.setting for trial in result.trials}
    assert result.profile is None


@pytest.mark.slow
def test_ctrl_c_saves_nothing(
    tiny_bpe_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Workload, "speed", interrupt)
    with pytest.raises(GenerationInterrupted) as raised:
        localgen.tune(tiny_bpe_path)
    assert raised.value.partial.trials == ()
    assert not (tmp_path / "profiles").exists()


@pytest.mark.slow
def test_a_real_measurement_of_a_tiny_model(tiny_bpe_path: Path) -> None:
    work = Workload(tiny_bpe_path, {"n_ctx": 512}, n_prompt=32, n_new=4)
    speed = work.speed({"n_threads": 1})
    assert speed.decode > 0
    assert speed.prefill is not None
    assert speed.prefill > 0


@pytest.mark.parametrize(
    "options", [{"seconds": 0}, {"deterministic": True}, {"prompts": "one"}, {"n_treads": 1}]
)
def test_wrong_arguments_are_refused_before_anything_runs(options: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError)):
        localgen.tune("no-such-model.gguf", **options)
