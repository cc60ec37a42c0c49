"""Which settings are searched, in which order, and with which values; it measures nothing."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any

from localgen._util import system
from localgen.config import UNQUANTIZED, ModelConfig
from localgen.tuning.search import LEAST_GAIN

_BATCHES = (64, 128, 256, 512, 1024, 2048)
_KV_TYPES = ("bf16", "q8_0")
# A number of threads in a profile is fixed: it no longer follows what else the machine does.
_LEAST_GAIN_OF_THREADS = 1.1
# A quiet machine leaves the calling thread nearly all of its CPU. On a busy one fewer threads are
# faster, and the default learns that in longer work than a measurement.
_CPU_SHARE_OF_A_QUIET_MACHINE = 0.9


@dataclass(frozen=True, slots=True)
class Choice:
    """A setting, its default, and the other values to try.

    least_gain: how many times as fast as the default a value must be. least_cpu_share: with which
    share of its CPU the default must have run. without_values: why there is nothing to try, if so.
    """

    setting: str
    default: Any
    values: tuple[Any, ...]
    least_gain: float = LEAST_GAIN
    without_values: str = ""
    least_cpu_share: float = 0.0


def choices(
    config: ModelConfig,
    n_prompt: int,
    *,
    given: Collection[str] = (),
    attention_adapts: Callable[[], bool],
    allow_kv_types: bool,
) -> Iterator[Choice]:
    """Yield the settings in the order in which they are searched.

    config: what all measurements share. n_prompt: the length of the measured prompt; passes of more
    tokens would be the same. given: settings that are not searched. attention_adapts: returns
    whether flash_attention="auto" follows the work; asked when it would be its turn.
    """
    for choice in _all(config, n_prompt):
        is_open = choice.setting not in given
        if choice.setting == "flash_attention":
            is_open = is_open and _may_fix_attention(config) and not attention_adapts()
        elif choice.setting == "kv_type":
            is_open = is_open and allow_kv_types
        if is_open:
            yield choice


def _all(config: ModelConfig, n_prompt: int) -> Iterator[Choice]:
    threads = thread_counts(system.usable_cpus(), system.physical_cpus())
    yield Choice(
        "n_threads",
        None,
        threads,
        least_gain=_LEAST_GAIN_OF_THREADS,
        least_cpu_share=_CPU_SHARE_OF_A_QUIET_MACHINE,
        without_values="there is only one CPU",
    )
    yield Choice("flash_attention", "auto", ("on", "off"))
    yield Choice(
        "n_batch",
        config.n_batch,
        _batches(config, n_prompt),
        without_values=f"no other size changes the passes of the measured prompt, which has "
        f"{n_prompt} tokens; more seconds, or a larger n_ctx, make it longer",
    )
    yield Choice("kv_type", "f16", _KV_TYPES)


def thread_counts(n_usable: int, n_physical: int | None) -> tuple[int, ...]:
    """Return the numbers of threads to try, from many to few.

    All usable CPUs are the default, and not among them.
    """
    tried = {n_physical or n_usable, n_usable - 1, n_usable // 2}
    return tuple(sorted((n for n in tried if 1 <= n < n_usable), reverse=True))


def _may_fix_attention(config: ModelConfig) -> bool:
    """Whether both settings of attention suit the KV cache: a quantized one needs flash attention,
    whose kernels would compute in F16 with what an F32 one holds."""
    return config.kv_type in UNQUANTIZED and config.kv_type != "f32"


def _batches(config: ModelConfig, n_prompt: int) -> tuple[int, ...]:
    """Return the sizes that cut the measured prompt into other passes than the default does."""
    default = min(config.n_batch, n_prompt)
    least = max(config.max_sequences, config.n_ubatch or 1)
    return tuple(n for n in _BATCHES if least <= n <= n_prompt and n != default)
