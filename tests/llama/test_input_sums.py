"""What llama.cpp's products are seen to multiply: against NumPy's own forward pass."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import pytest

from localgen import BackendError, ModelConfig, QuantizeError
from localgen.engine.backend import Batch, PassStopped
from localgen.gguf.imatrix_sums import Sums
from localgen.llama import ggml_tensor
from localgen.llama.backend import LlamaBackend
from localgen.llama.input_sums import InputSums, weight_name
from models.make_tiny import make_llama_moe

N_TOKENS = 32
TOKEN_IDS = (np.arange(N_TOKENS) * 7 % 200).astype(np.int32)


def one_pass(backend: LlamaBackend, sums: InputSums, should_stop: Callable[[], bool]) -> None:
    rows = np.arange(N_TOKENS, dtype=np.int32)
    backend.forget()
    batch = Batch(TOKEN_IDS, rows, np.zeros_like(rows), rows)
    sums.run(lambda: backend.decode(batch, should_stop))


def observed(
    path: Path,
    *,
    n_passes: int = 1,
    with_output: bool = False,
    should_stop: Callable[[], bool] = lambda: False,
) -> list[dict[str, Sums]]:
    """The sums of each of some passes over the same tokens."""
    sums = InputSums(with_output=with_output)
    config = ModelConfig(n_ctx=64, n_batch=N_TOKENS, max_sequences=1, n_threads=1)
    backend = LlamaBackend(path, config, adapts=False, eval_callback=sums.callback)
    try:
        backend.reserve(1, 64)
        found = []
        for _ in range(n_passes):
            one_pass(backend, sums, should_stop)
            found.append(sums.take())
        return found
    finally:
        backend.close()


def weights(path: Path) -> dict[str, np.ndarray]:
    return {tensor.name: np.array(tensor.data) for tensor in gguf.GGUFReader(path).tensors}


def test_the_first_layer_by_numpy(tiny_bpe_path: Path) -> None:
    """Its queries are made of the embeddings divided by their root mean square."""
    embeddings = weights(tiny_bpe_path)["token_embd.weight"][TOKEN_IDS].astype(np.float64)
    inputs = embeddings / np.sqrt((embeddings**2).mean(axis=1, keepdims=True) + 1e-5)
    (found,) = observed(tiny_bpe_path)
    for name in ("attn_q", "attn_k", "attn_v"):
        sums = found[f"blk.0.{name}.weight"]
        np.testing.assert_allclose(sums.sums[0], (inputs**2).sum(axis=0), rtol=1e-5)
        assert sums.counts.tolist() == [N_TOKENS]


def test_all_weights_of_layers_see_every_token(tiny_bpe_path: Path) -> None:
    """The last layer's too, of which a pass computes only the rows whose logits are wanted."""
    (found,) = observed(tiny_bpe_path)
    expected = {
        name
        for name, values in weights(tiny_bpe_path).items()
        if name.startswith("blk.") and values.ndim == 2
    }
    assert set(found) == expected
    assert {int(each.counts[0]) for each in found.values()} == {N_TOKENS}


def test_passes_that_leave_out_the_output_matrix_give_the_same(tiny_bpe_path: Path) -> None:
    """Only the first pass is whole, and it decides whether the others may end early."""
    first, second, third = observed(tiny_bpe_path, n_passes=3)
    for name, sums in first.items():
        assert sums.sums.tolist() == second[name].sums.tolist() == third[name].sums.tolist()


def test_the_output_matrix_counts_where_it_is_wanted(tiny_bpe_path: Path) -> None:
    for found in observed(tiny_bpe_path, n_passes=2, with_output=True):
        assert found["output.weight"].counts.tolist() == [N_TOKENS]


def test_experts_count_the_tokens_that_were_sent_to_them(tmp_path: Path) -> None:
    """Each token goes to two of four experts; those see the same inputs as the router."""
    path = tmp_path / "moe.gguf"
    make_llama_moe(path)
    (found,) = observed(path)
    for layer in (0, 1):
        router = found[f"blk.{layer}.ffn_gate_inp.weight"]
        for name in ("ffn_gate", "ffn_up", "ffn_down"):
            experts = found[f"blk.{layer}.{name}_exps.weight"]
            assert experts.sums.shape[0] == 4
            assert experts.counts.sum() == 2 * N_TOKENS
            if name != "ffn_down":
                np.testing.assert_allclose(experts.sums.sum(axis=0), 2 * router.sums[0], rtol=1e-5)


def test_inputs_that_are_not_finite_name_the_tensor(
    tiny_bpe_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exception in the callback ends the pass and reaches the caller."""
    monkeypatch.setattr(
        "localgen.llama.input_sums.dense_sums",
        lambda *_: Sums(np.full((1, 2), np.nan), np.ones(1, np.int64)),
    )
    with pytest.raises(QuantizeError, match=r"the inputs of blk\.0\.\w+\.weight are not finite"):
        observed(tiny_bpe_path)


def test_a_pass_can_be_stopped(tiny_bpe_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("localgen.llama.context._INTERRUPTIBLE_TOKENS", 1)
    with pytest.raises(PassStopped):
        observed(tiny_bpe_path, should_stop=lambda: True)


def test_names_of_copies_on_devices() -> None:
    assert weight_name(b"blk.0.attn_k.weight") == b"blk.0.attn_k.weight"
    assert weight_name(b"CUDA0#blk.0.attn_k.weight#0") == b"blk.0.attn_k.weight"
    assert weight_name(b"CPU#blk.0.attn_k.weight") == b"blk.0.attn_k.weight"


def test_another_layout_of_tensors_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A field more in ggml's struct, and all sums would be of other bytes."""

    fields = [("more", ctypes.c_int64), *ggml_tensor.GgmlTensor._fields_]
    other = type("Other", (ctypes.Structure,), {"_fields_": fields})
    monkeypatch.setattr(ggml_tensor, "GgmlTensor", other)
    ggml_tensor.check_layout.cache_clear()
    with pytest.raises(BackendError, match="another layout than localgen knows"):
        ggml_tensor.check_layout()
    monkeypatch.undo()
    ggml_tensor.check_layout.cache_clear()
    assert ggml_tensor.check_layout().dense != ggml_tensor.check_layout().by_expert
