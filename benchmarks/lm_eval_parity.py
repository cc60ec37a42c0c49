"""Compare LocalgenLM with lm-eval's own HF model on the same weights: answers and speed.

    python benchmarks/lm_eval_parity.py [--requests N] [--kinds KIND…] [--rounds N] [--output DIR]

The weights of the model are written as F16 (or F32, with --level) twice: as a GGUF file, and for
transformers, which computes with them in float32; llama.cpp rounds what it multiplies by F16
weights to F16, too. Both models answer N requests of each kind: continuations of
questions with examples before them, whole texts, and texts to generate. The speedup is that of
LocalgenLM against the same requests one at a time. It needs torch, transformers and lm-eval. The
last line of the output is one JSON object.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import common
import numpy as np

from localgen import hub, quantize

SUBJECTS = ["cat", "river", "teacher", "engine", "garden", "letter", "winter", "bridge", "doctor"]
ACTIONS = ["is old", "has no name", "belongs to me", "comes from Peru", "was never seen again"]
ANSWERS = [" yes", " no", " I do not know", " nobody can tell"]
EXAMPLES = "".join(
    f"Statement: The {subject} {action}.\nIs that likely? Answer:{answer}\n\n"
    for subject, action, answer in zip(SUBJECTS[:5], ACTIONS, [*ANSWERS, " yes"], strict=True)
)


def statements(n: int) -> list[str]:
    """Return n different sentences."""
    found = [f"The {s} {a}, and the {t} {b}." for s in SUBJECTS for a in ACTIONS
             for t in SUBJECTS for b in ACTIONS if s != t]  # fmt: skip
    return found[:: max(1, len(found) // n)][:n]


def scoring_arguments(n: int) -> list[tuple[str, str]]:
    """Return (context, continuation): four answers to each of n / 4 questions."""
    return [
        (f"{EXAMPLES}Statement: {each}\nIs that likely? Answer:", answer)
        for each in statements(-(-n // len(ANSWERS)))
        for answer in ANSWERS
    ][:n]


def instances(kind: Any, arguments: list[tuple[Any, ...]]) -> list[Any]:
    from lm_eval.api.instance import Instance  # noqa: PLC0415

    return [
        Instance(request_type=kind, doc={}, arguments=each, idx=index)
        for index, each in enumerate(arguments)
    ]


def reference(source: Path, level: str) -> Any:
    """Return lm-eval's HF model in float32, with the weights of ``source`` rounded to a level."""
    import torch  # noqa: PLC0415
    import transformers  # noqa: PLC0415
    from lm_eval.models.huggingface import HFLM  # noqa: PLC0415

    given: dict[str, Any] = {"gguf_file": source.name}
    read = transformers.AutoModelForCausalLM.from_pretrained(source.parent, **given)
    # The one that was read believes that its weights are packed.
    model = transformers.AutoModelForCausalLM.from_config(read.config, dtype=torch.float32)
    model.load_state_dict(read.state_dict())
    for weight in model.parameters():
        if level == "F16" and weight.ndim > 1:  # norms are F32 in a GGUF file of level F16
            weight.data = weight.data.to(torch.float16).to(torch.float32)
    tokenizer = transformers.AutoTokenizer.from_pretrained(source.parent, **given)
    return HFLM(pretrained=model.eval(), tokenizer=tokenizer, device="cpu", batch_size=8)


def differences(pairs: list[tuple[float, float]]) -> common.Row:
    """Return how many pairs there are, the largest difference, and the mean of all."""
    apart = np.array([a - b for a, b in pairs])
    return {
        "n": len(pairs),
        "largest_difference": float(np.abs(apart).max()),
        "mean_difference": float(apart.mean()),
    }


