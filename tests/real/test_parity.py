"""localgen on F16 weights against what transformers did with the same weights in float32.

parity.json holds transformers' tokens, log-probabilities and, for each step, the margin between
its two best scores. Where the margin is small, rounding decides, and the texts part for good: so
tokens are compared up to the first such step.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from localgen import Completion, LocalModel

pytestmark = pytest.mark.real

RECORDED = json.loads(Path(__file__).with_name("parity.json").read_text("utf-8"))
NAMES = [entry["name"] for entry in RECORDED["greedy"]]
VARIANTS = [entry["name"] for entry in RECORDED["variants"]]
EOS = RECORDED["eos_token_id"]
PAD = RECORDED["pad_token_id"]
N_NEW = 48

SURE = 0.05  # logits: F16 arithmetic is off by a tenth of this
CLOSE = 0.03  # log-probability


def n_sure(margins: list[float]) -> int:
    """How many steps come before the first one that rounding could decide."""
    return next((step for step, margin in enumerate(margins) if margin < SURE), len(margins))


def assert_same_tokens(ids: list[int], expected: list[int], margins: list[float]) -> None:
    """Equal up to the first doubtful step; all the way, and of one length, if there is none."""
    n = n_sure(margins)
    assert ids[:n] == expected[:n]
    if n == len(margins):
        assert len(ids) == len(expected)


@pytest.fixture(scope="module")
def greedy(f16: LocalModel) -> dict[str, Completion]:
    """The greedy continuation of every recorded prompt, all in one ragged batch."""
    done = f16.complete(
        [entry["prompt_ids"] for entry in RECORDED["greedy"]],
        max_new_tokens=N_NEW,
        eos_token_id=EOS,
        logprobs=0,
    )
    return dict(zip(NAMES, done, strict=True))


@pytest.mark.parametrize("entry", RECORDED["greedy"], ids=NAMES)
def test_greedy_tokens(greedy: dict[str, Completion], entry: dict[str, Any]) -> None:
    """Weights, positions, KV cache and argmax together give transformers' tokens."""
    assert_same_tokens(greedy[entry["name"]].token_ids, entry["new_ids"], entry["margins"])


@pytest.mark.parametrize("entry", RECORDED["greedy"], ids=NAMES)
def test_greedy_logprobs(greedy: dict[str, Completion], entry: dict[str, Any]) -> None:
    """The distribution itself agrees, not only its maximum: greedy tokens hide a scaled logit."""
    n = n_sure(entry["margins"])
    steps = greedy[entry["name"]].logprobs
    assert steps is not None
    got = [step.logprob for step in steps[:n]]
    np.testing.assert_allclose(got, entry["logprobs"][:n], rtol=0, atol=CLOSE)


@pytest.mark.parametrize("entry", RECORDED["greedy"], ids=NAMES)
def test_greedy_text(greedy: dict[str, Completion], entry: dict[str, Any]) -> None:
    """The text is transformers' text of the same tokens, without the end token."""
    done = greedy[entry["name"]]
    if done.token_ids != entry["new_ids"]:
        pytest.skip("rounding decided one of the tokens, so the texts differ")
    ended = entry["new_ids"][-1] in EOS
    # A character that the last token only began is left out here and U+FFFD there.
    expected = entry["text"].removesuffix("<|im_end|>") if ended else entry["text"].rstrip("\ufffd")
    assert done.text == expected
    assert done.finish_reason == ("eos" if ended else "length")


def test_one_prompt_alone(f16: LocalModel) -> None:
    """generate() for one unpadded prompt: the prompt, then transformers' tokens, EOS included."""
    entry = RECORDED["greedy"][NAMES.index("chat_short")]
    out = f16.generate([entry["prompt_ids"]], max_new_tokens=N_NEW, eos_token_id=EOS)
    assert out.tolist() == [entry["prompt_ids"] + entry["new_ids"]]


@pytest.mark.parametrize("name", ["batch", "batch_penalty"])
def test_padded_batch(f16: LocalModel, name: str) -> None:
    """Rows padded on the left, ending at different steps: the whole matrix as transformers' is."""
    record = RECORDED[name]
    expected = np.array(record["sequences"])
    width = record["width"]
    out = f16.generate(
        expected[:, :width],
        record["attention_mask"],
        eos_token_id=EOS,
        pad_token_id=PAD,
        **record["options"],
    )
    assert out.dtype == np.int64
    np.testing.assert_array_equal(out[:, :width], expected[:, :width])
    for row, margins in enumerate(record["margins"]):
        n = len(margins)
        new, expected_new = out[row, width:].tolist(), expected[row, width:].tolist()
        assert_same_tokens(new[:n], expected_new[:n], margins)
        if n_sure(margins) == n:
            assert set(new[n:]) <= {PAD}


@pytest.mark.parametrize("entry", RECORDED["variants"], ids=VARIANTS)
def test_option(f16: LocalModel, entry: dict[str, Any]) -> None:
    """Each greedy option means what it means in transformers; the prompts make each one bite."""
    prompt = entry["prompt_ids"]
    options = {"eos_token_id": EOS, **entry["options"]}
    out = f16.generate([prompt], **options)
    assert out[0, : len(prompt)].tolist() == prompt
    assert_same_tokens(out[0, len(prompt) :].tolist(), entry["new_ids"], entry["margins"])


@pytest.mark.parametrize("entry", RECORDED["variants"], ids=VARIANTS)
def test_options_change_the_output(entry: dict[str, Any]) -> None:
    """A recorded variant that equals the plain output, or parts from it late, proves nothing."""
    plain = next(plain for plain in RECORDED["greedy"] if plain["name"] == entry["prompt"])
    n = n_sure(entry["margins"])
    expected = plain["new_ids"][: entry["options"].get("max_new_tokens")]
    same_end = len(entry["new_ids"]) == len(expected)
    assert entry["new_ids"][:n] != expected[:n] or not same_end


def test_score(f16: LocalModel) -> None:
    """score() is the log-softmax of the logits one position earlier, as transformers has them."""
    record = RECORDED["score"]
    logprobs = f16.score(record["text"])
    assert logprobs.dtype == np.float32
    np.testing.assert_allclose(logprobs, record["logprobs"], rtol=0, atol=CLOSE)
    np.testing.assert_array_equal(f16.score(record["ids"]), logprobs)
