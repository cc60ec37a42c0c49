"""The option objects: frozen and checked. They know what is allowed, not how it is done."""

from __future__ import annotations

import dataclasses
import math
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from numbers import Real
from typing import Any, TypeVar, cast, get_origin

from localgen._util.arrays import plain
from localgen._util.checks import check_bool, check_float, check_int
from localgen._util.format import either
from localgen._util.option_fields import (
    check_fields,
    choice,
    hinted,
    integer,
    number,
    option,
    optional,
)
from localgen.option_names import names_checked
from localgen.samplers import check_order, sampler_names, without_effect

DEFAULT_MAX_NEW_TOKENS = 256
DEVICES = ("auto", "cpu", "cuda", "metal")
FLASH_ATTENTION = ("auto", "on", "off")
UNQUANTIZED = ("f32", "f16", "bf16")
KV_TYPES = (*UNQUANTIZED, "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl")

Config = TypeVar("Config", "ModelConfig", "GenerationConfig")
# A function of the number of the prompt and of its tokens so far, which returns token ids.
AllowedTokensFn = Callable[[int, Any], Any]

_MAX_TOKEN_ID = 2**31 - 1
_MAX_TOKENS = 2**31 - 1
MAX_SEED = 2**64 - 1
_MAX_DRAFTED = 512
_MOST_BREAKERS = 128
SCHEDULES = ("constant", "heuristic", "heuristic_transient")
_MAX_NGRAM = 16


def replace_options(config: Config, overrides: Mapping[str, Any]) -> Config:
    """Return ``config`` with ``overrides``; TypeError for unknown names, ValueError for values."""
    return dataclasses.replace(config, **overrides) if overrides else config


# --- loading ---

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


# --- values that need more than a range ---


def _check_flag(name: str, value: object) -> bool:
    """True or False; 1 and 0 as well, which programs for transformers pass."""
    is_number = isinstance(value, int) and value in (0, 1)
    return check_bool(name, bool(value) if is_number else value)


def _check_temperature(name: str, value: object) -> float:
    # 0 is left to SamplingOptions, which knows whether anything is sampled.
    if not isinstance(value, bool) and isinstance(value, Real) and value == 0:
        return 0.0
    return check_float(name, value, "above 0, or 0 with do_sample=False", 1e-6, 1e6)


def _check_top_k(name: str, value: object) -> int:
    """-1 switches it off, too, as in many programs."""
    return max(0, check_int(name, value, -1))


def _check_early_stopping(name: str, value: object) -> bool | str:
    if isinstance(value, str) and value == "never":
        return value
    if isinstance(value, int) and value in (0, 1):
        return bool(value)
    raise ValueError(f"{name} must be True, False or 'never', got {value!r}")


def _check_seed(name: str, value: object) -> int | tuple[int, ...]:
    if isinstance(value, Iterable):
        return tuple(check_int(name, plain(each), 0, MAX_SEED) for each in value)
    return check_int(name, value, 0, MAX_SEED)


def _check_token_ids(name: str, value: object) -> tuple[int, ...]:
    if not isinstance(value, Iterable) or isinstance(value, str | bytes):
        raise ValueError(f"{name} must be a list of token ids, got {value!r}")
    return tuple(check_int(name, plain(each), 0, _MAX_TOKEN_ID) for each in value)


def _check_eos_token_id(name: str, value: object) -> tuple[int, ...]:
    """-1 is no token, so that nothing ends a sequence, as in transformers."""
    is_list = isinstance(value, Iterable) and not isinstance(value, str | bytes)
    ids = [plain(each) for each in value] if is_list else [value]  # type: ignore[attr-defined]
    return _check_token_ids(name, [each for each in ids if not _is_minus_one(each)])


def _is_minus_one(value: object) -> bool:
    return isinstance(value, int) and value == -1


def _check_stop_strings(name: str, value: object) -> tuple[str, ...]:
    strings = (value,) if isinstance(value, str) else value
    if not isinstance(strings, Iterable) or isinstance(strings, bytes):
        raise ValueError(f"{name} must be a string or a list of strings, got {value!r}")
    result = tuple(strings)
    for string in result:
        if not isinstance(string, str) or not string:
            raise ValueError(f"{name} must hold non-empty strings, got {string!r}")
        try:
            string.encode()
        except UnicodeEncodeError:
            raise ValueError(
                f"{name} must hold valid Unicode text, got {string!r}, which has a lone surrogate"
            ) from None
    return result


