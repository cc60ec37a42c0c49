"""The detector says what transformers' detector says, and finds what localgen marks."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from localgen import WatermarkDetector, WatermarkingConfig
from tests.fakes import fake_model

RECORDED = json.loads((Path(__file__).parent / "real" / "watermarks.json").read_text())
CONFIG = SimpleNamespace(vocab_size=300, bos_token_id=1)


@pytest.mark.parametrize("each", RECORDED["detections"])
def test_transformers_detector(each: dict[str, Any]) -> None:
    detect = WatermarkDetector(CONFIG, "cpu", each["config"], **each["options"])
    found = detect(np.array(each["ids"]), return_dict=True)
    for name, expected in each["found"].items():
        np.testing.assert_allclose(getattr(found, name), expected, rtol=1e-12)
    assert detect(each["ids"]).tolist() == each["found"]["prediction"]


@pytest.mark.parametrize(
    ("scheme", "repeated", "expected"),
    [("lefthash", False, 8), ("lefthash", True, 4), ("selfhash", False, 9), ("selfhash", True, 4)],
)
def test_which_tokens_count(scheme: str, repeated: bool, expected: int) -> None:
    """Of ten tokens after BOS: those after two others, or with "selfhash" after one. Four of their
    n-grams differ."""
    config = WatermarkingConfig(context_width=2, seeding_scheme=scheme)
    detect = WatermarkDetector(CONFIG, "cpu", config, ignore_repeated_ngrams=repeated)
    found = detect([[1, 9, *[5, 6, 7] * 3]], return_dict=True)
    assert found.num_tokens_scored.tolist() == [expected]


@pytest.mark.parametrize("scheme", ["lefthash", pytest.param("selfhash", marks=pytest.mark.slow)])
def test_it_finds_what_was_marked(scheme: str) -> None:
    """Rows with the watermark, rows without, and rows with one of another key."""
    model = fake_model()
    config = WatermarkingConfig(bias=20.0, seeding_scheme=scheme)
    prompts, width = [[65, 66], [67, 68]], 2
    detect = WatermarkDetector(model.config, "cpu", config)

    def new(**options: Any) -> Any:
        return model.generate(prompts, max_new_tokens=80, **options)[:, width:]

    assert detect(new(watermarking_config=config)).tolist() == [True, True]
    assert detect(new()).tolist() == [False, False]
    other = WatermarkingConfig(bias=20.0, seeding_scheme=scheme, hashing_key=3)
    assert detect(new(watermarking_config=other)).tolist() == [False, False]
    assert detect(new(watermarking_config=other), z_threshold=-99.0).all()


def test_in_the_text_api() -> None:
    model = fake_model()
    config = {"bias": 20.0}
    done = model.complete("ab", watermarking_config=config, max_new_tokens=80, seed=1)
    detect = WatermarkDetector(model.config, watermarking_config=config)
    assert detect([done.token_ids]).all()


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([1, 2], r"integers \(rows, length\)"),
        ([[0.5, 1.0]], "integers"),
        ([[5, 400]], "token id 400 is outside the vocabulary"),
        ([[1, 5, 6], [5, 6, 7]], "begin with BOS in some rows and not in others"),
        ([[1, 5]], "more than context_width=1 tokens after BOS, got 1"),
    ],
)
def test_bad_ids(ids: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        WatermarkDetector(CONFIG, "cpu", WatermarkingConfig())(ids)


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="device must be 'cpu', got 'cuda'"):
        WatermarkDetector(CONFIG, "cuda", WatermarkingConfig())
    with pytest.raises(TypeError, match="needs the watermarking_config"):
        WatermarkDetector(CONFIG, "cpu")
    with pytest.raises(ValueError, match="vocab_size must be an integer, got None"):
        WatermarkDetector(object(), "cpu", {"bias": 1.0})
