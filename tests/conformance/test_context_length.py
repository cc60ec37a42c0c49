"""Models for which the length of a context, or the number of its sequences, is more than a size."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFWriter

from localgen import ContextFullError, KvBudgetError, LocalModel, ModelConfig, StateError
from localgen.gguf import gate
from localgen.gguf.memory import estimate
from models.make_tiny import (
    LlamaShape,
    bpe_vocab,
    finish,
    make_gpt2,
    make_lfm2,
    make_longrope,
    make_mamba,
    write_llama,
    write_vocab,
)
from tests.conformance.compare import prompt
from tests.conformance.invariants import backend_of
from tests.conftest import RunChild

OPTIONS: dict[str, Any] = {"n_threads": 1, "kv_type": "f32", "flash_attention": "off"}
N_NEW = 8


def greedy(model: LocalModel, *prompts: list[int]) -> list[list[int]]:
    ends = list(model.tokenizer.eos_token_ids)
    options: dict[str, Any] = {"max_new_tokens": N_NEW, "suppress_tokens": ends}
    return [row.token_ids for row in model.complete(list(prompts), do_sample=False, **options)]


# --- positions that the model has learned ---


BEYOND = """
import sys, localgen
with localgen.LocalModel.from_pretrained(sys.argv[1], n_ctx=512, n_threads=1) as model:
    print(model.config.n_ctx)
    ends = list(model.tokenizer.eos_token_ids)
    prompt = [3 + 7 * i % 250 for i in range(60)]
    done = model.complete([prompt], max_new_tokens=99, suppress_tokens=ends)[0]
    print(len(done.token_ids), done.finish_reason)
    try:
        model.score([3 + i for i in range(65)])
    except localgen.ContextFullError as error:
        print(error.n_ctx)
"""


def test_context_ends_with_the_learned_positions(tmp_path: Path, run_child: RunChild) -> None:
    """Protects the process: llama.cpp aborts at a token after a learned table's end."""
    make_gpt2(tmp_path / "gpt2.gguf", n_ctx_train=64)
    child = run_child(BEYOND, tmp_path / "gpt2.gguf", warnings="ignore")
    assert child.returncode == 0, child.stderr
    assert child.stdout.splitlines() == ["64", "4 length", "64"]


def test_shorter_context_is_said(tmp_path: Path) -> None:
    """Protects the caller's n_ctx from a change without a word; one that fits stays as it is."""
    path = tmp_path / "gpt2.gguf"
    make_gpt2(path, n_ctx_train=64)
    with pytest.warns(UserWarning, match="n_ctx is 64 instead of 4096: gpt2.gguf"):
        LocalModel.from_pretrained(path, n_threads=1).close()
    with LocalModel.from_pretrained(path, n_ctx=64, **OPTIONS) as model:
        assert len(greedy(model, prompt(1, 56))[0]) == N_NEW
        with pytest.raises(ContextFullError):
            greedy(model, prompt(1, 64))


# --- keys that are rotated by the context's length ---


