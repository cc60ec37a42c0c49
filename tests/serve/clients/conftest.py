"""A server on loopback with SmolLM2, which its chat template tells of tools, for real clients."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest
import uvicorn

from localgen import LocalModel
from localgen.serve.app import create_app
from localgen.serve.config import ServeConfig
from tests.real.conftest import N_THREADS, smollm2_path  # noqa: F401
from tests.serve.clients.tool_model import write_tool_model
from tests.serve.pools import pool_of

NAME = "smollm2"


@pytest.fixture(scope="session")
def tool_model_path(
    smollm2_path: Path,  # noqa: F811
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    path = tmp_path_factory.mktemp("tools") / "smollm2-tools.gguf"
    write_tool_model(smollm2_path, path)
    return path


@pytest.fixture(scope="session")
def origin(tool_model_path: Path) -> Iterator[str]:
    """The server's address, such as http://127.0.0.1:40000."""
    with (
        LocalModel.from_pretrained(
            tool_model_path, n_ctx=2048, max_sequences=4, n_threads=N_THREADS
        ) as model,
        socket.socket() as listening,
    ):
        listening.bind(("127.0.0.1", 0))
        app = create_app(pool_of(model, NAME), ServeConfig(access_log=False))
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        try:
            while not server.started:
                time.sleep(0.01)
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture(scope="session")
def base_url(origin: str) -> str:
    return f"{origin}/v1"


@pytest.fixture(scope="session")
def model() -> str:
    return NAME


@pytest.fixture(scope="session")
def client(base_url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=base_url, api_key="none", max_retries=0, timeout=120) as client:
        yield client
