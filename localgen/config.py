"""The two option objects, frozen and checked; they know what is allowed, not how it is done."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, TypeVar

from localgen.option_names import names_checked

DEFAULT_MAX_NEW_TOKENS = 256
DEVICES = ("auto", "cpu", "cuda", "metal")
FLASH_ATTENTION = ("auto", "on", "off")
UNQUANTIZED = ("f32", "f16", "bf16")
KV_TYPES = (*UNQUANTIZED, "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl")

Config = TypeVar("Config", "ModelConfig", "GenerationConfig")


def check_int(name: str, value: object, low: int, high: int | None = None) -> int:
    """``value`` as an int within [low, high], or a ValueError that says the range."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise ValueError(f"{name} must be an integer, got {value!r}")
    number = int(value)
    if number < low or (high is not None and number > high):
        limit = f"at least {low}" if high is None else f"between {low} and {high}"
        raise ValueError(f"{name} must be {limit}, got {number}")
    return number


def check_float(name: str, value: object, allowed: str, low: float, high: float) -> float:
    """``value`` as a finite float within [low, high]; ``allowed`` says the range in words."""
    # Compared before it is converted: an int may be too large for a float. NaN is in no range.
    number: Any = value
    if isinstance(value, bool) or not isinstance(value, Real) or not low <= number <= high:
        raise ValueError(f"{name} must be a number {allowed}, got {value!r}")
    return float(number)


def check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    """A ValueError unless ``value`` is one of ``choices``."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r}")


def replace_options(config: Config, overrides: Mapping[str, Any]) -> Config:
    """``config`` with ``overrides``; TypeError for names as of the config's constructor."""
    return dataclasses.replace(config, **overrides) if overrides else config


@names_checked
@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """How a model is loaded.

    n_ctx: the most tokens that one sequence may hold, prompt and new ones together.
    device: "auto" takes a GPU where this build of llama.cpp has one.
    n_gpu_layers: layers put on the GPU; None means all of them (none with device="cpu").
    n_threads: CPU threads; None means every CPU that this process may use.
    n_batch: the most tokens in one forward pass.
    max_sequences: the most sequences decoded together; further rows wait for a free place.
    kv_budget: bytes that the KV cache may take, on GPUs too; None lets its part in RAM take half of
    the memory that this process can still get when it first generates, its cgroup's limit counted,
    but with ``check_memory`` never refuses one sequence of ``n_ctx`` tokens. A GPU's memory has no
    budget by default, nor has a model all of whose layers are there.
    kv_type: the type of the KV cache's numbers, one of ``KV_TYPES``.
    flash_attention: "on", "off" or "auto": off on a CPU, where that is faster in all but long
    prefills, unless ``kv_type`` is quantized or the scores of one batch could take more than 512
    MiB; else what llama.cpp chooses.
    deterministic: bitwise the same logits for a row whatever runs beside it, on the same machine
    and build: rows run one at a time, without flash attention, and reuse no earlier call's KV.
    check_memory: refuse a model that, with one sequence of ``n_ctx`` tokens, would not fit the
    memory that can be had now.
    """

    n_ctx: int = 4096
    device: str = "auto"
    n_gpu_layers: int | None = None
    n_threads: int | None = None
    n_batch: int = 512
    max_sequences: int = 32
    kv_budget: int | None = None
    kv_type: str = "f16"
    flash_attention: str = "auto"
    deterministic: bool = False
    check_memory: bool = True

    def __post_init__(self) -> None:
        check_int("n_ctx", self.n_ctx, 2, 2**27)
        check_choice("device", self.device, DEVICES)
        if self.n_gpu_layers is not None:
            check_int("n_gpu_layers", self.n_gpu_layers, 0, 2**15)
        if self.n_threads is not None:
            check_int("n_threads", self.n_threads, 1, 512)
        check_int("n_batch", self.n_batch, 1, 2**16)
        check_int("max_sequences", self.max_sequences, 1, 256)
        if self.max_sequences > self.n_batch:
            raise ValueError(
                f"max_sequences must be at most n_batch ({self.n_batch}), got {self.max_sequences}"
            )
        if self.kv_budget is not None:
            check_int("kv_budget", self.kv_budget, 1)
        check_choice("kv_type", self.kv_type, KV_TYPES)
        check_choice("flash_attention", self.flash_attention, FLASH_ATTENTION)
        if self.device == "cpu" and self.n_gpu_layers:
            raise ValueError(f"n_gpu_layers={self.n_gpu_layers} needs a GPU, but device is 'cpu'")
        quantized = self.kv_type not in UNQUANTIZED
        if quantized and self.flash_attention == "off":
            raise ValueError(
                f"kv_type={self.kv_type!r} needs flash attention: a quantized KV cache is read "
                f"only by the flash-attention kernels; use flash_attention='on' or 'auto'"
            )
        for name in ("deterministic", "check_memory"):
            value = getattr(self, name)
            if not isinstance(value, bool):
                raise ValueError(f"{name} must be True or False, got {value!r}")
        if self.deterministic and (quantized or self.flash_attention == "on"):
            raise ValueError(
                f"deterministic=True runs without flash attention, whose results depend on the "
                f"batch; it cannot be used with flash_attention={self.flash_attention!r} and "
                f"kv_type={self.kv_type!r}"
            )


