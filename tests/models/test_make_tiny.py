"""Checks that llama.cpp accepts the tiny models; says nothing of whether their text makes sense.

The models are loaded in a child process, because llama.cpp answers some bad files with an abort.
This module is that child: `python -m tests.models.test_make_tiny FILE...` from the root.
"""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.make_tiny import (
    END_OF_TEXT,
    IM_END,
    IM_START,
    LONG_TOKEN,
    bpe_vocab,
    make_gemma_swa,
    make_gpt2,
    make_lfm2,
    make_llama_bpe,
    make_llama_spm,
    make_longrope,
    make_mamba,
    spm_vocab,
)

ROOT = Path(__file__).resolve().parents[2]
TEXTS = ["the cat", "hello 42 caf\u00e9\n", LONG_TOKEN, f"{IM_START}hi{IM_END}"]
N_DECODED = 8
WARN, ERROR = 3, 4  # ggml log levels
KINDS = ("bpe", "bpe-f16", "spm", "swa", "swa-wide", "mamba", "gpt2", "lfm2", "longrope")


def tokenize(lc: Any, vocab: Any, text: str) -> list[int]:
    """The token ids of `text`, with the tokens the model adds and with control tokens parsed."""
    data = text.encode()
    ids = (lc.llama_token * (len(data) + 8))()
    n = lc.llama_tokenize(vocab, data, len(data), ids, len(ids), True, True)
    assert n >= 0, f"llama_tokenize returned {n}"
    return list(ids[:n])


def piece(lc: Any, vocab: Any, token: int) -> bytes:
    """The bytes that `token` stands for."""
    buffer = ctypes.create_string_buffer(2 * len(LONG_TOKEN))
    n = lc.llama_token_to_piece(vocab, token, buffer, len(buffer), 0, True)
    assert n >= 0, f"llama_token_to_piece returned {n}"
    return buffer.raw[:n]


def greedy(lc: Any, model: Any, n_vocab: int, prompt: list[int]) -> tuple[list[int], float]:
    """The N_DECODED best tokens after `prompt` and the smallest gap to a second best on the way."""
    params = lc.llama_context_default_params()
    params.n_ctx, params.n_threads, params.n_threads_batch = 256, 1, 1
    context = lc.llama_init_from_model(model, params)
    made: list[int] = []
    gaps: list[float] = []
    for _ in range(N_DECODED):
        feed = made[-1:] or prompt
        tokens = (lc.llama_token * len(feed))(*feed)  # named: the batch only points to it
        assert lc.llama_decode(context, lc.llama_batch_get_one(tokens, len(feed))) == 0
        logits = np.ctypeslib.as_array(lc.llama_get_logits_ith(context, -1), shape=(n_vocab,))
        assert np.isfinite(logits).all()
        made.append(int(logits.argmax()))
        second, best = np.sort(logits)[-2:]
        gaps.append(float(best - second))
    lc.llama_free(context)
    return made, min(gaps)


def probe(lc: Any, path: str, warnings: list[str]) -> dict[str, Any]:
    """What llama.cpp makes of the file: its warnings at load, special ids, tokens and output."""
    warnings.clear()
    params = lc.llama_model_default_params()
    params.n_gpu_layers = 0
    model = lc.llama_model_load_from_file(path.encode(), params)
    assert model, f"not loaded: {path}"
    at_load = list(warnings)
    vocab = lc.llama_model_get_vocab(model)
    n_vocab = lc.llama_vocab_n_tokens(vocab)
    ids = [tokenize(lc, vocab, text) for text in TEXTS]
    made, gaps = zip(*(greedy(lc, model, n_vocab, row) for row in ids[:2]), strict=True)
    return {
        "warnings": at_load,
        "n_ctx_train": lc.llama_model_n_ctx_train(model),
        "chat_template": (lc.llama_model_chat_template(model, None) or b"").decode(),
        "special": [
            lc.llama_vocab_bos(vocab),
            lc.llama_vocab_eos(vocab),
            lc.llama_vocab_eot(vocab),
        ],
        "eog": [i for i in range(n_vocab) if lc.llama_vocab_is_eog(vocab, i)],
        "ids": ids,
        "text": [b"".join(piece(lc, vocab, i) for i in row).decode() for row in ids],
        "made": made,
        "gap": min(gaps),
    }


def child(paths: list[str]) -> None:
    """Print one JSON list with the probe of each file."""
    import llama_cpp.llama_cpp as lc

    warnings: list[str] = []

    def keep(level: int, text: bytes, _data: Any) -> None:
        if level in (WARN, ERROR):
            warnings.append(text.decode())

    callback = lc.llama_log_callback(keep)
    lc.llama_log_set(callback, ctypes.c_void_p(0))
    lc.llama_backend_init()
    print(json.dumps([probe(lc, path, warnings) for path in paths]))


