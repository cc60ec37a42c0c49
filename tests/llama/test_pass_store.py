"""What passes took is kept with a model, and broken files are ignored."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from localgen import ModelConfig
from localgen.llama.backend import LlamaBackend


@pytest.mark.slow
def test_a_closed_model_keeps_what_passes_took(
    tiny_bpe_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same settings read it again; others, and damaged files, start without."""
    monkeypatch.setenv("LOCALGEN_PROFILES", str(tmp_path))
    config = ModelConfig(n_ctx=512, n_threads=1)
    with closing(LlamaBackend(tiny_bpe_path, config)) as backend:
        guessed = backend.pass_costs.seconds(8)
        for _ in range(4):
            backend.pass_costs.measured(1, 1.0)
            backend.pass_costs.measured(8, 1.25)
    with closing(LlamaBackend(tiny_bpe_path, config)) as backend:
        assert backend.pass_costs.seconds(8) == pytest.approx(1.25)
    other = ModelConfig(n_ctx=512, n_threads=1, flash_attention="on")
    with closing(LlamaBackend(tiny_bpe_path, other)) as backend:
        assert backend.pass_costs.seconds(8) == guessed
    (kept,) = tmp_path.rglob("passes-*.json")
    kept.write_text(kept.read_text("utf-8").replace("1.25", "-1"), "utf-8")
    with closing(LlamaBackend(tiny_bpe_path, config)) as backend:
        assert backend.pass_costs.seconds(8) == guessed