def _check_negative_prompt(name: str, value: object) -> str | tuple[int, ...]:
    if isinstance(value, str) and value:
        return _check_stop_strings(name, value)[0]
    given = tuple(value) if isinstance(value, Iterable) else ()
    if isinstance(value, Mapping) or (given and isinstance(given[0], Mapping)):
        raise ValueError(
            f"{name} must be one text or its token ids, got {value!r:.80}; for messages pass "
            f"tokenizer.apply_chat_template(messages, return_dict=False), and of what a tokenizer "
            f"returned its input_ids"
        )
    if not given or isinstance(given[0], str):
        raise ValueError(
            f"{name} must be one text or its token ids, and not empty, got {value!r:.80}; for one "
            f"each, give a list of generation_configs"
        )
    return _check_token_ids(name, given)


def _check_sequence_breakers(name: str, value: object) -> tuple[str, ...]:
    """An empty list is none, and so is "none" alone, as on llama.cpp's command line."""
    breakers = _check_stop_strings(name, value)
    if len(breakers) > _MOST_BREAKERS:
        raise ValueError(
            f"{name} must hold at most {_MOST_BREAKERS} texts, got {len(breakers):,}: each is "
            f"looked for in every token of the vocabulary"
        )
    return () if breakers == ("none",) else breakers


def _check_top_n_sigma(name: str, value: object) -> float:
    """-1 switches it off, too, as in llama.cpp."""
    is_off = not isinstance(value, bool) and isinstance(value, Real) and value == -1
    return -1.0 if is_off else check_float(name, value, "at least 0, or -1", 0.0, 1e6)


def _check_samplers(name: str, value: object) -> tuple[str, ...]:
    return sampler_names(name, value)


def _check_bad_words(name: str, value: object) -> tuple[tuple[int, ...], ...]:
    if not isinstance(value, Iterable):
        raise ValueError(f"{name} must be a list of lists of token ids, got {value!r}")
    words = tuple(_check_token_ids(name, word) for word in value)
    if any(not word for word in words):
        raise ValueError(f"{name} must hold non-empty lists of token ids, got an empty one")
    return words


def _check_forced_ids(name: str, value: object) -> tuple[int, ...]:
    """One token id or a list of them, as a tuple."""
    is_list = isinstance(value, Iterable) and not isinstance(value, str | bytes)
    ids = _check_token_ids(name, value if is_list else (value,))
    if not ids:
        raise ValueError(f"{name} must name at least one token id, got {value!r}")
    return ids


