"""Names on the Hub become files: a real huggingface_hub against a hub on loopback."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import logging
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

import localgen
from localgen import DownloadError, LocalModel, ModelNotFoundError, inspect
from localgen.hub import cache, inventory, remote, resolve
from localgen.hub.names import HubName
from models.make_tiny import make_llama_bpe
from tests.conftest import RunChild
from tests.hub.server import LoopbackHub, Request
from tests.systems import is_root

NO_NETWORK = "http://127.0.0.1:9"  # the port for what is thrown away: nothing listens there


def _data(seed: int, n_bytes: int = 5000) -> bytes:
    return random.Random(seed).randbytes(n_bytes)


LEVELS = {f"model-{level}.gguf": _data(i) for i, level in enumerate(["Q4_K_M", "Q8_0", "Q2_K"])}


def _transfers(hub: LoopbackHub) -> list[Request]:
    return [request for request in hub.requests if request.path.startswith("/cdn/")]


def test_a_model_is_loaded_by_its_name(hub: LoopbackHub, tiny_bpe_path: Path) -> None:
    hub.repo("org/tiny-GGUF", {"tiny-Q4_K_M.gguf": tiny_bpe_path.read_bytes()})
    with LocalModel.from_pretrained("org/tiny-GGUF", n_ctx=64) as model:
        assert model.complete("a", max_new_tokens=2).token_ids
    assert len(_transfers(hub)) == 1
    with LocalModel.from_pretrained("org/tiny-GGUF", n_ctx=64):
        assert len(_transfers(hub)) == 1  # the second time it is in the cache


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("org/repo", "model-Q4_K_M.gguf"),
        ("org/repo:q2_k", "model-Q2_K.gguf"),
        ("org/repo/model-Q8_0.gguf", "model-Q8_0.gguf"),
        ("org/repo:Q8_0@main", "model-Q8_0.gguf"),
    ],
)
def test_what_a_name_fetches(hub: LoopbackHub, name: str, file: str) -> None:
    hub.repo("org/repo", {"README.md": b"text", **LEVELS})
    path = resolve(name)
    assert path.name == file
    assert path.read_bytes() == LEVELS[file]
    assert len(_transfers(hub)) == 1


def test_an_alias_leads_to_its_repository(hub: LoopbackHub) -> None:
    hub.repo("Qwen/Qwen3-0.6B-GGUF", {"Qwen3-0.6B-Q8_0.gguf": _data(1)})
    assert resolve("qwen3-0.6b").read_bytes() == _data(1)


def test_the_nearest_level_is_said(hub: LoopbackHub) -> None:
    hub.repo("org/repo", {name: LEVELS[name] for name in ("model-Q8_0.gguf", "model-Q2_K.gguf")})
    with pytest.warns(
        UserWarning, match=r"has no Q4_K_M; using the nearest level: model-Q8_0\.gguf"
    ):
        resolve("org/repo")


def test_the_default_level_is_logged(hub: LoopbackHub, caplog: pytest.LogCaptureFixture) -> None:
    hub.repo("org/repo", LEVELS)
    with caplog.at_level(logging.INFO, "localgen.hub"):
        resolve("org/repo")
    assert "org/repo: model-Q4_K_M.gguf" in caplog.messages


def test_small_files_are_checked_too(hub: LoopbackHub) -> None:
    """A file outside of LFS has git's checksum, not a sha256."""
    hub.repo("org/repo", {"a.gguf": b"small"})
    assert resolve("org/repo").read_bytes() == b"small"
    hub.repos["org/repo"].commit({"a.gguf": b"SMALL"})
    assert resolve("org/repo").read_bytes() == b"SMALL"


def test_shards_come_together(hub: LoopbackHub) -> None:
    shards = {f"m-Q4_K_M-0000{n}-of-00002.gguf": _data(n) for n in (1, 2)}
    hub.repo("org/repo", shards)
    path = resolve("org/repo")
    assert {file.name: file.read_bytes() for file in path.parent.iterdir()} == shards
    assert path.name == "m-Q4_K_M-00001-of-00002.gguf"


# --- what else is in a repository ---