@names_checked
@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationConfig:
    """How tokens are chosen and when a row ends; names and meaning as in transformers.

    Lengths: ``max_new_tokens`` wins over ``max_length`` (which counts the padded prompt too); with
    neither, 256 new tokens. ``max_time`` is in seconds for the whole call.

    ``do_sample=None`` means False in ``generate()``, as in transformers. In ``complete()`` and
    ``stream()`` it means: sample if any of temperature, top_k, top_p, min_p, typical_p or seed
    differs from its default, else greedy. Options that these are not given, one by one or by a
    ``generation_config``, are those of the model's file (``LocalModel.sampling_defaults``).

    ``top_k=0``, ``top_p=1``, ``min_p=None`` or 0 and ``typical_p=1`` switch a filter off.
    ``frequency_penalty`` and ``presence_penalty`` count generated tokens only, as OpenAI's do:
    logit - count * frequency_penalty - (count > 0) * presence_penalty.

    ``seed``: None takes fresh entropy (the stats say which seed was used). An int s gives row i
    the stream (s, i). A sequence of ints, one a row, gives each row the stream (its seed, 0): the
    draws that the same prompt and seed get alone.

    ``logprobs=n`` (text API): log-probabilities of the chosen token and of the n likeliest, from
    the model's own logits. ``return_dict_in_generate``, ``output_scores`` and ``output_logits``
    are for ``generate()``.

    An option of transformers that is not here is accepted where its value asks for what localgen
    does anyway (``num_beams=1``, ``use_cache=True``, None), and is not kept; any other value, and
    any other name, is a TypeError.
    """

    max_new_tokens: int | None = None
    max_length: int | None = None
    min_new_tokens: int | None = None
    max_time: float | None = None
    stop_strings: str | Iterable[str] | None = None
    eos_token_id: int | Iterable[int] | None = None
    pad_token_id: int | None = None
    num_return_sequences: int = 1
    do_sample: bool | None = None
    temperature: float = 1.0
    top_k: int = 50
    top_p: float = 1.0
    min_p: float | None = None
    typical_p: float = 1.0
    repetition_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    no_repeat_ngram_size: int = 0
    bad_words_ids: Iterable[Iterable[int]] | None = None
    sequence_bias: Mapping[tuple[int, ...], float] | Iterable[Any] | None = None
    suppress_tokens: Iterable[int] | None = None
    seed: int | Iterable[int] | None = None
    logprobs: int | None = None
    return_dict_in_generate: bool = False
    output_scores: bool = False
    output_logits: bool = False

    def __post_init__(self) -> None:
        self._check_lengths()
        self._check_sampling()
        self._check_token_lists()
        for name in ("return_dict_in_generate", "output_scores", "output_logits"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name} must be True or False, got {getattr(self, name)!r}")

    @property
    def changed_sampling_options(self) -> list[str]:
        """Names of the options that only sampling reads and that differ from their defaults."""
        names = ("temperature", "top_k", "top_p", "min_p", "typical_p", "seed")
        defaults = {field.name: field.default for field in dataclasses.fields(self)}
        return [name for name in names if getattr(self, name) != defaults[name]]

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)

    def _check_lengths(self) -> None:
        for name, low in (("max_new_tokens", 1), ("max_length", 1), ("min_new_tokens", 0)):
            if getattr(self, name) is not None:
                self._set(name, check_int(name, getattr(self, name), low))
        if self.max_time is not None:
            check_float("max_time", self.max_time, "of seconds above 0", 1e-9, 1e9)
        check_int("num_return_sequences", self.num_return_sequences, 1, 2**16)
        limit = self.max_new_tokens
        if self.min_new_tokens and limit and self.min_new_tokens > limit:
            raise ValueError(
                f"min_new_tokens must be at most max_new_tokens ({limit}), "
                f"got {self.min_new_tokens}"
            )
        if self.stop_strings is not None:
            self._set("stop_strings", _stop_strings(self.stop_strings))

    def _check_sampling(self) -> None:
        if self.do_sample is not None and not isinstance(self.do_sample, bool):
            raise ValueError(f"do_sample must be True, False or None, got {self.do_sample!r}")
        if isinstance(self.temperature, Real) and self.temperature == 0:
            raise ValueError("temperature must be above 0, got 0; for greedy use do_sample=False")
        above_zero = 1e-6
        check_float("temperature", self.temperature, "above 0", above_zero, 1e6)
        check_int("top_k", self.top_k, 0)
        check_float("top_p", self.top_p, "above 0 and at most 1", 1e-12, 1.0)
        if self.min_p is not None:
            check_float("min_p", self.min_p, "between 0 and 1", 0.0, 1.0)
        check_float("typical_p", self.typical_p, "above 0 and at most 1", 1e-12, 1.0)
        check_float("repetition_penalty", self.repetition_penalty, "above 0", above_zero, 1e6)
        for name in ("frequency_penalty", "presence_penalty"):
            check_float(name, getattr(self, name), "between -1e6 and 1e6", -1e6, 1e6)
        check_int("no_repeat_ngram_size", self.no_repeat_ngram_size, 0)
        if self.logprobs is not None:
            check_int("logprobs", self.logprobs, 0)
        if isinstance(self.seed, Iterable):
            self._set("seed", tuple(check_int("seed", s, 0, 2**64 - 1) for s in self.seed))
        elif self.seed is not None:
            self._set("seed", check_int("seed", self.seed, 0, 2**64 - 1))

    def _check_token_lists(self) -> None:
        if self.eos_token_id is not None:
            ids = self.eos_token_id
            self._set("eos_token_id", _token_ids("eos_token_id", ids if _is_list(ids) else [ids]))
        if self.pad_token_id is not None:
            check_int("pad_token_id", self.pad_token_id, 0, 2**31 - 1)
        if self.suppress_tokens is not None:
            self._set("suppress_tokens", _token_ids("suppress_tokens", self.suppress_tokens))
        if self.bad_words_ids is not None:
            self._set("bad_words_ids", _bad_words(self.bad_words_ids))
        if self.sequence_bias is not None:
            self._set("sequence_bias", _sequence_bias(self.sequence_bias))


