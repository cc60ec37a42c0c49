"""Reads a model's sizes, sampling defaults and chat templates from its metadata; loads nothing."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from localgen._util.warn import warn
from localgen.config import GenerationConfig
from localgen.gguf.reader import Array, Value
from localgen.samplers import fitting_defaults

BYTES_PER_VALUE = {
    "f32": 4.0, "f16": 2.0, "bf16": 2.0, "q8_0": 34 / 32, "q5_1": 24 / 32, "q5_0": 22 / 32,
    "q4_1": 20 / 32, "q4_0": 18 / 32, "iq4_nl": 18 / 32,
}  # fmt: skip
_TEMPLATE = "tokenizer.chat_template"
_SAMPLING_KEYS = {
    "general.sampling.temp": "temperature",
    "general.sampling.top_k": "top_k",
    "general.sampling.top_p": "top_p",
    "general.sampling.min_p": "min_p",
    "general.sampling.penalty_repeat": "repetition_penalty",
    "general.sampling.xtc_probability": "xtc_probability",
    "general.sampling.xtc_threshold": "xtc_threshold",
    "general.sampling.mirostat": "mirostat",
    "general.sampling.mirostat_tau": "mirostat_tau",
    "general.sampling.mirostat_eta": "mirostat_eta",
    "general.sampling.sequence": "samplers",
}
_GREEDY = 0.0


@dataclass(frozen=True, slots=True)
class Hyperparameters:
    """The sizes of a model, from its metadata; defaults are llama.cpp's."""

    metadata: dict[str, Value]

    def get(self, name: str) -> Value | None:
        return self.metadata.get(f"{self.metadata['general.architecture']}.{name}")

    def number(self, name: str, default: int = 0) -> int:
        """Return an integer; of an array with one per layer, the largest."""
        found = self.get(name)
        if isinstance(found, Array):
            return max(_integers(found), default=default)
        return found if isinstance(found, int) else default

    @property
    def n_layer(self) -> int:
        return self.number("block_count")

    @property
    def n_embd(self) -> int:
        return self.number("embedding_length")

    @property
    def n_head(self) -> int:
        return self.number("attention.head_count")

    def head_size(self, key: str) -> int:
        """Return the size of one head's key or value; key: "key_length" or "value_length"."""
        return self.number(f"attention.{key}") or self.n_embd // max(1, self.n_head)

    @property
    def kv_heads(self) -> list[int]:
        """KV heads of each layer; 0 for a recurrent layer."""
        found = self.get("attention.head_count_kv")
        if isinstance(found, Array):
            return _integers(found)
        heads = [self.number("attention.head_count_kv", self.n_head)] * self.n_layer
        if interval := self.number("full_attention_interval"):
            heads = [n if (i + 1) % interval == 0 else 0 for i, n in enumerate(heads)]
        return heads

    def kv_bytes_of_layers(self, kv_type: str) -> list[float]:
        """Return the bytes of one token's keys and values in each layer."""
        values = self.head_size("key_length") + self.head_size("value_length")
        return [n * values * BYTES_PER_VALUE[kv_type] for n in self.kv_heads]

    def kv_bytes_per_token(self, kv_type: str) -> int:
        """Return the bytes of KV cache per token."""
        return int(sum(self.kv_bytes_of_layers(kv_type)))

    @property
    def state_bytes(self) -> int:
        """Bytes of one sequence's recurrent state in one layer, in F32.

        What is convolved and what is remembered, by the layout of RWKV, LFM2, Kimi or Mamba
        (llama.cpp's llama-hparams.cpp).
        """
        n_kept = max(0, self.number("ssm.conv_kernel") - 1)
        if head_size := self.number("wkv.head_size"):
            return 4 * self.n_embd * (self.number("token_shift_count", 2) + head_size)
        if n_taps := self.number("shortconv.l_cache"):
            return 4 * self.n_embd * (n_taps - 1)
        if head_size := self.number("kda.head_dim"):
            return 4 * self.n_head * head_size * (3 * n_kept + head_size)
        n_inner, n_state = self.number("ssm.inner_size"), self.number("ssm.state_size")
        n_rows = n_inner + 2 * self.number("ssm.group_count") * n_state
        return 4 * (n_kept * n_rows + n_state * n_inner)


def sizes_by_name(metadata: dict[str, Value]) -> dict[str, int | str]:
    """Return a model's architecture and sizes, by the names of transformers' configs."""
    sizes = Hyperparameters(metadata)
    return {
        "model_type": str(metadata["general.architecture"]),
        "max_position_embeddings": sizes.number("context_length"),
        "hidden_size": sizes.n_embd,
        "num_hidden_layers": sizes.n_layer,
        "num_attention_heads": sizes.n_head,
        "num_key_value_heads": max(sizes.kv_heads, default=0),
    }


def _integers(array: Array) -> list[int]:
    """Return the numbers of an array of integers; an empty list for any other array."""
    if array.values is None or array.values.dtype.kind not in "iu":
        return []
    return [int(number) for number in array.values]


def sampling_defaults(metadata: Mapping[str, Value]) -> dict[str, Any]:
    """Return the file's sampling defaults by the names of ``GenerationConfig``.

    Empty if the file asks for greedy decoding. Values mean what they mean to llama.cpp, and what it
    does not read, beside mirostat or a list of samplers, is left out. Invalid values are ignored,
    with one warning each.
    """
    found: dict[str, Any] = {}
    for key, name in _SAMPLING_KEYS.items():
        if key in metadata:
            option = _sampling_option(name, metadata[key])
            if option is None:
                _warn_invalid(key, repr(metadata[key])[:40])
            else:
                found[name] = option
    return {} if found.get("temperature") == _GREEDY else fitting_defaults(found, {})


def _sampling_option(name: str, value: Value) -> Any:
    """Return llama.cpp's value as ``GenerationConfig`` accepts it; None if it is invalid."""
    if name == "samplers":
        # Letters, which an option may hold as well, are no names to llama.cpp here.
        return _checked(name, filter(None, value.split(";"))) if isinstance(value, str) else None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    if name == "temperature" and value <= 0:
        return _GREEDY
    if name in ("top_k", "mirostat") and isinstance(value, float) and value.is_integer():
        value = int(value)
    if name in ("top_k", "min_p") and value < 0:
        value = 0
    if name == "top_p" and value > 1:
        value = 1.0
    return value if _checked(name, value) is not None else None


def _checked(name: str, value: Any) -> Any:
    """Return an option as a ``GenerationConfig`` has it; None if it refuses the value."""
    try:
        return getattr(GenerationConfig(**{name: value}), name)
    except ValueError:
        return None


# The defaults are read in each call; the warning is for the first one.
@functools.lru_cache(maxsize=64)
def _warn_invalid(key: str, value: str) -> None:
    warn(f"{key} is {value} in the model's file, which is invalid: it is ignored")


def chat_templates(metadata: Mapping[str, Value]) -> dict[str, str]:
    """Return a file's chat templates by name; the unnamed one is "default"."""
    found = {
        key.removeprefix(_TEMPLATE).removeprefix(".") or "default": value
        for key, value in metadata.items()
        if key == _TEMPLATE or key.startswith(f"{_TEMPLATE}.")
    }
    return {name: value for name, value in found.items() if isinstance(value, str)}
