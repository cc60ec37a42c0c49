"""Record beams.json, what transformers' beam search does with the test model; never run in CI.

It needs what make_parity.py needs, and takes a few minutes on two cores:

    python -m tests.real.make_beams [--source MODEL.gguf] [--out beams.json] [--threads 2]

The weights are the test model's as F32, which localgen runs as well: what is left between the two
is the rounding of float32. ``gap`` is the smallest difference of two scores that decided anything.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import math
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import llama_cpp.llama_cpp as llama
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.real.make_parity import PROMPTS, VERSIONED, dump, find_source

ALL_F32 = 0
NEW_TOKENS = 14
# Scores at or below this are transformers' placeholders: no beam has them.
PLACEHOLDER = -1e8

RAGGED = ("fact", "one_token", "chat_short", "story")
ENDING = "chat_short"

# Name → (prompts, options). The texts of "chat_short" end soon, so that beams finish.
Case = tuple[tuple[str, ...], dict[str, Any]]
CASES: dict[str, Case] = {
    "two beams": (("fact",), {"num_beams": 2}),
    "three beams": (("story",), {"num_beams": 3, "num_return_sequences": 2}),
    "four beams": (("python",), {"num_beams": 4, "num_return_sequences": 4}),
    "eight beams": (("german",), {"num_beams": 8, "num_return_sequences": 3}),
    "one token": (("one_token",), {"num_beams": 4, "max_new_tokens": 1}),
    "a long prompt": (("long",), {"num_beams": 3}),
    "texts that end": ((ENDING,), {"num_beams": 4, "num_return_sequences": 4}),
    "stops at the first": ((ENDING,), {"num_beams": 4, "early_stopping": True}),
    "never stops early": (
        (ENDING,),
        {"num_beams": 4, "early_stopping": "never", "num_return_sequences": 4},
    ),
    "never, a penalty of 0": (
        (ENDING,),
        {"num_beams": 3, "early_stopping": "never", "length_penalty": 0.0},
    ),
    "prefers long": ((ENDING,), {"num_beams": 4, "length_penalty": 2.0}),
    "prefers short": ((ENDING,), {"num_beams": 4, "length_penalty": -1.0}),
    "half a penalty": (
        (ENDING,),
        {"num_beams": 4, "length_penalty": 0.5, "num_return_sequences": 2},
    ),
    "at least ten": ((ENDING,), {"num_beams": 4, "min_new_tokens": 10}),
    "several ends": (
        ("list",),
        {"num_beams": 3, "eos_token_id": [2, 198, 28], "num_return_sequences": 3},
    ),
    "no end": ((ENDING,), {"num_beams": 3, "eos_token_id": -1}),
    "stop strings": (
        ("story",),
        {"num_beams": 3, "stop_strings": [",", " the"], "num_return_sequences": 3},
    ),
    "repetition penalty": (
        ("numbers",),
        {"num_beams": 3, "repetition_penalty": 1.3, "num_return_sequences": 2},
    ),
    "no repeated pair": (("one_token",), {"num_beams": 4, "no_repeat_ngram_size": 2}),
    "a bias": (("fact",), {"num_beams": 3, "sequence_bias": {(7042,): -8.0, (28,): 2.0}}),
    "words that are banned": (("story",), {"num_beams": 3, "bad_words_ids": [[476], [28, 216]]}),
    "tokens that are banned": (("french",), {"num_beams": 3, "suppress_tokens": [260, 28, 30]}),
    "everything that is left": (
        ("fact",),
        {"num_beams": 2, "do_sample": True, "top_k": 1, "temperature": 0.7},
    ),
    "a nucleus of two": (
        ("story",),
        {"num_beams": 2, "do_sample": True, "top_k": 0, "top_p": 0.01, "num_return_sequences": 2},
    ),
    "ragged": (RAGGED, {"num_beams": 3}),
    "ragged, all returned": (RAGGED, {"num_beams": 4, "num_return_sequences": 4}),
    "ragged, stops at the first": (RAGGED, {"num_beams": 3, "early_stopping": True}),
    "ragged, never stops early": (
        RAGGED,
        {"num_beams": 3, "early_stopping": "never", "length_penalty": 1.5},
    ),
    "ragged, no repeated pair": (RAGGED, {"num_beams": 3, "no_repeat_ngram_size": 2}),
    "ragged, repetition penalty": (RAGGED, {"num_beams": 3, "repetition_penalty": 1.2}),
    "ragged, several ends": (
        RAGGED,
        {"num_beams": 3, "eos_token_id": [2, 28, 30], "num_return_sequences": 2},
    ),
    "ragged, stop strings": (RAGGED, {"num_beams": 3, "stop_strings": [".", ","]}),
    "ragged, at least six": (RAGGED, {"num_beams": 3, "min_new_tokens": 6, "length_penalty": 0.0}),
}


def make_f32(src: Path, dst: Path) -> None:
    """Write the weights of a GGUF file as F32 with llama.cpp."""
    params = llama.llama_model_quantize_default_params()
    params.allow_requantize = True
    params.ftype = ALL_F32
    code = llama.llama_model_quantize(bytes(src), bytes(dst), params)
    if code != 0:
        raise RuntimeError(f"llama_model_quantize returned {code} for {src}")


class Gaps:
    """Watches a model's beam search for the smallest difference of two scores that decides."""

    def __init__(self, model: Any) -> None:
        self.smallest = math.inf
        self._open: list[bool] = []
        for name in (
            "_get_running_beams_for_next_iteration",
            "_update_finished_beams",
            "_check_early_stop_heuristic",
        ):
            self._watch(model, name)

    def _watch(self, model: Any, name: str) -> None:
        original, look = getattr(model, name), getattr(self, name)

        def watched(**given: Any) -> Any:
            look(**given)
            return original(**given)

        setattr(model, name, watched)

    def start(self, n_prompts: int) -> None:
        """Forget what was seen: a call begins."""
        self.smallest, self._open = math.inf, [True] * n_prompts

    def _note(self, a: float, b: float) -> None:
        if min(a, b) > PLACEHOLDER:
            self.smallest = min(self.smallest, abs(a - b))

    def _edge(self, scores: torch.Tensor, n_best: int) -> None:
        """Note the gap between the last of the best and the first of the rest."""
        best = torch.sort(scores, descending=True).values.tolist()
        if n_best < len(best):
            self._note(best[n_best - 1], best[n_best])

    def _get_running_beams_for_next_iteration(
        self, topk_log_probs: Any, next_token_hits_stopping_criteria: Any, num_beams: int, **_: Any
    ) -> None:
        running = topk_log_probs + next_token_hits_stopping_criteria.float() * -1e9
        for row, is_open in zip(running, self._open, strict=True):
            if is_open:
                self._edge(row, num_beams)

    def _update_finished_beams(
        self,
        topk_log_probs: Any,
        beam_scores: Any,
        next_token_hits_stopping_criteria: Any,
        is_sent_finished: Any,
        num_beams: int,
        cur_len: int,
        decoder_prompt_len: int,
        length_penalty: float,
        early_stopping: Any,
        **_: Any,
    ) -> None:
        for index, hits in enumerate(next_token_hits_stopping_criteria):
            full = bool(is_sent_finished[index].all()) and early_stopping is True
            if full or not self._open[index]:
                self._open[index] = False
                continue
            row = topk_log_probs[index]
            if bool(hits[num_beams - 1]) != bool(hits[num_beams]):  # who may finish
                self._note(row[num_beams - 1].item(), row[num_beams].item())
            length = cur_len + 1 - decoder_prompt_len
            ended = row[:num_beams][hits[:num_beams]] / length**length_penalty
            merged = torch.cat((beam_scores[index], ended))
            best = torch.sort(merged, descending=True).values.tolist()
            for a, b in itertools.pairwise(best[: num_beams + 1]):  # their order, too
                self._note(a, b)

    def _check_early_stop_heuristic(
        self,
        running_beam_scores: Any,
        beam_scores: Any,
        is_sent_finished: Any,
        cur_len: int,
        max_length: int,
        decoder_prompt_len: int,
        early_stopping: Any,
        length_penalty: float,
        is_early_stop_heuristic_unsatisfied: Any,
        **_: Any,
    ) -> None:
        longest = early_stopping == "never" and length_penalty > 0
        length = (max_length if longest else cur_len) - decoder_prompt_len
        for index, finished in enumerate(is_sent_finished):
            if not (self._open[index] and bool(finished.all())):
                continue
            best = running_beam_scores[index, 0].item() / length**length_penalty
            worst = beam_scores[index].min().item()
            self._note(best, worst)
            self._open[index] = best > worst