@pytest.fixture(scope="module")
def longrope(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A llama whose keys are rotated eight times slower in a context of more than 512 tokens."""
    path = tmp_path_factory.mktemp("longrope") / "longrope.gguf"
    make_longrope(path, n_ctx_original=512)
    return path


@pytest.fixture(scope="module")
def fresh(longrope: Path) -> Iterator[LocalModel]:
    """The same model with a large n_ctx, which keeps nothing from one prompt to the next."""
    options: dict[str, Any] = {
        "n_threads": 1,
        "kv_type": "f32",
        "n_ctx": 2048,
        "deterministic": True,
    }
    with LocalModel.from_pretrained(longrope, **options) as model:
        yield model


def test_factors_follow_n_ctx_alone(longrope: Path, fresh: LocalModel) -> None:
    """Protects a short prompt from what ran before it or runs beside it: a longer sequence remakes
    the context, and then it would be rotated by other factors."""
    short, long = prompt(3, 30), prompt(5, 700)
    expected = greedy(fresh, short)
    with LocalModel.from_pretrained(longrope, n_ctx=512, **OPTIONS) as small:
        assert greedy(small, short) != expected
    with LocalModel.from_pretrained(longrope, n_ctx=2048, max_sequences=3, **OPTIONS) as model:
        assert greedy(model, short) == expected
        assert greedy(model, long) == greedy(fresh, long)
        assert greedy(model, short) == expected
        assert greedy(model, long, short)[1:] == expected


def test_chat_that_outgrows_the_original_length(longrope: Path, fresh: LocalModel) -> None:
    """Protects cached keys: those of a short context would be read as if rotated by the long
    factors."""
    turns = [prompt(4, n) for n in (100, 400, 600, 1100)]
    with LocalModel.from_pretrained(longrope, n_ctx=2048, **OPTIONS) as model:
        assert [greedy(model, turn) for turn in turns] == [greedy(fresh, turn) for turn in turns]


def test_shared_cells_are_no_longer_context(longrope: Path) -> None:
    """Protects many prompts with one prefix at a short n_ctx: the cells of all together are more
    than the original length, and none of them is long."""
    prompts = [prompt(3, 400) + prompt(row, 20) for row in range(8)]
    with LocalModel.from_pretrained(longrope, n_ctx=512, max_sequences=8, **OPTIONS) as model:
        together = greedy(model, *prompts)
    options: dict[str, Any] = {
        "n_threads": 1,
        "kv_type": "f32",
        "n_ctx": 512,
        "deterministic": True,
    }
    with LocalModel.from_pretrained(longrope, **options) as alone:
        assert together == [greedy(alone, each)[0] for each in prompts]


def test_session_of_the_other_factors(longrope: Path, tmp_path: Path) -> None:
    """Protects a session from a model that would read its keys by other factors."""
    session = tmp_path / "session"
    with LocalModel.from_pretrained(longrope, n_ctx=512, **OPTIONS) as model:
        greedy(model, prompt(3, 30))
        model.save_session(session)
    with LocalModel.from_pretrained(longrope, n_ctx=1024, **OPTIONS) as model:
        with pytest.raises(StateError, match="n_ctx is up to 512, here it is above 512"):
            model.load_session(session)
        greedy(model, prompt(3, 30))
        model.save_session(session)
    with LocalModel.from_pretrained(longrope, n_ctx=2048, **OPTIONS) as model:
        assert model.load_session(session) == 1


def test_no_session_of_two_caches(tmp_path: Path) -> None:
    """Protects a session that could be saved but not loaded: DeepSeek-V3.2 has a second cache."""
    path, vocab = tmp_path / "indexer.gguf", bpe_vocab()
    writer = GGUFWriter(path, "llama")
    write_llama(writer, LlamaShape(), len(vocab.tokens), 0, "F32")
    writer.add_uint32("llama.attention.indexer.key_length", 64)
    write_vocab(writer, vocab)
    finish(writer)
    with LocalModel.from_pretrained(path, n_ctx=2048, **OPTIONS) as model:
        short = greedy(model, prompt(3, 30))
        with pytest.raises(StateError, match="an attention indexer"):
            model.save_session(tmp_path / "session")
        greedy(model, prompt(5, 700))
        assert greedy(model, prompt(3, 30)) == short
    assert not (tmp_path / "session").exists()


# --- states of a size that no length changes ---


@pytest.mark.parametrize("make", [make_lfm2, make_mamba])
def test_states_count_in_the_budget(make: Any, tmp_path: Path) -> None:
    """Protects the memory from recurrent states, which each sequence needs however short it is."""
    path = tmp_path / "model.gguf"
    make(path)
    file = gate.check_model(path)
    per_sequence = estimate(file, ModelConfig(n_ctx=512, kv_type="f32")).ram.kv_cache
    options: dict[str, Any] = {"n_ctx": 512, "max_sequences": 8, **OPTIONS}
    prompts = [prompt(row, 10 + row) for row in range(5)]
    with LocalModel.from_pretrained(path, **options) as model:
        expected = greedy(model, *prompts)
    with LocalModel.from_pretrained(path, kv_budget=3 * per_sequence, **options) as model:
        assert greedy(model, *prompts) == expected
        assert backend_of(model).n_slots == 3
    with pytest.raises(KvBudgetError):
        LocalModel.from_pretrained(path, kv_budget=per_sequence - 1, **options)


def test_estimate_is_what_llama_allocates(tmp_path: Path) -> None:
    """Protects the estimate of a state: llama.cpp saves it whole, with some bytes of its own."""
    for make in (make_lfm2, make_mamba):
        path = tmp_path / f"{make.__name__}.gguf"
        make(path)
        with LocalModel.from_pretrained(path, n_ctx=512, max_sequences=1, **OPTIONS) as model:
            greedy(model, prompt(1, 1))
            backend = backend_of(model)
            n_tokens = 1 + N_NEW - 1
            n_bytes = backend._state_bytes + n_tokens * backend.kv_bytes_per_token
            assert np.abs(len(backend.kv_state(0)) - n_bytes) < 500
