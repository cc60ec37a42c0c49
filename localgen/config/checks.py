"""Values of options that need more than a range: switches, numbers, functions, models."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from numbers import Real

from localgen._util.arrays import plain
from localgen._util.checks import check_bool, check_float, check_int
from localgen.samplers import sampler_names

MAX_SEED = 2**64 - 1


def check_flag(name: str, value: object) -> bool:
    """True or False; 1 and 0 as well, which programs for transformers pass."""
    is_number = isinstance(value, int) and value in (0, 1)
    return check_bool(name, bool(value) if is_number else value)


def check_temperature(name: str, value: object) -> float:
    # 0 is left to SamplingOptions, which knows whether anything is sampled.
    if not isinstance(value, bool) and isinstance(value, Real) and value == 0:
        return 0.0
    return check_float(name, value, "above 0, or 0 with do_sample=False", 1e-6, 1e6)


def check_top_k(name: str, value: object) -> int:
    """-1 switches it off, too, as in many programs."""
    return max(0, check_int(name, value, -1))


def check_top_n_sigma(name: str, value: object) -> float:
    """-1 switches it off, too, as in llama.cpp."""
    if not isinstance(value, bool) and isinstance(value, Real) and value == -1:
        return float(value)
    return check_float(name, value, "at least 0, or -1", 0.0, 1e6)


def check_early_stopping(name: str, value: object) -> bool | str:
    if isinstance(value, str) and value == "never":
        return value
    if isinstance(value, int) and value in (0, 1):
        return bool(value)
    raise ValueError(f"{name} must be True, False or 'never', got {value!r}")


def check_seed(name: str, value: object) -> int | tuple[int, ...]:
    if isinstance(value, Iterable):
        return tuple(check_int(name, plain(each), 0, MAX_SEED) for each in value)
    return check_int(name, value, 0, MAX_SEED)


def check_decay(name: str, value: object) -> tuple[int, float]:
    is_list = isinstance(value, Iterable) and not isinstance(value, str | bytes | Mapping)
    pair = tuple(value) if is_list else ()  # type: ignore[arg-type]
    if len(pair) != 2:
        raise ValueError(f"{name} must be a pair (start, factor), got {value!r}")
    start, factor = map(plain, pair)
    return check_int(name, start, 0), check_float(name, factor, "above 0", 1e-6, 1e6)


def check_samplers(name: str, value: object) -> tuple[str, ...]:
    return sampler_names(name, value)


def check_function(name: str, value: object) -> object:
    if not callable(value):
        raise ValueError(f"{name} must be a function of (batch_id, input_ids), got {value!r}")
    return value


def check_assistant(name: str, value: object) -> object:
    """Return a loaded model, or the name or path of one."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if (isinstance(value, str) and value) or callable(getattr(value, "from_pretrained", None)):
        return value
    raise ValueError(f"{name} must be a LocalModel, or the name or path of one, got {value!r:.80}")
