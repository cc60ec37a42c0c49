"""Measure what localgen adds to llama.cpp's own load of a file: the gate, and the rest.

    python benchmarks/loading.py

In each round, in one process: llama_model_load_from_file with the parameters that localgen gives
it, and `LocalModel.from_pretrained`; both are freed again. The gate alone is timed on the model's
file, and on files without weights whose vocabularies have as many tokens as --vocabularies says.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import common
from common import Row

VOCABULARIES = (49_152, 262_144)
_NOTE = """\
Milliseconds. ratio is localgen's time divided by llama.cpp's, in each round: 1 means no overhead.
The file has been read before, so it comes from memory. The gate checks a file before llama.cpp sees
it; vocabularies of N tokens are synthetic, with as many merges. `import` is a fresh process that
imports localgen and llama.cpp's library, less a process that imports nothing."""
_IMPORT = "import localgen; from localgen.llama.backend import llama; llama()"


def main() -> None:
    """Measure loads, the gate, and the import."""
    parser = common.argument_parser(__doc__, rounds=25, new_tokens=0)
    parser.add_argument("--vocabularies", type=int, nargs="+", default=VOCABULARIES)
    options = parser.parse_args()
    from localgen import hub  # noqa: PLC0415  # --help needs no model

    path = hub.resolve(options.model)
    rows = [load_row(path, options.rounds), gate_row("gate, the model", path, options.rounds)]
    with tempfile.TemporaryDirectory() as folder:
        for n_tokens in options.vocabularies:
            made = make_vocabulary(Path(folder) / f"{n_tokens}.gguf", n_tokens)
            rows.append(gate_row(f"gate, {n_tokens} tokens", made, options.rounds))
    rows.append(import_row(options.rounds))
    common.report("loading", rows, options, threads=common.usable_cpus(), note=_NOTE)


def load_row(path: Path, n_rounds: int) -> Row:
    """Alternate llama.cpp's load and localgen's."""
    from localgen import LocalModel  # noqa: PLC0415

    def load() -> None:
        LocalModel.from_pretrained(path).close()

    load()  # the first load reads the file and probes the machine
    times = [(timed(lambda: baseline_load(path)), timed(load)) for _ in range(n_rounds)]
    return {
        "case": "load",
        **common.spread("llama_cpp", (baseline for baseline, _ in times)),
        **common.spread("localgen", (ours for _, ours in times)),
        **common.spread("ratio", (ours / baseline for baseline, ours in times)),
    }


def baseline_load(path: Path) -> None:
    """Load and free a model as ``localgen.llama.loading`` does, by llama.cpp alone."""
    from localgen.llama import amx, devices  # noqa: PLC0415
    from localgen.llama.library import llama  # noqa: PLC0415

    bindings = llama()
    params = bindings.llama_model_default_params()
    params.n_gpu_layers = devices.n_gpu_layers("auto", None)
    params.use_extra_bufts = amx.is_safe()
    bindings.llama_model_free(bindings.llama_model_load_from_file(os.fsencode(path), params))


def gate_row(case: str, path: Path, n_rounds: int) -> Row:
    from localgen.gguf.gate import check_model  # noqa: PLC0415

    times = [timed(lambda: check_model(path)) for _ in range(n_rounds)]
    return {"case": case, **common.spread("localgen", times)}


def make_vocabulary(path: Path, n_tokens: int) -> Path:
    """Write a file with ``n_tokens`` tokens of 1 to 12 letters, as many merges, and no weights."""
    from gguf import GGUFWriter  # noqa: PLC0415  # of the dev extra

    tokens = [_word(index) for index in range(n_tokens)]
    writer = GGUFWriter(path, "llama")
    writer.add_block_count(1)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([1] * n_tokens)
    writer.add_token_merges([f"{token} {token[:3]}" for token in tokens])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _word(index: int) -> str:
    """Spell a number in letters, and add up to seven more."""
    letters = "".join(chr(ord("a") + int(digit)) for digit in str(index))
    return letters + "z" * (index * 7919 % 8)


def import_row(n_rounds: int) -> Row:
    def run(program: str) -> None:
        subprocess.run([sys.executable, "-c", program], check=True)

    times = [(timed(lambda: run("pass")), timed(lambda: run(_IMPORT))) for _ in range(n_rounds)]
    return {
        "case": "import",
        **common.spread("localgen", (ours - baseline for baseline, ours in times)),
    }


def timed(call: Callable[[], Any]) -> float:
    """Return the milliseconds of a call."""
    started = time.perf_counter()
    call()
    return 1e3 * (time.perf_counter() - started)


if __name__ == "__main__":
    main()
