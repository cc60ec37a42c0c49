"""How far from transformers are llama.cpp's own log-likelihoods, and why?

    python benchmarks/lm_eval_bound.py [--requests N] [--levels F16 F32] [--output DIR]

Whole texts are scored, as in lm-eval's loglikelihood_rolling, by lm-eval's HF model in float32 and,
on the same weights, by localgen, by llama.cpp alone (llama_decode with the logits of every token,
log-softmax in float64), and by the HF model with the inputs of its matrices rounded to the weights'
type, as llama.cpp rounds them. It needs torch, transformers and lm-eval. The last line of the
output is one JSON object.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import common
import numpy as np
from common import Row
from lm_eval_parity import answers_of, differences, reference, requests

from localgen import hub, quantize
from localgen.llama.backend import FLASH_ATTENTION_TYPES
from localgen.llama.baseline import make_batch

KIND = "loglikelihood_rolling"
N_CTX = 256
_NOTE = """\
Differences are those of log-likelihoods of whole texts from lm-eval's HF model in float32 on the
same weights. rounded_inputs: that model with the inputs of each matrix rounded to F16, as llama.cpp
rounds them. from_llama_cpp: the largest difference from llama.cpp alone. The KV cache is F32."""


def alone(backend: Any, texts: Sequence[Sequence[int]]) -> list[float]:
    """Return the log-likelihood of each text after its first token, by llama.cpp alone."""
    llama = backend._llama
    params = llama.llama_context_default_params()
    params.n_ctx = params.n_batch = params.n_ubatch = N_CTX
    params.type_k = params.type_v = 0  # GGML_TYPE_F32
    params.n_threads = params.n_threads_batch = backend.n_threads
    params.flash_attn_type = FLASH_ATTENTION_TYPES["off"]
    context = llama.llama_init_from_model(backend._model, params)
    try:
        return [_text_alone(llama, context, backend.n_vocab, text) for text in texts]
    finally:
        llama.llama_free(context)


def _text_alone(llama: Any, context: Any, n_vocab: int, text: Sequence[int]) -> float:
    n = len(text)
    llama.llama_memory_clear(llama.llama_get_memory(context), True)
    code = llama.llama_decode(context, make_batch(llama, text, range(n), [0] * n, [1] * n))
    if code:
        raise RuntimeError(f"llama_decode returned {code}")
    found = np.ctypeslib.as_array(llama.llama_get_logits(context), (n, n_vocab))
    logits = found[:-1].astype(np.float64)
    highest = logits.max(axis=1)
    totals = highest + np.log(np.exp(logits - highest[:, None]).sum(axis=1))
    return float((logits[np.arange(n - 1), list(text[1:])] - totals).sum())


@contextmanager
def rounded_inputs(model: Any) -> Iterator[None]:
    """Round what each matrix of a transformers model is multiplied with to F16."""
    import torch  # noqa: PLC0415

    def rounded(_: Any, given: tuple[Any, ...]) -> tuple[Any, ...]:
        return (given[0].to(torch.float16).to(torch.float32), *given[1:])

    hooks = [
        each.register_forward_pre_hook(rounded)
        for each in model.modules()
        if isinstance(each, torch.nn.Linear)
    ]
    try:
        yield
    finally:
        for each in hooks:
            each.remove()


def rows_of(source: Path, level: str, folder: str, n_requests: int) -> list[Row]:
    """Return a row for each program that scores the texts on weights of a level."""
    from localgen.evaluate import LocalgenLM  # noqa: PLC0415  # an optional extra

    asked = requests(KIND, n_requests)
    common.progress(f"{level} by the HF model")
    theirs = reference(source, level)
    expected = answers_of(theirs, KIND, asked)
    found: dict[str, list[float]] = {}
    if level == "F16":
        with rounded_inputs(theirs.model):
            found["HF model, rounded_inputs"] = answers_of(theirs, KIND, asked)
    path = quantize(source, level, output=folder, allow_requantize=True).path
    common.progress(f"{level} by llama.cpp")
    with LocalgenLM(path, max_length=N_CTX, use_profile=False, kv_type="f32") as ours:
        found["localgen"] = answers_of(ours, KIND, asked)
        texts = [[ours.prefix_token_id, *ours.tok_encode(each.args[0])] for each in asked]
        bare = found["llama.cpp alone"] = alone(ours.model._backend, texts)
    return [
        {
            "weights": level,
            "program": name,
            **differences(list(zip(values, expected, strict=True))),
            "from_llama_cpp": max(abs(a - b) for a, b in zip(values, bare, strict=True)),
        }
        for name, values in found.items()
    ]


def main() -> None:
    """Read the arguments, measure, print and write."""
    parser = common.argument_parser(__doc__, rounds=1)
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--levels", nargs="+", choices=["F16", "F32"], default=["F16", "F32"])
    options = parser.parse_args()
    source = hub.resolve(options.model)
    with tempfile.TemporaryDirectory() as folder:
        rows = [
            row
            for level in options.levels
            for row in rows_of(source, level, folder, options.requests)
        ]
    common.report("lm_eval_bound", rows, options, threads=common.usable_cpus(), note=_NOTE)


if __name__ == "__main__":
    main()
