"""Exercises a model's vocabulary with everything that could kill the process, and generates.

    python -m localgen.llama.vocab_probe FILE

It runs in the child process of ``vocab_trial``. Surviving is the result.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

from localgen._util import child
from localgen._util.system import usable_cpus
from localgen.errors import DecodeError, InvalidGGUFError
from localgen.llama.in_flight_calls import InFlightCalls
from localgen.llama.library import llama, log_router
from localgen.llama.vocab import LlamaVocab

_N_CTX = 64
_MAX_PROMPT, _N_NEW = 16, 4
_RUN = 5000
_SURROGATES = range(0xD800, 0xE000)
# The step between code points: below 64, so that every first and last byte of UTF-8 occurs.
_EVERY, _PART = 61, 512


def hostile_texts() -> Iterator[bytes]:
    """Yield UTF-8 texts that are hard to tokenize.

    Invalid UTF-8 is left out: it never reaches a tokenizer, and even known types abort on it.
    """
    yield b""
    yield from (chr(point).encode() for point in range(256))
    yield b"before\0after"
    yield from (text.encode() for text in _ODD)
    every = [point for point in range(0, sys.maxunicode + 1, _EVERY) if point not in _SURROGATES]
    text = "".join(map(chr, every))
    yield from (text[start : start + _PART].encode() for start in range(0, len(text), _PART))
    yield from (unit.encode() * (_RUN // len(unit)) for unit in _UNITS)


_ODD = (
    "Hello, world! It's 3.14159 o'clock, isn't it?",
    " leading and trailing  \t ",
    "\r\n\r\n\n\t\x0b\x0c\x1c\x85",
    "1234567890 12,345,678.90 ٣٤٥ ⅷ ²",
    "\u00a0\u2003\u2028\u2029\u3000\ufeff\u200b\u2060",
    "e\u0301 n\u0303 \u0301\u0302 Z\u0351\u036b\u0343\u036a",
    "👩‍👩‍👧‍👦🏳️‍🌈👍🏽🇵🇪 \U0001f1e6",
    "שלום عربي हिन्दी ไทย 漢字 かな 한국어 ქართული",
    "\u202eright to left\u202c \ufffd \uffff \U0010ffff",
    "\ue000 \U000f0000",
    "<s></s><unk><pad>[UNK][CLS]<0x00><0xFF>▁<|endoftext|><|im_start|>",
    "def f(x):\n    return {'a': [x]*2}  # ∑ ≠ ∞\n",
)
_UNITS = (" ", "a", "\n", "=", "ab ", "1", "é", "漢", "🙂", "\0")


def main(path: str) -> None:
    """Load, tokenize, detokenize and generate. Raises LocalgenError for orderly failures."""
    bindings = llama()
    model = _load(bindings, path)
    try:
        vocab = LlamaVocab(bindings.llama_model_get_vocab(model), {}, InFlightCalls())
        _walk_vocabulary(vocab)
        prompt = vocab.tokenize(b"Hello, world", add_special=True, parse_special=True)
        if bindings.llama_model_has_decoder(model) and not bindings.llama_model_has_encoder(model):
            _generate(bindings, model, vocab, prompt[:_MAX_PROMPT].tolist() or [0])
    finally:
        bindings.llama_model_free(model)


def _load(bindings: Any, path: str) -> Any:
    params = bindings.llama_model_default_params()
    params.n_gpu_layers = 0
    # No repacking: weights stay in the mapped file, whose pages the parent then finds in memory.
    params.use_extra_bufts = False
    log_router.take_errors()
    model = bindings.llama_model_load_from_file(os.fsencode(path), params)
    if not model:
        reason = log_router.take_errors() or "no reason was given"
        raise InvalidGGUFError(f"llama.cpp refuses the file: {reason}")
    return model


def _walk_vocabulary(vocab: LlamaVocab) -> None:
    pieces = [vocab.token_bytes(token_id) for token_id in range(vocab.n_vocab)]
    special = [piece for id_, piece in enumerate(pieces) if vocab.is_special(id_)]
    special += [pieces[token_id] for token_id in vocab.eog_ids]
    for text in (*hostile_texts(), *special[:_RUN], b" ".join(special[:_RUN])):
        for add_special, parse_special in ((True, True), (False, False)):
            ids = vocab.tokenize(text, add_special=add_special, parse_special=parse_special)
            if ids.size and not 0 <= ids.min() <= ids.max() < vocab.n_vocab:
                raise InvalidGGUFError("its vocabulary returns token ids outside the vocabulary")


def _generate(bindings: Any, model: Any, vocab: LlamaVocab, token_ids: list[int]) -> None:
    params = bindings.llama_context_default_params()
    params.n_ctx = params.n_batch = params.n_ubatch = _N_CTX
    params.n_threads = params.n_threads_batch = usable_cpus()
    context = bindings.llama_init_from_model(model, params)
    if not context:
        reason = log_router.take_errors() or "no reason was given"
        raise DecodeError(f"llama.cpp cannot make a context: {reason}")
    try:
        for _ in range(_N_NEW):
            tokens = (bindings.llama_token * len(token_ids))(*token_ids)
            batch = bindings.llama_batch_get_one(tokens, len(token_ids))
            if code := bindings.llama_decode(context, batch):
                raise DecodeError(f"llama_decode returned {code}")
            logits = bindings.llama_get_logits_ith(context, -1)
            chosen = int(np.argmax(np.ctypeslib.as_array(logits, (vocab.n_vocab,))))
            vocab.token_bytes(chosen)
            token_ids = [chosen]
    finally:
        bindings.llama_free(context)


if __name__ == "__main__":
    child.answer(lambda: main(sys.argv[1]))
