"""What a model tells programs for transformers about itself."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from localgen import ContextFullError, ModelConfig
from localgen.generation.model_facts import CPU, Device, loaded_config
from tests.fakes import BOS, EOS, N_VOCAB, fake_model, hashed_letter, hashed_logits


def test_the_config_of_a_loaded_model() -> None:
    """Options of the load, and facts of the file."""
    config = fake_model(n_ctx=128).config
    assert isinstance(config, ModelConfig)
    assert (config.n_ctx, config.vocab_size, config.model_type) == (128, N_VOCAB, "fake")
    assert (config.bos_token_id, config.eos_token_id, config.pad_token_id) == (BOS, EOS, EOS)
    assert (config.max_position_embeddings, config.is_encoder_decoder) == (512, False)
    assert config.to_dict()["vocab_size"] == N_VOCAB
    with pytest.raises(AttributeError, match=r"has no 'n_head'; it has .* vocab_size"):
        _ = config.n_head
    assert getattr(config, "task_specific_params", None) is None


@pytest.mark.parametrize(
    "make",
    [copy.copy, copy.deepcopy, lambda c: pickle.loads(pickle.dumps(c))],
)
def test_a_copied_config(make: Any) -> None:
    config = fake_model(n_ctx=128).config
    again = make(config)
    assert (again.n_ctx, again.to_dict()) == (128, config.to_dict())
    assert again == config


def test_a_config_with_other_options() -> None:
    """It is one to load a model with, and knows nothing of a file."""
    changed = dataclasses.replace(fake_model(n_ctx=128).config, n_ctx=64)
    assert changed == ModelConfig(n_ctx=64, max_sequences=4)


def test_configs_of_two_models() -> None:
    """Regression: those with equal options were equal, whatever their files."""
    config = fake_model().config
    other = loaded_config(config, {**config.to_dict(), "vocab_size": 7})
    assert config != other
    assert len({config, other, fake_model().config}) == 2


@pytest.mark.parametrize("name", ["pad_token_id", "n_ctx", "anything"])
def test_the_config_of_a_loaded_model_cannot_be_set(name: str) -> None:
    """Regression: "super(type, obj): obj must be an instance or subtype of type"."""
    with pytest.raises(AttributeError, match=rf"got {name}=2: .* model\.generation_config"):
        setattr(fake_model().config, name, 2)


def test_parameters() -> None:
    """Shapes and sizes, without values."""
    model = fake_model()
    assert model.num_parameters() == sum(p.numel() for p in model.parameters()) == 4 * N_VOCAB
    weight = next(model.parameters())
    assert (weight.name, weight.shape, weight.type) == ("output.weight", (N_VOCAB, 4), "F32")
    assert weight.device == model.device
    assert not weight.requires_grad
    assert model.can_generate()
    assert dict(model.named_parameters()) == {"output.weight": weight}
    assert model.name_or_path == "fake.gguf"


def test_device() -> None:
    """A name that has a type, as torch's devices have."""
    assert fake_model().device == "cpu"
    assert (CPU.type, CPU.index, f"{CPU}") == ("cpu", None, "cpu")
    assert Device("cuda:0").type == "cuda"
    torch = pytest.importorskip("torch")
    assert torch.zeros(1).to(CPU).device == torch.device(CPU)


def test_dtype(monkeypatch: pytest.MonkeyPatch) -> None:
    """The logits', torch's own where a program uses torch."""
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    assert fake_model().dtype == next(fake_model().parameters()).dtype == np.dtype(np.float32)
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(float32="torch.float32"))
    assert fake_model().dtype == "torch.float32"


@pytest.mark.parametrize(
    "move",
    [
        lambda model: model.cuda(),
        lambda model: model.half(),
        lambda model: model.bfloat16(),
        lambda model: model.to("float16"),
        lambda model: model.to("cuda"),
        lambda model: model.to("cpu", dtype="float16"),
        lambda model: model.to(dtype="float16"),
    ],
)
def test_a_model_is_neither_moved_nor_converted(move: Any) -> None:
    with pytest.raises(ValueError, match=r"choose the device with from_pretrained\("):
        move(fake_model())
    model = fake_model()
    assert model.cpu() is model.to(device="cpu") is model
    for same in ("float32", np.float32, np.dtype("float32")):
        assert model.to(same) is model.to(dtype=same) is model.to("cpu", dtype=same) is model
    assert model.float() is model.eval() is model.train(False) is model.requires_grad_(False)
    for train in (model.train, model.requires_grad_):
        with pytest.raises(ValueError, match="a GGUF model cannot be trained"):
            train()


@pytest.mark.parametrize("make", [copy.copy, copy.deepcopy, pickle.dumps])
def test_a_model_is_not_copied(make: Any) -> None:
    """Regression: "cannot pickle '_thread.lock' object"."""
    with pytest.raises(TypeError, match=r"load it in each process with LocalModel\.from_pre"):
        make(fake_model())


# --- one forward pass ---

IDS = np.array([[0, 0, *b"abc"], list(b"longe")])
MASK = np.array([[0, 0, 1, 1, 1], [1] * 5])


def expected(tokens: list[int]) -> np.ndarray:
    return np.array(
        [hashed_logits(tokens[:n], hashed_letter(tokens[:n])) for n in range(1, len(tokens) + 1)]
    )


def test_logits_of_a_batch() -> None:
    """A row of logits after each token, at its place; 0 at padding."""
    out = fake_model()(input_ids=IDS, attention_mask=MASK, use_cache=False, return_dict=True)
    assert out.logits.shape == (2, 5, N_VOCAB)
    np.testing.assert_array_equal(out.logits[0, 2:], expected(list(b"abc")))
    np.testing.assert_array_equal(out.logits[1], expected(list(b"longe")))
    assert not out.logits[0, :2].any()
    assert out["logits"] is out[0] is out.logits
    with pytest.raises(AttributeError, match="pass all tokens so far in each call"):
        out.past_key_values  # noqa: B018
    assert "past_key_values" not in out
    assert out.attentions is None


def test_logits_of_a_prompt_that_is_cached_or_long() -> None:
    """All of them are computed, in passes of 16 tokens, and what is cached stays right."""
    model, tokens = fake_model(n_ctx=40), list(b"a prompt of forty tokens, no less, no more")[:40]
    before = model.generate([tokens[:30]], max_new_tokens=5).tolist()
    np.testing.assert_array_equal(model([tokens]).logits[0], expected(tokens))
    assert model.generate([tokens[:30]], max_new_tokens=5).tolist() == before
    with pytest.raises(ContextFullError):
        model([[*tokens, 65]])


@pytest.mark.parametrize("options", [{"foo": 1}, {"return_dict": False}, {"top_k": 5}])
def test_what_a_forward_pass_does_not_take(options: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match=r"foo|model\(…\) takes input_ids"):
        fake_model()([[65]], **options)
