"""guidance_scale on F16 weights against what transformers did with the same weights in float32.

guidance.json holds transformers' tokens and the margin between the two best scores of each step, as
parity.json does; make_guidance.py records it. A scale multiplies what rounding does to the scores.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from localgen import LocalModel

pytestmark = pytest.mark.real

RECORDED = json.loads(Path(__file__).with_name("guidance.json").read_text("utf-8"))
CASES = RECORDED["cases"]
SURE = 0.02  # logits, for each unit of the scale


def assert_same_tokens(
    ids: list[int], expected: list[int], margins: list[float], sure: float
) -> int:
    """Equal up to the first step that rounding could decide; return how many steps that is."""
    n = next((step for step, margin in enumerate(margins) if margin < sure), len(margins))
    assert ids[:n] == expected[:n]
    return n


@pytest.mark.parametrize("entry", CASES, ids=[entry["name"] for entry in CASES])
def test_guided_tokens(f16: LocalModel, entry: dict[str, Any]) -> None:
    prompt, negative = entry["prompt_ids"], entry["negative_ids"]
    out = f16.generate(
        [prompt],
        negative_prompt_ids=None if negative is None else [negative],
        max_new_tokens=len(entry["new_ids"]),
        **entry["options"],
    )
    sure = SURE * max(1.0, 2 * abs(entry["options"]["guidance_scale"]))
    new = out[0, len(prompt) :].tolist()
    assert assert_same_tokens(new, entry["new_ids"], entry["margins"], sure) >= 2


def test_a_padded_batch(f16: LocalModel) -> None:
    """Prompts and negative prompts of different lengths, each padded to its own width."""
    record = RECORDED["batch"]
    names = ("input_ids", "attention_mask", "negative_prompt_ids", "negative_prompt_attention_mask")
    given: dict[str, Any] = {name: np.array(record[name]) for name in names}
    width = given["input_ids"].shape[1]
    out = f16.generate(**given, guidance_scale=1.5, max_new_tokens=12)
    for row, expected, margins in zip(out, record["sequences"], record["margins"], strict=True):
        assert_same_tokens(row[width:].tolist(), expected[width:], margins, 3 * SURE)


def test_guidance_changes_the_output() -> None:
    """The recorded options make a difference: none of the texts is that of another."""
    texts = [entry["text"] for entry in CASES if entry["prompt_ids"] == CASES[2]["prompt_ids"]]
    assert len(texts) == len(set(texts)) > 4
