"""Beams on F32 weights against what transformers found with the same weights.

beams.json holds transformers' texts, scores and, for each case, the smallest gap between two scores
that decided anything. All cases run together, from threads: nothing may depend on the neighbours.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from localgen import GenerateBeamOutput, LocalModel
from localgen.llama.library import llama
from tests.real.conftest import N_THREADS

pytestmark = pytest.mark.real

CASES = json.loads(Path(__file__).with_name("beams.json").read_text("utf-8"))["cases"]
ALL_F32 = 0  # llama.h's LLAMA_FTYPE_ALL_F32
SURE = 1e-3  # where the gap is larger, rounding decides nothing
CLOSE = 2e-3


@pytest.fixture(scope="module")
def f32(smollm2_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalModel]:
    """The weights as make_beams.py makes them, and a KV cache as exact as transformers'."""
    path = tmp_path_factory.mktemp("f32") / "model-f32.gguf"
    params = llama().llama_model_quantize_default_params()
    params.allow_requantize = True
    params.ftype = ALL_F32
    assert llama().llama_model_quantize(bytes(smollm2_path), bytes(path), params) == 0
    with LocalModel.from_pretrained(
        path, device="cpu", kv_type="f32", max_sequences=64, n_threads=N_THREADS
    ) as model:
        yield model
    path.unlink()


@pytest.fixture(scope="module")
def found(f32: LocalModel) -> dict[str, GenerateBeamOutput]:
    """What localgen finds in each case."""

    def run(case: dict[str, Any]) -> GenerateBeamOutput:
        options = {"eos_token_id": 2, "pad_token_id": 2, **case["options"]}
        output: GenerateBeamOutput = f32.generate(
            case["input_ids"],
            case["attention_mask"],
            return_dict_in_generate=True,
            output_scores=True,
            **options,
        )
        return output

    with ThreadPoolExecutor(len(CASES)) as threads:
        return dict(zip([case["name"] for case in CASES], threads.map(run, CASES), strict=True))


def test_most_cases_are_sure() -> None:
    assert sum(case["gap"] > SURE for case in CASES) >= 24


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_beams(f32: LocalModel, found: dict[str, GenerateBeamOutput], case: dict[str, Any]) -> None:
    """Texts, their scores, and the beams that each token came from."""
    out = found[case["name"]]
    np.testing.assert_allclose(out.sequences_scores, case["sequences_scores"], rtol=0, atol=CLOSE)
    if case["gap"] <= SURE:
        pytest.skip("rounding may have decided")
    np.testing.assert_array_equal(out.sequences, case["sequences"])
    np.testing.assert_array_equal(out.beam_indices, case["beam_indices"])
    transitions = f32.compute_transition_scores(out.sequences, out.scores, out.beam_indices)
    np.testing.assert_allclose(transitions, case["transition_scores"], rtol=0, atol=CLOSE)
