"""Record watermarks.json: what transformers' watermark and detector do; run by hand, never in CI.

It needs what make_parity.py needs, and takes two minutes:

    python -m tests.real.make_watermarks [--source MODEL.gguf] [--out watermarks.json]
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import LlamaConfig, WatermarkDetector, WatermarkingConfig

from tests.real.make_guidance import load
from tests.real.make_parity import PROMPTS, Recorder, dump, find_source, margins_of

N_VOCAB = 300
SIZES = (1, 2, 7, 300, 49152, 151936)
SEEDS = (0, 1, 15485863, 2**32 + 5, 2**63 + 5, 2**64 - 2)
CONFIGS: tuple[dict[str, Any], ...] = (
    {},
    {"hashing_key": 7, "context_width": 4, "bias": -1.5},
    {"seeding_scheme": "selfhash", "greenlist_ratio": 0.5},
    {"seeding_scheme": "selfhash", "context_width": 3, "hashing_key": 2**61 + 11, "bias": 1.3},
)
TEXTS: tuple[tuple[str, dict[str, Any], dict[str, Any]], ...] = (
    ("story", {"bias": 2.5}, {}),
    ("python", {"seeding_scheme": "selfhash", "bias": 2.5}, {}),
    ("fact", {"seeding_scheme": "selfhash", "context_width": 3, "bias": 4.0}, {}),
    ("chat", {"bias": 1.0, "greenlist_ratio": 0.5}, {"repetition_penalty": 1.2}),
)


def permutation(n: int, seed: int) -> dict[str, Any]:
    """Record the first numbers of a permutation, and a sum over all of them."""
    generator = torch.Generator().manual_seed(seed)
    found = torch.randperm(n, generator=generator)
    return {
        "n": n,
        "seed": seed,
        "first": found[:8].tolist(),
        "weighted_sum": int((found * torch.arange(n)).sum()),
    }


def mark(config: dict[str, Any], number: int) -> dict[str, Any]:
    """Record which of the logits of a row are raised; the test makes the same row."""
    random = np.random.RandomState(number)
    tokens = random.randint(0, N_VOCAB, 6)
    scores = random.standard_normal(N_VOCAB).astype(np.float32)
    process = WatermarkingConfig(**config).construct_processor(N_VOCAB, "cpu")
    marked = process(torch.tensor(tokens[None]), torch.tensor(scores[None]))[0].numpy()
    return {"config": config, "number": number, "raised": np.flatnonzero(marked != scores).tolist()}


def detection(config: dict[str, Any], ids: Any, n_vocab: int, **options: Any) -> dict[str, Any]:
    """Record all that a detector says of rows of token ids."""
    model_config = LlamaConfig(vocab_size=n_vocab, bos_token_id=1)
    detect = WatermarkDetector(model_config, "cpu", WatermarkingConfig(**config), **options)
    found = detect(torch.tensor(ids), return_dict=True)
    result = {name: getattr(found, name).tolist() for name in found.__dataclass_fields__}
    return {"config": config, "ids": ids, "options": options, "found": result}


def text(recorder: Recorder, prompt: str, config: Any, options: Any) -> dict[str, Any]:
    """Record a greedy text with a watermark, and what the detector says of it."""
    ids, new_ids, result = recorder.one(
        PROMPTS[prompt],
        max_new_tokens=64,
        watermarking_config=WatermarkingConfig(**config),
        **options,
    )
    return {
        "prompt": prompt,
        "prompt_ids": ids,
        "options": options,
        "new_ids": new_ids,
        "margins": margins_of(result.scores),
        "detection": detection(config, [new_ids], recorder.model.config.vocab_size),
    }


def main() -> None:
    """Read the arguments, record and write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", type=Path, default=None, help="the quantized GGUF file")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("watermarks.json"))
    args = parser.parse_args()
    random = np.random.RandomState(0)
    rows = random.randint(2, 12, (3, 40)).tolist()
    with_bos = [[1, *row] for row in rows]
    with tempfile.TemporaryDirectory() as folder:
        recorder = load(args.source or find_source(), Path(folder))
        data = {
            "permutations": [permutation(n, seed) for n in SIZES for seed in SEEDS],
            "marks": [mark(config, number) for config in CONFIGS for number in range(3)],
            "detections": [
                detection(config, ids, N_VOCAB, ignore_repeated_ngrams=once)
                for config in CONFIGS
                for ids in (rows, with_bos)
                for once in (False, True)
            ],
            "texts": [text(recorder, *each) for each in TEXTS],
        }
    args.out.write_text(dump(data), encoding="ascii")


if __name__ == "__main__":
    main()
