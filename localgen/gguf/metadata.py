"""What the metadata of a file says of its model; nothing is loaded."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass

from localgen._util.warn import warn
from localgen.config import GenerationConfig
from localgen.gguf.reader import Array, Value

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
}
_GREEDY = 0.0


@dataclass(frozen=True, slots=True)
class Hyperparameters:
    """The sizes of a model, from its metadata; a method's default is llama.cpp's."""

    metadata: dict[str, Value]

    def get(self, name: str) -> Value | None:
        return self.metadata.get(f"{self.metadata['general.architecture']}.{name}")

    def number(self, name: str, default: int = 0) -> int:
        """An integer; of one a layer, the largest."""
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
        """Numbers of one head's key or value: ``key`` is "key_length" or "value_length"."""
        return self.number(f"attention.{key}") or self.n_embd // max(1, self.n_head)

    @property
    def kv_heads(self) -> list[int]:
        """KV heads of each layer; 0 for one that is recurrent."""
        found = self.get("attention.head_count_kv")
        if isinstance(found, Array):
            return _integers(found)
        heads = [self.number("attention.head_count_kv", self.n_head)] * self.n_layer
        if interval := self.number("full_attention_interval"):
            heads = [n if (i + 1) % interval == 0 else 0 for i, n in enumerate(heads)]
        return heads

    def kv_bytes_of_layers(self, kv_type: str) -> list[float]:
        """Bytes of one token's keys and values, by layer."""
        values = self.head_size("key_length") + self.head_size("value_length")
        return [n * values * BYTES_PER_VALUE[kv_type] for n in self.kv_heads]

    def kv_bytes_per_token(self, kv_type: str) -> int:
        """Bytes of KV cache that one token takes."""
        return int(sum(self.kv_bytes_of_layers(kv_type)))

    @property
    def state_bytes(self) -> int:
        """Bytes of one sequence's recurrent states in one layer (F32), as Mamba's are made."""
        n_inner, n_state = self.number("ssm.inner_size"), self.number("ssm.state_size")
        n_rows = n_inner + 2 * self.number("ssm.group_count") * n_state
        return 4 * (max(0, self.number("ssm.conv_kernel") - 1) * n_rows + n_state * n_inner)


def _integers(array: Array) -> list[int]:
    """The numbers of an array of integers; of another one, none."""
    if array.values is None or array.values.dtype.kind not in "iu":
        return []
    return [int(number) for number in array.values]


def sampling_defaults(metadata: Mapping[str, Value]) -> dict[str, float]:
    """The sampling that the file asks for, by the names of ``GenerationConfig``; none if it asks
    for greedy decoding.

    Values mean what they mean to llama.cpp. Those that cannot be meant are left out, with a warning
    of each, once.
    """
    found: dict[str, float] = {}
    for key, name in _SAMPLING_KEYS.items():
        if key in metadata:
            option = _sampling_option(name, metadata[key])
            if option is None:
                _warn_of_value(key, repr(metadata[key])[:40])
            else:
                found[name] = option
    return {} if found.get("temperature") == _GREEDY else found


def _sampling_option(name: str, value: Value) -> float | None:
    """llama.cpp's number as one of ``GenerationConfig``, which says "off" in one way alone."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    if name == "temperature" and value <= 0:
        return _GREEDY
    if name == "top_k" and isinstance(value, float) and value.is_integer():
        value = int(value)
    if name in ("top_k", "min_p") and value < 0:
        value = 0
    if name == "top_p" and value > 1:
        value = 1.0
    try:
        GenerationConfig(**{name: value})  # type: ignore[arg-type]
    except ValueError:
        return None
    return value


# The defaults are asked for with each call.
@functools.lru_cache(maxsize=64)
def _warn_of_value(key: str, value: str) -> None:
    warn(f"{key} is {value} in the model's file, which cannot be: it is left out")


def chat_templates(metadata: Mapping[str, Value]) -> dict[str, str]:
    """The templates of a file by name; the one that has none is "default"."""
    found = {
        key.removeprefix(_TEMPLATE).removeprefix(".") or "default": value
        for key, value in metadata.items()
        if key == _TEMPLATE or key.startswith(f"{_TEMPLATE}.")
    }
    return {name: value for name, value in found.items() if isinstance(value, str)}
