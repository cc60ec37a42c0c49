"""Write RESULTS.md from the JSON files that the other scripts write with --output.

python benchmarks/report.py benchmarks/results/*.json > benchmarks/RESULTS.md
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Sequence
from pathlib import Path

from common import Row, table

_TITLES = {
    "overhead": "Overhead over llama.cpp alone",
    "memory": "Memory over llama.cpp alone",
    "peers": "Against llama-cpp-python and transformers",
    "pairs": "Against llama-cpp-python, call by call",
    "busy": "While other processes are busy",
    "speculation": "Speculation",
    "parity": "Tokens with and without speculation",
    "batching": "Batching, reuse, and the scheduler",
    "layouts": "The two KV layouts",
    "loading": "Loading",
    "sessions": "Saved sessions",
    "sampling": "Sampling",
    "healing": "Token healing",
    "beams": "Beam search",
    "constraints": "Constraints",
    "schemas": "Texts of JSON Schemas",
    "estimate": "Estimated and measured memory",
    "llama_perplexity": "Quality figures against llama-perplexity's",
    "llama_imatrix": "Importance matrices against llama-imatrix's",
    "llama_bench": "Speeds against llama-bench's",
    "lm_eval_parity": "Answers to lm-eval against those of its HF model",
    "lm_eval_bound": "Log-likelihoods of transformers, llama.cpp alone and localgen",
    "lm_eval_speed": "Requests of lm-eval in one call",
    "quant_levels": "Quantization levels of SmolLM2",
    "imatrix": "Levels with an importance matrix",
    "mixtures": "Mixtures of types for a size",
    "serving": "The server against the same rows in process, and other servers",
    "serving_first": "The server's time to the first text",
    "serving_load": "The server under load",
    "serving_load-kills": "The server under load while its worker is killed",
    "isolation": "What a process of its own costs",
    "ray_speed": "A job on Ray against the same job without it",
    "ray_texts": "Texts of a job on 1, 2 and 4 actors",
    "ray_kills": "A job on Ray whose actors and driver are killed",
    "ray_poison": "A row that ends its model's process",
    "ray_plumbing": "A job on Ray without a model",
    "ray_prefixes": "Rows with common beginnings on Ray",
    "workers": "Several processes with a part of the threads each",
}
_INTRODUCTION = """\
# Benchmark results

Written by `benchmarks/report.py`; [README.md](README.md) says what each script measures. A number
is the median over the rounds, with the smallest and the largest in brackets. Compare within one
table: ratios carry over to other machines better than absolute numbers."""


def main() -> None:
    """Print the report of the files on the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="+", type=Path, help="JSON files of the other scripts")
    results = [json.loads(file.read_text(encoding="utf-8")) for file in parser.parse_args().files]
    order = list(_TITLES)
    results.sort(key=lambda r: order.index(r["benchmark"]) if r["benchmark"] in order else 99)
    print("\n\n".join([_INTRODUCTION, *map(section, results)]))


def section(result: Row) -> str:
    """Return one result: what it is, how and where it was made, and its rows."""
    versions = ", ".join(f"{package} {version}" for package, version in result["versions"].items())
    counts = [
        f"{result[key]} {unit if result[key] != 1 else unit[:-1]}"
        for key, unit in (("n_cpus", "CPUs"), ("threads", "threads"), ("n_rounds", "rounds"))
        if key in result
    ]
    where = ", ".join([*filter(None, [result.get("date")]), result["cpu"], *counts])
    return "\n\n".join(
        part
        for part in (
            f"## {_title(result)}",
            f"`{result['command']}`",
            f"{where}; {versions}.",
            _of_today(result.get("note", "")),
            markdown_table(table([_renamed(row) for row in result["rows"]])),
        )
        if part
    )


def _renamed(row: Row) -> Row:
    """Return a row with today's names; recorded results keep the names of their time."""
    return {_of_today(name): value for name, value in row.items()}


def _of_today(text: str) -> str:
    return re.sub(r"\bbare(?=_|$)", "baseline", text)


def _title(result: Row) -> str:
    name: str = result["benchmark"]
    title = _TITLES.get(name, name)
    return f"{title}: {result['model']}" if "model" in result else title


def markdown_table(cells: Sequence[Sequence[str]]) -> str:
    """Return ``cells``, the header first, as a Markdown table; numbers to the right."""
    header, *body = cells
    rules = ["---" if _is_text(column[1:]) else "---:" for column in zip(*cells, strict=True)]
    return "\n".join(f"| {' | '.join(line)} |" for line in (header, rules, *body))


def _is_text(column: Sequence[str]) -> bool:
    return not all(cell[:1].isdigit() or cell[:1] in ("", "-") for cell in column)


if __name__ == "__main__":
    main()
