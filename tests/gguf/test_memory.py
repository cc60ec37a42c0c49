"""The memory estimate, checked by hand, and the refusal of models that do not fit."""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from localgen import BackendError, LocalModel, ModelConfig, NotEnoughMemoryError
from localgen._util import system
from localgen.gguf import gate
from localgen.gguf.gate import ModelFile
from localgen.gguf.memory import estimate, repacked_types, tokens_at_once
from localgen.gguf.metadata import Hyperparameters
from localgen.gguf.reader import GGUF, Array, Tensor
from localgen.gguf.strings import Strings
from localgen.gguf.tensor_types import TENSOR_TYPES
from localgen.llama import fitting
from models.make_tiny import make_gemma_swa, make_mamba
from tests.conformance.invariants import backend_of
from tests.conftest import RunChild

TYPES = {kind.name: kind for kind in TENSOR_TYPES.values()}
GIB = 2**30


def tensor(name: str, kind: str, *shape: int) -> Tensor:
    n_bytes = int(np.prod(shape)) // TYPES[kind].block * TYPES[kind].n_bytes
    return Tensor(name, shape, TYPES[kind], 0, n_bytes)


def model_file(*tensors: Tensor, n_tokens: int = 1000, **sizes: Any) -> ModelFile:
    """A model of two layers of width 64, with 4 heads of 16, of which 2 have KV."""
    shape = {
        "block_count": 2,
        "embedding_length": 64,
        "feed_forward_length": 128,
        "attention.head_count": 4,
        "attention.head_count_kv": 2,
        **sizes,
    }
    metadata: dict[str, Any] = {f"llama.{key}": value for key, value in shape.items()}
    metadata["general.architecture"] = "llama"
    metadata["tokenizer.ggml.tokens"] = Array("string", n_tokens)
    metadata["tokenizer.ggml.merges"] = Array("string", 500)
    gguf = GGUF(Path("a.gguf"), 1, 3, 32, metadata, {}, tensors, 0, Strings([]))
    return ModelFile((gguf,), ())


EMBEDDING = tensor("token_embd.weight", "Q8_0", 64, 1000)
LAYERS = [tensor(f"blk.{i}.attn_q.weight", "Q4_0", 64, 64) for i in range(2)]
NORM = tensor("output_norm.weight", "F32", 64)
OUTPUT = tensor("output.weight", "Q4_0", 64, 1000)
EMBEDDING_BYTES, LAYER_BYTES, NORM_BYTES, OUTPUT_BYTES = 68_000, 2304, 256, 36_000


def test_the_parts_by_hand():
    """Weights, KV cache, compute and vocabulary of a small model, by their formulas."""
    found = estimate(model_file(EMBEDDING, *LAYERS, NORM, OUTPUT), ModelConfig(n_ctx=512))
    assert found.ram.weights == EMBEDDING_BYTES + 2 * LAYER_BYTES + NORM_BYTES + OUTPUT_BYTES
    assert found.kv_bytes_per_token == 2 * 2 * (16 + 16) * 2  # layers, heads, keys and values, F16
    assert found.ram.kv_cache == 512 * 256
    activations = 4 * 512 * (2 * 128 + 3 * 64)
    scores = 512 * 512 * (4 + 4 * (4 + 2))  # the mask, and of each head F32 and its F16
    assert found.ram.compute == activations + scores
    assert found.ram.vocabulary == 5_000_000 + 250 * 1000 + 100 * 500
    assert found.ram.repacked == found.reclaimable == found.gpu.total == 0
    assert found.needed == found.ram.total


@pytest.mark.parametrize(
    ("kv_type", "per_token"), [("f32", 512), ("f16", 256), ("q8_0", 136), ("q4_0", 72)]
)
def test_kv_by_type(kv_type, per_token):
    """A quantized cache takes its blocks' bytes, and no scores: it needs flash attention."""
    found = estimate(model_file(), ModelConfig(n_ctx=1024, kv_type=kv_type), n_sequences=3)
    assert found.kv_bytes_per_token == per_token
    assert found.ram.kv_cache == 3 * 1024 * per_token
    activations = 4 * 512 * (2 * 128 + 3 * 64)
    bytes_per_score = {"f32": 4, "f16": 4 + 2}.get(kv_type)
    mask = 4 + 2 if bytes_per_score is None else 4 + 4 * bytes_per_score
    assert found.ram.compute == activations + 512 * 1024 * mask


