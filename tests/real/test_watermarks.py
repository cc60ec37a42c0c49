"""Watermarked texts on F16 weights against transformers' on the same weights in float32.

watermarks.json holds transformers' tokens, margins as in parity.json, and what its detector says;
make_watermarks.py records it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from localgen import LocalModel, WatermarkDetector

pytestmark = pytest.mark.real

RECORDED = json.loads(Path(__file__).with_name("watermarks.json").read_text("utf-8"))
SURE = 0.05  # logits: F16 arithmetic is off by a tenth of this


@pytest.mark.parametrize("entry", RECORDED["texts"], ids=lambda entry: entry["prompt"])
def test_watermarked_tokens(f16: LocalModel, entry: dict[str, Any]) -> None:
    prompt, config = entry["prompt_ids"], entry["detection"]["config"]
    out = f16.generate(
        [prompt],
        watermarking_config=config,
        max_new_tokens=len(entry["new_ids"]),
        **entry["options"],
    )
    new, margins = out[0, len(prompt) :].tolist(), entry["margins"]
    n = next((step for step, margin in enumerate(margins) if margin < SURE), len(margins))
    assert new[:n] == entry["new_ids"][:n]
    detect = WatermarkDetector(f16.config, "cpu", config)
    found = detect([entry["new_ids"]], return_dict=True)
    expected = entry["detection"]["found"]
    assert found.z_score.tolist() == pytest.approx(expected["z_score"])
    assert found.prediction.tolist() == expected["prediction"]


def test_a_text_without_the_mark(f16: LocalModel) -> None:
    """The plain continuation of a prompt whose marked one was found."""
    entry = RECORDED["texts"][0]
    assert entry["detection"]["found"]["prediction"] == [True]
    done = f16.complete([entry["prompt_ids"]], max_new_tokens=64)
    detect = WatermarkDetector(f16.config, "cpu", entry["detection"]["config"])
    assert detect([done[0].token_ids]).tolist() == [False]
