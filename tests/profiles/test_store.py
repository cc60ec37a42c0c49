"""Measurements: saved and found again, and never the reason why a model does not load."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path

import pytest

from localgen.profiles import store
from localgen.profiles.store import ProfileKey

DATA = {"n_threads": 2}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LOCALGEN_PROFILES", str(tmp_path / "profiles"))
    return tmp_path / "profiles"


@pytest.fixture
def key(tmp_path: Path) -> ProfileKey:
    model = tmp_path / "model.gguf"
    model.write_bytes(b"GGUF")
    return ProfileKey.of([model], "1.0")


def test_what_was_saved_is_found_again_by_its_kind(folder: Path, key: ProfileKey) -> None:
    saved = store.save(key, "settings", DATA)
    assert saved is not None
    assert folder in saved.parents
    assert store.load(key, "settings") == DATA
    assert store.load(key, "attention") is None


@pytest.mark.usefixtures("folder")
def test_a_second_save_replaces_the_first(key: ProfileKey) -> None:
    store.save(key, "settings", DATA)
    store.save(key, "settings", {"n_threads": 1})
    assert store.load(key, "settings") == {"n_threads": 1}


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("field", ["machine", "build", "contents"])
def test_other_machines_builds_and_files_are_not_used_and_said(
    field: str, key: ProfileKey, caplog: pytest.LogCaptureFixture
) -> None:
    store.save(key, "settings", DATA)
    other = replace(key, **{field: "another"})
    with caplog.at_level(logging.INFO, "localgen.profiles"):
        assert store.load(other, "settings") is None
    assert "is not used" in caplog.text
    store.save(other, "settings", {"n_threads": 1})
    assert store.load(key, "settings") == DATA  # a shared home serves both


@pytest.mark.usefixtures("folder")
def test_a_changed_model_file_has_another_key(key: ProfileKey) -> None:
    Path(key.model).write_bytes(b"GGUF and more")
    assert ProfileKey.of([Path(key.model)], "1.0") != key


def damaged(text: str) -> list[str]:
    found = json.loads(text)
    return [
        "",
        "[" * 100_000,
        "[]",
        '"text"',
        "\0",
        text[:-5],
        json.dumps(found | {"localgen_profile": 99}),
        json.dumps(found | {"data": [1]}),
        json.dumps(found | {"model": "/another.gguf"}),
    ]


@pytest.mark.usefixtures("folder")
def test_a_damaged_file_is_ignored_with_a_log_line(
    key: ProfileKey, caplog: pytest.LogCaptureFixture
) -> None:
    path = store.save(key, "settings", DATA)
    assert path is not None
    for text in damaged(path.read_text("utf-8")):
        path.write_text(text, "utf-8")
        caplog.clear()
        assert store.load(key, "settings") is None, text[:40]
        assert "is damaged" in caplog.text


def test_a_folder_that_is_a_file_is_ignored(folder: Path, key: ProfileKey) -> None:
    folder.write_text("not a folder")
    assert store.save(key, "settings", DATA) is None
    assert store.load(key, "settings") is None
    assert store.forget(key, "settings") == 0


def test_an_entry_that_is_a_folder_is_ignored(folder: Path, key: ProfileKey) -> None:
    path = store.save(key, "settings", DATA)
    assert path is not None
    path.unlink()
    path.mkdir()
    assert store.load(key, "settings") is None
    assert store.save(key, "settings", DATA) is None
    assert folder.is_dir()


def test_without_a_folder_nothing_is_kept(key: ProfileKey, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCALGEN_PROFILES", "")
    assert store.save(key, "settings", DATA) is None
    assert store.load(key, "settings") is None
    assert store.forget(key, "settings") == 0


@pytest.mark.usefixtures("folder")
def test_forgetting_removes_every_entry_of_the_kind(key: ProfileKey) -> None:
    store.save(key, "settings", DATA)
    store.save(replace(key, machine="another"), "settings", DATA)
    store.save(key, "attention", DATA)
    assert store.forget(key, "settings") == 2
    assert store.load(key, "settings") is None
    assert store.load(key, "attention") == DATA


def test_the_folder_is_in_the_users_cache_by_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LOCALGEN_PROFILES")
    monkeypatch.setattr(store, "cache_folder", lambda: tmp_path)
    assert store.profiles_folder() == tmp_path / "profiles"
    monkeypatch.setattr(store, "cache_folder", lambda: None)
    assert store.profiles_folder() is None


def test_a_folder_below_the_home_of_an_unknown_user_is_none(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A model loads without its measurements, whatever the variable says."""

    def no_home(_: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setenv("LOCALGEN_PROFILES", "~/profiles")
    monkeypatch.setattr(Path, "expanduser", no_home)
    with caplog.at_level(logging.INFO, "localgen.profiles"):
        assert store.profiles_folder() is None
    assert "LOCALGEN_PROFILES is ignored: the home folder ~ is unknown" in caplog.text
