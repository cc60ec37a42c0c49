"""A server in this process: its client needs no socket."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

pytest.importorskip("starlette")

from starlette.testclient import TestClient

from localgen.serve.app import create_app
from localgen.serve.config import ServeConfig
from tests.serve.pools import pool_of

Serve = Callable[..., TestClient]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """``serve(model, **config)`` returns a client of a server of one model, named "fake"."""
    with ExitStack() as stack:

        def start(model: Any, **config: Any) -> TestClient:
            app = create_app(pool_of(model), ServeConfig(**config))
            client = TestClient(app, base_url="http://127.0.0.1:8080")
            return stack.enter_context(client)

        yield start
