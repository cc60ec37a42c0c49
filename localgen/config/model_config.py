"""How a model is loaded: each option once, with its check and its flag."""

from __future__ import annotations

from dataclasses import dataclass

from localgen._util.checks import check_bool
from localgen._util.format import either
from localgen._util.option_fields import check_fields, choice, hinted, integer, option, optional
from localgen.option_names import names_checked

DEVICES = ("auto", "cpu", "cuda", "metal")
FLASH_ATTENTION = ("auto", "on", "off")
UNQUANTIZED = ("f32", "f16", "bf16")
KV_TYPES = (*UNQUANTIZED, "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl")

# What other programs take these values for, and how that is written here.
_N_CTX_HINTS = {
    0: "'localgen inspect MODEL' shows the context that the model was trained with; pass it here"
}
_N_GPU_LAYERS_HINTS = {-1: "leave it out to put all layers on the GPU"}
_N_THREADS_HINTS = dict.fromkeys((0, -1), "leave it out to use every CPU")


@names_checked
@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """How a model is loaded.

    n_ctx: the most tokens of one sequence, prompt and new tokens together. A model that has learned
    a vector for each position lowers it to their number, with a warning.
    device: "auto" uses a GPU if this build of llama.cpp supports one.
    n_gpu_layers: layers on the GPU; None means all of them (none with device="cpu").
    n_threads: CPU threads; None means as many as help: every CPU that this process may use, or
    fewer while other programs take them.
    n_batch: the most tokens in one forward pass.
    n_ubatch: the most of them that llama.cpp computes at once, None for all. Fewer need less memory
    and may be faster on a CPU, whose caches they fit; see docs/tuning.md.
    max_sequences: the most sequences decoded together; further ones wait.
    kv_budget: bytes that the KV cache may use, GPU memory and recurrent states included. None lets
    its part in RAM use half of the memory that is available to this process when it first
    generates, cgroup limits included, but with ``check_memory`` never less than one sequence of
    ``n_ctx`` tokens needs. By default there is no budget for GPU memory, nor for a model that is
    entirely on GPUs.
    reserved_new_tokens: new tokens that a sequence has room for in the KV cache when it starts. One
    that comes to have more gets room for as many again; where the budget has none, it waits until
    others have ended. None is room for all that it may generate, so that it never waits.
    kv_type: the data type of the KV cache, one of ``KV_TYPES``.
    flash_attention: "on", "off" or "auto": on a CPU whichever was measured to be faster for the
    work, and off where that cannot be changed or results are compared, unless ``kv_type`` is
    quantized or the attention scores of one batch could take more than 512 MiB; elsewhere
    llama.cpp's choice. ``Stats.flash_attention`` says which was used.
    deterministic: a sequence's logits are bitwise the same whatever runs beside it, on the same
    machine and build: sequences run one at a time, without flash attention, and reuse no KV.
    check_memory: refuse a model that, with one sequence of ``n_ctx`` tokens, needs more memory than
    is available.
    """

    n_ctx: int = option(
        4096, hinted(integer(2, 2**27), _N_CTX_HINTS), help="Set the context size in tokens."
    )
    device: str = option("auto", choice(DEVICES), help=f"Choose the device: {either(DEVICES)}.")
    n_gpu_layers: int | None = option(
        None,
        optional(hinted(integer(0, 2**15), _N_GPU_LAYERS_HINTS)),
        help="Put this many layers on the GPU.",
        shown="all",
    )
    n_threads: int | None = option(
        None,
        optional(hinted(integer(1, 512), _N_THREADS_HINTS)),
        help="Use this many CPU threads.",
        shown="all",
    )
    n_batch: int = option(512, integer(1, 2**16))
    n_ubatch: int | None = option(None, optional(integer(1, 2**16)))
    max_sequences: int = option(
        32, integer(1, 256), help="Decode at most this many sequences together."
    )
    kv_budget: int | None = option(None, optional(integer(1)))
    reserved_new_tokens: int | None = option(None, optional(integer(1)))
    kv_type: str = option(
        "f16", choice(KV_TYPES), help=f"Store the KV cache as {either(KV_TYPES)}."
    )
    flash_attention: str = option(
        "auto", choice(FLASH_ATTENTION), help=f"Use flash attention: {either(FLASH_ATTENTION)}."
    )
    deterministic: bool = option(False, check_bool)
    check_memory: bool = option(
        True, check_bool, help="Refuse to load a model that does not fit in memory."
    )

    def __post_init__(self) -> None:
        check_fields(self)
        if self.max_sequences > self.n_batch:
            raise ValueError(
                f"max_sequences must be at most n_batch ({self.n_batch}), got {self.max_sequences}"
            )
        if self.n_ubatch is not None and not self.max_sequences <= self.n_ubatch <= self.n_batch:
            raise ValueError(
                f"n_ubatch must be from max_sequences ({self.max_sequences}) to n_batch "
                f"({self.n_batch}), got {self.n_ubatch}"
            )
        if self.device == "cpu" and self.n_gpu_layers:
            raise ValueError(f"n_gpu_layers={self.n_gpu_layers} needs a GPU, but device is 'cpu'")
        quantized = self.kv_type not in UNQUANTIZED
        if quantized and self.flash_attention == "off":
            raise ValueError(
                f"kv_type={self.kv_type!r} needs flash attention: only its kernels read a "
                f"quantized KV cache; use flash_attention='on' or 'auto'"
            )
        if self.deterministic and self.reserved_new_tokens is not None:
            raise ValueError(
                "deterministic=True gives a sequence all its room at its start; it cannot be used "
                "with reserved_new_tokens"
            )
        if self.deterministic and (quantized or self.flash_attention == "on"):
            raise ValueError(
                f"deterministic=True runs without flash attention, whose results depend on the "
                f"batch; it cannot be used with flash_attention={self.flash_attention!r} and "
                f"kv_type={self.kv_type!r}"
            )
