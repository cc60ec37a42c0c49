"""Describes a model file and the memory that it needs, without loading it.

Of a model that is on the Hub and not on the disk, only what precedes the weights is read.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from localgen import hub
from localgen._util.checks import check_int
from localgen.config import ModelConfig
from localgen.gguf import gate
from localgen.gguf.gate import ModelFile
from localgen.gguf.memory import MemoryEstimate
from localgen.gguf.metadata import Hyperparameters, chat_templates, sampling_defaults
from localgen.gguf.reader import TOKENS, Array, Value, read_gguf_from
from localgen.hub.levels import level_of
from localgen.llama import devices, fitting
from localgen.llama.ggml_devices import Device, ggml_devices
from localgen.llama.profile_key import build_id
from localgen.llama.quantize import quantization_types
from localgen.profiles.settings import Profile, fitting_profile

_MERGES = "tokenizer.ggml.merges"
# Sizes of a request to the Hub. The first shard has the vocabulary, others little but tensors.
_FIRST_CHUNK_BYTES, _CHUNK_BYTES = 2**20, 2**17


@dataclass(frozen=True, slots=True)
class TensorTypes:
    """All tensors of one type; ``n_bytes`` is without their alignment."""

    name: str
    n_tensors: int
    n_weights: int
    n_bytes: int

    @property
    def bits_per_weight(self) -> float:
        """The mean over these tensors."""
        return 8 * self.n_bytes / self.n_weights if self.n_weights else 0.0


@dataclass(frozen=True, slots=True)
class TokenizerInfo:
    """The tokenizer that a file describes.

    model: its kind in GGUF's words ("gpt2" is byte-level BPE). pre: the rule that splits text
    before. bos, eos: the tokens' texts; None if the file names none. unknown_type: the key and
    value of a type without rules in localgen, which is tried in a child process at load; else None.
    """

    model: str | None
    pre: str | None
    n_tokens: int
    n_merges: int
    adds_bos: bool | None
    bos: str | None
    eos: str | None
    unknown_type: str | None


@dataclass(frozen=True, slots=True)
class HubSource:
    """Where a model was read that is not on the disk. n_bytes_read: of all shards."""

    repo: str
    commit: str
    n_bytes_read: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInfo:
    """What a file contains, and what it needs. What the file does not state is None.

    path: of the first shard; if ``hub`` is set, its path there, org/repo/file.gguf. hub: None if
    the file is on the disk. file_bytes: of all shards. kind: what the file is, if it does not
    generate text and so cannot be loaded. level: the quantization level stated in the file, or else
    in its name. n_weights: the number of values in all tensors. n_kv_heads: the maximum over the
    layers. chat_templates: their names. sampling_defaults: the defaults of ``complete()`` and
    ``chat()``.
    memory: what the model needs with the given settings. ram_available: bytes available to this
    process now; None if unknown. fits: whether the model can be loaded; hints: what to change if
    not. profile: what ``localgen tune`` found for this model with this device; None if there is
    none that holds on this machine.
    """

    path: Path
    hub: HubSource | None
    n_shards: int
    file_bytes: int
    name: str | None
    license: str | None
    architecture: str
    kind: str | None
    level: str | None
    n_weights: int
    bits_per_weight: float
    n_ctx_train: int
    n_layer: int
    n_embd: int
    n_head: int
    n_kv_heads: int
    n_experts: int
    tokenizer: TokenizerInfo
    chat_templates: tuple[str, ...]
    sampling_defaults: dict[str, Any]
    tensor_types: tuple[TensorTypes, ...]
    memory: MemoryEstimate
    ram_available: int | None
    gpus: tuple[Device, ...]
    fits: bool | None
    hints: tuple[str, ...]
    profile: Profile | None = None


def inspect(
    source: str | os.PathLike[str],
    *,
    n_ctx: int = ModelConfig().n_ctx,
    kv_type: str = "f16",
    flash_attention: str = "auto",
    n_sequences: int = 1,
    device: str = "auto",
    n_gpu_layers: int | None = None,
) -> ModelInfo:
    """Describe a model, and what ``n_sequences`` sequences of ``n_ctx`` tokens each need.

    source and the other settings are as in ``LocalModel.from_pretrained``, but a model on the Hub
    is not downloaded: only what precedes its weights is read, and not saved. Raises ValueError for
    a setting, ModelFileError for the source, and BackendError for a missing device.
    """
    check_int("n_sequences", n_sequences, 1, 256)
    config = ModelConfig(
        n_ctx=n_ctx,
        kv_type=kv_type,
        flash_attention=flash_attention,
        device=device,
        n_gpu_layers=n_gpu_layers,
    )
    file, read_from = _read(source)
    on_gpu = devices.n_gpu_layers(device, n_gpu_layers)
    memory = fitting.estimate(file, config, on_gpu, n_sequences)
    available = fitting.AvailableMemory.now([memory])
    hints: list[str] = []
    if available.ram is not None and not available.has_ram([memory]):
        hints = fitting.what_fits(file, config, on_gpu, available.ram)
    profile = None if read_from else fitting_profile(file.path, build_id(), config)
    return _describe(
        file,
        profile=profile,
        read_from=read_from,
        memory=memory,
        ram_available=available.ram,
        gpus=tuple(each for each in ggml_devices() if each.is_gpu),
        fits=None
        if available.ram is None
        else available.has_ram([memory]) and available.has_gpu([memory]),
        hints=tuple(hints),
    )


def _read(source: str | os.PathLike[str]) -> tuple[ModelFile, HubSource | None]:
    found = hub.locate(source)
    if isinstance(found, Path):
        return gate.check_model(found), None
    readers = found.open()
    chunks = [_FIRST_CHUNK_BYTES] + [_CHUNK_BYTES] * len(readers)
    shards = (
        read_gguf_from(reader, Path(reader.name), reader.size, chunk_bytes=chunk)
        for reader, chunk in zip(readers, chunks, strict=False)
    )
    file = ModelFile(gate.check_shards(shards, len(readers)), ())
    n_bytes = sum(reader.n_read for reader in readers)
    return file, HubSource(found.name.repo, found.commit, n_bytes)


def _describe(
    file: ModelFile,
    *,
    profile: Profile | None,
    read_from: HubSource | None,
    memory: MemoryEstimate,
    ram_available: int | None,
    gpus: tuple[Device, ...],
    fits: bool | None,
    hints: tuple[str, ...],
) -> ModelInfo:
    sizes = Hyperparameters(file.metadata)
    types = tensor_types(file)
    n_weights = sum(each.n_weights for each in types)
    return ModelInfo(
        path=file.path,
        hub=read_from,
        n_shards=len(file.shards),
        file_bytes=sum(shard.size for shard in file.shards),
        name=_text(file.metadata.get("general.name")),
        license=_text(file.metadata.get("general.license")),
        architecture=str(file.metadata["general.architecture"]),
        kind=gate.kind_of_model(file),
        level=stated_level(file),
        n_weights=n_weights,
        bits_per_weight=8 * sum(each.n_bytes for each in types) / max(1, n_weights),
        n_ctx_train=sizes.number("context_length"),
        n_layer=sizes.n_layer,
        n_embd=sizes.n_embd,
        n_head=sizes.n_head,
        n_kv_heads=max(sizes.kv_heads, default=0),
        n_experts=sizes.number("expert_count"),
        tokenizer=_tokenizer(file),
        chat_templates=tuple(chat_templates(file.metadata)),
        sampling_defaults=sampling_defaults(file.metadata),
        tensor_types=types,
        memory=memory,
        ram_available=ram_available,
        gpus=gpus,
        fits=fits,
        hints=hints,
        profile=profile,
    )


def tensor_types(file: ModelFile) -> tuple[TensorTypes, ...]:
    """Return the types of a file's tensors, the one with most bytes first."""
    found: dict[str, list[tuple[int, int]]] = {}
    for shard in file.shards:
        for tensor in shard.tensors:
            found.setdefault(tensor.type.name, []).append((tensor.n_values, tensor.n_bytes))
    types = [
        TensorTypes(name, len(sizes), sum(n for n, _ in sizes), sum(b for _, b in sizes))
        for name, sizes in found.items()
    ]
    return tuple(sorted(types, key=lambda each: -each.n_bytes))


