"""Record guidance.json: what guidance_scale does in transformers, on F16 weights of the test model.

It needs what make_parity.py needs, and takes a minute:

    python -m tests.real.make_guidance [--source MODEL.gguf] [--out guidance.json]
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.real.make_parity import PROMPTS, Recorder, dump, find_source, make_f16, margins_of

NEW_TOKENS = 32
NEGATIVE = {
    "happy": "A very happy event happened,",
    "polite": "<|im_start|>system\nYou are polite.<|im_end|>\n" + PROMPTS["chat"],
}
# name, prompt, negative prompt, options
CASES: tuple[tuple[str, str, str | None, dict[str, Any]], ...] = (
    ("no_negative_prompt", "fact", None, {"guidance_scale": 1.5}),
    ("long_prompt", "long", None, {"guidance_scale": 2.0}),
    ("negative_prompt", "story", "happy", {"guidance_scale": 2.0}),
    ("strong", "story", "happy", {"guidance_scale": 4.0}),
    ("below_one", "story", "happy", {"guidance_scale": 0.5}),
    ("zero_follows_the_other", "story", "happy", {"guidance_scale": 0.0}),
    ("below_zero", "german", "happy", {"guidance_scale": -0.5}),
    ("chat", "chat", "polite", {"guidance_scale": 3.0}),
    ("one_token", "one_token", None, {"guidance_scale": 1.5}),
    (
        "with_processors",
        "story",
        "happy",
        {"guidance_scale": 1.5, "repetition_penalty": 1.3, "no_repeat_ngram_size": 3},
    ),
    ("until_the_end", "chat_short", "polite", {"guidance_scale": 1.2}),
)
BATCH = ("fact", "python", "german")
BATCH_NEGATIVE = ("A", "print('hello')\n" * 3, "Paris is the capital")


def case(recorder: Recorder, name: str, prompt: str, negative: str | None, options: Any) -> Any:
    """Record one greedy call, its margins taken on the scores after guidance."""
    ids = recorder.encode(NEGATIVE[negative]) if negative else None
    given = {} if ids is None else {"negative_prompt_ids": torch.tensor([ids])}
    prompt_ids, new_ids, result = recorder.one(
        PROMPTS[prompt], max_new_tokens=NEW_TOKENS, **options, **given
    )
    return {
        "name": name,
        "prompt_ids": prompt_ids,
        "negative_ids": ids,
        "options": options,
        "new_ids": new_ids,
        "text": recorder.tokenizer.decode(new_ids),
        "margins": margins_of(result.scores),
    }


def batch(recorder: Recorder) -> dict[str, Any]:
    """Record a padded batch with padded negative prompts, one each."""
    pad = {"padding": True, "padding_side": "left", "return_tensors": "pt"}
    inputs = recorder.tokenizer([PROMPTS[name] for name in BATCH], **pad)
    negative = recorder.tokenizer(list(BATCH_NEGATIVE), **pad)
    result = recorder.generate(
        **inputs,
        negative_prompt_ids=negative["input_ids"],
        negative_prompt_attention_mask=negative["attention_mask"],
        guidance_scale=1.5,
        max_new_tokens=12,
    )
    return {
        "input_ids": inputs["input_ids"].tolist(),
        "attention_mask": inputs["attention_mask"].tolist(),
        "negative_prompt_ids": negative["input_ids"].tolist(),
        "negative_prompt_attention_mask": negative["attention_mask"].tolist(),
        "sequences": result.sequences.tolist(),
        "margins": [margins_of(result.scores, row) for row in range(len(BATCH))],
    }


def load(source: Path, folder: Path) -> Recorder:
    """Load the F16 weights made from the source in transformers."""
    weights = folder / "model-f16.gguf"
    make_f16(source, weights)
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=weights.name)
    model = AutoModelForCausalLM.from_pretrained(
        folder, gguf_file=weights.name, dtype=torch.float32
    )
    return Recorder(model.eval(), tokenizer)


def main() -> None:
    """Read the arguments, record and write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", type=Path, default=None, help="the quantized GGUF file")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("guidance.json"))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        recorder = load(args.source or find_source(), Path(folder))
        cases = [case(recorder, *each) for each in CASES]
        data = {"cases": cases, "batch": batch(recorder)}
    args.out.write_text(dump(data), encoding="ascii")


if __name__ == "__main__":
    main()
