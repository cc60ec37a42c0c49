"""What does beam search cost, against sampling as many texts, and against transformers' own?

Calls alternate in one process: a search with four beams, four sampled texts of the same prompt,
llama.cpp alone with four sequences and, with --transformers, transformers' search on the same file.
Every text has the same length: nothing ends one early.

    python benchmarks/beams.py
    python benchmarks/beams.py --transformers      # needs torch, transformers, gguf, accelerate
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import common
from common import PASSAGE, Row

from localgen import LocalModel, hub
from localgen.llama.backend import LlamaBackend
from localgen.llama.baseline import prompt_batches, run_batches, step_batches
from localgen.llama.library import llama

# Searches for as many tokens after some as are asked for.
Peer = Callable[[list[int], int], None]

_BEAMS = 4
_PROMPT_BATCH = 32  # which every context takes
_SHORT = "The old sailor looked at the sky and said"
_NOTE = """\
beams_s: seconds of a search with four beams. sampled_s: of four sampled texts of the same prompt,
temperature 0.8, top_k 50. ratio: beams_s / sampled_s in each round. baseline_s: of llama_decode
alone for as many new tokens of four sequences, after their prompts: what no search on llama.cpp can
be faster than. transformers_s: of transformers' search with four beams on the same file, its
weights in float32; times_faster and most_times_faster: transformers_s / beams_s and / baseline_s in
each round. Each call but baseline_s computes its prompt."""


def main() -> None:
    """Measure both prompts and report."""
    parser = common.argument_parser(__doc__, rounds=7, new_tokens=128)
    parser.add_argument("--transformers", action="store_true", help="compare with transformers")
    parser.add_argument("--threads", type=int, default=common.usable_cpus(), help="of both")
    options = parser.parse_args()
    path = hub.resolve(options.model)
    with LocalModel.from_pretrained(path, device="cpu", n_threads=options.threads) as model:
        peer = _transformers(path, options.threads) if options.transformers else None
        rows = [
            _measure(name, prompt, model, peer, options)
            for name, prompt in (("short", _SHORT), ("long", PASSAGE))
        ]
        threads = common.n_threads(model)
    common.report("beams", rows, options, threads=threads, note=_NOTE)


def _measure(name: str, prompt: str, model: LocalModel, peer: Peer | None, options: Any) -> Row:
    rounds = []
    for number in range(options.rounds + 1):
        common.progress(f"{name}: round {number} of {options.rounds}")
        # Another first word for each call: no prompt is found in the KV cache.
        ids, other = (model.tokenizer.encode(f"{word} {prompt}") for word in (number, -number - 1))
        rounds.append(_round(ids, other, model, peer, options.new_tokens))
    rounds = rounds[1:]  # the first one warms up
    result: Row = {"prompt": name, "n_prompt": len(ids), "n_new": options.new_tokens}
    for key in rounds[0]:
        result.update(common.spread(key, [row[key] for row in rounds]))
    return result


def _round(
    ids: list[int], other: list[int], model: LocalModel, peer: Peer | None, n_new: int
) -> Row:
    beams_s = _seconds(lambda: _search(model, ids, n_new))
    sampled_s = _seconds(lambda: _sample(model, other, n_new))
    baseline_s = _baseline_seconds(model, ids, n_new)
    row: Row = {
        "beams_s": beams_s,
        "sampled_s": sampled_s,
        "ratio": beams_s / sampled_s,
        "baseline_s": baseline_s,
    }
    if peer is not None:
        row["transformers_s"] = _seconds(lambda: peer(ids, n_new))
        row["times_faster"] = row["transformers_s"] / beams_s
        row["most_times_faster"] = row["transformers_s"] / baseline_s
    return row


def _search(model: LocalModel, ids: list[int], n_new: int) -> None:
    model.complete([ids], num_beams=_BEAMS, max_new_tokens=n_new, eos_token_id=[])


def _sample(model: LocalModel, ids: list[int], n_new: int) -> None:
    model.complete(
        [ids],
        num_return_sequences=_BEAMS,
        do_sample=True,
        temperature=0.8,
        seed=1,
        max_new_tokens=n_new,
        eos_token_id=[],
    )


def _baseline_seconds(model: LocalModel, ids: list[int], n_new: int) -> float:
    assert isinstance(model._backend, LlamaBackend)
    bindings = llama()
    steps = step_batches(bindings, [ids] * _BEAMS, [ids[-1:] * n_new] * _BEAMS)
    with model._backend.lent_context() as context:
        run_batches(bindings, context, prompt_batches(bindings, [ids], _PROMPT_BATCH))
        memory = bindings.llama_get_memory(context)
        for seq_id in range(1, _BEAMS):
            bindings.llama_memory_seq_cp(memory, 0, seq_id, -1, -1)
        return run_batches(bindings, context, steps)


def _transformers(path: Path, threads: int) -> Peer:
    """Return transformers' search on a GGUF file."""
    import torch  # noqa: PLC0415
    from transformers import AutoModelForCausalLM  # noqa: PLC0415

    torch.set_num_threads(threads)
    model = AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, dtype=torch.float32
    ).eval()

    def search(ids: list[int], n_new: int) -> None:
        given = torch.tensor([ids])
        model.generate(
            given,
            attention_mask=torch.ones_like(given),
            num_beams=_BEAMS,
            do_sample=False,
            max_new_tokens=n_new,
            eos_token_id=-1,  # which is no token
            pad_token_id=0,
        )

    return search


def _seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
