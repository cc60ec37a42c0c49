"""Record processors.json, what transformers' processors make of known logits; never run in CI.

It needs torch and transformers, and no model; run it by hand:

    python tests/real/make_processors.py [--out processors.json]

transformers itself makes the processors of a case from its options, as ``generate()`` does, so
their order and what they are told of the prompt is recorded too.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.utils import logging

N_VOCAB = 32
EOS = [2, 7]
SEEDS = {"plain": 0, "edges": 1, "invalid": 2}
VERSIONED = ("transformers", "torch", "numpy")

Row = npt.NDArray[np.float32]

# Prompt, new tokens, and how many of these there may be.
HISTORIES: dict[str, tuple[list[int], list[int], int]] = {
    "first": ([5, 17, 5, 9], [], 6),
    "loops": ([5, 17, 5, 17, 23], [5, 17, 5], 6),
    "last": ([4, 8, 5], [8, 4, 8, 5], 5),
    "one": ([3], [], 6),
    "after one": ([3], [7], 6),
}

# Options, each alone; ``allowed`` is what prefix_allowed_tokens_fn returns.
SINGLE: dict[str, list[Any]] = {
    "sequence_bias": [[[[5, 17], 2.5], [[11], -3.0]]],
    "encoder_repetition_penalty": [0.5, 1.2, 3.0],
    "repetition_penalty": [0.8, 1.3],
    "no_repeat_ngram_size": [1, 2],
    "encoder_no_repeat_ngram_size": [1, 2, 3, 9],
    "bad_words_ids": [[[9], [5, 17], [2]]],
    "min_length": [1, 5, 8, 100],
    "min_new_tokens": [1, 4],
    "allowed": [[1, 2, 9], [17], [0, 3], list(range(N_VOCAB))],
    "forced_bos_token_id": [0, 31],
    "forced_eos_token_id": [2, 31, [2, 9]],
    "remove_invalid_values": [True],
    "exponential_decay_length_penalty": [[0, 1.5], [2, 1.01], [1, 0.5], [4, 3.0], [0, 1e6]],
    "suppress_tokens": [[0, 1, 17]],
    "begin_suppress_tokens": [[2, 5, 31]],
    "renormalize_logits": [True],
}
TOGETHER: list[dict[str, Any]] = [
    {"min_length": 9, "min_new_tokens": 0},
    {"min_length": 5, "min_new_tokens": 4},
    {"forced_bos_token_id": 4, "begin_suppress_tokens": [4, 5]},
    {"forced_bos_token_id": 4, "forced_eos_token_id": 2, "suppress_tokens": [5]},
    {"min_new_tokens": 4, "allowed": EOS},
    {"min_new_tokens": 4, "exponential_decay_length_penalty": [0, 1.5]},
    {"bad_words_ids": [[9], [17]], "allowed": [9, 17], "sequence_bias": [[[9], 1.5]]},
    {"suppress_tokens": [1], "allowed": [1, 3], "renormalize_logits": True},
    {"encoder_repetition_penalty": 1.5, "repetition_penalty": 1.5, "renormalize_logits": True},
    {"min_length": 9, "remove_invalid_values": True, "exponential_decay_length_penalty": [0, 1.5]},
    {"do_sample": True, "temperature": 0.7, "top_k": 0, "renormalize_logits": True},
    {"do_sample": True, "temperature": 1.5, "top_k": 5, "renormalize_logits": True},
]


def make_row(kind: str) -> Row:
    """Make one row of known logits: plain ones, with removed and huge ones, or no numbers."""
    row = (np.random.RandomState(SEEDS[kind]).standard_normal(N_VOCAB) * 4).astype(np.float32)
    if kind == "edges":
        row[[0, 3, 9]] = -np.inf
        row[[2, 11]] = 0.0
        row[5], row[12] = 1e20, -1e20
    if kind == "invalid":
        row[[4, 17]], row[6], row[[2, 8]] = np.nan, np.inf, -np.inf
    return row


def make_model() -> LlamaForCausalLM:
    """Make the smallest model, which is never run."""
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1}
    return LlamaForCausalLM(LlamaConfig(vocab_size=N_VOCAB, num_attention_heads=1, **sizes))


def processed(
    model: LlamaForCausalLM,
    row: Row,
    history: tuple[list[int], list[int], int],
    options: dict[str, Any],
    allowed: Any = None,
) -> Row:
    """Let transformers' processors of some options edit a row after a history."""
    prompt, new, max_new_tokens = history
    generation, _ = model._prepare_generation_config(
        None, max_new_tokens=max_new_tokens, eos_token_id=EOS, **options
    )
    model._prepare_special_tokens(generation, device="cpu")
    given = torch.tensor([prompt])
    model._prepare_generated_length(
        generation_config=generation,
        has_default_max_length=True,
        has_default_min_length="min_length" not in options,
        model_input_name="input_ids",
        input_ids_length=len(prompt),
        inputs_tensor=given,
    )
    processors = model._get_logits_processor(
        generation,
        input_ids_seq_length=len(prompt),
        encoder_input_ids=given,
        prefix_allowed_tokens_fn=None if allowed is None else lambda *_: allowed,
        device="cpu",
    )
    scores = processors(torch.tensor([prompt + new]), torch.from_numpy(row.copy())[None])
    return scores[0].numpy()


def plans() -> Iterator[dict[str, Any]]:
    """Give the options of every case: each value alone, then some together."""
    for name, values in SINGLE.items():
        for value in values:
            yield {name: value}
    yield from TOGETHER


def number(value: float) -> float | str:
    """Return a number as JSON can hold it."""
    return float(f"{value:.7g}") if math.isfinite(value) else str(value)


def record() -> dict[str, Any]:
    """Run every plan on every history and row that leaves something to choose."""
    logging.set_verbosity_error()
    model = make_model()
    cases = []
    for options in plans():
        rows = ["plain", "edges", *(["invalid"] if "remove_invalid_values" in options else [])]
        given = {key: value for key, value in options.items() if key != "allowed"}
        for (name, history), kind in itertools.product(HISTORIES.items(), rows):
            before = make_row(kind)
            after = processed(model, before, history, given, options.get("allowed"))
            changed = np.flatnonzero(before != after).tolist()
            if after.max() > -np.inf:
                numbers = [[i, number(float(after[i]))] for i in changed]
                cases.append({"options": options, "history": name, "row": kind, "changed": numbers})
    versions = {name: version(name) for name in VERSIONED}
    return {"versions": versions, "histories": HISTORIES, "cases": cases}


def dump(data: dict[str, Any]) -> str:
    """Write compact JSON, with every case on its own line."""

    def compact(value: Any) -> str:
        return json.dumps(value, separators=(",", ":"), allow_nan=False)

    cases = ",\n".join(map(compact, data["cases"]))
    head = "".join(f'"{key}":{compact(data[key])},\n' for key in data if key != "cases")
    return f'{{\n{head}"cases":[\n{cases}\n]\n}}\n'


def main() -> None:
    """Read the arguments, record and write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("processors.json"))
    args = parser.parse_args()
    args.out.write_text(dump(record()), encoding="ascii")


if __name__ == "__main__":
    main()
