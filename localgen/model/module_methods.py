"""The methods of a model that programs for transformers call, and that do nothing here or tell what
its file says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NoReturn, TypeVar

import numpy as np

from localgen.generation.model_backend import ModelBackend
from localgen.generation.model_facts import CPU, Weight, logits_dtype

Model = TypeVar("Model", bound="ModuleMethods")


class ModuleMethods:
    """What ``LocalModel`` has in common with a transformers model besides generating.

    ``device`` is where token ids live, always "cpu".
    """

    device = CPU
    training = False
    _backend: ModelBackend

    @property
    def name_or_path(self) -> str:
        """The path of the model's file."""
        return str(self._backend.path)

    @property
    def dtype(self) -> Any:
        """The type of the logits, float32; the weights have the types of the file."""
        return logits_dtype()

    def can_generate(self) -> bool:
        """Return True: every model that loads can."""
        return True

    def parameters(self) -> Iterator[Weight]:
        """Return the tensors of the model's file, without their values."""
        return iter(self._backend.weights)

    def named_parameters(self) -> Iterator[tuple[str, Weight]]:
        """Return (name, tensor) for each of ``parameters()``; the names are the file's."""
        return ((weight.name, weight) for weight in self._backend.weights)

    def num_parameters(self) -> int:
        """Return how many values the tensors of the model's file have."""
        return sum(weight.numel() for weight in self._backend.weights)

    def eval(self: Model) -> Model:
        """Return the model itself: it never trains."""
        return self

    def train(self: Model, mode: bool = True) -> Model:
        """Return the model itself for ``train(False)``; raise ValueError otherwise."""
        if mode:
            raise ValueError("a GGUF model cannot be trained; fine-tune the model it was made from")
        return self

    def requires_grad_(self: Model, requires_grad: bool = True) -> Model:
        """Return the model itself for ``requires_grad_(False)``; raise ValueError otherwise."""
        return self.train(requires_grad)

    def cpu(self: Model) -> Model:
        """Return the model itself; see ``to``."""
        return self

    def float(self: Model) -> Model:
        """Return the model itself: its logits are float32."""
        return self

    def to(self: Model, device: Any = None, *, dtype: Any = None) -> Model:
        """Return the model itself for "cpu", where its token ids live, and for float32.

        Where its layers are is chosen when it is loaded. Raises ValueError for anything else.
        """
        if dtype is None and _is_float32(device):
            return self
        stays = str(device) == self.device or (device is None and dtype is not None)
        if not stays or not (dtype is None or _is_float32(dtype)):
            raise ValueError(_cannot_convert(repr(device if dtype is None else dtype)))
        return self

    def cuda(self, device: Any = None) -> NoReturn:
        """Raise ValueError: where the layers are is chosen when the model is loaded."""
        raise ValueError(_cannot_convert("cuda()"))

    def half(self) -> NoReturn:
        """Raise ValueError: the weights have the types of the file."""
        raise ValueError(_cannot_convert("half()"))

    def bfloat16(self) -> NoReturn:
        """Raise ValueError: the weights have the types of the file."""
        raise ValueError(_cannot_convert("bfloat16()"))


def _is_float32(value: object) -> bool:
    """Return whether a value is NumPy's or torch's float32, or its name."""
    return str(value) in ("float32", "torch.float32") or value is np.float32


def _cannot_convert(asked: str) -> str:
    return (
        f"a loaded model cannot be moved or converted, got {asked}: choose the device with "
        f"from_pretrained(…, device='cuda'), and the type by the file; token ids stay on 'cpu' "
        f"(model.device)"
    )
