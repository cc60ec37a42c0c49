"""Compare the memory that ``localgen inspect`` estimates with what a model then takes.

python benchmarks/estimate.py --output benchmarks/results

Each case is a process that loads the model for one sequence and fills its context with a prompt.
It measures how much the peak memory grows over that of the process with only llama.cpp loaded.
"""

from __future__ import annotations

import json

from common import Row, argument_parser, peak_memory_mb, progress, report, run_child, usable_cpus

from localgen import LocalModel, inspect
from localgen.config import KV_TYPES, UNQUANTIZED
from localgen.llama.library import llama

CONTEXTS = (512, 4096, 8192)
_N_NEW = 4


def main() -> None:
    """Measure every context length with every type of KV cache."""
    parser = argument_parser(__doc__, rounds=1, new_tokens=_N_NEW)
    parser.add_argument("--ctx", type=int, nargs="+", default=CONTEXTS)
    parser.add_argument("--kv-types", nargs="+", default=KV_TYPES)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measure(options.child)))
        return
    rows = []
    for n_ctx in options.ctx:
        for kv_type in options.kv_types:
            progress(f"{n_ctx} tokens, {kv_type}")
            task = {"model": options.model, "n_ctx": n_ctx, "kv_type": kv_type}
            rows.append(run_child(task))
    note = "MB; one sequence whose prompt fills the context; the baseline process is not counted."
    report("estimate", rows, options, threads=usable_cpus(), note=note)


def measure(task: Row) -> Row:
    """Return the estimate for one case and what it took, in a process that did nothing else."""
    llama()
    baseline = peak_memory_mb()
    found = inspect(task["model"], n_ctx=task["n_ctx"], kv_type=task["kv_type"]).memory
    options = {"n_ctx": task["n_ctx"], "kv_type": task["kv_type"], "max_sequences": 1}
    if task["kv_type"] in UNQUANTIZED:
        # As it is estimated. "auto" also makes two short-lived contexts, to measure both settings.
        options["flash_attention"] = "off"
    with LocalModel.from_pretrained(task["model"], **options) as model:
        n_prompt = task["n_ctx"] - _N_NEW
        prompt = [(7919 * i) % (model.tokenizer.vocab_size - 200) + 100 for i in range(n_prompt)]
        model.complete([prompt], max_new_tokens=_N_NEW, eos_token_id=[])
    measured = peak_memory_mb() - baseline
    estimated = found.ram.total / 1e6
    return {
        "n_ctx": task["n_ctx"],
        "kv_type": task["kv_type"],
        "weights": found.ram.weights / 1e6,
        "kv_cache": found.ram.kv_cache / 1e6,
        "compute": found.ram.compute / 1e6,
        "estimated": estimated,
        "measured": measured,
        "ratio": estimated / measured,
    }


if __name__ == "__main__":
    main()
