"""What a loaded model tells about itself, by the names that programs for transformers use."""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import numpy as np

from localgen.config import ModelConfig


class Device(str):
    """The name of a device, with the attributes of a ``torch.device``; torch accepts it as one."""

    __slots__ = ()

    @property
    def type(self) -> str:
        return self.partition(":")[0]

    @property
    def index(self) -> None:  # type: ignore[override]
        return None


CPU = Device("cpu")


def logits_dtype() -> Any:
    """Return float32, the type of all logits: torch's if the program uses torch, else NumPy's."""
    torch = sys.modules.get("torch")
    return np.dtype(np.float32) if torch is None else torch.float32


@dataclasses.dataclass(frozen=True, slots=True)
class Weight:
    """A tensor of a model's file, without its values.

    shape: as in torch, row length last. type: the file's, such as "Q4_K".
    """

    name: str
    shape: tuple[int, ...]
    type: str

    device = CPU
    requires_grad = False

    @property
    def dtype(self) -> Any:
        """float32, which the weight is computed with."""
        return logits_dtype()

    def numel(self) -> int:
        """Return how many values it has."""
        return math.prod(self.shape)


class LoadedConfig(ModelConfig):
    """The ``ModelConfig`` that a model was loaded with, and what its file says of it.

    Besides the options, there are ``model_type``, ``vocab_size``, ``max_position_embeddings`` (the
    context that the model was trained with), ``hidden_size``, ``num_hidden_layers``,
    ``num_attention_heads``, ``num_key_value_heads``, ``bos_token_id``, ``eos_token_id``,
    ``pad_token_id`` and ``is_encoder_decoder``. None of them can be set.
    """

    def __new__(cls, facts: Mapping[str, Any] | None = None, **options: Any) -> Any:
        # dataclasses.replace() passes options alone: those of a model that is yet to be loaded.
        return ModelConfig(**options) if facts is None else super().__new__(cls)

    def __init__(self, facts: Mapping[str, Any], **options: Any) -> None:
        super().__init__(**options)
        object.__setattr__(self, "_facts", dict(facts))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, LoadedConfig):
            return NotImplemented
        return self.to_dict() == other.to_dict()

    def __hash__(self) -> int:
        return hash(tuple(self.to_dict().items()))

    def __getattr__(self, name: str) -> Any:
        facts = {} if name == "_facts" else self._facts  # without, while it is copied
        if name in facts:
            return facts[name]
        raise AttributeError(
            f"the config of a loaded model has no {name!r}; it has the options of ModelConfig and "
            f"{', '.join(facts)}"
        )

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise dataclasses.FrozenInstanceError(
            f"the config of a loaded model cannot be changed, got {name}={value!r}: pass options "
            f"of generating to the call or set them in model.generation_config, and options of "
            f"loading to from_pretrained()"
        )

    def get_text_config(self, decoder: bool = True) -> LoadedConfig:
        """Return the config itself: it describes a language model alone."""
        return self

    def to_dict(self) -> dict[str, Any]:
        """Return options and facts by name."""
        return {**_options(self), **self._facts}

    def __reduce__(self) -> tuple[Callable[..., LoadedConfig], tuple[Any, Any]]:
        return _remade, (self._facts, _options(self))


def loaded_config(config: ModelConfig, facts: Mapping[str, Any]) -> LoadedConfig:
    """Return a model's config with the facts of its file."""
    return LoadedConfig({**facts, "is_encoder_decoder": False}, **_options(config))


def _remade(facts: Mapping[str, Any], options: dict[str, Any]) -> LoadedConfig:
    return LoadedConfig(facts, **options)


def _options(config: ModelConfig) -> dict[str, Any]:
    return {each.name: getattr(config, each.name) for each in dataclasses.fields(ModelConfig)}
