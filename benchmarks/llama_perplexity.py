"""Compare the figures and the time of ``localgen compare`` with llama-perplexity's.

python benchmarks/llama_perplexity.py --tools BUILD/bin --model F16.gguf --level Q4_K_M.gguf

``--tools`` is the folder of llama-perplexity, built from the llama.cpp that is vendored in
llama-cpp-python's source package. Both sides have the same file, text and threads, and no flash
attention; they take turns.
"""

from __future__ import annotations

import importlib
import json
import re
import tempfile
import time
from pathlib import Path
from typing import Any

from common import Row, argument_parser, progress, report, run_child, run_tool, usable_cpus

N_BATCH = 512
_SHOWN = {
    "perplexity": r"Mean PPL\(Q\)\s*:\s*([\d.]+)",
    "kld_mean": r"Mean\s+KLD:\s*([-\d.]+)",
    "kld_median": r"Median\s+KLD:\s*([-\d.]+)",
    "kld_p999": r"99\.9%\s+KLD:\s*([-\d.]+)",
    "kld_max": r"Maximum\s+KLD:\s*([-\d.]+)",
    "top1_agreement": r"Same top p:\s*([\d.]+)",
}


def main() -> None:
    """Compare the figures and the time of both sides."""
    parser = argument_parser(__doc__, rounds=3, new_tokens=64)
    parser.add_argument("--tools", type=Path)
    parser.add_argument("--level", help="measure the loss of this file against --model")
    parser.add_argument("--chunks", type=int, default=16)
    parser.add_argument("--n-ctx", type=int, default=512, help="tokens of a chunk")
    options = parser.parse_args()
    if options.child:
        print(json.dumps(_ours(**options.child)))
        return
    if options.tools is None or options.level is None:
        parser.error("--tools and --level are needed")
    perplexity(options)


def perplexity(options: Any) -> None:
    """Perplexity and KL divergence of ``--level``, with the wall time of both passes."""
    rounds = []
    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder) / "text.txt"
        text.write_text(_prose(), encoding="utf-8")
        for number in range(options.rounds):
            progress(f"round {number + 1}")
            task = {
                "model": options.model,
                "level": options.level,
                "text": str(text),
                "n_chunks": options.chunks,
                "n_ctx": options.n_ctx,
            }
            started = time.perf_counter()
            ours = run_child(task)
            ours["seconds"] = time.perf_counter() - started
            rounds.append((ours, _theirs(options, text)))
    ours, theirs = rounds[0]
    rows: list[Row] = [
        {
            "figure": name,
            "localgen": ours[name],
            "llama.cpp": theirs[name],
            "ratio": ours[name] / theirs[name],
        }
        for name in _SHOWN
    ]
    if len(rounds) > 1:  # one round alone says nothing about time
        rows.append(_times(rounds))
    note = (
        f"{options.chunks} chunks of {options.n_ctx} tokens of CPython's own prose; "
        f"{Path(options.level).name} against {Path(options.model).name}; whole processes; "
        f"llama-perplexity's logits file: {theirs['file_bytes'] / 1e6:.0f} MB, localgen's: none."
    )
    report("llama_perplexity", rows, options, threads=usable_cpus(), note=note)


def _times(rounds: list[tuple[Row, Row]]) -> Row:
    seconds = [(a["seconds"], b["seconds"]) for a, b in rounds]
    middle = len(seconds) // 2
    return {
        "figure": "seconds, both passes",
        "localgen": sorted(a for a, _ in seconds)[middle],
        "llama.cpp": sorted(b for _, b in seconds)[middle],
        "ratio": sorted(a / b for a, b in seconds)[middle],
    }


def _prose() -> str:
    topics: dict[str, str] = importlib.import_module("pydoc_data.topics").topics
    return "\n".join(topics.values())


def _theirs(options: Any, text: Path) -> Row:
    """Return what llama-perplexity prints and its wall time: a pass that writes the reference's
    logits, and one that reads them."""
    logits = text.with_name("logits.kld")
    common = ["-f", str(text), "-c", str(options.n_ctx), "-b", str(N_BATCH), "-ub", str(N_BATCH)]
    common += ["--chunks", str(options.chunks), "-t", str(usable_cpus()), "-fa", "off"]
    tool = str(options.tools / "llama-perplexity")
    started = time.perf_counter()
    run_tool([tool, "-m", options.model, "--kl-divergence-base", str(logits), *common])
    said = run_tool(
        [tool, "-m", options.level, "--kl-divergence-base", str(logits), "--kl-divergence", *common]
    )
    found: Row = {"seconds": time.perf_counter() - started, "file_bytes": logits.stat().st_size}
    for name, pattern in _SHOWN.items():
        match = re.search(pattern, said)
        if match is None:
            raise RuntimeError(f"llama-perplexity did not print {name}:\n{said[-2000:]}")
        found[name] = float(match[1])
    found["top1_agreement"] /= 100
    logits.unlink()
    return found


def _ours(model: str, level: str, text: str, n_chunks: int, n_ctx: int) -> Row:
    """Return the same from localgen's paired evaluation, in a process that does nothing else."""
    # Only the child needs them, and its time is measured.
    import dataclasses  # noqa: PLC0415

    import numpy as np  # noqa: PLC0415

    from localgen import ModelConfig, Tokenizer  # noqa: PLC0415
    from localgen.compare import metrics  # noqa: PLC0415
    from localgen.compare.paired_evaluation import compare_chunk, rows_at_a_time  # noqa: PLC0415
    from localgen.compare.reference import LiveReference  # noqa: PLC0415
    from localgen.llama.backend import LlamaBackend  # noqa: PLC0415
    from localgen.text.chunks import chunks  # noqa: PLC0415

    config = ModelConfig(n_ctx=n_ctx, max_sequences=1, flash_attention="off")
    reference = LlamaBackend(Path(model), config)
    rows = rows_at_a_time(reference.n_vocab)
    reference.close()
    config = dataclasses.replace(config, n_batch=rows)
    reference, candidate = (LlamaBackend(Path(file), config) for file in (model, level))
    for backend in (reference, candidate):
        backend.reserve(1, n_ctx)
    vocab = reference.vocab
    token_ids = np.array(Tokenizer(vocab).encode(Path(text).read_text("utf-8")), np.int32)
    parts = chunks(token_ids, n_ctx, n_chunks, vocab.bos_token_id if vocab.adds_bos else None)
    live = LiveReference(reference, parts)
    found = metrics.TokenMetrics.joined(
        [
            compare_chunk(live.blocks(number), candidate, part, live.n_rows)
            for number, part in enumerate(parts)
        ]
    )
    return dataclasses.asdict(metrics.quality(found))


if __name__ == "__main__":
    main()