@pytest.fixture(scope="module")
def probes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """The probe of one model of each kind, all from one child process."""
    folder = tmp_path_factory.mktemp("tiny")
    paths = {name: folder / f"{name}.gguf" for name in KINDS}
    make_llama_bpe(paths["bpe"])
    make_llama_bpe(
        paths["bpe-f16"], file_type="F16", n_ctx_train=128, eos=IM_END, add_bos=True,
        chat_template="{{ messages }}",
    )  # fmt: skip
    make_llama_spm(paths["spm"])
    make_gemma_swa(paths["swa"])
    make_gemma_swa(paths["swa-wide"], window=256)
    make_mamba(paths["mamba"], n_ctx_train=128, chat_template="{{ messages }}")
    make_gpt2(paths["gpt2"])
    make_lfm2(paths["lfm2"])
    make_longrope(paths["longrope"])
    command = [sys.executable, "-m", "tests.models.test_make_tiny", *map(str, paths.values())]
    env = os.environ | {"GGML_NO_BACKTRACE": "1"}  # without it an abort waits for a debugger
    done = subprocess.run(
        command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, f"child exit {done.returncode}\n{done.stderr}"
    return dict(zip(paths, json.loads(done.stdout), strict=True))


@pytest.mark.parametrize("name", KINDS)
def test_loads_without_warnings_and_decodes(probes: dict[str, dict[str, Any]], name: str) -> None:
    """Protects every test built on these files from a model that is odd or too dull to fail.

    llama.cpp has nothing to remark at load, the logits are finite (checked in the child), and two
    prompts part ways by more than rounding, so that a test which compares outputs can fail.
    """
    found = probes[name]
    assert found["warnings"] == []
    first, second = found["made"]
    assert first != second
    assert len(set(first)) > 1
    assert len(set(second)) > 1
    assert found["gap"] > 1e-3


def test_bpe_vocabulary_as_described(probes: dict[str, dict[str, Any]]) -> None:
    """Protects the ids and texts that other tests write out by hand for the BPE vocabulary."""
    vocab = bpe_vocab()
    found = probes["bpe"]
    end, start, im_end = (vocab.tokens.index(text) for text in (END_OF_TEXT, IM_START, IM_END))
    assert found["special"] == [end, end, im_end] == [0, 0, 2]
    assert found["eog"] == [end, im_end]
    assert found["text"] == TEXTS
    assert found["ids"][0] == [vocab.tokens.index("the"), *(3 + byte for byte in b" cat")]
    assert found["ids"][2] == [len(vocab.tokens) - 1]
    assert found["ids"][3] == [start, 3 + ord("h"), 3 + ord("i"), im_end]


def test_bpe_arguments_reach_the_file(probes: dict[str, dict[str, Any]]) -> None:
    """Protects the arguments of `make_llama_bpe`: one dropped on the way would go unseen."""
    found = probes["bpe-f16"]
    assert found["n_ctx_train"] == 128
    assert found["special"] == [0, 2, 2]
    assert [row[0] for row in found["ids"]] == [0] * len(TEXTS)
    assert found["chat_template"] == "{{ messages }}"


def test_spm_vocabulary_as_described(probes: dict[str, dict[str, Any]]) -> None:
    """Protects the SPM vocabulary: its added bos and space, its words, its spelling in bytes."""
    vocab = spm_vocab()
    found = probes["spm"]
    assert found["special"] == [1, 2, -1]
    assert found["eog"] == [2]
    assert found["text"] == [f"<s> {text}" for text in TEXTS]
    words = ["<s>", "\u2581the", "\u2581", "c", "a", "t"]
    assert found["ids"][0] == [vocab.tokens.index(word) for word in words]
    assert found["ids"][1][-3:] == [3 + byte for byte in "\u00e9\n".encode()]


def test_window_is_smaller_than_the_prompt(probes: dict[str, dict[str, Any]]) -> None:
    """Protects tests of sliding windows: with a window that holds everything, the text differs."""
    assert probes["swa"]["ids"] == probes["swa-wide"]["ids"] == probes["spm"]["ids"]
    assert probes["swa"]["made"][1] != probes["swa-wide"]["made"][1]


def test_mamba_arguments_reach_the_file(probes: dict[str, dict[str, Any]]) -> None:
    """Protects the arguments of `make_mamba`, and its vocabulary, which is the BPE llama's."""
    found = probes["mamba"]
    assert found["n_ctx_train"] == 128
    assert found["chat_template"] == "{{ messages }}"
    for key in ("special", "eog", "ids", "text"):
        assert found[key] == probes["bpe"][key]


@pytest.mark.parametrize(
    "make",
    [
        *(make_llama_bpe, make_llama_spm, make_gemma_swa, make_mamba),
        *(make_gpt2, make_lfm2, make_longrope),
    ],
)
def test_same_arguments_give_same_bytes(make: Any, tmp_path: Path) -> None:
    """Protects expected outputs written into other tests, which hold only for one exact file."""
    first, again, other = (tmp_path / f"{name}.gguf" for name in ("first", "again", "other"))
    make(first)
    make(again)
    make(other, seed=1)
    assert first.read_bytes() == again.read_bytes()
    assert first.read_bytes() != other.read_bytes()
    assert first.stat().st_size < 1_000_000


if __name__ == "__main__":
    child(sys.argv[1:])
