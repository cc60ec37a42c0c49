"""A server in this process: its client needs no socket."""

from __future__ import annotations

import json
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


def chunks_of(text: str) -> list[Any]:
    """The data of each event; the last one must be the mark of a whole stream."""
    lines = text.split("\n\n")
    assert lines[-2:] == ["data: [DONE]", ""]
    return [json.loads(line.removeprefix("data: ")) for line in lines[:-2]]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """``serve(model, **config)`` returns a client of a server of one model, named "fake"."""
    with ExitStack() as stack:

        def start(model: Any, **config: Any) -> TestClient:
            app = create_app(pool_of(model), ServeConfig(**config))
            client = TestClient(app, base_url="http://127.0.0.1:8080")
            return stack.enter_context(client)

        yield start
