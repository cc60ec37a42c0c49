"""``localgen serve`` with SmolLM2, whose chat template here shows tools, for real clients."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette")
pytest.importorskip("openai")

import openai

from tests.real.conftest import N_THREADS, smollm2_path  # noqa: F401
from tests.serve.clients.tool_model import write_tool_model
from tests.serve.processes import server

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
    options = ["--port", "0", "--n-ctx", "2048", "--max-sequences", "4", "--no-access-log"]
    if N_THREADS is not None:
        options += ["--n-threads", str(N_THREADS)]
    with server("-m", "localgen", "serve", f"{NAME}={tool_model_path}", *options) as started:
        yield started.url


@pytest.fixture(scope="session")
def base_url(origin: str) -> str:
    return f"{origin}/v1"


@pytest.fixture(scope="session")
def model() -> str:
    return NAME


@pytest.fixture(scope="session")
def client(base_url: str) -> Iterator[Any]:
    with openai.OpenAI(base_url=base_url, api_key="none", max_retries=0, timeout=120) as client:
        yield client
