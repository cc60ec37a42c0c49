"""A draft model on real weights: SmolLM2, and the same model at a coarser level to draft for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from localgen import LocalModel
from localgen.engine import pass_costs
from tests.cli.test_generate import localgen_command
from tests.real.test_prompt_lookup import COUNTING, IN_TWOS

pytestmark = pytest.mark.real


def test_drafts_save_passes(
    smollm2: LocalModel, coarse_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All passes cost the same here: whether drafts pay on this machine must not matter."""
    monkeypatch.setattr(pass_costs.PassCosts, "seconds", lambda self, n_tokens: 1.0)
    prompts = [COUNTING, IN_TWOS]
    plain = smollm2.complete(prompts, max_new_tokens=10)
    drafted = smollm2.complete(prompts, max_new_tokens=10, assistant_model=str(coarse_path))
    assert [each.text for each in drafted] == [each.text for each in plain]
    for each in drafted:
        assert each.stats.n_accepted > 0
        assert each.stats.n_passes == each.stats.n_new - each.stats.n_accepted


def test_the_command(smollm2: LocalModel, coarse_path: Path) -> None:
    expected = smollm2.complete(COUNTING, max_new_tokens=10).text
    args = ("--draft", coarse_path, "--max-new-tokens", "10", "--no-do-sample", "--n-threads", "1")
    done = localgen_command("generate", COUNTING, "-m", "smollm2", *args, "--n-ctx", "512")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{expected}\n", "")