def _check_assistant(name: str, value: object) -> object:
    """Return a loaded model, or the name or path of one."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if (isinstance(value, str) and value) or callable(getattr(value, "from_pretrained", None)):
        return value
    raise ValueError(f"{name} must be a LocalModel, or the name or path of one, got {value!r:.80}")


def _check_decay(name: str, value: object) -> tuple[int, float]:
    is_list = isinstance(value, Iterable) and not isinstance(value, str | bytes | Mapping)
    pair = tuple(value) if is_list else ()  # type: ignore[arg-type]
    if len(pair) != 2:
        raise ValueError(f"{name} must be a pair (start, factor), got {value!r}")
    start, factor = map(plain, pair)
    return check_int(name, start, 0), check_float(name, factor, "above 0", 1e-6, 1e6)


# The options that constrain the text, of which a sequence has one at most.
CONSTRAINTS = ("json_schema", "json_object", "regex", "choices", "grammar")


_FILE_NAME = re.compile(r"(?:[A-Za-z]:)?[^\n{}:\"']*\.(?:json|lark|gbnf|ebnf|txt)")


def _refuse_file(name: str, value: object) -> None:
    """Raise ValueError for the name of a file where its text is expected."""
    is_name = isinstance(value, str) and _FILE_NAME.fullmatch(value)
    if is_name or isinstance(value, os.PathLike):
        raise ValueError(
            f"{name} takes the text of a file, not its name, got {value!r:.80}; pass "
            f"pathlib.Path(...).read_text('utf-8')"
        )


def _check_grammar(name: str, value: object) -> str:
    _refuse_file(name, value)
    return _check_text(name, value)


def _check_schema(name: str, value: object) -> object:
    """Return a schema as given: what it says is checked when it is compiled."""
    _refuse_file(name, value)
    is_type = isinstance(value, type) or get_origin(value) is not None  # list[Person], too
    if is_type or isinstance(value, Mapping) or (isinstance(value, str) and value):
        return value
    hint = ""
    if hasattr(value, "__pydantic_core_schema__") or is_dataclass(value):
        hint = f"; pass the class itself, {type(value).__name__}"
    raise ValueError(
        f"{name} must be a JSON Schema as a dict or JSON string, a pydantic model, a dataclass or "
        f"a TypedDict, got {value!r:.80}{hint}"
    )


def _check_text(name: str, value: object) -> str:
    if isinstance(value, str) and value:
        return value
    hint = "; pass its .pattern" if isinstance(value, re.Pattern) else ""
    raise ValueError(f"{name} must be a text that is not empty, got {value!r:.80}{hint}")


def _check_choices(name: str, value: object) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise ValueError(f"{name} must be a list of texts, got {value!r:.80}")
    found = tuple(_check_text(f"each of {name}", each) for each in value)
    if not found:
        raise ValueError(f"{name} must hold at least one text, got none")
    if len(set(found)) < len(found):
        twice = next(each for each, n_times in Counter(found).items() if n_times > 1)
        raise ValueError(f"{name} has {twice!r:.80} twice; leave one of them out")
    return found


def _check_function(name: str, value: object) -> object:
    if not callable(value):
        raise ValueError(f"{name} must be a function of (batch_id, input_ids), got {value!r}")
    return value


def _check_sequence_bias(name: str, value: object) -> tuple[tuple[tuple[int, ...], float], ...]:
    """transformers' two spellings, {(ids…): bias} and [[[ids…], bias], …], as one tuple; of two
    biases for the same ids, the last one counts, as there."""
    pairs = value.items() if isinstance(value, Mapping) else value
    if not isinstance(pairs, Iterable) or isinstance(pairs, str | bytes):
        raise ValueError(f"{name} must be a dict of id tuples to floats, got {value!r}")
    result: dict[tuple[int, ...], float] = {}
    for pair in pairs:
        if not (isinstance(pair, tuple | list) and len(pair) == 2):
            raise ValueError(f"{name} must hold (token ids, bias) pairs, got {pair!r}")
        ids = _check_token_ids(name, pair[0])
        if not ids:
            raise ValueError(f"{name} must hold non-empty token id tuples, got an empty one")
        bias = plain(pair[1])
        if bias != -math.inf:  # which bans, as in transformers
            bias = check_float(name, bias, "from -1e9 to 1e9, or -inf", -1e9, 1e9)
        result[ids] = float(bias)
    return tuple(result.items())


# --- watermarks ---

SEEDING_SCHEMES = ("lefthash", "selfhash")


@dataclass(frozen=True, slots=True, kw_only=True)
class WatermarkingConfig:
    """How generated text is marked, so that ``WatermarkDetector`` finds it; as in transformers.

    After each token a part of the vocabulary is "green", and its logits are raised.
    greenlist_ratio: that part. bias: what is added. hashing_key: a number that only who may detect
    the mark should know. seeding_scheme: "lefthash" takes the green tokens from the last token,
    "selfhash" (slower) from the last ``context_width`` tokens, the new one included. With fewer
    tokens than ``context_width`` nothing is marked.
    """

    greenlist_ratio: float = option(0.25, number("between 0 and 1, exclusively", 1e-9, 1 - 1e-9))
    bias: float = option(2.0, number("between -1e4 and 1e4", -1e4, 1e4))
    hashing_key: int = option(15485863, integer(0, 2**63 - 1))
    seeding_scheme: str = option("lefthash", choice(SEEDING_SCHEMES))
    context_width: int = option(1, integer(1, 2**16))

    def __post_init__(self) -> None:
        check_fields(self)

    def to_dict(self) -> dict[str, Any]:
        """Return all options by name, as transformers' own does."""
        return dataclasses.asdict(self)


_WATERMARK_NAMES = tuple(each.name for each in fields(WatermarkingConfig))


def check_watermark(name: str, value: object) -> WatermarkingConfig:
    """Return a watermark given as a config, localgen's or transformers', or as a dict."""
    if isinstance(value, WatermarkingConfig):
        return value
    is_dict = isinstance(value, Mapping)
    given: Any = value if is_dict else getattr(value, "__dict__", {})
    if "ngram_len" in given:
        raise ValueError(
            f"{name} must be a WatermarkingConfig: localgen has no SynthID watermark, whose "
            f"detector is a model that has to be trained for each key, in torch"
        )
    unknown = [each for each in given if each not in _WATERMARK_NAMES]
    if unknown or not (is_dict or given):
        raise ValueError(
            f"{name} must be a WatermarkingConfig, or a dict of {', '.join(_WATERMARK_NAMES)}, got "
            f"{value!r:.80}"
        )
    return WatermarkingConfig(**given)