def test_tokens_at_once_are_a_whole_pass_unless_fewer_are_asked_for():
    assert tokens_at_once(ModelConfig(n_batch=64)) == 64
    assert tokens_at_once(ModelConfig(n_ubatch=100)) == 100


def test_room_is_had_by_cells():
    """300 tokens take 512 cells, as in the KV cache that is made for them."""
    assert estimate(model_file(), ModelConfig(n_ctx=300)).ram.kv_cache == 512 * 256


def test_layers_of_different_heads():
    """In a hybrid model, layers without KV heads hold a state of constant size."""
    sizes: dict[str, Any] = {
        "attention.head_count_kv": Array("i32", 2, np.array([0, 2], np.int32)),
        "ssm.conv_kernel": 4,
        "ssm.inner_size": 128,
        "ssm.state_size": 16,
        "ssm.group_count": 1,
    }
    file = model_file(**sizes)
    state = 4 * (3 * (128 + 2 * 16) + 16 * 128)
    assert Hyperparameters(file.metadata).state_bytes == state
    found = estimate(file, ModelConfig(n_ctx=512), n_sequences=2)
    assert found.kv_bytes_per_token == 128
    assert found.ram.kv_cache == 2 * (512 * 128 + state)


def test_attention_in_every_fourth_layer():
    """Models with ``full_attention_interval`` cache keys and values only in those layers."""
    file = model_file(block_count=8, full_attention_interval=4)
    assert Hyperparameters(file.metadata).kv_heads == [0, 0, 0, 2, 0, 0, 0, 2]


@pytest.mark.parametrize("odd", [np.array([np.nan, 1.0]), np.array([True, False])])
def test_metadata_that_is_no_number_is_not_counted(odd):
    """The gate does not check every key: an odd value must not raise another error."""
    heads: dict[str, Any] = {"attention.head_count_kv": Array("f32", 2, odd)}
    sizes = Hyperparameters(model_file(**heads).metadata)
    assert sizes.kv_heads == []
    assert sizes.kv_bytes_per_token("f16") == 0


def test_a_state_of_mamba(tmp_path):
    """A recurrent model has no KV cache at all."""
    make_mamba(tmp_path / "m.gguf")
    file = gate.check_model(tmp_path / "m.gguf")
    found = estimate(file, ModelConfig(n_ctx=512))
    assert found.kv_bytes_per_token == 0
    n_layer = Hyperparameters(file.metadata).n_layer
    assert found.ram.kv_cache == n_layer * Hyperparameters(file.metadata).state_bytes > 0


@pytest.mark.slow
@pytest.mark.parametrize(("n_ctx", "kv_type"), [(512, "f16"), (1024, "q8_0")])
def test_a_sliding_window_against_llama_cpp(n_ctx, kv_type, tmp_path, caplog):
    """llama.cpp reports its KV caches: that of the windowed layers is as long as the other one."""
    make_gemma_swa(tmp_path / "g.gguf", n_ctx_train=n_ctx)
    options = {"n_ctx": n_ctx, "kv_type": kv_type, "n_threads": 1, "max_sequences": 1}
    with (
        caplog.at_level("DEBUG", "localgen.llama"),
        LocalModel.from_pretrained(tmp_path / "g.gguf", **options) as model,
    ):
        model.complete([[40] * (n_ctx - 4)], max_new_tokens=1)
    sizes = re.findall(r"KV buffer size = +([\d.]+) MiB", caplog.text)
    assert len(sizes) == 2
    found = estimate(
        gate.check_model(tmp_path / "g.gguf"), ModelConfig(n_ctx=n_ctx, kv_type=kv_type)
    )
    assert found.ram.kv_cache / 2**20 == pytest.approx(sum(map(float, sizes)), abs=0.01)


@pytest.mark.parametrize(
    ("features", "types"),
    [
        ("CPU : AVX2 = 1 | REPACK = 1 |", {"Q4_0", "Q4_K", "IQ4_NL", "MXFP4"}),
        ("CPU : AVX2 = 1 | AVX512 = 1 | REPACK = 1 |", {"Q4_0", "Q4_K", "IQ4_NL", "MXFP4", "Q2_K"}),
        ("CPU : AVX2 = 1 | REPACK = 0 |", set()),
        ("CPU : AVX2 = 1 |", set()),
        ("CPU : SSE3 = 1 | REPACK = 1 |", set()),
    ],
)
def test_which_types_are_kept_twice(features, types):
    """The build's features decide; those of the processor alone mean nothing."""
    assert repacked_types(features) == types


