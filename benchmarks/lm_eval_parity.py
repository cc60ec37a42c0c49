"""Compare LocalgenLM with lm-eval's own HF model on the same weights, and with itself.

    python benchmarks/lm_eval_parity.py [--requests N] [--kinds KIND…] [--level F16|F32]
    python benchmarks/lm_eval_parity.py --speed [--requests N] [--rounds N]

The weights of the model are written as F16 (or F32, with --level) twice: as a GGUF file, and for
transformers, which computes with them in float32; llama.cpp rounds what it multiplies by F16
weights to F16, too. Both models answer N requests of each kind: continuations of questions with
examples before them, whole texts, and texts to generate. LocalgenLM does so once for each of
--kv-types, since a KV cache in F16 rounds as well. Answers to whether a continuation is greedy may
differ where two tokens are about as likely as each other.

--speed compares requests in one call with the same requests in one call each, without the HF model.
It needs torch, transformers and lm-eval. The last line of the output is one JSON object.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
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


def margin(theirs: Any, pair: tuple[str, str]) -> float:
    """Return by how much the logits of a continuation's tokens exceed all others, at least: below 0
    where it is not greedy."""
    import torch  # noqa: PLC0415

    context, continuation = theirs._encode_pair(*pair)
    given = torch.tensor([*context, *continuation])[None, :-1]
    with torch.no_grad():
        logits = theirs.model(given).logits[0, len(context) - 1 :].double()
    own = torch.tensor(continuation)[:, None]
    others = logits.scatter(1, own, -torch.inf).max(1).values
    return float((logits.gather(1, own)[:, 0] - others).min())


def scoring_row(asked: list[Any], found: list[Any], theirs: Any, expected: list[Any]) -> common.Row:
    """Compare log-likelihoods, and whether continuations are greedy."""
    answers = list(zip(found, expected, strict=True))
    apart = [
        margin(theirs, request.args)
        for request, ((_, a), (_, b)) in zip(asked, answers, strict=True)
        if a != b
    ]
    return {
        **differences([(a, b) for (a, _), (b, _) in answers]),
        "differ": len(apart),
        "largest_margin": max(map(abs, apart), default=0.0),
    }


def rolling_row(_: list[Any], found: list[Any], __: Any, expected: list[Any]) -> common.Row:
    """Compare the log-likelihoods of whole texts."""
    return differences(list(zip(found, expected, strict=True)))


def writing_row(asked: list[Any], found: list[Any], _: Any, expected: list[Any]) -> common.Row:
    """Count greedy texts that differ."""
    return {"n": len(asked), "differ": sum(a != b for a, b in zip(found, expected, strict=True))}


ROWS = {
    "loglikelihood": scoring_row,
    "loglikelihood_rolling": rolling_row,
    "generate_until": writing_row,
}


def requests(kind: str, n: int) -> list[Any]:
    """Return n requests of a kind."""
    if kind == "loglikelihood":
        return instances(kind, [*scoring_arguments(n)])
    if kind == "loglikelihood_rolling":
        return instances(kind, [(text,) for text in statements(n)])
    options = {"until": ["\n"], "max_gen_toks": 24}
    return instances(kind, [(text, options) for text in statements(n)])


def answers_of(model: Any, kind: str, asked: list[Any]) -> list[Any]:
    """Return what a model answers to requests of a kind, in one call."""
    found: list[Any] = getattr(model, kind)(asked, disable_tqdm=True)
    return found


def agreement(options: Any, load: Callable[[str], Any], theirs: Any) -> list[common.Row]:
    """Compare both models' answers, for each kind of request and type of KV cache."""
    rows = []
    for kind in options.kinds:
        asked = requests(kind, options.requests)
        common.progress(f"{kind} by the HF model")
        expected = answers_of(theirs, kind, asked)
        for kv_type in options.kv_types:
            with load(kv_type) as ours:
                found = answers_of(ours, kind, asked)
            compared = ROWS[kind](asked, found, theirs, expected)
            rows.append({"kind": kind, "kv_type": kv_type, **compared})
    return rows


def speed(options: Any, load: Callable[[str], Any]) -> list[common.Row]:
    """Time requests in one call against one call each; each time with an empty KV cache."""
    return [speed_row(kind, options, load) for kind in options.kinds]


def speed_row(kind: str, options: Any, load: Callable[[str], Any]) -> common.Row:
    """Return the times of one kind of request, and what one call for all gains."""
    asked = requests(kind, options.requests)

    def timed(work: Callable[[Any], Any]) -> float:
        with load(options.kv_types[0]) as ours:
            started = time.perf_counter()
            work(ours)
            return time.perf_counter() - started

    ways: dict[str, Callable[[Any], Any]] = {
        "one_call": lambda ours: answers_of(ours, kind, asked),
        "one_by_one": lambda ours: [answers_of(ours, kind, [each]) for each in asked],
    }
    if kind == "loglikelihood":
        ways["one_by_one_uncached"] = lambda ours: [whole(ours, each) for each in asked]
    rounds = [{name: timed(work) for name, work in ways.items()} for _ in range(options.rounds)]
    row: common.Row = {"kind": kind, "n": len(asked)}
    for name in ways:
        row.update(common.spread(f"{name}_seconds", [each[name] for each in rounds]))
    for name in [*ways][1:]:
        gains = [each[name] / each["one_call"] for each in rounds]
        row.update(common.spread(f"gain_over_{name}", gains))
    return row


def whole(ours: Any, request: Any) -> Any:
    """Return the scores of a request's whole text: nothing of what came before is reused."""
    context, continuation = ours._encode_pair(*request.args)
    return ours.model.score([*context, *continuation])


def main() -> None:
    """Read the arguments, measure, print and write."""
    from localgen.evaluate import LocalgenLM  # noqa: PLC0415  # an optional extra

    parser = common.argument_parser(__doc__, rounds=1)
    parser.add_argument("--requests", type=int, default=200, help="of each kind")
    parser.add_argument("--level", choices=["F16", "F32"], default="F16", help="of the weights")
    parser.add_argument("--kinds", nargs="+", choices=[*ROWS], default=[*ROWS], help="of requests")
    parser.add_argument("--kv-types", nargs="+", default=["f32", "f16"], help="of the KV cache")
    parser.add_argument("--speed", action="store_true", help="measure speed, not agreement")
    options = parser.parse_args()
    source = hub.resolve(options.model)
    with tempfile.TemporaryDirectory() as folder:
        made = quantize(source, options.level, output=folder, allow_requantize=True)

        def load(kv_type: str) -> Any:
            return LocalgenLM(
                made.path, max_length=2047, use_profile=False, device="cpu", kv_type=kv_type
            )

        if options.speed:
            rows = speed(options, load)
        else:
            rows = agreement(options, load, reference(source, options.level))
        with load("f16") as ours:
            threads = common.n_threads(ours.model)
    name = "lm_eval_speed" if options.speed else "lm_eval_parity"
    note = (
        "Requests in one call against one call each, and against whole texts without any reuse."
        if options.speed
        else f"Differences are those of log-likelihoods, ours minus the HF model's, with "
        f"{options.level} weights. largest_margin: of those that differ, by how much a token's "
        f"logit exceeds the next one's, at most."
    )
    common.report(name, rows, options, threads=threads, note=note)


if __name__ == "__main__":
    main()
