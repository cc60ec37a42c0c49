"""tune(): what it searches, and that a later load uses what it found."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

import localgen
from localgen import GenerationInterrupted, LocalModel
from localgen._util import system
from localgen.tuning import run
from localgen.tuning.drafts import LOOKUP, Drafts
from localgen.tuning.results import NOT_REACHED, Speed, Trial, TuneResult
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
@pytest.mark.parametrize("n_batch", [64, 1024])
def test_a_smaller_or_larger_pass_is_found_saved_and_used(
    n_batch: int, tiny_bpe_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def speed(_: Workload, settings: Settings) -> Speed:
        return Speed(9e6 if settings.get("n_batch") == n_batch else 1e6, 1e5)

    monkeypatch.setattr(Workload, "speed", speed)
    result = localgen.tune(tiny_bpe_path, n_threads=1, flash_attention="off")
    assert (result.settings, result.speedup) == ({"n_batch": n_batch}, 3.0)
    with LocalModel.from_pretrained(tiny_bpe_path, n_threads=1) as model:
        assert model.config.n_batch == n_batch
    with LocalModel.from_pretrained(tiny_bpe_path, n_threads=1, max_sequences=100) as model:
        assert model.config.n_batch == (n_batch if n_batch >= 100 else 512)


@pytest.mark.slow
def test_a_profile_stays_if_the_time_is_over_before_anything_was_found(
    tiny_bpe_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Regression: a second of tuning replaced it by an empty one."""
    monkeypatch.setattr(Workload, "speed", lambda *_: Speed(1e6, 1e5))
    first = localgen.tune(tiny_bpe_path, n_threads=1, flash_attention="off")
    assert first.profile is not None
    monkeypatch.setattr(TuneResult, "found_nothing", True)
    assert localgen.tune(tiny_bpe_path, n_threads=1, flash_attention="off").profile is None


def test_a_result_that_was_cut_short_says_nothing_of_the_defaults() -> None:
    reached = Trial(setting="n_batch", value=64, settings={})
    result = TuneResult(
        file="a.gguf", trials=(reached,), settings={}, prompt_lookup_num_tokens=None, speedup=1.0,
        n_prompt=1, n_new=1, n_prompts=0, seconds=1.0, machine={},
    )  # fmt: skip
    assert not result.found_nothing
    cut = dataclasses.replace(reached, not_measured=NOT_REACHED)
    assert dataclasses.replace(result, trials=(reached, cut)).found_nothing
    found = dataclasses.replace(result, trials=(cut,), settings={"n_batch": 64})
    assert not found.found_nothing


@pytest.mark.slow
@pytest.mark.usefixtures("_two_cpus")
def test_a_setting_that_is_given_is_not_searched(tiny_bpe_path: Path) -> None:
    result = localgen.tune(tiny_bpe_path, n_threads=2, save=False)
    assert "n_threads" not in {trial.setting for trial in result.trials}
    assert result.profile is None


@pytest.mark.slow
@pytest.mark.usefixtures("_two_cpus")
@pytest.mark.parametrize(
    ("answers", "is_searched"), [([True], False), ([False, True], False), ([False, False], True)]
)
def test_attention_that_adapts_is_not_fixed(
    answers: list[bool], is_searched: bool, tiny_bpe_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A profile that fixed it would end its adaptation. What a busy machine answers is asked again
    when the threads are known."""
    asked = iter(answers)
    monkeypatch.setattr(run, "attention_adapts", lambda _: next(asked))
    result = localgen.tune(tiny_bpe_path, n_threads=1, save=False)
    found = {trial.setting for trial in result.trials}
    assert ("flash_attention" in found) is is_searched
    assert next(asked, None) is None


@pytest.mark.slow
@pytest.mark.usefixtures("_two_cpus")
def test_drafts_are_reported_and_not_saved(
    tiny_bpe_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The settings are searched in a part of the time, so that prompts are reached."""
    made = {None: 1.0, 4: 1.5, 10: 1.2, 24: 0.5}
    monkeypatch.setattr(Drafts, "speed", lambda _, found: Speed(None, made[found.get(LOOKUP)]))
    result = localgen.tune(tiny_bpe_path, n_threads=1, prompts=["the cat", [1, 2, 3]])
    assert result.prompt_lookup_num_tokens == 4
    assert (result.n_prompts, result.settings, result.speedup) == (2, {}, 1.0)
    (saved,) = (tmp_path / "profiles").rglob("settings-*.json")
    assert json.loads(saved.read_text("utf-8"))["data"]["settings"] == {}


@pytest.mark.slow
@pytest.mark.usefixtures("_two_cpus")
def test_a_wrong_prompt_is_refused_before_anything_is_measured(
    tiny_bpe_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        pytest.fail("it was measured")

    monkeypatch.setattr(Workload, "speed", fail)
    with pytest.raises(ValueError, match="prompt 1 of prompts"):
        localgen.tune(tiny_bpe_path, prompts=["the cat" * 500], n_ctx=64)


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


@pytest.mark.parametrize(
    "options", [{"seconds": 0}, {"deterministic": True}, {"prompts": "one"}, {"n_treads": 1}]
)
def test_wrong_arguments_are_refused_before_anything_runs(options: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError)):
        localgen.tune("no-such-model.gguf", **options)