def test_repacked_copies():
    """Repacked matrices count twice, but the file's pages can be reclaimed.

    Not repacked: an embedding that only looks up rows, and matrices whose number of rows is not
    divisible by 8.
    """
    odd = tensor("blk.0.odd.weight", "Q4_0", 64, 12)
    embedding = tensor("token_embd.weight", "Q4_0", 64, 1000)
    untied = estimate(
        model_file(embedding, *LAYERS, NORM, OUTPUT, odd), ModelConfig(), repacked={"Q4_0"}
    )
    assert untied.ram.repacked == untied.reclaimable == 2 * LAYER_BYTES + OUTPUT_BYTES
    assert untied.needed == untied.ram.total - untied.ram.repacked
    tied = estimate(model_file(embedding, *LAYERS), ModelConfig(), repacked={"Q4_0"})
    assert tied.ram.repacked == 2 * LAYER_BYTES + OUTPUT_BYTES  # the embedding is the output


@pytest.mark.parametrize(
    ("n_gpu_layers", "on_gpu"),
    [
        (0, 0),
        (1, NORM_BYTES + OUTPUT_BYTES),
        (2, LAYER_BYTES + NORM_BYTES + OUTPUT_BYTES),
        (-1, 2 * LAYER_BYTES + NORM_BYTES + OUTPUT_BYTES),
        (99, 2 * LAYER_BYTES + NORM_BYTES + OUTPUT_BYTES),
    ],
)
def test_layers_on_a_gpu(n_gpu_layers, on_gpu):
    """llama.cpp offloads the output first, then layers from the last one; never the embedding."""
    file = model_file(EMBEDDING, *LAYERS, NORM, OUTPUT)
    whole = EMBEDDING_BYTES + 2 * LAYER_BYTES + NORM_BYTES + OUTPUT_BYTES
    found = estimate(file, ModelConfig(n_ctx=512), n_gpu_layers=n_gpu_layers)
    assert (found.gpu.weights, found.ram.weights) == (on_gpu, whole - on_gpu)
    kv_layers_on_gpu = {0: 0, 1: 0, 2: 1}.get(n_gpu_layers, 2)
    assert found.gpu.kv_cache == kv_layers_on_gpu * 512 * 128
    assert found.ram.kv_cache == (2 - kv_layers_on_gpu) * 512 * 128
    assert found.kv_share_in_ram == (2 - kv_layers_on_gpu) / 2


def test_embedding_that_is_also_the_output_is_there_twice():
    """Rows are looked up in RAM, and the output is computed on the GPU."""
    file = model_file(EMBEDDING, *LAYERS, NORM)
    found = estimate(file, ModelConfig(n_ctx=512), n_gpu_layers=1)
    assert found.gpu.weights == NORM_BYTES + EMBEDDING_BYTES
    assert found.ram.weights == EMBEDDING_BYTES + 2 * LAYER_BYTES
    in_ram = estimate(file, ModelConfig(n_ctx=512), n_gpu_layers=0)
    assert in_ram.gpu.weights == 0


def test_number_of_a_list_is_its_largest():
    """A list has one number for each layer; room is for the largest. None is the default."""
    sizes = Hyperparameters(
        {
            "general.architecture": "llama",
            "llama.heads": Array("u32", 3, np.array([4, 8, 2], np.uint32)),
            "llama.none": Array("u32", 0, np.zeros(0, np.uint32)),
        }
    )
    assert sizes.number("heads") == 8
    assert sizes.number("none", 7) == 7


@pytest.fixture
def memory_of(monkeypatch):
    """``memory_of(n)`` makes ``n`` bytes of memory available to this process."""
    return lambda n_bytes: monkeypatch.setattr(system, "available_memory", lambda: n_bytes)


@pytest.mark.slow
def test_a_load_that_cannot_fit_is_refused(tiny_bpe_path, memory_of):
    """Nothing is loaded; the error has the numbers, and what would fit."""
    file = gate.check_model(tiny_bpe_path)
    needed = {n: fitting.estimate(file, ModelConfig(n_ctx=n), 0).needed for n in (4096, 8192)}
    memory_of(needed[4096])
    with pytest.raises(NotEnoughMemoryError, match="n_ctx=4096 would fit") as caught:
        LocalModel.from_pretrained(tiny_bpe_path, n_ctx=8192)
    assert (caught.value.needed, caught.value.available) == (needed[8192], needed[4096])
    assert "weights 442 kB, KV cache 2 MB" in str(caught.value)
    assert isinstance(caught.value, BackendError)
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.needed) == (str(caught.value), needed[8192])
    with LocalModel.from_pretrained(tiny_bpe_path, n_ctx=4096, n_threads=1) as model:
        assert len(model.complete([[40, 60]], max_new_tokens=2)) == 1