def _is_list(value: object) -> bool:
    return isinstance(value, Iterable) and not isinstance(value, str | bytes)


def _token_ids(name: str, ids: object) -> tuple[int, ...]:
    if not isinstance(ids, Iterable) or isinstance(ids, str | bytes):
        raise ValueError(f"{name} must be a list of token ids, got {ids!r}")
    return tuple(check_int(name, i, 0, 2**31 - 1) for i in ids)


def _stop_strings(value: object) -> tuple[str, ...]:
    strings = (value,) if isinstance(value, str) else value
    if not isinstance(strings, Iterable) or isinstance(strings, bytes):
        raise ValueError(f"stop_strings must be a string or a list of strings, got {value!r}")
    result = tuple(strings)
    for string in result:
        if not isinstance(string, str) or not string:
            raise ValueError(f"stop_strings must hold non-empty strings, got {string!r}")
    return result


def _bad_words(value: object) -> tuple[tuple[int, ...], ...]:
    if not isinstance(value, Iterable):
        raise ValueError(f"bad_words_ids must be a list of lists of token ids, got {value!r}")
    words = tuple(_token_ids("bad_words_ids", word) for word in value)
    if any(not word for word in words):
        raise ValueError("bad_words_ids must hold non-empty lists of token ids, got an empty one")
    return words


def _sequence_bias(value: object) -> tuple[tuple[tuple[int, ...], float], ...]:
    """transformers' two spellings, {(ids…): bias} and [[[ids…], bias], …], as one tuple."""
    pairs = value.items() if isinstance(value, Mapping) else value
    if not isinstance(pairs, Iterable) or isinstance(pairs, str | bytes):
        raise ValueError(f"sequence_bias must be a dict of id tuples to floats, got {value!r}")
    result = []
    for pair in pairs:
        if not (isinstance(pair, tuple | list) and len(pair) == 2):
            raise ValueError(f"sequence_bias must hold (token ids, bias) pairs, got {pair!r}")
        ids = _token_ids("sequence_bias", pair[0])
        if not ids:
            raise ValueError("sequence_bias must hold non-empty token id tuples, got an empty one")
        result.append((ids, check_float("sequence_bias", pair[1], "that is finite", -1e9, 1e9)))
    return tuple(result)