def stated_level(file: ModelFile) -> str | None:
    """Return the quantization level that a file states, or else the one in its name."""
    number = file.metadata.get("general.file_type")
    names = [name for name, ftype in quantization_types().items() if ftype == number]
    return names[0] if names else level_of(file.path.name)


def _tokenizer(file: ModelFile) -> TokenizerInfo:
    metadata = file.metadata
    adds_bos = metadata.get("tokenizer.ggml.add_bos_token")
    return TokenizerInfo(
        model=_text(metadata.get("tokenizer.ggml.model")),
        pre=_text(metadata.get("tokenizer.ggml.pre")),
        n_tokens=_length(metadata.get(TOKENS)),
        n_merges=_length(metadata.get(_MERGES)),
        adds_bos=adds_bos if isinstance(adds_bos, bool) else None,
        bos=_token(file, "tokenizer.ggml.bos_token_id"),
        eos=_token(file, "tokenizer.ggml.eos_token_id"),
        unknown_type=file.unknown_vocabulary,
    )


def _token(file: ModelFile, key: str) -> str | None:
    token_id = file.metadata.get(key)
    tokens = file.shards[0].tokens
    if not isinstance(token_id, int) or not 0 <= token_id < len(tokens):
        return None
    return tokens[token_id].decode("utf-8", errors="replace")


def _length(value: Value | None) -> int:
    return value.length if isinstance(value, Array) else 0


def _text(value: Value | None) -> str | None:
    return value if isinstance(value, str) else None
