"""``localgen tune`` on a tiny model, in a process of its own; no bounds on what it finds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from localgen.tuning.drafts import LOOKUP
from tests.children import run_python
from tests.cli.test_generate import ENVIRONMENT, RUN_COMMAND, Result, assert_refused

# Nothing is left to search, and one second is more than enough for what is measured.
FIXED = ("--n-ctx", "64", "--n-threads", "1", "--flash-attention", "off", "--seconds", "1")


@pytest.fixture
def tune(tiny_bpe_path: Path, tmp_path: Path) -> Any:
    """``tune(*args)`` runs ``localgen tune TINY args…`` with profiles in ``tmp_path/profiles``."""
    env = {**ENVIRONMENT, "LOCALGEN_PROFILES": str(tmp_path / "profiles")}

    def run(*args: object, model: object = tiny_bpe_path, **more: str) -> Result:
        args = ("tune", model, *args)
        return run_python(
            *(RUN_COMMAND, *map(str, args)), forks=True, warnings=None, env={**env, **more}
        )

    return run


def saved(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "profiles").rglob("settings-*.json"))


def test_a_profile_is_saved_and_forgotten(tune: Any, tmp_path: Path) -> None:
    """What is saved is what is reported."""
    done = tune("--json", "--n-ctx", "128", "--n-threads", "1")
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    (profile,) = saved(tmp_path)
    assert found["profile"] == str(profile)
    assert json.loads(profile.read_text("utf-8"))["data"]["settings"] == found["settings"]
    assert {trial["setting"] for trial in found["trials"]} >= {"flash_attention", "n_batch"}
    forgotten = tune("--forget")
    assert (forgotten.stdout, forgotten.stderr) == ("1 profile removed\n", "")
    assert not saved(tmp_path)


def test_the_report_for_people(tune: Any) -> None:
    done = tune(*FIXED)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("model     tiny-bpe.gguf\nmachine   ")
    assert "not measured: n_batch 512: no other size changes the passes" in done.stdout
    assert "fastest   the defaults\n" in done.stdout
    assert "\nprofile   " in done.stdout


def test_a_dry_run_saves_nothing(tune: Any, tmp_path: Path) -> None:
    done = tune(*FIXED, "--dry-run")
    assert (done.returncode, done.stderr) == (0, "")
    assert "\nprofile   " not in done.stdout
    assert not saved(tmp_path)


def test_drafts_are_tried_on_prompts_of_a_file(tune: Any, tmp_path: Path) -> None:
    file = tmp_path / "prompts.jsonl"
    file.write_text('{"prompt": "the cat the cat the cat"}\n{"prompt": "a dog"}\n', "utf-8")
    done = tune(*FIXED[:-1], "10", "--dry-run", "--prompts", file)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"\n{LOOKUP}  default" in done.stdout
    assert f"\n{LOOKUP}  24" in done.stdout
    assert "\ndrafts    " in done.stdout
    assert "on 2 prompts" in done.stdout


def test_a_folder_that_cannot_be_written_is_an_error_after_the_report(tune: Any) -> None:
    done = tune(*FIXED, LOCALGEN_PROFILES="")
    assert done.returncode == 1
    assert "fastest   the defaults\n" in done.stdout
    assert "the profile cannot be saved: set LOCALGEN_PROFILES" in done.stderr


def test_wrong_files_are_refused(tune: Any, tmp_path: Path) -> None:
    file = tmp_path / "prompts.jsonl"
    file.write_text('{"prompt": "a"}\n{"promt": "b"}\n', "utf-8")
    assert_refused(tune("--prompts", file), 2, "prompts.jsonl, line 2", "promt")
    assert_refused(tune("--prompts", tmp_path / "none"), 1, "none")
    assert_refused(tune(model=tmp_path / "none.gguf"), 1, "none.gguf")
    assert_refused(tune(model=file), 1, "prompts.jsonl")


def test_options_that_forget_would_ignore_are_refused(tune: Any) -> None:
    assert_refused(tune("--forget", "--json", "--n-threads", "1"), 2, "--json", "--n-threads")
