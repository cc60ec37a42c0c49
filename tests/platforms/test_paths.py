"""Paths as people write them on Windows are paths: never a repository, an alias or a level."""

from __future__ import annotations

import ntpath
from pathlib import Path, PureWindowsPath

import pytest

from localgen import ModelNotFoundError, hub
from localgen.compare.levels import Level
from localgen.hub import catalog
from localgen.hub.names import parse_alias, parse_hub_name, why_unsafe

PATHS = [
    r"C:\models\x.gguf",
    "C:/models/x.gguf",
    r"c:models\x.gguf",
    "c:x.gguf",
    r"\models\x.gguf",
    r"models\x.gguf",
    r".\x.gguf",
    r"..\models\x.Q4_K_M.gguf",
    r"\\server\share\x.gguf",
    "//server/share/x.gguf",
    r"\\?\C:\models\x.gguf",
    r"C:\my models\org\repo@main\x.gguf",
    "C:/org/repo",
    "models/x.gguf",
]


@pytest.mark.parametrize("path", PATHS)
def test_a_path_is_neither_a_repository_nor_an_alias(path: str) -> None:
    assert PureWindowsPath(path).name == ntpath.basename(path)
    assert parse_hub_name(path) is None
    alias = parse_alias(path)
    assert alias is None or alias.alias.lower() not in catalog.catalog()


@pytest.mark.parametrize("path", PATHS)
def test_a_path_that_leads_nowhere_is_said_without_a_request(
    path: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The whole path is in the message, its drive included."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(hub.lookup, "_from_hub", lambda *_: pytest.fail("the Hub was asked"))
    with pytest.raises(ModelNotFoundError) as caught:
        hub.resolve(path)
    assert path in str(caught.value)


@pytest.mark.parametrize(
    "path", [path for path in PATHS if path[0] not in "./" and "/" not in path]
)
def test_a_path_that_is_there_is_taken(
    path: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    r"""POSIX takes ``C:\models\x.gguf`` for the name of one file."""
    monkeypatch.chdir(tmp_path)
    Path(path).write_bytes(b"GGUF")
    assert hub.resolve(path) == Path(path)
    assert Level.of(path).path == Path(path)


def test_a_drive_letter_is_no_alias_with_a_level() -> None:
    """ "c:Q4_K_M" has the form of ALIAS:LEVEL, and no alias is one letter long."""
    assert min(map(len, catalog.catalog())) > 1


@pytest.mark.parametrize("name", [r"..\x.gguf", r"C:\x.gguf", "C:x.gguf", "a/con.gguf", "x.gguf "])
def test_a_repositorys_file_cannot_be_a_path_of_windows(name: str) -> None:
    """What a repository calls its files would lead out of the cache's folder there."""
    assert why_unsafe(name) is not None
