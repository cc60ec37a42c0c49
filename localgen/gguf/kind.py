"""Tells what a GGUF file is by its metadata, if it is no language model that generates text.

Architectures by ``llama-arch.cpp`` of llama.cpp, commit 0c1e57098; it reads no file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from localgen.gguf.reader import ARCHITECTURE, Value

_TYPE, _SHARDS = "general.type", "split.count"


@dataclass(frozen=True, slots=True)
class Kind:
    """What a file is and what to do with it, as phrases: "a LoRA adapter", "merge it …".

    is_inspected: whether it can be inspected and quantized as a model can.
    """

    name: str
    use: str
    is_inspected: bool = True


_PARTS = {
    "imatrix": Kind(
        "an importance matrix", "pass it as imatrix= to quantize(), or after --imatrix", False
    ),
    "adapter": Kind(
        "an adapter (LoRA)", "merge it into its model with llama.cpp's llama-export-lora", False
    ),
    "mmproj": Kind(
        "the projector of a vision or audio model", "name the model that it belongs to", False
    ),
    "controlvector": Kind("a control vector", "name the model that it belongs to", False),
}
_PARTS["clip"] = _PARTS["mmproj"]
_VOCABULARY = Kind("a vocabulary without weights", "name the file that has the weights")
_DRAFT = Kind("a draft head for speculative decoding", "name the model that it drafts for")
_EMBEDS = "use llama.cpp's llama-embedding or llama-server"
_ENCODER = Kind("an encoder, which makes embeddings", _EMBEDS)
_EMBEDDING = Kind("an embedding model", _EMBEDS)
_RERANKER = Kind("a reranker or classifier", "use llama.cpp's llama-server --reranking")
_TRANSLATOR = Kind("an encoder-decoder model", "use transformers")
_DIFFUSION = Kind(
    "a diffusion model, which does not write from left to right",
    "use llama.cpp's llama-diffusion-cli",
)
_SPEECH = Kind("a speech model, or its decoder", "use llama.cpp's llama-tts")
_BY_ARCHITECTURE = {
    **dict.fromkeys(
        (
            "bert", "modern-bert", "nomic-bert", "nomic-bert-moe", "neo-bert", "jina-bert-v2",
            "jina-bert-v3", "eurobert", "t5encoder",
        ),
        _ENCODER,
    ),
    **dict.fromkeys(("gemma-embedding", "llama-embed"), _EMBEDDING),
    **dict.fromkeys(("dream", "llada", "llada-moe", "rnd1"), _DIFFUSION),
    **dict.fromkeys(("eagle3", "dflash", "gemma4-assistant"), _DRAFT),
    **dict.fromkeys(("wavtokenizer-dec", "qwen3tts", "pockettts"), _SPEECH),
    "t5": _TRANSLATOR,
}  # fmt: skip
_RANK_POOLING = 4


def kind_of(metadata: Mapping[str, Value], n_tensors: int) -> Kind | None:
    """Return what a file is, if it is no generative language model; None if it may be one.

    metadata: of the first shard; that before the vocabulary is enough. n_tensors: of that file.
    """
    architecture = metadata.get(ARCHITECTURE)
    for name in (metadata.get(_TYPE), architecture):
        if isinstance(name, str) and name in _PARTS:
            return _PARTS[name]
    if not isinstance(architecture, str):
        return None
    if not n_tensors and metadata.get(_SHARDS, 0) in (0, 1):
        return _VOCABULARY
    # Forks spell some names with underscores.
    kind = _BY_ARCHITECTURE.get(architecture.replace("_", "-"))
    pooling = metadata.get(f"{architecture}.pooling_type", 0)
    if pooling == _RANK_POOLING or f"{architecture}.classifier.output_labels" in metadata:
        return _RERANKER
    if kind is None and metadata.get(f"{architecture}.attention.causal") is False:
        kind = _ENCODER
    if kind is None and isinstance(pooling, int) and pooling > 0:
        kind = _EMBEDDING
    return kind