def _gguf(path: Path, architecture: str, **keys: object) -> bytes:
    """A file with a tensor, and these keys of its architecture."""
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_block_count(1)
    for key, value in keys.items():
        writer.add_key_value(key.replace("__", "."), value, gguf.GGUFValueType.get_type(value))
    writer.add_tensor("output.weight", np.zeros((64, 64), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path.read_bytes()


def test_a_drafter_beside_the_model(hub: LoopbackHub, tmp_path: Path, tiny_bpe_path: Path) -> None:
    """Regression: a drafter that alone had the default level was loaded as the model.

    One part of it is read before anything is fetched.
    """
    model = tiny_bpe_path.read_bytes()
    drafter = _gguf(tmp_path / "d.gguf", "gemma4-assistant")
    files = {"gemma-Q8_0.gguf": model, "gemma-assistant-Q4_K_M.gguf": drafter}
    hub.repo("org/repo", files)
    assert inspect("org/repo").architecture == "llama"
    hub.requests.clear()
    path = resolve("org/repo")
    assert path.read_bytes() == model
    assert [bool(request.range) for request in _transfers(hub)] == [True, True, False]
    named = resolve("org/repo/gemma-assistant-Q4_K_M.gguf")
    with pytest.raises(
        localgen.InvalidGGUFError,
        match=r"is a draft head for speculative decoding \(architecture gemma4-assistant\)",
    ):
        LocalModel.from_pretrained(named)
    assert resolve("org/repo", local_files_only=True) == path  # the cached drafter is none either


def test_levels_of_one_model_need_no_look(hub: LoopbackHub) -> None:
    hub.repo("org/repo", {**LEVELS, "mmproj-F16.gguf": _data(9)})
    assert resolve("org/repo").name == "model-Q4_K_M.gguf"
    assert [request.range for request in _transfers(hub)] == [None]


def test_a_repository_without_a_language_model(hub: LoopbackHub, tmp_path: Path) -> None:
    projector = _gguf(tmp_path / "p.gguf", "clip", general__type="mmproj")
    hub.repo("org/repo", {"mmproj-F16.gguf": projector})
    with pytest.raises(
        ModelNotFoundError, match=r"no language model: mmproj-F16\.gguf is the projector of a vis"
    ):
        resolve("org/repo")


# --- revisions ---


def test_revisions(hub: LoopbackHub) -> None:
    repo = hub.repo("org/repo", {"a.gguf": _data(1)})
    old = repo.refs["main"]
    repo.commit({"a.gguf": _data(2)}, ref="v2")
    assert resolve("org/repo@v2").read_bytes() == _data(2)
    assert resolve("org/repo", revision=old).read_bytes() == _data(1)
    with pytest.raises(ModelNotFoundError, match="no revision v3; it has main, v2"):
        resolve("org/repo@v3")


def test_a_commit_that_is_cached_needs_no_request(hub: LoopbackHub) -> None:
    commit = hub.repo("org/repo", LEVELS).refs["main"]
    resolve(f"org/repo:Q8_0@{commit}")
    hub.requests.clear()
    assert resolve(f"org/repo:Q8_0@{commit}").read_bytes() == LEVELS["model-Q8_0.gguf"]
    assert not hub.requests


def test_other_levels_of_a_cached_commit_do_not_stand_in(hub: LoopbackHub) -> None:
    """The nearest of them would do without a connection; with one, the default is fetched."""
    commit = hub.repo("org/repo", LEVELS).refs["main"]
    for level in ("Q8_0", "Q2_K"):
        resolve(f"org/repo:{level}@{commit}")
    assert resolve(f"org/repo@{commit}").read_bytes() == LEVELS["model-Q4_K_M.gguf"]


def test_the_only_cached_level_of_a_commit_does_not_stand_in(hub: LoopbackHub) -> None:
    """Regression: with one level in the cache, that one was the model of its commit."""
    commit = hub.repo("org/repo", LEVELS).refs["main"]
    q8_0 = resolve(f"org/repo:Q8_0@{commit}")
    assert resolve(f"org/repo@{commit}").read_bytes() == LEVELS["model-Q4_K_M.gguf"]
    hub.requests.clear()
    assert resolve(f"org/repo:Q8_0@{commit}") == q8_0
    assert resolve(f"org/repo@{commit}").name == "model-Q4_K_M.gguf"
    assert not hub.requests


def test_a_publishers_level_of_a_commit(hub: LoopbackHub) -> None:
    """A plain level may be in the repository too, so only the Hub knows what the name means."""
    files = {f"m-{level}.gguf": _data(i) for i, level in enumerate(["Q4_K_XL", "UD-Q4_K_XL"])}
    commit = hub.repo("org/repo", files).refs["main"]
    resolve(f"org/repo:UD-Q4_K_XL@{commit}")
    assert resolve(f"org/repo:Q4_K_XL@{commit}").name == "m-Q4_K_XL.gguf"


def test_a_file_that_was_never_verified_is_not_used_offline(hub: LoopbackHub) -> None:
    """Its checksum is known to the Hub alone, and is asked for once there is a connection."""
    commit = hub.repo("org/repo", {"a.gguf": _data(1)}).refs["main"]
    path = resolve("org/repo")
    cache.mark_unverified("org/repo", commit, "a.gguf", cache.UNKNOWN)
    with pytest.raises(DownloadError, match=r"a\.gguf of org/repo was never verified"):
        resolve("org/repo", local_files_only=True)
    assert resolve("org/repo") == path
    assert resolve("org/repo", local_files_only=True) == path


def test_a_moved_main_is_followed(hub: LoopbackHub) -> None:
    repo = hub.repo("org/repo", {"a.gguf": _data(1)})
    assert resolve("org/repo").read_bytes() == _data(1)
    repo.commit({"a.gguf": _data(2)})
    assert resolve("org/repo").read_bytes() == _data(2)
    assert resolve("org/repo", local_files_only=True).read_bytes() == _data(2)


def test_main_that_moves_during_a_download(hub: LoopbackHub) -> None:
    """The listing says one commit, the file comes from the next: its checksum is that one's."""
    repo = hub.repo("org/repo", {"a.gguf": _data(1)})

    def move() -> None:
        hub.before_transfer = None
        repo.commit({"a.gguf": _data(2)})

    hub.before_transfer = move
    path = resolve("org/repo")
    assert path.read_bytes() == _data(2)
    assert cache.unverified("org/repo", path.parent.name, "a.gguf") is None


def test_main_that_never_rests(hub: LoopbackHub) -> None:
    """Shards of one model must be of one commit, and here there is never one that has both."""
    repo = hub.repo("org/repo")

    def move() -> None:
        commit = len(repo.commits)
        repo.commit({f"m-0000{n}-of-00002.gguf": _data(10 * commit + n) for n in (1, 2)})

    move()
    hub.before_transfer = move
    with pytest.raises(DownloadError, match="keeps changing during the download"):
        resolve("org/repo")
    hub.before_transfer = None
    assert resolve("org/repo").parent.name == repo.refs["main"]


# --- transfers that go wrong ---


def test_a_cut_connection_is_resumed(hub: LoopbackHub) -> None:
    """From where it was cut: the second request asks for the rest alone."""
    data = _data(1, 24_000_000)  # huggingface_hub writes 10 MiB at a time
    hub.repo("org/repo", {"a.gguf": data})
    hub.cut_after, hub.cuts_left = 12_000_000, 1
    assert resolve("org/repo").read_bytes() == data
    first, second = _transfers(hub)
    assert first.range is None
    start = int(str(second.range).removeprefix("bytes=").removesuffix("-"))
    assert 0 < start <= 12_000_000


def test_a_wrong_checksum(hub: LoopbackHub) -> None:
    """Nothing wrong stays on the disk, and the true file is fetched when it is there."""
    repo = hub.repo("org/repo", {"a.gguf": _data(1)})
    repo.stated_sha256 = hashlib.sha256(b"something else").hexdigest()
    with pytest.raises(DownloadError, match=rf"checksum is .*the Hub states {repo.stated_sha256}"):
        resolve("org/repo")
    assert not list(cache.root().rglob("*.gguf"))
    assert not [file for file in cache.root().rglob("blobs/*") if file.is_file()]
    repo.stated_sha256 = None
    assert resolve("org/repo").read_bytes() == _data(1)


MIRRORS = {
    "no checksums": (("lfs", "blobId"), "only its size is verified"),
    "no checksums and no sizes": (("lfs", "blobId", "size"), "not verified: the server states nei"),
    "no sha256": (("sha256",), "not verified: the server states nei"),
    "no size of its pointer": (("pointerSize",), "not verified: the server states nei"),
}


@pytest.mark.parametrize("mirror", MIRRORS)
def test_a_mirror_that_states_no_checksums(hub: LoopbackHub, mirror: str) -> None:
    """Regression: the file was called damaged and removed. It is used, which is said."""
    hides, warning = MIRRORS[mirror]
    hub.repo("org/repo", {"a.gguf": _data(1)}).hides = hides
    with pytest.warns(UserWarning, match=f"a.gguf of org/repo: .*{warning}"):
        path = resolve("org/repo")
    assert path.read_bytes() == _data(1)
    hub.requests.clear()
    assert resolve("org/repo") == path
    assert not _transfers(hub)


def test_a_mirror_that_states_sizes_only(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """A transfer that was killed leaves a file that is compared with the size when it is used."""
    hub.repo("org/repo", {"a.gguf": _data(1)}).hides = ("lfs", "blobId")
    with monkeypatch.context() as patched:
        patched.setattr(remote, "_digest", _killed)
        with pytest.raises(KeyboardInterrupt):
            resolve("org/repo")
    (blob,) = cache.root().glob("*/blobs/*")
    blob.write_bytes(b"cut")
    with pytest.raises(DownloadError, match="corrupt download: its size is 3, and the Hub states"):
        resolve("org/repo", local_files_only=True)


def test_a_listing_that_is_none(hub: LoopbackHub) -> None:
    """An answer of another form is named, not a traceback."""
    hub.repo("org/repo", {"a.gguf": _data(1)}).hides = ("rfilename",)
    with pytest.raises(DownloadError, match="the answer for org/repo is not a listing"):
        resolve("org/repo")


@pytest.mark.parametrize("data", [b"", _data(1)[:2500], _data(1) + b"more"])
def test_a_cached_file_of_another_size(
    hub: LoopbackHub, data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """Regression: a blob that a full disk or a copy had cut was damaged forever."""
    hub.repo("org/repo", {"a.gguf": _data(1)})
    path = resolve("org/repo")
    path.resolve().write_bytes(data)
    assert resolve("org/repo").read_bytes() == _data(1)
    assert f"a.gguf has {len(data)} bytes in the cache, and 5000 on the Hub" in caplog.text
    assert len(_transfers(hub)) == 2


def test_a_damaged_file_of_a_commit_says_how_it_is_fetched_again(
    hub: LoopbackHub, tiny_bpe_path: Path
) -> None:
    """A commit's cached files are used without a request, so nothing knows their true size."""
    commit = hub.repo("org/repo", {"m/a.gguf": tiny_bpe_path.read_bytes()}).refs["main"]
    path = resolve(f"org/repo@{commit}")
    with path.resolve().open("r+b") as blob:
        blob.truncate(100_000)
    name = f"org/repo/m/a.gguf@{commit}"
    with pytest.raises(localgen.InvalidGGUFError, match=f"localgen models rm {name}") as caught:
        LocalModel.from_pretrained(name)
    assert "it is incomplete" in str(caught.value)
    inventory.remove(name)
    assert resolve(name).read_bytes() == tiny_bpe_path.read_bytes()


@pytest.mark.parametrize("damage", [b"\xff\xfe\x00", b"", b"not a commit"])
def test_a_reference_that_is_damaged(hub: LoopbackHub, damage: bytes) -> None:
    """Regression: "can't decode byte 0xff". Online it is written again; offline it is named."""
    hub.repo("org/repo", {"a.gguf": _data(1)})
    path = resolve("org/repo")
    ref = cache.repository_folder("org/repo") / "refs" / "main"
    ref.write_bytes(damage)
    with (
        pytest.warns(UserWarning, match="refs/main is damaged and skipped"),
        pytest.raises(ModelNotFoundError, match="models pull org/repo"),
    ):
        resolve("org/repo", local_files_only=True)
    assert resolve("org/repo") == path


def test_a_mark_that_is_damaged(hub: LoopbackHub) -> None:
    """What a file must be compared with is asked for again."""
    commit = hub.repo("org/repo", {"a.gguf": _data(1)}).refs["main"]
    path = resolve("org/repo")
    cache.mark_unverified("org/repo", commit, "a.gguf", "")
    mark = next(cache.repository_folder("org/repo").rglob("*.checksum"))
    for damage in (b"\xff\xff", b"", b"sha256", b"md5 00"):
        mark.write_bytes(damage)
        with pytest.raises(DownloadError, match="was never verified"):
            resolve("org/repo", local_files_only=True)
    assert resolve("org/repo") == path
    assert not mark.exists()


def test_a_check_that_was_cut_off_is_made_up_for(
    hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill between the transfer and the check leaves a file that is checked when it is used."""
    repo = hub.repo("org/repo", {"a.gguf": _data(1)})
    repo.stated_sha256 = hashlib.sha256(b"something else").hexdigest()
    with monkeypatch.context() as patched:
        patched.setattr(remote, "_digest", _killed)
        with pytest.raises(KeyboardInterrupt):
            resolve("org/repo")
    with pytest.raises(DownloadError, match="is a corrupt download"):
        resolve("org/repo", local_files_only=True)


def _killed(*_: object) -> Any:
    raise KeyboardInterrupt


def test_no_room_for_the_file(hub: LoopbackHub) -> None:
    """Said before a byte of it is fetched."""
    repo = hub.repo("org/repo", {"a.gguf": _data(1)})
    repo.stated_size = 10**18
    with pytest.raises(
        DownloadError, match=r"needs 1,000,000,000,000 MB, and .* free\. Free some space"
    ):
        resolve("org/repo")
    assert not _transfers(hub)


def test_a_disk_that_becomes_full(
    hub: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real small disk, and a hub that understates the file's size."""
    from huggingface_hub import constants

    small = tmp_path / "small"
    small.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", str(small)]
    if not is_root() or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("only root can mount a small disk")
    try:
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(small / "cache"))
        repo = hub.repo("org/repo", {"a.gguf": _data(1, 25_000_000)})
        repo.stated_size = 1000
        with (
            pytest.warns(UserWarning, match="Not enough free disk space"),  # huggingface_hub's
            pytest.raises(DownloadError, match="is full, so org/repo could not be fetched"),
        ):
            resolve("org/repo")
        assert not [file for file in cache.root().rglob("blobs/*") if file.is_file()]
    finally:
        subprocess.run(["umount", str(small)], check=True)


@contextlib.contextmanager
def _read_only(folder: Path) -> Iterator[None]:
    """A real read-only file system: nobody, root included, can write to ``folder``."""
    mount = ["mount", "--bind", str(folder), str(folder)]
    if not is_root() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root can mount a folder read-only")
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", str(folder)], check=True)
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_read_only_cache(
    hub: LoopbackHub, tiny_bpe_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """An image of a container, or a share. What is cached is used; the rest says what to set."""
    repo = hub.repo("org/repo", {"m-Q4_K_M.gguf": tiny_bpe_path.read_bytes(), "m-Q8_0.gguf": b"8"})
    path = resolve("org/repo")
    with _read_only(cache.root()):
        with LocalModel.from_pretrained("org/repo", n_ctx=64) as model:
            assert model.complete("a", max_new_tokens=1).token_ids
        with pytest.raises(DownloadError, match=r"could not be stored .*HF_HUB_CACHE"):
            resolve("org/repo:Q8_0")
        repo.commit({"m-Q4_K_M.gguf": _data(1)})
        assert resolve("org/repo") == path
    assert "Using the cached copy" in caplog.text


def test_damage_in_a_read_only_cache(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file is verified each time, and one that is damaged is not used."""
    hub.repo("org/repo", {"a.gguf": _data(1)})
    with monkeypatch.context() as patched:
        patched.setattr(remote, "_digest", _killed)
        with pytest.raises(KeyboardInterrupt):
            resolve("org/repo")
    with _read_only(cache.root()):
        path = resolve("org/repo", local_files_only=True)
        assert resolve("org/repo") == path
    path.resolve().write_bytes(_data(2))
    with _read_only(cache.root()), pytest.raises(DownloadError, match=r"corrupt .* failed here"):
        resolve("org/repo", local_files_only=True)
    path.resolve().write_bytes(b"cut")
    with _read_only(cache.root()), pytest.raises(DownloadError, match="cannot be replaced"):
        resolve("org/repo")


@pytest.mark.parametrize("place", ["/dev/null/hub", "/etc/passwd"])
def test_a_cache_that_is_no_folder(
    place: str, hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HF_HOME=/dev/null is how some turn the cache off."""
    from huggingface_hub import constants

    hub.repo("org/repo", LEVELS)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", place)
    with pytest.raises(DownloadError, match=f"could not be stored in {place}: Not a directory"):
        resolve("org/repo")
    assert not [copy for copy in inventory.on_this_machine() if copy.name.startswith("org/")]
    assert inventory.totals() == (0, 0)


@pytest.mark.filterwarnings("ignore:`huggingface_hub` cache-system uses symlinks")
def test_a_file_system_without_symlinks(
    hub: LoopbackHub, tiny_bpe_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows without developer mode: the cache holds copies instead of links."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, "A required privilege is not held by the client")

    monkeypatch.setattr(os, "symlink", refuse)
    model = tiny_bpe_path.read_bytes()
    repo = hub.repo("org/repo", {"m-Q4_K_M.gguf": model, "m-Q8_0.gguf": _data(8)})
    path = resolve("org/repo")
    assert not path.is_symlink()
    with LocalModel.from_pretrained("org/repo", n_ctx=64, local_files_only=True):
        assert len(_transfers(hub)) == 1
    path.write_bytes(b"cut")
    assert resolve("org/repo").read_bytes() == model
    commit = repo.refs["main"]
    resolve("org/repo:Q8_0")
    repo.commit({"m-Q4_K_M.gguf": model, "m-Q8_0.gguf": _data(9)})
    assert resolve("org/repo:Q8_0").read_bytes() == _data(9)
    assert resolve(f"org/repo:Q8_0@{commit}").read_bytes() == _data(8)
    assert inventory.matching("org/repo:Q8_0")[1] == 2 * 5000
    inventory.remove("org/repo:Q8_0")
    names = [copy.name for copy in inventory.matching("org/repo")[0]]
    assert names == [f"org/repo:Q4_K_M@{commit}"]
    inventory.remove("org/repo")
    assert not cache.repository_folder("org/repo").exists()


@pytest.mark.parametrize("file", ["../../evil.gguf", "a\\..\\evil.gguf", "C:\\evil.gguf"])
def test_a_listing_that_leads_out_of_the_cache(hub: LoopbackHub, file: str) -> None:
    hub.repo("org/repo", {file: _data(1), "model-Q4_K_M.gguf": _data(2)})
    with pytest.raises(DownloadError, match="so nothing is fetched"):
        resolve("org/repo")
    assert not _transfers(hub)
    assert not cache.root().exists()


# --- refusals ---


def test_an_unknown_repository_names_the_nearest(hub: LoopbackHub) -> None:
    hub.repo("org/Tiny-1B-GGUF", LEVELS)
    hub.repo("org/Other-GGUF", LEVELS)
    with pytest.raises(ModelNotFoundError, match=r"no repository .* Did you mean org/Tiny-1B-GGUF"):
        resolve("org/Tny-1B-GGUF")


def test_an_unknown_repository_where_the_search_fails(hub: LoopbackHub) -> None:
    """The nearest name is only a hint: without it the error is the same."""
    hub.search_status = 403
    with pytest.raises(ModelNotFoundError, match="org/repo"):
        resolve("org/repo")


def test_a_search_that_fails_is_not_repeated(hub: LoopbackHub) -> None:
    """Regression: huggingface_hub retried it for twenty seconds, for a hint."""
    hub.search_status = 500
    with pytest.raises(ModelNotFoundError, match="org/repo"):
        resolve("org/repo")
    assert [request.path for request in hub.requests].count("/api/models") == 1


def test_a_listing_without_a_commit(hub: LoopbackHub) -> None:
    """Without it the file would be cached under no revision."""
    hub.repo("org/repo", LEVELS).hides_commit = True
    with pytest.raises(DownloadError, match="names no commit"):
        resolve("org/repo")


def test_an_unknown_file_and_level_name_those_there_are(hub: LoopbackHub) -> None:
    hub.repo("org/repo", LEVELS)
    with pytest.raises(ModelNotFoundError, match="has no Q5_K_M; it has Q2_K, Q4_K_M, Q8_0"):
        resolve("org/repo:Q5_K_M")
    with pytest.raises(ModelNotFoundError, match=r"no file model-Q8\.gguf at main; the closest"):
        resolve("org/repo/model-Q8.gguf")
    hub.repo("org/weights", {"model.safetensors": _data(1)})
    with pytest.raises(ModelNotFoundError, match="holds no GGUF file"):
        resolve("org/weights")


@pytest.mark.parametrize(
    ("status", "headers", "message"),
    [
        (
            401,
            {"X-Error-Message": "Invalid credentials in Authorization header"},
            "rejected the token",
        ),
        (403, {"X-Error-Code": "GatedRepo"}, "gated: accept its terms at https.*hf auth login"),
        (403, {}, "has no permission"),
        (429, {"Retry-After": "7"}, "Try again in 7 seconds"),
        (500, {}, r"failed to answer for org/repo \(500\)"),
        (503, {}, "503"),
    ],
)
def test_answers_that_refuse(
    hub: LoopbackHub, status: int, headers: dict[str, str], message: str
) -> None:
    repo = hub.repo("org/repo", LEVELS)
    repo.status, repo.headers = status, headers
    with pytest.raises(DownloadError, match=message):
        resolve("org/repo")
    repo.status = 200
    assert resolve("org/repo").read_bytes()


@pytest.mark.parametrize(("status", "message"), [(404, "404"), (403, "403"), (500, "500")])
def test_transfers_that_are_refused(hub: LoopbackHub, status: int, message: str) -> None:
    hub.repo("org/repo", LEVELS)
    hub.cdn_status = status
    with pytest.raises(DownloadError, match=message):
        resolve("org/repo")
    hub.cdn_status = 200
    assert resolve("org/repo").read_bytes()


def test_a_token_is_for_the_hub_alone(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files' own host must not see it."""
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    hub.repo("org/repo", LEVELS)
    resolve("org/repo")
    tokens = {request.path.split("/")[1]: request.token for request in hub.requests}
    assert tokens["api"] == "Bearer hf_secret"
    assert tokens["cdn"] is None


# --- without the network ---


def test_local_files_only_makes_no_request(hub: LoopbackHub) -> None:
    hub.repo("org/repo", LEVELS)
    with pytest.raises(ModelNotFoundError, match="models pull org/repo"):
        resolve("org/repo", local_files_only=True)
    fetched = resolve("org/repo:Q8_0")
    hub.requests.clear()
    assert resolve("org/repo", local_files_only=True) == fetched  # the one that is there
    assert resolve("org/repo:Q8_0", local_files_only=True) == fetched
    with pytest.raises(ModelNotFoundError, match="has no Q2_K; it has Q8_0"):
        resolve("org/repo:Q2_K", local_files_only=True)
    assert not hub.requests


def test_without_a_network_the_cache_serves(
    hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from huggingface_hub import constants

    hub.repo("org/repo", LEVELS)
    fetched = resolve("org/repo")
    monkeypatch.setattr(constants, "ENDPOINT", NO_NETWORK)
    assert resolve("org/repo") == fetched
    assert "Using the cached copy" in caplog.text
    with pytest.raises(
        DownloadError, match=r"could not be fetched from the Hub.*local_files_only=True"
    ) as caught:
        resolve("org/other")
    assert str(caught.value).startswith(
        "there is no local file org/other, and org/other could not be fetched from the Hub: no "
        "connection to the Hub ([Errno "
    )
    assert "no local file" not in caplog.text


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("ALL_PROXY", "socks://127.0.0.1:1"),  # as desktops set it; no client knows this scheme
        ("HTTPS_PROXY", "http://[::1"),
        ("SSL_CERT_FILE", "/nonexistent.pem"),
    ],
)
def test_settings_that_no_client_accepts(
    variable: str,
    value: str,
    hub: LoopbackHub,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """They once ended in an error of another library, even where the cache would do."""
    from huggingface_hub import close_session

    hub.repo("org/repo", LEVELS)
    fetched = resolve("org/repo")
    close_session()
    monkeypatch.setenv(variable, value)
    assert resolve("org/repo") == fetched
    assert "Using the cached copy" in caplog.text
    with pytest.raises(DownloadError, match=rf"cannot be set up: .*{variable}"):
        resolve("org/other")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            "ReadTimeout",
            r"no answer in time \(slow; HF_HUB_ETAG_TIMEOUT and HF_HUB_DOWN",
        ),
        (
            "UnsupportedProtocol",
            r"slow\. Check the .* and HF_ENDPOINT \('localhost:80'\), ",
        ),
    ],
)
def test_the_variable_that_an_error_comes_from(
    error: str, message: str, hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import HfApi, errors

    of_client = sys.modules[errors.HfHubHTTPError.__bases__[0].__module__.partition(".")[0]]

    def fail(*_: object, **__: object) -> None:
        raise getattr(of_client, error)("slow")

    monkeypatch.setenv("HF_ENDPOINT", "localhost:80")
    monkeypatch.setattr(HfApi, "model_info", fail)
    with pytest.raises(DownloadError, match=message):
        resolve("org/repo")


def test_a_token_that_is_no_file(
    hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path))
    with pytest.raises(DownloadError, match=r"token .* read from .*Check .* HF_HOME"):
        resolve("org/repo")


def test_settings_that_cannot_be_read(run_child: RunChild, monkeypatch: pytest.MonkeyPatch) -> None:
    """Regression: "invalid literal for int() with base 10: '1.5'". No token is shown."""
    monkeypatch.setenv("HF_HUB_DOWNLOAD_TIMEOUT", "1.5")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    done = run_child("from localgen.hub import resolve; resolve('org/repo')")
    assert "DownloadError" in done.stderr
    assert "HF_HUB_DOWNLOAD_TIMEOUT='1.5'" in done.stderr
    assert "hf_secret" not in done.stderr


@pytest.mark.parametrize("token", ["hf_t\u00f6ken", "hf_token\x1b[0m", "hf_\u200btoken"])
def test_a_token_with_a_stray_character(
    token: str, hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HTTP's own complaint shows the header, and with it the token."""
    monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(DownloadError, match="a character that no token has") as caught:
        resolve("org/repo")
    assert "hf_" not in str(caught.value)


OFFLINE = """
import localgen, os, socket, sys
if len(sys.argv) > 1: os.environ[sys.argv[1]] = "1"
class NoSocket(socket.socket):
    def connect(self, *_): raise AssertionError("a request was made")
socket.socket = NoSocket
from localgen import ModelNotFoundError
from localgen.hub import resolve
print(resolve("org/repo"))
try:
    resolve("org/other")
except ModelNotFoundError as error:
    print(error)
"""


def test_the_environment_variables(
    hub: LoopbackHub, tmp_path: Path, run_child: RunChild, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HF_ENDPOINT, HF_HOME and HF_HUB_OFFLINE, as a process of its own reads them."""
    hub.repo("org/repo", LEVELS)
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    code = "from localgen.hub import resolve; print(resolve('org/repo'))"
    online = run_child(code)
    path = Path(online.stdout.strip())
    assert path.is_relative_to(tmp_path / "home"), online.stderr
    assert path.read_bytes() == LEVELS["model-Q4_K_M.gguf"]
    # Set before the program starts, or after ``import localgen``.
    for environment, args in (({"HF_HUB_OFFLINE": "1"}, ()), ({}, ("HF_HUB_OFFLINE",))):
        with monkeypatch.context() as patched:
            for variable, value in environment.items():
                patched.setenv(variable, value)
            offline = run_child(OFFLINE, *args)
        assert offline.stdout.splitlines()[0] == str(path), offline.stderr
        assert "only local files are used" in offline.stdout


def test_ctrl_c_leaves_no_broken_file(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was interrupted is fetched anew; nothing half is taken for whole."""
    hub.repo("org/repo", {"a.gguf": _data(1)})

    with monkeypatch.context() as patched:
        patched.setattr(remote, "transfer_bar", _interrupting_bar)
        with pytest.raises(KeyboardInterrupt):
            resolve("org/repo")
    assert not [file for file in cache.root().rglob("blobs/*") if file.is_file()]
    assert resolve("org/repo").read_bytes() == _data(1)


@contextlib.contextmanager
def _interrupting_bar(*_: object) -> Iterator[Callable[[float], None]]:
    yield _killed


def test_two_loads_of_one_name_at_a_time(hub: LoopbackHub) -> None:
    from concurrent.futures import ThreadPoolExecutor

    hub.repo("org/repo", {"a.gguf": _data(1, 2_000_000)})
    with ThreadPoolExecutor(4) as pool:
        paths = list(pool.map(resolve, ["org/repo"] * 4))
    assert {path.read_bytes() for path in paths} == {_data(1, 2_000_000)}


def test_a_damaged_model_is_refused_by_the_gate(hub: LoopbackHub) -> None:
    """A right checksum says that it is what the Hub has, not that it is a model."""
    hub.repo("org/repo", {"a.gguf": b"GGUF" + _data(1)})
    with pytest.raises(localgen.InvalidGGUFError):
        LocalModel.from_pretrained("org/repo")


def test_a_split_model_from_the_hub_runs(hub: LoopbackHub, tmp_path: Path) -> None:
    """The cache's entries are links: the shards are found by their names beside each other."""
    path = tmp_path / "tiny-00001-of-00001.gguf"
    make_llama_bpe(path)
    hub.repo("org/repo", {path.name: path.read_bytes()})
    with LocalModel.from_pretrained("org/repo", n_ctx=64) as model:
        assert model.complete("a", max_new_tokens=1).token_ids


def test_a_name_that_the_hub_cannot_have() -> None:
    with pytest.raises(ValueError, match="--"):
        remote.listing(HubName("a--b/c"))
