"""Record warpers.json, what transformers' logits processors do to known logits; never run in CI.

It needs torch and transformers, and no model; run it by hand:

    python tests/real/make_warpers.py [--out warpers.json]

The logits of a case are RandomState(seed).standard_normal(1000).astype(float32) * scale.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.generation import logits_process

SIZE = 1000
SEEDS = range(5)
SCALES = (1.0, 3.0, 8.0)
LISTED = 200
CLOSE = 1e-6
VERSIONED = ("transformers", "torch", "numpy")

HISTORIES = {
    "loops": [5, 17, 5, 17, 23, 5, 17, 5, 17, 42, 999, 0, 0, 5, 17, 5],
    "plain": [12, 7, 301, 640, 88, 951, 430, 77],
    "one": [3],
}

Step = tuple[str, dict[str, Any]]

SINGLE: dict[str, tuple[str, list[Any]]] = {
    "TemperatureLogitsWarper": ("temperature", [0.5, 0.8, 1.3]),
    "TopKLogitsWarper": ("top_k", [1, 5, 40, 1000]),
    "TopPLogitsWarper": ("top_p", [0.1, 0.5, 0.9, 0.95, 0.999]),
    "MinPLogitsWarper": ("min_p", [0.01, 0.05, 0.3]),
    "TypicalLogitsWarper": ("mass", [0.2, 0.9, 0.95]),
    "EpsilonLogitsWarper": ("epsilon", [0.0003, 0.005, 0.2]),
    "EtaLogitsWarper": ("epsilon", [0.0003, 0.004, 0.3]),
    "TopHLogitsWarper": ("top_h", [0.1, 0.4, 0.9]),
}

WITH_HISTORY: list[tuple[Step, str]] = [
    *((("RepetitionPenaltyLogitsProcessor", {"penalty": p}), "loops") for p in (1.1, 1.3, 0.8)),
    *((("NoRepeatNGramLogitsProcessor", {"ngram_size": n}), "loops") for n in (1, 2, 3)),
    *((("NoRepeatNGramLogitsProcessor", {"ngram_size": n}), "one") for n in (1, 2)),
    (("NoRepeatNGramLogitsProcessor", {"ngram_size": 2}), "plain"),
    (
        (
            "NoBadWordsLogitsProcessor",
            {"bad_words_ids": [[9], [5, 100], [17, 5, 200], [23, 5, 300], [2]], "eos_token_id": 2},
        ),
        "loops",
    ),
    (("NoBadWordsLogitsProcessor", {"bad_words_ids": [[4, 3, 8], [3, 6]]}), "one"),
    (
        (
            "SequenceBiasLogitsProcessor",
            {
                "sequence_bias": [
                    [[11], 2.5],
                    [[12], -3.0],
                    [[5, 12], 1.25],
                    [[17, 5, 13], -4.0],
                    [[23, 5, 14], 9.0],
                ]
            },
        ),
        "loops",
    ),
    (("SuppressTokensLogitsProcessor", {"suppress_tokens": [0, 1, 500, 999]}), "plain"),
    *(
        (
            (
                "MinNewTokensLengthLogitsProcessor",
                {"prompt_length_to_skip": 5, "min_new_tokens": count, "eos_token_id": [2, 7]},
            ),
            "plain",
        )
        for count in (3, 4)
    ),
]

CHAINS: list[dict[str, Any]] = [
    {
        "temperature": 0.8,
        "top_k": 40,
        "top_p": 0.95,
        "min_p": 0.05,
        "repetition_penalty": 1.1,
    },
    {"temperature": 1.3, "top_k": 50, "typical_p": 0.9},
    {
        "temperature": 1.2,
        "top_h": 0.6,
        "top_k": 50,
        "top_p": 0.97,
        "epsilon_cutoff": 0.004,
        "eta_cutoff": 0.02,
    },
]


def make_logits(seed: int, scale: float) -> torch.Tensor:
    """Make one row of known logits."""
    values = np.random.RandomState(seed).standard_normal(SIZE).astype(np.float32) * scale
    return torch.from_numpy(values)[None]


def is_close_call(processor: logits_process.LogitsProcessor, scores: torch.Tensor) -> bool:
    """Tell whether rounding could move the cut that a warper makes."""
    logprobs = torch.log_softmax(scores[0].double(), dim=-1)
    logprobs = logprobs[torch.isfinite(logprobs)]
    if isinstance(processor, logits_process.TopHLogitsWarper):
        logprobs = torch.log_softmax(logprobs.sort(descending=True)[0][: processor.top_n], dim=-1)
        terms = -logprobs * logprobs.exp()
        return bool(((terms.cumsum(dim=-1) / terms.sum() - processor.top_h).abs() < CLOSE).any())
    if isinstance(processor, logits_process.EpsilonLogitsWarper | logits_process.EtaLogitsWarper):
        limit = float(processor.epsilon)
        if isinstance(processor, logits_process.EtaLogitsWarper):
            entropy = -(logprobs * logprobs.exp()).sum()
            limit = min(limit, float(limit**0.5 * torch.exp(-entropy)))
        return bool(((logprobs.exp() / limit - 1).abs() < CLOSE).any())
    if isinstance(processor, logits_process.TopPLogitsWarper):
        order, limit = torch.argsort(logprobs), 1 - processor.top_p
    elif isinstance(processor, logits_process.TypicalLogitsWarper):
        entropy = -(logprobs * logprobs.exp()).sum()
        order, limit = torch.argsort((-logprobs - entropy).abs()), processor.mass
    else:
        return False
    sums = logprobs[order].exp().cumsum(dim=-1)
    return bool(((sums - limit).abs() < CLOSE).any())


def build(step: Step) -> logits_process.LogitsProcessor:
    """Make the transformers processor that a recorded step describes."""
    name, args = step
    return getattr(logits_process, name)(**args)


def describe(processor: logits_process.LogitsProcessor) -> Step:
    """Name a processor of a chain and the one argument it was made with."""
    name = type(processor).__name__
    argument = "penalty" if name == "RepetitionPenaltyLogitsProcessor" else SINGLE[name][0]
    value = getattr(processor, argument)
    if isinstance(value, torch.Tensor):  # of a float32, which had few digits
        value = float(f"{value.item():.6g}")
    return name, {argument: value}


def chain_steps(options: dict[str, Any]) -> list[Step]:
    """Ask transformers which processors these options make, in its order."""
    config = LlamaConfig(
        vocab_size=SIZE,
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
    )
    model = LlamaForCausalLM(config)
    generation, _ = model._prepare_generation_config(None, do_sample=True, **options)
    return [describe(processor) for processor in model._get_logits_processor(generation, 1)]


def changes(before: torch.Tensor, after: torch.Tensor) -> dict[str, Any]:
    """List the kept ids whose value changed, or every so many of them when they are many."""
    ids = torch.nonzero((before != after) & torch.isfinite(after)).flatten().tolist()
    if not ids:
        return {}
    shown = ids[:: 1 + len(ids) // LISTED * 10]
    return {
        "changed_count": len(ids),
        "changed": [[i, float(f"{after[i].item():.6g}")] for i in shown],
    }


def outcome(before: torch.Tensor, after: torch.Tensor) -> dict[str, Any]:
    """Describe the kept ids and the changed values of one case."""
    kept = torch.nonzero(after != -torch.inf).flatten().tolist()
    if len(kept) <= LISTED:
        return {"kept": kept, **changes(before, after)}
    removed = torch.nonzero(after == -torch.inf).flatten().tolist()
    return {
        "kept_count": len(kept),
        "kept_sha256": hashlib.sha256(",".join(map(str, kept)).encode()).hexdigest(),
        **({"removed": removed} if len(removed) <= LISTED else {}),
        **changes(before, after),
    }


def run(steps: list[Step], history: str, seed: int, scale: float) -> dict[str, Any] | None:
    """Run the steps on one row of logits, or give nothing for a case too close to call."""
    ids = torch.tensor([HISTORIES[history]])
    before = scores = make_logits(seed, scale)
    for step in steps:
        processor = build(step)
        if is_close_call(processor, scores):
            return None
        scores = processor(ids, scores)
    return {
        "steps": steps,
        "history": history,
        "seed": seed,
        "scale": scale,
        **outcome(before[0], scores[0]),
    }


def plans() -> Iterator[tuple[list[Step], str]]:
    """Give the steps and the history of every case: each processor alone, then the chains."""
    for name, (argument, values) in SINGLE.items():
        for value in values:
            yield [(name, {argument: value})], "plain"
    for step, history in WITH_HISTORY:
        yield [step], history
    for options in CHAINS:
        yield chain_steps(options), "loops"


def record() -> dict[str, Any]:
    """Run every plan on every row of logits."""
    runs = [
        run(steps, history, seed, scale)
        for steps, history in plans()
        for seed in SEEDS
        for scale in SCALES
    ]
    cases = [case for case in runs if case is not None]
    return {
        "versions": {name: version(name) for name in VERSIONED},
        "size": SIZE,
        "histories": HISTORIES,
        "chains": [{"options": options, "steps": chain_steps(options)} for options in CHAINS],
        "skipped": len(runs) - len(cases),
        "cases": cases,
    }


def dump(data: dict[str, Any]) -> str:
    """Write compact JSON, with every top-level entry and every case on its own line."""

    def compact(value: Any) -> str:
        return json.dumps(value, separators=(",", ":"), allow_nan=False)

    head = [f'"{key}":{compact(value)}' for key, value in data.items() if key != "cases"]
    cases = ",\n".join(map(compact, data["cases"]))
    return "{\n" + ",\n".join(head) + ',\n"cases":[\n' + cases + "\n]\n}\n"


def main() -> None:
    """Read the arguments, record and write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("warpers.json"))
    args = parser.parse_args()
    args.out.write_text(dump(record()), encoding="ascii")


if __name__ == "__main__":
    main()
