"""Functions of ggml that the bindings do not declare, found on every platform."""

from __future__ import annotations

import ctypes
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from localgen import BackendError
from localgen.llama import amx_probe, ggml_devices, library
from localgen.llama.library import c_function, library_folder


def _real(name: str) -> Path:
    """A library of this build, whatever its file is called here."""
    return next(path for path in library_folder().iterdir() if name in path.name.split("."))


@pytest.fixture
def windows_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Libraries named as on Windows, where llama.dll itself has none of ggml's functions."""
    for name in ("ggml", "ggml-base"):
        shutil.copy(_real(f"lib{name}"), tmp_path / f"{name}.dll")
    library.llama()  # loads ggml, whose libraries need each other by their names here
    alone = SimpleNamespace(_lib=OnlyLlama(tmp_path / "llama.dll"))
    monkeypatch.setattr(library, "llama", lambda: alone)
    library._ggml_libraries.cache_clear()
    yield tmp_path
    library._ggml_libraries.cache_clear()


class OnlyLlama:
    """llama.dll: asking it for a function of ggml.dll is an AttributeError, as in ctypes."""

    def __init__(self, path: Path) -> None:
        self._name = str(path)

    def __getitem__(self, name: str) -> Any:
        raise AttributeError(f"function '{name}' not found")


def test_functions_are_found_where_each_library_has_its_own(windows_build: Path) -> None:
    commit = c_function("ggml_commit", ctypes.c_char_p)()
    assert commit
    devices = ggml_devices.ggml_devices()
    assert any(device.kind == "cpu" for device in devices)


def test_a_function_that_no_library_has() -> None:
    with pytest.raises(BackendError, match="no function ggml_nothing"):
        c_function("ggml_nothing", None)


def test_the_probe_finds_both_libraries_of_windows(windows_build: Path) -> None:
    ggml = amx_probe._Ggml(windows_build)
    assert ggml.ggml_init
    assert ggml.ggml_backend_init_by_type
    assert not hasattr(ggml, "ggml_nothing")
