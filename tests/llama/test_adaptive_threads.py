"""Adaptive threads on a real context: results do not depend on them; a given number stays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from localgen import LocalModel, ModelConfig
from localgen.llama import adaptive_threads
from localgen.llama.backend import LlamaBackend


class Restless:
    """Another number of threads for each pass."""

    def __init__(self, most: int, n_passes: int = 3) -> None:
        self._most = self._next = most

    def threads_for(self, _n_tokens: int) -> int:
        return self._next

    def note(self, _n_tokens: int, _seconds: float, _cpu_seconds: float) -> None:
        self._next = self._next % self._most + 1


@pytest.mark.parametrize("deterministic", [False, True])
def test_results_do_not_depend_on_the_threads(
    deterministic: bool, tiny_bpe_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bit by bit, for a long prompt and for each step after it, without flash attention."""
    monkeypatch.setattr(adaptive_threads, "ThreadController", Restless)
    monkeypatch.setattr("localgen._util.system.usable_cpus", lambda: 3)
    options: dict[str, Any] = {
        "n_ctx": 512, "deterministic": deterministic, "flash_attention": "off", "device": "cpu",
    }  # fmt: skip
    logits, threads = [], []
    for n_threads in (1, 2, None):
        with LocalModel.from_pretrained(tiny_bpe_path, n_threads=n_threads, **options) as model:
            out = model.generate(
                [[40 + i % 50 for i in range(100)]], max_new_tokens=11, min_new_tokens=11,
                do_sample=False, return_dict_in_generate=True, output_logits=True,
            )  # fmt: skip
        logits.append(b"".join(step.tobytes() for step in out.logits))
        threads.append(out.stats[0].n_threads)
    assert logits[0] == logits[1] == logits[2]
    # The prompt had the first of the long passes; ten short ones were 3, 1, 2, and so on.
    assert threads == [1, 2, 3]


@pytest.mark.parametrize(("n_threads", "adapts"), [(2, True), (None, False)])
def test_the_number_is_fixed_where_it_was_given_and_in_what_is_compared(
    n_threads: int | None, adapts: bool, tiny_bpe_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adaptive_threads, "ThreadController", None)
    monkeypatch.setattr("localgen._util.system.usable_cpus", lambda: 2)
    config = ModelConfig(n_ctx=512, n_threads=n_threads, device="cpu")
    backend = LlamaBackend(tiny_bpe_path, config, adapts=adapts)
    assert backend.pass_threads == 2
    backend.close()


@pytest.mark.parametrize(("n_threads", "n_idle"), [(1, 3), (4, 0), (9, 0), (None, 0)])
def test_a_pass_leaves_those_cpus_idle_that_it_does_not_use(
    n_threads: int | None, n_idle: int, tiny_bpe_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("localgen._util.system.usable_cpus", lambda: 4)
    config = ModelConfig(n_ctx=512, n_threads=n_threads, device="cpu")
    backend = LlamaBackend(tiny_bpe_path, config)
    assert backend.idle_cpus == n_idle
    monkeypatch.setattr(LlamaBackend, "uses_gpu", True)
    assert backend.idle_cpus == 3
    backend.close()
