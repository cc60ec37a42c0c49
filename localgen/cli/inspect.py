"""``localgen inspect``: describe a model's file and the memory it needs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Annotated

import typer

from localgen._util.format import as_count, as_size, counted
from localgen.cli.declared_flags import DeclaredOptions
from localgen.cli.messages import as_flags
from localgen.cli.option_groups import with_options
from localgen.cli.options import MODEL_FORMS
from localgen.cli.tables import print_table, printable
from localgen.config import ModelConfig
from localgen.gguf.memory import Share
from localgen.inspection import ModelInfo
from localgen.inspection import inspect as describe

_NAME_WIDTH = 13


class AssumedOptions(
    DeclaredOptions,
    of=ModelConfig,
    only=("kv_type", "flash_attention", "device", "n_gpu_layers"),
):
    """How the model would be loaded."""


@with_options
def inspect(
    *,
    source: Annotated[
        str, typer.Argument(metavar="MODEL", help=f"Describe this model: {MODEL_FORMS}.")
    ],
    n_ctx: Annotated[
        int, typer.Option("--ctx", "--n-ctx", help="Assume this many tokens per sequence.")
    ] = ModelConfig().n_ctx,
    sequences: Annotated[int, typer.Option(help="Assume this many sequences at once.")] = 1,
    loading: AssumedOptions,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Describe a model and check whether it fits this machine, without loading or fetching it."""
    info = describe(
        source,
        n_ctx=n_ctx,
        n_sequences=sequences,
        **loading.given(),
    )
    if as_json:
        print(json.dumps(_as_json(info), default=str))
        return
    for name, text in _lines(info):
        print(f"{name:<{_NAME_WIDTH}}{printable(text)}")
    _print_types(info)
    _print_memory(info)


def _as_json(info: ModelInfo) -> dict[str, object]:
    memory = info.memory
    data = asdict(info)
    for given, types in zip(data["tensor_types"], info.tensor_types, strict=True):
        given["bits_per_weight"] = types.bits_per_weight
    data["memory"] |= {"needed": memory.needed}
    for name, share in (("ram", memory.ram), ("gpu", memory.gpu)):
        data["memory"][name] |= {"total": share.total}
    return data


def _lines(info: ModelInfo) -> Iterator[tuple[str, str]]:
    shards = f", {info.n_shards} shards" if info.n_shards > 1 else ""
    yield "file", f"{info.path.name}, {as_size(info.file_bytes)}{shards}"
    if info.hub:
        read = f"{as_size(info.hub.n_bytes_read)} read, nothing stored"
        yield "from the Hub", f"{info.hub.repo} at {info.hub.commit}, {read}"
    if info.name:
        yield "name", info.name + (f" ({info.license})" if info.license else "")
    experts = f", {info.n_experts} experts" if info.n_experts else ""
    yield "architecture", f"{info.architecture}, {as_count(info.n_weights)} parameters{experts}"
    if info.kind:
        yield "kind", f"{info.kind}: it cannot be loaded to generate text"
    yield "level", f"{info.level or 'unknown'}, {info.bits_per_weight:.2f} bits per weight"
    yield (
        "shape",
        f"{info.n_layer} layers, width {info.n_embd}, {info.n_head} heads, "
        f"{info.n_kv_heads} KV heads",
    )
    yield "context", f"{info.n_ctx_train:,} tokens in training"
    tokens = info.tokenizer
    ends = f"BOS {tokens.bos or 'none'}, EOS {tokens.eos or 'none'}"
    kind = "/".join(part for part in (tokens.model, tokens.pre) if part)
    yield "tokenizer", f"{kind or 'unknown'}, {tokens.n_tokens:,} tokens, {ends}"
    if tokens.unknown_type:
        yield "", f"unknown vocabulary type ({tokens.unknown_type}): it is tried at load"
    yield "template", ", ".join(info.chat_templates) or "none, so chat is not available"
    sampling = [f"{name}={_value(value)}" for name, value in info.sampling_defaults.items()]
    yield "sampling", ", ".join(sampling) or "no defaults in the file"
    if info.profile:
        yield "profile", f"{info.profile}, by localgen tune on {info.profile.date}"


def _value(value: float | tuple[str, ...]) -> str:
    return ";".join(value) if isinstance(value, tuple) else f"{value:g}"


def _print_types(info: ModelInfo) -> None:
    rows = [
        (
            types.name,
            str(types.n_tensors),
            as_count(types.n_weights),
            f"{types.bits_per_weight:.2f}",
            as_size(types.n_bytes),
        )
        for types in info.tensor_types
    ]
    columns = ("type", "tensors", "parameters", "bits/weight", "size")
    print_table(columns, rows, right=columns[1:])


def _print_memory(info: ModelInfo) -> None:
    memory = info.memory
    many = counted(memory.n_sequences, "sequence")
    print(f"for {many} of {memory.n_ctx:,} tokens (--ctx), KV cache {memory.kv_type}:")
    per_token = f"{as_size(memory.kv_bytes_per_token)} per token"
    columns = ["memory", "RAM"]
    shares = [memory.ram]
    if memory.gpu.total:
        columns.append("GPU")
        shares.append(memory.gpu)
    rows = [
        (title, *(as_size(getattr(share, name)) for share in shares), note)
        for title, name, note in (
            ("weights", "weights", ""),
            ("repacked", "repacked", "copies for this CPU; the originals can be dropped"),
            ("KV cache", "kv_cache", per_token),
            ("compute", "compute", "a full batch over the full context"),
            ("vocabulary", "vocabulary", ""),
            ("total", "total", ""),
        )
        if any(getattr(share, name) for share in shares)
    ]
    print_table((*columns, ""), rows, right=("RAM", "GPU"), wrapped=("",))
    print(_verdict(info))


def _verdict(info: ModelInfo) -> str:
    memory = info.memory
    available = f"{as_size(info.ram_available or 0)} of memory available"
    available += "".join(
        f", {as_size(gpu.free_bytes or 0)} on {gpu.description or gpu.name}" for gpu in info.gpus
    )
    if info.fits is None:
        return f"It needs {as_size(memory.needed)}; this system does not report available memory."
    if info.fits:
        return f"It fits: it needs {as_size(memory.needed)}, with {available}."
    hints = as_flags("; ".join(info.hints)) or "use a smaller --ctx, --n-gpu-layers or level"
    needs = _needs(memory.needed, memory.gpu)
    return f"It does not fit: it needs {needs}, with {available}; {hints}."


def _needs(ram: int, gpu: Share) -> str:
    return as_size(ram) + (f", and {as_size(gpu.total)} on GPUs" if gpu.total else "")
