"""Where a level is computed: the CPU, a GPU, or some layers on each."""

from __future__ import annotations

from dataclasses import dataclass

from localgen._util.suggestions import did_you_mean
from localgen.config import DEVICES, ModelConfig
from localgen.errors import BackendError
from localgen.llama import devices

FORMS = "auto, cpu, cuda or metal, or cuda:20 for 20 layers on the GPU"


@dataclass(frozen=True, slots=True)
class ComputeDevice:
    """A device, one of ``DEVICES``, and the layers on the GPU; None means all of them."""

    name: str = "auto"
    n_gpu_layers: int | None = None

    @classmethod
    def of(cls, text: str) -> ComputeDevice:
        """Return the device for "cuda", or "cuda:20" for 20 layers. Raises ValueError.

        Raises BackendError if this build of llama.cpp does not have it.
        """
        name, colon, layers = text.partition(":")
        if name not in DEVICES or (colon and not layers.isdecimal()):
            hint = did_you_mean(name, DEVICES, shown=repr) if name not in DEVICES else ""
            raise ValueError(f"each of devices must be {FORMS}, got {text!r}{hint}")
        found = cls(name, int(layers) if colon else None)
        try:
            ModelConfig(device=found.name, n_gpu_layers=found.n_gpu_layers)
            devices.n_gpu_layers(found.name, found.n_gpu_layers)
        except (ValueError, BackendError) as error:
            raise type(error)(f"devices has {text!r}: {error}") from None
        return found

    def __str__(self) -> str:
        return self.name if self.n_gpu_layers is None else f"{self.name}:{self.n_gpu_layers}"


AUTO_DEVICE = ComputeDevice()
