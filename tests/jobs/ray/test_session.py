"""Joining a Ray: what cannot be joined is refused at once, and Ray prints nothing."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ray: Any = pytest.importorskip("ray", reason="needs the extra localgen[ray]")
ray_data: Any = pytest.importorskip("ray.data", reason="needs the extra localgen[ray]")

from localgen.errors import RayJobError  # noqa: E402
from localgen.jobs.ray import session  # noqa: E402
from localgen.jobs.ray.session import joined  # noqa: E402
from localgen.jobs.ray.sizing import Node  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")  # Ray's own

TRACEBACK = "Last connection error: Traceback (most recent call last):\n  File x, line 1\n    x()\n"


@pytest.fixture
def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
    return port


def caused(error: Exception, cause: str) -> Exception:
    error.__cause__ = RuntimeError(cause)
    return error


def refusal(address: str) -> str:
    with pytest.raises(RayJobError) as found, joined(address):
        pass
    assert found.value.__cause__ is not None
    return str(found.value)


@pytest.mark.parametrize("address", ["127.0.0.1:{}", "localhost:{}"])
def test_an_address_where_nothing_listens_is_refused_at_once(address: str, free_port: int) -> None:
    message = refusal(address.format(free_port))
    assert f"{free_port}' cannot be joined: " in message
    assert "ray start --head" in message


def test_an_address_that_is_none_is_refused() -> None:
    assert "the Ray at 'nonsense' cannot be joined: Invalid address" in refusal("nonsense")


def test_ray_client_is_refused_with_what_to_do() -> None:
    message = r"Ray Client .*node of the cluster.*--ray auto"
    with pytest.raises(RayJobError, match=message), joined("ray://127.0.0.1:10001"):
        pass


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (RuntimeError("Version mismatch: The cluster was started with:\n  Ray: 2.9"), "on all nod"),
        (caused(ConnectionError(), "Version mismatch: Python: 3.9"), "mismatch: Python: 3.9. Inst"),
        (
            caused(ConnectionError("no GCS"), f"{TRACEBACK}InvalidAuthToken: missing"),
            "no GCS: InvalidAuthToken: missing. Set RAY_AUTH_MODE=token",
        ),
        (ConnectionError("no cluster"), "ray start --head"),
    ],
)
def test_what_init_raises_is_one_line_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch, error: Exception, advice: str
) -> None:
    def init(**_: object) -> None:
        raise error

    monkeypatch.setattr(ray, "init", init)
    message = refusal("auto")
    assert advice in message
    assert "\n" not in message


def test_joining_restores_what_ray_replaces(monkeypatch: pytest.MonkeyPatch) -> None:
    console = session._console_handlers()
    levels = [each.level for each in console]
    handler = signal.getsignal(signal.SIGTERM)
    context = ray_data.DataContext.get_current()
    waiting = context.wait_for_min_actors_s

    def init(**given: object) -> None:
        assert given["log_to_driver"] is False
        assert (given["num_cpus"], given["_memory"]) == (2, 1000)
        assert os.environ["RAY_BACKEND_LOG_LEVEL"] == "fatal"
        signal.signal(signal.SIGTERM, signal.SIG_IGN)

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.delenv("RAY_BACKEND_LOG_LEVEL", raising=False)
    with joined("local", node=Node(cpus=2, memory=1000)):
        assert signal.getsignal(signal.SIGTERM) == handler
        assert context.wait_for_min_actors_s == session.SECONDS_TO_START
        assert all(each.level > logging.CRITICAL for each in console)
        print("this is discarded, as what Ray prints is")
    assert [each.level for each in console] == levels
    assert context.wait_for_min_actors_s == waiting
    assert "RAY_BACKEND_LOG_LEVEL" not in os.environ


def test_a_signal_while_ray_starts_ends_the_process_as_at_any_other_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Ray's handler made 15 the exit code of the command."""

    class Ended(BaseException):
        pass

    def end(*_: object) -> None:
        raise Ended

    def init(**_: object) -> None:
        signal.signal(number, lambda n, _: sys.exit(n))
        signal.raise_signal(number)

    number = getattr(signal, "SIGBREAK", signal.SIGTERM)
    before = signal.signal(number, end)
    try:
        monkeypatch.setattr(ray, "init", init)
        with pytest.raises(Ended), joined("local"):
            pass
        assert signal.getsignal(number) is end
    finally:
        signal.signal(number, before)


@pytest.mark.slow
def test_with_quiet_nothing_is_printed(tmp_path: Path, tiny_bpe_path: Path) -> None:
    source, target = tmp_path / "in.jsonl", tmp_path / "out"
    source.write_text("".join(json.dumps({"prompt": f"the {i}"}) + "\n" for i in range(5)))
    given = [source, target, "-m", tiny_bpe_path, "--ray", "local", "--max-new-tokens", "2", "-q"]
    command = [sys.executable, "-m", "localgen", "batch", *map(str, given), "--n-ctx", "64"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