# --- generating ---

_PROBABILITY = number("above 0 and at most 1", 1e-12, 1.0)
_PENALTY = number("between -1e6 and 1e6", -1e6, 1e6)
_SHARE = number("between 0 and 1", 0.0, 1.0)
_CUTOFF = number("at least 0 and below 1", 0.0, math.nextafter(1.0, 0.0))


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingOptions:
    """How tokens are chosen: names, meaning and defaults as in transformers.

    The engine, ``GenerationConfig`` and the command line all use this one list. To add an option:
    a field here, a processor or filter in ``engine/sampling``, and a test.

    ``top_k=0`` (or -1), ``top_p=1``, ``min_p=None`` or 0 and ``typical_p=1`` switch a filter off;
    ``top_p=0`` keeps the most likely token. ``temperature=0`` needs ``do_sample=False``.
    For ``encoder_*`` the prompt is what an encoder reads in transformers. ``min_new_tokens`` wins
    over ``min_length``. ``renormalize_logits`` changes recorded scores, and which text beams find,
    not what is drawn.
    ``frequency_penalty`` and ``presence_penalty`` count generated tokens only, as OpenAI's do:
    logit - count * frequency_penalty - (count > 0) * presence_penalty.

    Names, meanings and defaults of these are llama.cpp's (``common_params_sampling`` in its
    common/common.h): the options of DRY (``dry_…``), of XTC (``xtc_…``), ``top_n_sigma`` (0 or
    -1 is off), dynamic temperature (``dynatemp_…``), and mirostat, which replaces all filters:
    none may be set beside it.

    ``samplers``: the order, as a list of names of ``localgen.samplers.SAMPLERS`` or llama.cpp's
    strings "top_k;temperature" and "kt". None is transformers' order. A sampler that is not listed
    does not run, so none of its options may be set.

    ``token_healing=True`` generates the last tokens of a prompt again: each of them may give way to
    a longer token that spells the rest of the prompt and goes on. The output always begins with the
    prompt's bytes. ``max_new_tokens`` and ``min_new_tokens`` count from the prompt as given.

    ``num_assistant_tokens`` and the options beside it are for ``assistant_model``.

    ``prompt_lookup_num_tokens`` is the longest draft; how long one is follows from how often they
    are right and from what passes take. See ``engine/speculation.py``.

    ``num_beams`` above 1 is beam search, or beam sampling with ``do_sample=True``; see
    ``engine/beams.py`` for ``length_penalty`` and ``early_stopping`` (True, False or "never").
    """

    do_sample: bool | None = option(
        None,
        optional(_check_flag),
        help="Sample, or decode greedily; by default, sample if a sampling option is set.",
    )
    temperature: float = option(1.0, _check_temperature, help="Divide the logits by this number.")
    top_k: int = option(50, _check_top_k, help="Keep the K most likely tokens; 0 keeps all.")
    top_p: float = option(
        1.0,
        number("between 0 and 1", 0.0, 1.0),
        help="Keep the most likely tokens up to a total probability of P.",
    )
    min_p: float | None = option(
        None,
        optional(number("between 0 and 1", 0.0, 1.0)),
        help="Drop tokens less than P times as likely as the top one.",
    )
    typical_p: float = option(
        1.0, _PROBABILITY, help="Keep the most typical tokens up to a total probability of P."
    )
    epsilon_cutoff: float = option(
        0.0, _CUTOFF, help="Drop tokens with a probability below this; 0 keeps all."
    )
    eta_cutoff: float = option(
        0.0, _CUTOFF, help="Drop tokens by this cutoff and the entropy; 0 keeps all."
    )
    top_h: float | None = option(
        None,
        optional(_PROBABILITY),
        help="Keep the most likely tokens up to this share of the entropy.",
    )
    top_n_sigma: float = option(
        -1.0,
        _check_top_n_sigma,
        help="Drop tokens more than N standard deviations below the top one; -1 keeps all.",
    )
    xtc_probability: float = option(
        0.0, _SHARE, help="Apply XTC with this probability: drop the top tokens but one."
    )
    xtc_threshold: float = option(
        0.1, _SHARE, help="Let XTC drop tokens that have at least this probability."
    )
    dynatemp_range: float = option(
        0.0,
        number("between 0 and 1e6", 0.0, 1e6),
        help="Vary the temperature by this much, up and down, with the entropy.",
    )
    dynatemp_exponent: float = option(
        1.0,
        number("between 0 and 1e3", 0.0, 1e3),
        help="Map the entropy to the temperature with this exponent.",
    )
    mirostat: int = option(
        0, integer(0, 2), help="Replace the filters by mirostat 1 or 2; 0 switches it off."
    )
    mirostat_tau: float = option(
        5.0, number("between 0 and 1e3", 0.0, 1e3), help="Set mirostat's target surprise in bits."
    )
    mirostat_eta: float = option(
        0.1, number("between 0 and 1e3", 0.0, 1e3), help="Set mirostat's learning rate."
    )
    samplers: str | Iterable[str] | None = option(
        None,
        optional(_check_samplers),
        help="Run these samplers in this order, such as top_k;temperature.",
        flag=str,
    )
    repetition_penalty: float = option(
        1.0,
        number("above 0", 1e-6, 1e6),
        help="Penalize tokens of the prompt and the output by this factor.",
    )
    frequency_penalty: float = option(
        0.0, _PENALTY, help="Subtract this from a token's logit each time it is generated."
    )
    presence_penalty: float = option(
        0.0, _PENALTY, help="Subtract this once from the logit of a generated token."
    )
    dry_multiplier: float = option(
        0.0,
        number("between 0 and 1e6", 0.0, 1e6),
        help="Penalize tokens that continue a repetition by DRY's penalty times this.",
    )
    dry_base: float = option(
        1.75,
        number("between 1 and 1e6", 1.0, 1e6),
        help="Let DRY's penalty grow by this factor with each repeated token.",
    )
    dry_allowed_length: int = option(
        2,
        integer(0, _MAX_TOKENS),
        help="Let DRY penalize repetitions of at least this many tokens.",
    )
    dry_penalty_last_n: int = option(
        64,
        integer(-1, _MAX_TOKENS),
        help="Let DRY look at the last N tokens; 0 switches it off, -1 means all.",
    )
    dry_sequence_breakers: str | Iterable[str] = option(
        ("\n", ":", '"', "*"),
        _check_sequence_breakers,
        help="Let no repetition of DRY reach over one of these texts.",
    )
    encoder_repetition_penalty: float = option(
        1.0,
        number("above 0", 1e-6, 1e6),
        help="Favor tokens of the prompt by this factor; below 1, penalize them.",
    )
    no_repeat_ngram_size: int = option(
        0, integer(0), help="Generate no N-gram twice; 0 allows all."
    )
    encoder_no_repeat_ngram_size: int = option(
        0, integer(0), help="Generate no N-gram of the prompt; 0 allows all."
    )
    min_length: int = option(
        0, integer(0), help="End no text before prompt and output have this many tokens."
    )
    min_new_tokens: int | None = option(
        None, optional(integer(0)), help="Generate at least this many tokens."
    )
    bad_words_ids: Iterable[Iterable[int]] | None = option(
        None, optional(_check_bad_words), help="Never generate these lists of token ids."
    )
    sequence_bias: Mapping[tuple[int, ...], float] | Iterable[Any] | None = option(
        None,
        optional(_check_sequence_bias),
        help="Add a bias to the last token of each of these lists: [[[ID, ...], BIAS], ...].",
    )
    suppress_tokens: Iterable[int] | None = option(
        None, optional(_check_token_ids), help="Never generate these token ids."
    )
    begin_suppress_tokens: Iterable[int] | None = option(
        None, optional(_check_token_ids), help="Do not begin the output with these token ids."
    )
    prefix_allowed_tokens_fn: AllowedTokensFn | None = option(None, optional(_check_function))
    forced_bos_token_id: int | None = option(
        None,
        optional(integer(0, _MAX_TOKEN_ID)),
        help="Begin the output with this token id if the prompt is a single token.",
    )
    forced_eos_token_id: int | Iterable[int] | None = option(
        None,
        optional(_check_forced_ids),
        help="Let the last token that fits the limit be this token id, or one of these.",
    )
    remove_invalid_values: bool = option(
        False, _check_flag, help="Replace scores that are NaN or infinite by numbers."
    )
    exponential_decay_length_penalty: tuple[int, float] | None = option(
        None,
        optional(_check_decay),
        help="After START new tokens, raise the end's score by FACTOR per token: [START, FACTOR].",
    )
    renormalize_logits: bool = option(
        False, _check_flag, help="Let beams add log-probabilities of what the filters left."
    )
    guidance_scale: float | None = option(
        None,
        optional(number("between -1e4 and 1e4", -1e4, 1e4)),
        help="Move away from the negative prompt, or without one from what would follow the last "
        "token alone; 1 changes nothing.",
    )
    watermarking_config: WatermarkingConfig | Mapping[str, Any] | None = option(
        None,
        optional(check_watermark),
        help='Mark the text, by options such as {"bias": 2.0}; {} takes the defaults.',
    )
    token_healing: bool = option(
        False,
        _check_flag,
        help="Let a longer token continue the prompt's last ones, as in a word that is cut.",
    )
    prompt_lookup_num_tokens: int | None = option(
        None,
        optional(integer(1, _MAX_DRAFTED)),
        help="Draft up to N tokens of a pass from what stood after the same tokens before: faster "
        "where the output repeats the prompt.",
    )
    max_matching_ngram_size: int = option(
        2,
        integer(1, _MAX_NGRAM),
        help="Let --prompt-lookup-num-tokens look for up to the last N tokens.",
    )
    num_assistant_tokens: int = option(
        20,
        integer(1, _MAX_DRAFTED),
        help="Let the draft model draft at most N tokens of a pass.",
    )
    num_assistant_tokens_schedule: str = option(
        "constant",
        choice(SCHEDULES),
        help="Keep that number constant, or adapt it: heuristic, heuristic_transient.",
    )
    assistant_confidence_threshold: float = option(
        0.4, _SHARE, help="End a draft with a token that the draft model finds less likely."
    )
    num_beams: int = option(
        1, integer(1, 256), help="Search with N beams for the most likely text; 1 is no search."
    )
    length_penalty: float = option(
        1.0,
        number("between -10 and 10", -10.0, 10.0),
        help="Divide a beam's score by its length to this power: above 0 favors long texts.",
    )
    early_stopping: bool | str = option(
        False,
        _check_early_stopping,
        help="Stop beams at the first N texts (true), when no better one is likely (false) or "
        "possible (never).",
    )

    def __post_init__(self) -> None:
        check_fields(self)
        self._check_forced()
        if self.temperature == 0 and self.do_sample is not False:
            raise ValueError(
                "temperature must be above 0, got 0; for greedy decoding use do_sample=False"
            )
        check_order(self)

    def _check_forced(self) -> None:
        """Raise ValueError if all tokens that an option forces are suppressed."""
        bos = None if self.forced_bos_token_id is None else (self.forced_bos_token_id,)
        named = {"forced_bos_token_id": bos, "forced_eos_token_id": self.forced_eos_token_id}
        suppressed = set(self.suppress_tokens or ())
        for name, value in named.items():
            forced = cast("tuple[int, ...]", value or ())
            if forced and suppressed.issuperset(forced):
                raise ValueError(
                    f"{name} has only tokens of suppress_tokens, {list(forced)}, so none would be "
                    f"left to choose; remove one of them from suppress_tokens"
                )


