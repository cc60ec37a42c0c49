"""inspect() of models that stay on the Hub: what stands before the weights is read, no more."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

import localgen
from localgen import DownloadError, InvalidGGUFError, ModelNotFoundError, inspection
from localgen.cli import app
from localgen.hub import cache, resolve
from models.make_tiny import make_llama_bpe
from tests.hub.server import LoopbackHub
from tests.shards import write_shards

CHUNK_BYTES = 2**12


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model whose weights are many times as large as what stands before them."""
    path = tmp_path / "tiny-Q4_K_M.gguf"
    make_llama_bpe(path, n_embd=128)
    return path


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspection, "_FIRST_CHUNK_BYTES", CHUNK_BYTES)
    monkeypatch.setattr(inspection, "_CHUNK_BYTES", CHUNK_BYTES)


def nothing_is_kept() -> bool:
    return not any(path.is_file() for path in cache.root().rglob("*"))


def test_the_same_as_of_the_file(hub: LoopbackHub, model: Path) -> None:
    """All that is told of a file on the disk, its memory included, by a few ranges."""
    data = model.read_bytes()
    commit = hub.repo("org/repo", {model.name: data}).refs["main"]
    info = localgen.inspect("org/repo:Q4_K_M")
    assert info.path.as_posix() == f"org/repo/{model.name}"
    assert info.hub == inspection.HubSource("org/repo", commit, hub.n_sent)
    of_file = localgen.inspect(model)
    assert of_file.hub is None
    same: dict[str, Any] = {"path": model, "hub": None, "ram_available": of_file.ram_available}
    assert dataclasses.replace(info, **same) == of_file
    assert info.fits
    assert CHUNK_BYTES < hub.n_sent < len(data) / 8
    assert nothing_is_kept()


def test_each_shard_is_read_up_to_its_weights(
    hub: LoopbackHub, model: Path, tmp_path: Path
) -> None:
    """The tensors are those of all shards, whichever of them is named."""
    shards = write_shards(model, tmp_path)
    hub.repo("org/repo", {path.name: path.read_bytes() for path in shards})
    info = localgen.inspect(f"org/repo/{shards[1].name}")
    assert info.n_shards == 2
    assert info.tensor_types == localgen.inspect(model).tensor_types
    assert info.file_bytes == sum(path.stat().st_size for path in shards)
    assert hub.n_sent < info.file_bytes / 8
    assert info.path.name == shards[0].name


def test_what_is_on_the_disk_is_read_there(hub: LoopbackHub, model: Path) -> None:
    """The Hub is asked what the name means now, as for a load, and for nothing of the file."""
    repo = hub.repo("org/repo", {model.name: model.read_bytes()})
    path = resolve("org/repo")
    hub.requests.clear()
    info = localgen.inspect("org/repo")
    assert (info.path, info.hub) == (path, None)
    assert [request.path for request in hub.requests] == ["/api/models/org/repo/revision/main"]
    repo.commit({model.name: model.read_bytes(), "README.md": b"a new commit"})
    assert localgen.inspect("org/repo").hub is not None


def test_a_shard_that_is_missing_here_is_read_there(
    hub: LoopbackHub, model: Path, tmp_path: Path
) -> None:
    shards = write_shards(model, tmp_path)
    hub.repo("org/repo", {path.name: path.read_bytes() for path in shards})
    resolve("org/repo").with_name(shards[1].name).unlink()
    info = localgen.inspect("org/repo")
    assert info.hub is not None
    assert info.n_shards == 2


def test_all_is_of_one_commit(hub: LoopbackHub, model: Path) -> None:
    """A push between the listing and the first range changes nothing."""
    data = model.read_bytes()
    repo = hub.repo("org/repo", {model.name: data})
    listed = repo.refs["main"]
    hub.before_transfer = lambda: repo.commit({model.name: bytes(len(data))})
    info = localgen.inspect("org/repo")
    assert info.hub is not None
    assert info.hub.commit == listed
    assert info.n_weights == localgen.inspect(model).n_weights