def scoring_row(ours: Any, theirs: Any, n: int) -> common.Row:
    """Compare the log-likelihoods of n continuations, and time them one at a time."""
    asked = instances("loglikelihood", scoring_arguments(n))
    found = timed(lambda: ours.loglikelihood(asked, disable_tqdm=True))
    expected = timed(lambda: theirs.loglikelihood(asked, disable_tqdm=True))
    pairs = [ours._encode_pair(*each.args) for each in asked]
    alone = timed(lambda: [ours.model.score([*pair[0], *pair[1]]) for pair in pairs])
    answers = list(zip(found[0], expected[0], strict=True))
    return {
        **differences([(a, b) for (a, _), (b, _) in answers]),
        "differ": sum(a != b for (_, a), (_, b) in answers),
        "seconds": found[1],
        "hf_seconds": expected[1],
        "one_by_one_seconds": alone[1],
        "speedup": alone[1] / found[1],
    }


def rolling_row(ours: Any, theirs: Any, n: int) -> common.Row:
    """Compare the log-likelihoods of n whole texts."""
    asked = instances("loglikelihood_rolling", [(text,) for text in statements(n)])
    found = timed(lambda: ours.loglikelihood_rolling(asked, disable_tqdm=True))
    expected = timed(lambda: theirs.loglikelihood_rolling(asked, disable_tqdm=True))
    sums = list(zip(found[0], expected[0], strict=True))
    return {**differences(sums), "seconds": found[1], "hf_seconds": expected[1]}


def writing_row(ours: Any, theirs: Any, n: int) -> common.Row:
    """Compare n greedy texts."""
    options = {"until": ["\n"], "max_gen_toks": 24}
    asked = instances("generate_until", [(text, options) for text in statements(n)])
    found = timed(lambda: ours.generate_until(asked, disable_tqdm=True))
    expected = timed(lambda: theirs.generate_until(asked, disable_tqdm=True))
    return {
        "n": len(asked),
        "differ": sum(a != b for a, b in zip(found[0], expected[0], strict=True)),
        "seconds": found[1],
        "hf_seconds": expected[1],
    }


KINDS = {
    "loglikelihood": scoring_row,
    "loglikelihood_rolling": rolling_row,
    "generate_until": writing_row,
}


def in_all_rounds(rows: Sequence[common.Row]) -> common.Row:
    """Return one kind of request: the answers of the first round, and the times of all."""
    found = dict(rows[0])
    for name in rows[0]:
        if name.endswith("seconds") or name == "speedup":
            found.update(common.spread(name, [row[name] for row in rows]))
    return found


def timed(answers: Callable[[], Any]) -> tuple[Any, float]:
    """Return the answers, and how many seconds they took."""
    started = time.perf_counter()
    found = answers()
    return found, time.perf_counter() - started


def main() -> None:
    """Read the arguments, measure, print and write."""
    from localgen.evaluate import LocalgenLM  # noqa: PLC0415  # an optional extra

    parser = common.argument_parser(__doc__, rounds=1)
    parser.add_argument("--requests", type=int, default=200, help="of each kind")
    parser.add_argument("--level", choices=["F16", "F32"], default="F16", help="of the weights")
    parser.add_argument(
        "--kinds", nargs="+", choices=[*KINDS], default=[*KINDS], help="of requests"
    )
    options = parser.parse_args()
    source = hub.resolve(options.model)
    with tempfile.TemporaryDirectory() as folder:
        made = quantize(source, options.level, output=folder, allow_requantize=True)
        theirs = reference(source, options.level)
        rounds = []
        for _ in range(options.rounds):
            # Anew each time: what it computed stays in its KV cache.
            with LocalgenLM(made.path, max_length=2047, use_profile=False, device="cpu") as ours:
                rounds.append(
                    [
                        {"kind": kind, **KINDS[kind](ours, theirs, options.requests)}
                        for kind in options.kinds
                    ]
                )
                threads = common.n_threads(ours.model)
    rows = [in_all_rounds(of_kind) for of_kind in zip(*rounds, strict=True)]
    note = "Differences are those of log-likelihoods, ours minus the HF model's."
    common.report("lm_eval_parity", rows, options, threads=threads, note=note)


if __name__ == "__main__":
    main()
