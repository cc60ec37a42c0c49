"""A server process whose model takes its time: ``python -m tests.serve.slow_server JSON``.

The JSON has the fields of ServeConfig, and "pass_seconds": how long each forward pass takes;
"head_seconds", "unread_seconds": limits of a connection; "n_files": how many the process may open.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

from localgen.serve import protocol
from localgen.serve.config import ServeConfig
from localgen.serve.listening import listen
from localgen.serve.run import log_to_stderr, serve_on
from tests.fakes import FakeBackend, fake_model
from tests.serve.pools import pool_of

FAILS_AT = "fail now"


class PacedBackend(FakeBackend):
    """A FakeBackend at the pace of a real model. A prompt with FAILS_AT makes its pass fail."""

    def __init__(self, pass_seconds: float) -> None:
        super().__init__()
        self._pass_seconds = pass_seconds

    def decode(self, batch: Any, should_stop: Callable[[], bool] | None = None) -> Any:
        time.sleep(self._pass_seconds)
        if FAILS_AT in bytes(token for token in batch.token_ids if token < 256).decode("latin-1"):
            raise RuntimeError("bug at /secret/path")
        return super().decode(batch, should_stop)


def limit_files(n_files: int) -> None:
    """Let this process open no more files."""
    assert sys.platform != "win32"
    import resource  # Windows has none

    resource.setrlimit(resource.RLIMIT_NOFILE, (n_files, n_files))


def main() -> None:
    given: dict[str, Any] = json.loads(sys.argv[1])
    protocol.HEAD_SECONDS = given.pop("head_seconds", protocol.HEAD_SECONDS)
    protocol.UNREAD_SECONDS = given.pop("unread_seconds", protocol.UNREAD_SECONDS)
    if (n_files := given.pop("n_files", None)) is not None:
        limit_files(n_files)
    model = fake_model(backend=PacedBackend(given.pop("pass_seconds", 0.0)), n_ctx=100_000)
    config = ServeConfig(port=0, **given)
    log_to_stderr()
    with listen(config.host, config.port) as listener:
        serve_on(listener, pool_of(model), config, lambda url: print(url, flush=True))


if __name__ == "__main__":
    main()