def test_the_command(
    hub: LoopbackHub,
    model: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It says where the facts come from, at which commit, and that nothing was kept."""
    commit = hub.repo("org/repo", {model.name: model.read_bytes()}).refs["main"]
    monkeypatch.setattr("sys.argv", ["localgen", "inspect", "org/repo"])
    assert app.run_command() == 0
    out = capsys.readouterr().out
    size = f"{hub.n_sent / 1000:.0f} kB"
    assert f"from the Hub org/repo at {commit}, {size} read, nothing stored\n" in out
    assert "It fits: it needs" in out
    monkeypatch.setattr("sys.argv", ["localgen", "inspect", "org/repo", "--json"])
    hub.n_sent = 0
    assert app.run_command() == 0
    found = json.loads(capsys.readouterr().out)["hub"]
    assert found == {"repo": "org/repo", "commit": commit, "n_bytes_read": hub.n_sent}


# --- what goes wrong ---


def test_a_server_without_ranges(hub: LoopbackHub, model: Path) -> None:
    """It may send all of a file: that is not read, and what cannot be had in parts is said."""
    large = model.read_bytes() + bytes(2**25)
    hub.repo("org/repo", {model.name: large})
    hub.ignores_ranges = True
    with pytest.raises(DownloadError, match=r"cannot be read in parts.*models pull org/repo"):
        localgen.inspect("org/repo")
    assert hub.n_sent < len(large) / 2  # the rest is what the connection had taken already


def test_one_part_is_enough_without_ranges(
    hub: LoopbackHub, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inspection, "_FIRST_CHUNK_BYTES", 2**16)
    hub.repo("org/repo", {model.name: model.read_bytes()})
    hub.ignores_ranges = True
    info = localgen.inspect("org/repo")
    assert info.hub is not None
    assert info.hub.n_bytes_read == 2**16


def test_a_connection_that_breaks(hub: LoopbackHub, model: Path) -> None:
    hub.repo("org/repo", {model.name: model.read_bytes()})
    hub.cut_after, hub.cuts_left = 100, 1
    with pytest.raises(DownloadError, match="org/repo could not be fetched from the Hub"):
        localgen.inspect("org/repo")


def test_a_range_that_is_answered_in_part(hub: LoopbackHub, model: Path) -> None:
    """Nothing is read from what did not come."""
    hub.repo("org/repo", {model.name: model.read_bytes()})
    hub.most_of_range = 1000
    with pytest.raises(DownloadError, match="requested 4096 bytes, got 1000"):
        localgen.inspect("org/repo")


def test_a_size_that_is_not_the_listings(hub: LoopbackHub, model: Path) -> None:
    """Places of tensors are checked against the true size."""
    repo = hub.repo("org/repo", {model.name: model.read_bytes()})
    repo.stated_size = 10**9
    with pytest.raises(DownloadError, match="of 1000000000, got byte 0 of"):
        localgen.inspect("org/repo")


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
        (404, {}, "no longer exists"),
        (429, {"Retry-After": "7"}, "Try again in 7 seconds"),
        (500, {}, r"failed to answer for org/repo \(500\)"),
    ],
)
def test_a_listing_that_is_shown_and_a_file_that_is_not(
    hub: LoopbackHub, model: Path, status: int, headers: dict[str, str], message: str
) -> None:
    """The Hub lists gated repositories for everyone; their files it refuses."""
    repo = hub.repo("org/repo", {model.name: model.read_bytes()})

    def refuse() -> None:
        repo.status, repo.headers = status, headers

    hub.before_transfer = refuse
    with pytest.raises(DownloadError, match=message):
        localgen.inspect("org/repo")
    assert hub.n_sent == 0


@pytest.mark.parametrize(("status", "message"), [(403, "403"), (416, "416"), (500, "500")])
def test_transfers_that_are_refused(
    hub: LoopbackHub, model: Path, status: int, message: str
) -> None:
    hub.repo("org/repo", {model.name: model.read_bytes()})
    hub.cdn_status = status
    with pytest.raises(DownloadError, match=message):
        localgen.inspect("org/repo")


def test_names_that_mean_nothing(hub: LoopbackHub, model: Path) -> None:
    hub.repo("org/repo", {model.name: model.read_bytes()})
    with pytest.raises(ModelNotFoundError, match="has no Q8_0; it has Q4_K_M"):
        localgen.inspect("org/repo:Q8_0")
    with pytest.raises(ModelNotFoundError, match="no repository org/other on the Hub"):
        localgen.inspect("org/other")


def test_a_damaged_file_is_refused_by_the_gate(hub: LoopbackHub, model: Path) -> None:
    """With its name on the Hub, the reason and the byte."""
    data = bytearray(model.read_bytes())
    data[4:8] = (99).to_bytes(4, "little")
    hub.repo("org/repo", {model.name: bytes(data)})
    with pytest.raises(InvalidGGUFError, match=r"org/repo/tiny.* GGUF version 99.*byte 4"):
        localgen.inspect("org/repo")
    hub.repo("org/cut", {model.name: model.read_bytes()[:-50_000]})
    with pytest.raises(InvalidGGUFError, match="it is incomplete"):
        localgen.inspect("org/cut")


def test_offline_no_request_is_made(
    hub: LoopbackHub, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    hub.repo("org/repo", {model.name: model.read_bytes()})
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(
        ModelNotFoundError, match=r"only local files are used.*models pull org/repo"
    ):
        localgen.inspect("org/repo")
    assert not hub.requests


def test_without_a_network_the_cache_serves(
    hub: LoopbackHub, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    hub.repo("org/repo", {model.name: model.read_bytes()})
    path = resolve("org/repo")
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert localgen.inspect("org/repo").path == path
    with pytest.raises(DownloadError, match="could not be fetched from the Hub"):
        localgen.inspect("org/other")


def test_a_token_is_for_the_hub_alone(
    hub: LoopbackHub, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The files' own host must not see it."""
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    hub.repo("org/repo", {model.name: model.read_bytes()})
    localgen.inspect("org/repo")
    tokens = {request.path.split("/")[1]: request.token for request in hub.requests}
    assert tokens == {"api": "Bearer hf_secret", "org": "Bearer hf_secret", "cdn": None}