@pytest.mark.slow
def test_who_knows_better_loads_it(tiny_bpe_path, memory_of):
    """An estimate can be wrong, and a user may want a model larger than memory."""
    memory_of(1000)
    with LocalModel.from_pretrained(tiny_bpe_path, n_ctx=512, check_memory=False) as model:
        assert model.tokenizer.vocab_size
    memory_of(None)  # a system that does not tell
    LocalModel.from_pretrained(tiny_bpe_path, n_ctx=512).close()


@pytest.mark.slow
def test_a_promised_context_can_be_filled(tiny_bpe_path, memory_of):
    """The KV cache may take half of the memory, or one full sequence if that is more."""
    file = gate.check_model(tiny_bpe_path)
    memory_of(fitting.estimate(file, ModelConfig(n_ctx=512), 0).needed)
    with LocalModel.from_pretrained(tiny_bpe_path, n_ctx=512, n_threads=1) as model:
        memory_of(1000)  # by the time that it generates, the weights are loaded
        long = model.complete([[40] * 500], max_new_tokens=4, eos_token_id=[])[0]
    assert len(long.token_ids) == 4


@pytest.mark.slow
@pytest.mark.parametrize(
    ("n_gpu_layers", "budget"), [(0, 2**29), (1, 2**29), (2, 2**30), (-1, None)]
)
def test_the_default_budget_counts_what_is_in_ram(n_gpu_layers, budget, tiny_bpe_path, memory_of):
    """Regression: one layer on a GPU removed the limit, though the others' KV filled the RAM.

    The budget is half of 1 GiB; with one of two layers on a GPU, twice as much fits.
    """
    with LocalModel.from_pretrained(tiny_bpe_path, n_ctx=512) as model:
        backend = backend_of(model)
        backend.n_gpu_layers = n_gpu_layers
        memory_of(2**30)
        assert backend.kv_budget == budget


def test_levels_that_would_fit():
    """By typical bits per weight: the levels of 8.6 B weights that fit 6 GB beside the rest."""
    billions = tensor("blk.0.ffn_up.weight", "F16", 8192, 2**20)
    file = model_file(billions)
    found = estimate(file, ModelConfig(n_ctx=512))
    rest = found.needed - found.ram.weights
    # 8.6 billion weights: Q5_K_M takes 6.12e9 bytes, Q4_K_M 5.25e9.
    fit = fitting.levels_that_fit(file, found, rest + 6_000_000_000)
    assert fit == ["Q4_K_M", "Q3_K_M", "Q2_K", "IQ2_XS"]
    assert fitting.levels_that_fit(file, found, rest) == []
    small = model_file(tensor("blk.0.ffn_up.weight", "Q4_0", 8192, 2**20))
    found = estimate(small, ModelConfig(n_ctx=512))
    assert fitting.levels_that_fit(small, found, rest + 10**10) == ["Q3_K_M", "Q2_K", "IQ2_XS"]


@pytest.mark.real
@pytest.mark.parametrize(("n_ctx", "kv_type"), [(512, "f16"), (1024, "f16"), (512, "q8_0")])
def test_the_estimate_against_what_it_takes(n_ctx, kv_type, run_child: RunChild):
    """Within 10 % of a real process's memory growth; ``benchmarks/estimate.py`` has more."""
    code = """if True:
        import sys
        sys.path.insert(0, "benchmarks")
        import estimate, json
        task = {"model": "smollm2", "n_ctx": int(sys.argv[1]), "kv_type": sys.argv[2]}
        print(json.dumps(estimate.measure(task)["ratio"]))
    """
    child = run_child(code, n_ctx, kv_type)
    assert child.returncode == 0, child.stderr
    assert 0.9 <= float(child.stdout) <= 1.1


def test_levels_are_named_in_the_refusal(monkeypatch):
    """One level, or several; and neither where none would fit."""
    file = model_file(EMBEDDING, *LAYERS, NORM, OUTPUT)
    config = ModelConfig(n_ctx=512, kv_type="q4_0")
    for levels, expected in [
        (["Q4_0"], ["the level Q4_0 of it would fit"]),
        (["Q4_0", "Q2_K"], ["the levels Q4_0, Q2_K of it would fit"]),
        ([], []),
    ]:
        monkeypatch.setattr(fitting, "levels_that_fit", lambda *_, levels=levels: levels)
        assert fitting.what_fits(file, config, 0, available=0) == expected