_FORCED = ("forced_bos_token_id", "forced_eos_token_id")
# Greedy decoding does not read these.
_ONLY_WHEN_SAMPLING = (
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "typical_p",
    "epsilon_cutoff",
    "eta_cutoff",
    "top_h",
    "top_n_sigma",
    "xtc_probability",
    "dynatemp_range",
    "mirostat",
    "samplers",
)


@names_checked
@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationConfig(SamplingOptions):
    """How tokens are chosen and when a sequence ends; names and meaning as in transformers.

    The options of ``SamplingOptions``, and these:

    Lengths: ``max_new_tokens`` wins over ``max_length`` (which counts the padded prompt too); with
    neither, 256 new tokens. ``max_time`` is in seconds, for the whole call.

    ``do_sample=None`` means False in ``generate()``, as in transformers. In ``complete()`` and
    ``stream()`` it means: sample if any option that only sampling reads (temperature, top_k and the
    other filters, mirostat, samplers, seed) differs from its default, else greedy. There, options
    that are given neither by name nor by a ``generation_config`` come from the model's file
    (``LocalModel.sampling_defaults``).

    ``seed``: None uses fresh entropy; the stats report the seed. An int s gives sequence i the
    random stream (s, i). A list of ints, one a sequence, gives each the stream (its seed, 0): the
    draws that the same prompt and seed get alone. The beams of a prompt are one sequence here.

    ``guidance_scale`` other than 1 runs a second sequence beside each one. It begins with
    ``negative_prompt`` (a text or token ids, in the text API; ``generate()`` takes
    ``negative_prompt_ids``), or without one with the prompt's last token. Scores are
    scale * (log p - log p of the second one) + log p of the second one.

    ``assistant_model``: a smaller ``LocalModel`` with the same vocabulary, or the name or path of
    one, that drafts tokens for this one. Greedy texts, and those of a ``seed``, are the ones that
    the model gives alone; sampled texts without a seed have the same distribution.

    One of ``json_schema``, ``json_object=True``, ``regex``, ``choices`` and ``grammar`` constrains
    the new text; see docs/constraints.md.

    ``logprobs=n`` (text API): log-probabilities of the chosen token and of the n likeliest, from
    the model's own logits. ``return_dict_in_generate``, ``output_scores`` and ``output_logits``
    are for ``generate()``.

    None leaves an option of transformers as it is by default. An option that only transformers has
    is accepted at a value that changes nothing (``use_cache=True``) and is not kept; any other
    value, and any other name, is a TypeError.
    """

    max_new_tokens: int | None = option(None, optional(integer(1)))
    max_length: int | None = option(None, optional(integer(1)))
    max_time: float | None = option(None, optional(number("of seconds above 0", 1e-9, 1e9)))
    stop_strings: str | Iterable[str] | None = option(None, optional(_check_stop_strings))
    eos_token_id: int | Iterable[int] | None = option(None, optional(_check_eos_token_id))
    pad_token_id: int | None = option(None, optional(integer(0, _MAX_TOKEN_ID)))
    num_return_sequences: int = option(1, integer(1, 2**16))
    negative_prompt: str | Iterable[int] | None = option(None, optional(_check_negative_prompt))
    json_schema: Any = option(None, optional(_check_schema))
    json_object: bool = option(False, _check_flag)
    regex: str | None = option(None, optional(_check_text))
    choices: Iterable[str] | None = option(None, optional(_check_choices))
    grammar: str | None = option(None, optional(_check_grammar))
    seed: int | Iterable[int] | None = option(None, optional(_check_seed))
    assistant_model: Any = option(None, optional(_check_assistant))
    logprobs: int | None = option(None, optional(integer(0)))
    return_dict_in_generate: bool = option(False, _check_flag)
    output_scores: bool = option(False, _check_flag)
    output_logits: bool = option(False, _check_flag)

    def __post_init__(self) -> None:
        SamplingOptions.__post_init__(self)
        given = [name for name in CONSTRAINTS if getattr(self, name) not in (None, False)]
        if len(given) > 1:
            raise ValueError(
                f"{' and '.join(given)} cannot be used together: a text has one constraint; leave "
                f"out all but one"
            )
        forced = [name for name in _FORCED if getattr(self, name) is not None]
        if given and forced:
            raise ValueError(
                f"{forced[0]} cannot be used with {given[0]}, which decides where a text may begin "
                f"and end; leave one of them out"
            )

    @property
    def constraint(self) -> tuple[str, Any] | None:
        """The name and the value of the option that constrains the text, if one does."""
        given = ((name, getattr(self, name)) for name in CONSTRAINTS)
        return next((each for each in given if each[1] not in (None, False)), None)

    @property
    def changed_sampling_options(self) -> list[str]:
        """Names of the options that only sampling reads and that differ from their defaults, except
        for ``temperature=0``, which asks for what greedy decoding does."""
        names = (*_ONLY_WHEN_SAMPLING, "seed")
        defaults = _defaults(self)
        changed = [name for name in names if getattr(self, name) != defaults[name]]
        return [name for name in changed if (name, getattr(self, name)) != ("temperature", 0)]

    @property
    def options_without_effect(self) -> list[tuple[str, str]]:
        """Names of the options that differ from their defaults, though the option that they need is
        off, and of that option."""
        return without_effect(self, _defaults(self))


def _defaults(config: GenerationConfig) -> dict[str, Any]:
    return {each.name: each.default for each in fields(config)}