def record_case(model: Any, tokenizer: Any, gaps: Gaps, name: str) -> dict[str, Any]:
    """Run one case."""
    prompts, options = CASES[name]
    options = {"max_new_tokens": NEW_TOKENS, **options}
    extra = {"tokenizer": tokenizer} if "stop_strings" in options else {}
    texts = [PROMPTS[prompt] for prompt in prompts]
    inputs = tokenizer(texts, padding=True, padding_side="left", return_tensors="pt")
    gaps.start(len(prompts))
    given = {"do_sample": False, **options}
    result = model.generate(
        **inputs, **given, **extra, return_dict_in_generate=True, output_scores=True
    )
    if "sequence_bias" in options:
        options["sequence_bias"] = [[list(k), v] for k, v in options["sequence_bias"].items()]
    transitions = model.compute_transition_scores(
        result.sequences, result.scores, result.beam_indices
    )
    return {
        "name": name,
        "options": options,
        "input_ids": inputs["input_ids"].tolist(),
        "attention_mask": inputs["attention_mask"].tolist(),
        "sequences": result.sequences.tolist(),
        "sequences_scores": [round(score, 6) for score in result.sequences_scores.tolist()],
        "beam_indices": result.beam_indices.tolist(),
        "transition_scores": [[round(s, 5) for s in row] for row in transitions.tolist()],
        "gap": round(min(gaps.smallest, 9.0), 6),
    }


def record(source: Path, folder: Path) -> dict[str, Any]:
    """Load the F32 weights made from the source in transformers, and run every case."""
    weights = folder / "model-f32.gguf"
    make_f32(source, weights)
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=weights.name)
    model = AutoModelForCausalLM.from_pretrained(
        folder, gguf_file=weights.name, dtype=torch.float32
    ).eval()
    gaps = Gaps(model)
    return {
        "versions": {name: version(name) for name in VERSIONED},
        "source": {
            "file": source.name,
            "sha256": hashlib.sha256(source.read_bytes()).hexdigest(),
        },
        "cases": [record_case(model, tokenizer, gaps, name) for name in CASES],
    }


def main() -> None:
    """Read the arguments, record and write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", type=Path, default=None, help="the quantized GGUF file")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("beams.json"))
    parser.add_argument("--threads", type=int, default=2, help="threads that torch may use")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as folder:
        data = record(args.source or find_source(), Path(folder))
    args.out.write_text(dump(data), encoding="ascii")


if __name__ == "__main__":
    main()
