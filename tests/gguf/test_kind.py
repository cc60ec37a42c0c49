"""What a file is by its metadata, where it is no language model, and what is said of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from localgen import InvalidGGUFError, LocalModel, inspect
from localgen.gguf.gate import check_model
from localgen.gguf.kind import kind_of
from localgen.gguf.reader import read_start
from models.make_tiny import make_llama_bpe

ARCHITECTURES = {
    "bert": "an encoder", "modern-bert": "an encoder", "nomic-bert": "an encoder",
    "nomic-bert-moe": "an encoder", "neo-bert": "an encoder", "jina-bert-v2": "an encoder",
    "jina-bert-v3": "an encoder", "eurobert": "an encoder", "t5encoder": "an encoder",
    "gemma-embedding": "an embedding model", "llama-embed": "an embedding model",
    "t5": "an encoder-decoder model", "dream": "a diffusion model", "llada": "a diffusion model",
    "llada-moe": "a diffusion model", "rnd1": "a diffusion model",
    "wavtokenizer-dec": "a speech model", "qwen3tts": "a speech model",
    "pockettts": "a speech model", "clip": "the projector",
    "eagle3": "a draft head", "dflash": "a draft head", "gemma4-assistant": "a draft head",
    "gemma4_assistant": "a draft head", "controlvector": "a control vector",
}  # fmt: skip
METADATA: dict[str, dict[str, Any]] = {
    "an importance matrix": {"general.type": "imatrix"},
    "an adapter (LoRA)": {"general.type": "adapter", "general.architecture": "llama"},
    "the projector of a vision or audio model": {"general.type": "mmproj"},
    "an embedding model": {"general.architecture": "qwen3", "qwen3.pooling_type": 3},
    "a reranker or classifier": {"general.architecture": "qwen3", "qwen3.pooling_type": 4},
    "an encoder, which makes embeddings": {
        "general.architecture": "new-bert",
        "new-bert.attention.causal": False,
    },
}
MODELS: list[dict[str, Any]] = [
    {"general.architecture": "llama", "general.type": "model"},
    {"general.architecture": "qwen3", "qwen3.pooling_type": 0, "qwen3.attention.causal": True},
    {"general.architecture": "qwen35", "qwen35.nextn_predict_layers": 1},
    {"general.architecture": "a-new-one"},
    {"general.architecture": 3},
    {},
]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_architectures(architecture: str) -> None:
    found = kind_of({"general.architecture": architecture}, 9)
    assert found is not None
    assert found.name.startswith(ARCHITECTURES[architecture])


@pytest.mark.parametrize("name", METADATA)
def test_metadata(name: str) -> None:
    """A reranker of a generative architecture has its pooling in the file."""
    found = kind_of(METADATA[name], 9)
    assert found is not None
    assert found.name == name


@pytest.mark.parametrize("metadata", MODELS)
def test_language_models(metadata: dict[str, Any]) -> None:
    """A model with its MTP layers inside is one, and so is what nobody knows."""
    assert kind_of(metadata, 9) is None


def test_a_vocabulary_without_weights() -> None:
    """The first shard of a split model may have no tensors either."""
    found = kind_of({"general.architecture": "llama"}, 0)
    assert found is not None
    assert found.name == "a vocabulary without weights"
    assert kind_of({"general.architecture": "llama", "split.count": 3}, 0) is None


# --- files ---


def _rewrite(source: Path, target: Path, architecture: str, **changed: Any) -> None:
    """Write a tiny llama as a file of another architecture, with more keys of it."""
    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(target, architecture)
    for key, field in reader.fields.items():
        if key.startswith("GGUF.") or key == "general.architecture":
            continue
        types = field.types
        writer.add_key_value(
            key.replace("llama.", f"{architecture}."),
            field.contents(),
            types[0],
            types[1] if len(types) > 1 else None,
        )
    for key, value in changed.items():
        writer.add_key_value(f"{architecture}.{key}", value, gguf.GGUFValueType.get_type(value))
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, np.array(tensor.data))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("architecture", "changed", "message"),
    [
        ("bert", {}, r"is an encoder, which makes embeddings \(architecture bert\), and not a mod"),
        ("t5", {}, "is an encoder-decoder model .*; use transformers"),
        ("dream", {}, "is a diffusion model, .*; use llama.cpp's llama-diffusion-cli"),
        ("llama", {"pooling_type": 3}, "is an embedding model .*; use llama.cpp's llama-embedding"),
        ("llama", {"pooling_type": 4}, "is a reranker or classifier .*llama-server --reranking"),
        ("eagle3", {}, "is a draft head .*; name the model that it drafts for"),
    ],
)
def test_refused_at_load(
    architecture: str, changed: dict[str, Any], message: str, tiny_bpe_path: Path, tmp_path: Path
) -> None:
    """Regression: it loaded, and wrote nonsense. It can be inspected like any model."""
    path = tmp_path / "other.gguf"
    _rewrite(tiny_bpe_path, path, architecture, **changed)
    with pytest.raises(InvalidGGUFError, match=message):
        LocalModel.from_pretrained(path)
    assert inspect(path).architecture == architecture


def test_what_is_no_model_at_all_is_named(tmp_path: Path) -> None:
    """Regression: "general.architecture must be a non-empty string, got None"."""
    path = tmp_path / "imatrix.gguf"
    writer = gguf.GGUFWriter(path, "")
    writer.add_type("imatrix")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(InvalidGGUFError, match=r"is an importance matrix, .*pass it as imatrix="):
        check_model(path)


def test_the_start_of_a_file_is_enough(tmp_path: Path) -> None:
    """What is not there yet is left out, wherever the bytes end."""
    path = tmp_path / "a.gguf"
    make_llama_bpe(path)
    data = path.read_bytes()
    n_tensors, metadata = read_start(data[:600], path)
    assert n_tensors == len(gguf.GGUFReader(path).tensors)
    assert metadata["general.architecture"] == "llama"
    for end in range(24, 600):
        assert read_start(data[:end], path)[1].items() <= metadata.items()
    with pytest.raises(InvalidGGUFError, match="is not a GGUF file"):
        read_start(b"PK\3\4", path)
