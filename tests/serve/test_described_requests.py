"""Requests that schemathesis makes of the OpenAPI document, right and wrong ones, against a tiny
model: no answer is a 500, and each is as the document says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from models.make_tiny import make_llama_bpe
from tests.serve.clients.tool_model import TEMPLATE
from tests.serve.processes import server

pytest.importorskip("schemathesis")
pytestmark = pytest.mark.slow

CONFIG = Path(__file__).with_name("schemathesis.toml")
# Each field at the edges of its schema, and then random requests.
BOUNDS = ["--phases", "coverage,fuzzing", "--max-time", "35", "--seed", "1"]


def test_answers_are_as_the_document_says(tmp_path: Path) -> None:
    model = tmp_path / "tiny.gguf"
    make_llama_bpe(model, chat_template=TEMPLATE.read_text("utf-8"))
    options = ["--port", "0", "--n-ctx", "1024", "--n-threads", "1", "--request-timeout", "5"]
    with server("-m", "localgen", "serve", f"tiny={model}", "--no-access-log", *options) as tiny:
        done = subprocess.run(
            [
                *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIG), "run"),
                *(f"{tiny.url}/openapi.json", "--no-color", *BOUNDS),
            ],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-10_000:] + done.stderr[-2000:]
        assert tiny.get("/health").json() == {"status": "ok"}
