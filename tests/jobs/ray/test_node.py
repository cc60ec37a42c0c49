"""Actors of one node: a model's name is resolved with one download, and its weights are shared."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

ray: Any = pytest.importorskip("ray", reason="needs the extra localgen[ray]")

from localgen.config import GenerationConfig  # noqa: E402
from localgen.errors import JobError  # noqa: E402
from localgen.gguf.fingerprint import fingerprint  # noqa: E402
from localgen.jobs.ray.actor import ModelOfActor  # noqa: E402
from localgen.jobs.ray.columns import call_of  # noqa: E402
from tests.hub.server import LoopbackHub  # noqa: E402

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # Ray's own
]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    """A hub on loopback, and a Ray whose workers know no other and have nothing cached."""
    loopback = LoopbackHub()
    monkeypatch.setenv("HF_ENDPOINT", loopback.url)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    ray.init(num_cpus=3, include_dashboard=False, logging_level="ERROR")
    yield loopback
    ray.shutdown()
    loopback.close()


def n_asked(hub: LoopbackHub, beginning: str) -> int:
    return sum(request.path.startswith(beginning) for request in hub.requests)


def mapped() -> list[set[str]]:
    """The files that each process of a model has in its memory."""
    found = []
    for each in psutil.Process().children(recursive=True):
        try:
            if "localgen.worker" in " ".join(each.cmdline()):
                found.append({part.path for part in each.memory_maps()})
        except psutil.Error:
            continue
    return found


@pytest.mark.skipif(not psutil.LINUX, reason="only there memory_maps() tells of files")
def test_actors_that_start_at_once_download_once_and_share_the_weights(
    hub: LoopbackHub, tiny_bpe_path: Path, tmp_path: Path
) -> None:
    data = tiny_bpe_path.read_bytes()
    hub.repo("org/repo", {"tiny-Q4_K_M.gguf": data})
    both_ask = threading.Event()

    def wait_for_both() -> None:
        if n_asked(hub, "/api/models/org/repo") >= 2:
            both_ask.set()
        both_ask.wait(60)

    hub.before_transfer = wait_for_both
    actor = ray.remote(num_cpus=1)(ModelOfActor)
    options = {"n_ctx": 64}
    actors = [actor.remote("org/repo", fingerprint(tiny_bpe_path), options) for _ in range(2)]
    row = call_of({"prompt": "a", "max_new_tokens": 2}, GenerationConfig(), 0)
    done = ray.get([each.run.remote(row) for each in actors])
    assert all(each.stats.n_new for each in done)
    assert n_asked(hub, "/api/models/org/repo") >= 2
    assert n_asked(hub, "/cdn/") == 1
    assert hub.n_sent == len(data)
    (blob,) = (tmp_path / "home").rglob("blobs/*")
    files = mapped()
    assert len(files) == 2
    assert all(str(blob) in each for each in files)


def test_an_actor_refuses_a_model_of_another_fingerprint(tiny_bpe_path: Path) -> None:
    with pytest.raises(JobError, match="on this node is another model"):
        ModelOfActor(str(tiny_bpe_path), "0" * 64, None)
