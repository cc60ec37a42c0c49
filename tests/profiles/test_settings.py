"""A profile changes what was left at its default, and nothing else."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from localgen.config import ModelConfig
from localgen.profiles import settings, store
from localgen.profiles.settings import Profile
from localgen.profiles.store import ProfileKey

PLAIN = ModelConfig()


def profile(**found: Any) -> Profile:
    return Profile(settings=found, speedup=1.1, device="auto", n_gpu_layers=None, date="2026-01-31")


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LOCALGEN_PROFILES", str(tmp_path / "profiles"))
    path = tmp_path / "model.gguf"
    path.write_bytes(b"GGUF")
    return path


def test_settings_that_were_not_given_are_the_profiles() -> None:
    tuned = profile(n_threads=2, n_batch=256).applied(PLAIN, [])
    assert tuned == ModelConfig(n_threads=2, n_batch=256)


def test_what_was_given_wins_even_at_its_default() -> None:
    found = profile(n_threads=2, n_batch=256, flash_attention="on")
    assert found.applied(PLAIN, ["n_batch", "flash_attention"]) == ModelConfig(n_threads=2)


def test_a_pass_is_never_smaller_than_the_sequences_that_run_together() -> None:
    config = ModelConfig(max_sequences=100)
    assert profile(n_batch=64).applied(config, ["max_sequences"]) == config


def test_a_pass_is_never_smaller_than_what_is_computed_at_once() -> None:
    config = ModelConfig(n_ubatch=100)
    assert profile(n_batch=64).applied(config, ["n_ubatch"]) == config


def test_attention_and_the_type_of_the_cache_go_together() -> None:
    quantized = profile(kv_type="q8_0")
    without = ModelConfig(flash_attention="off")
    assert quantized.applied(without, ["flash_attention"]) == without
    given = ModelConfig(kv_type="q8_0")
    assert profile(flash_attention="off").applied(given, ["kv_type"]) == given


def test_a_profile_is_read_as_it_was_written(model: Path) -> None:
    found = profile(n_threads=2)
    assert settings.write(model, "1.0", found) is not None
    assert settings.read(model, "1.0") == found
    assert settings.read(model, "1.1") is None
    assert settings.remove(model) == 1
    assert settings.read(model, "1.0") is None


@pytest.mark.parametrize(
    "change",
    [
        {"settings": {"n_ctx": 8}},
        {"settings": {"n_threads": 0}},
        {"settings": None},
        {"speedup": "fast"},
        {"device": "abacus"},
        {"date": 7},
        {"unknown": 1},
    ],
)
def test_a_profile_that_makes_no_sense_is_ignored_with_a_log_line(
    change: dict[str, Any], model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store.save(ProfileKey.of([model], "1.0"), settings.KIND, asdict(profile(n_threads=2)) | change)
    assert settings.read(model, "1.0") is None
    assert "is ignored" in caplog.text


def test_deterministic_loads_and_other_devices_have_none(model: Path) -> None:
    settings.write(model, "1.0", profile(n_threads=2))
    assert settings.fitting_profile(model, "1.0", PLAIN) is not None
    assert settings.fitting_profile(model, "1.0", ModelConfig(deterministic=True)) is None
    assert settings.fitting_profile(model, "1.0", ModelConfig(n_gpu_layers=0)) is None
