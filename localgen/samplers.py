"""The samplers that ``samplers=`` can put in order, by name, and the options that switch each on.

Names are llama.cpp's (``common_sampler_type_to_str`` in its common/sampling.cpp), with those of
localgen's options for the filters that llama.cpp lacks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from localgen._util.suggestions import did_you_mean

# The default order: transformers', with DRY after the penalties, top_n_sigma after the temperature
# and XTC last, when the others have removed what is unlikely.
SAMPLERS = (
    "penalties",
    "dry",
    "temperature",
    "top_n_sigma",
    "top_h",
    "top_k",
    "top_p",
    "min_p",
    "typical_p",
    "epsilon_cutoff",
    "eta_cutoff",
    "xtc",
)

# Other spellings that llama.cpp accepts or prints → names.
_SPELLINGS = {
    "typ_p": "typical_p",
    "typ-p": "typical_p",
    "typ": "typical_p",
    "typical": "typical_p",
    "typical-p": "typical_p",
    "top-k": "top_k",
    "top-p": "top_p",
    "nucleus": "top_p",
    "min-p": "min_p",
    "top-n-sigma": "top_n_sigma",
    "temp": "temperature",
}

# llama.cpp's letters (``common_sampler_type_to_chr``) → names.
_LETTERS = {
    "e": "penalties",
    "d": "dry",
    "t": "temperature",
    "s": "top_n_sigma",
    "k": "top_k",
    "p": "top_p",
    "m": "min_p",
    "y": "typical_p",
    "x": "xtc",
    "a": "adaptive_p",
    "i": "infill",
}

# What is no sampler of such a list → what to do.
_NOT_IN_A_LIST = {
    "mirostat": "it replaces the list; pass mirostat=1 or 2 without samplers",
    "adaptive_p": "localgen does not have this one; leave it out",
    "infill": "localgen does not have this one; leave it out",
}

# Samplers → options that switch them on, with the values, besides None, that set nothing.
_SWITCHES: Mapping[str, Mapping[str, tuple[float, ...]]] = {
    "penalties": {
        "repetition_penalty": (1.0,),
        "frequency_penalty": (0.0,),
        "presence_penalty": (0.0,),
    },
    "dry": {"dry_multiplier": (0.0,)},
    "temperature": {"temperature": (1.0, 0.0), "dynatemp_range": (0.0,)},
    "top_n_sigma": {"top_n_sigma": (0.0, -1.0)},
    "top_h": {"top_h": ()},
    "top_k": {"top_k": (0, 50)},  # 50 is the default
    "top_p": {"top_p": (1.0,)},
    "min_p": {"min_p": (0.0,)},
    "typical_p": {"typical_p": (1.0,)},
    "epsilon_cutoff": {"epsilon_cutoff": (0.0,)},
    "eta_cutoff": {"eta_cutoff": (0.0,)},
    "xtc": {"xtc_probability": (0.0,)},
}
_SETS_NOTHING = {name: off for switches in _SWITCHES.values() for name, off in switches.items()}
# What mirostat replaces.
_FILTERS = [
    name
    for sampler, switches in _SWITCHES.items()
    for name in switches
    if sampler not in ("penalties", "dry") and name != "temperature"
]

# Options → the option without which they have no effect.
NEEDS = {
    "dry_base": "dry_multiplier",
    "dry_allowed_length": "dry_multiplier",
    "dry_penalty_last_n": "dry_multiplier",
    "dry_sequence_breakers": "dry_multiplier",
    "xtc_threshold": "xtc_probability",
    "dynatemp_exponent": "dynatemp_range",
    "mirostat_tau": "mirostat",
    "mirostat_eta": "mirostat",
    "num_assistant_tokens": "assistant_model",
    "num_assistant_tokens_schedule": "assistant_model",
    "assistant_confidence_threshold": "assistant_model",
    "max_matching_ngram_size": "prompt_lookup_num_tokens",
}


def sampler_names(name: str, value: object) -> tuple[str, ...]:
    """Return the samplers that a list names, or llama.cpp's spellings "top_k;temperature" and "kt".

    Raises ValueError for an unknown name, and for one that comes twice.
    """
    listed = _split(value) if isinstance(value, str) else value
    if not isinstance(listed, Iterable) or isinstance(listed, bytes):
        raise ValueError(f"{name} must be a list of names of samplers, got {value!r}")
    result = tuple(_sampler_name(name, each) for each in listed)
    for each in result:
        if result.count(each) > 1:
            raise ValueError(f"{name} must name each sampler once, got {each!r} twice")
    return result


def _split(text: str) -> list[str]:
    """Return the names in llama.cpp's list; letters are those of its ``--sampler-seq``."""
    is_name = text in SAMPLERS or text in _SPELLINGS or text in _NOT_IN_A_LIST
    if not is_name and _LETTERS.keys() >= set(text):
        return [_LETTERS[letter] for letter in text]
    return [each for each in text.split(";") if each]


def _sampler_name(option: str, given: object) -> str:
    name = _SPELLINGS.get(given, given) if isinstance(given, str) else ""
    if name not in SAMPLERS:
        names = ", ".join(map(repr, SAMPLERS))
        if name in _NOT_IN_A_LIST:
            advice = f": {_NOT_IN_A_LIST[name]}"
        else:
            advice = did_you_mean(name, SAMPLERS, n=1, shown=repr)
        raise ValueError(f"{option} must hold names of {names}, got {given!r}{advice}")
    return name


def check_order(options: Any) -> None:
    """Raise ValueError for an option that is set, but would not be read.

    That is what mirostat replaces, and what belongs to no sampler in ``options.samplers``.
    """
    values = {name: getattr(options, name) for name in (*_SETS_NOTHING, "samplers")}
    if options.mirostat:
        for name in _replaced(values):
            raise ValueError(
                f"mirostat={options.mirostat} replaces the filters, so {name} cannot be used with "
                f"it; leave one of them out"
            )
    elif options.samplers is not None:
        for name, sampler in _unlisted(values, options.samplers):
            raise ValueError(
                f"{name}={values[name]!r} has no sampler in samplers={list(options.samplers)}; add "
                f"{sampler!r} to the list, or leave {name} out"
            )


def fitting_defaults(defaults: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of ``defaults`` that may stand beside the options ``given``, all by name.

    Neither is refused for the other's sake: what was given wins. Defaults that would have no effect
    are left out.
    """
    fitting = dict(defaults)
    if given.get("mirostat"):
        _drop(fitting, (*_FILTERS, "samplers"))
    elif _replaced(given):
        _drop(fitting, ("mirostat",))
    if fitting.get("mirostat"):
        _drop(fitting, (*_FILTERS, "samplers"))
    if "samplers" in fitting and (given.get("samplers") or _unlisted(given, fitting["samplers"])):
        _drop(fitting, ("samplers",))
    listed = given.get("samplers") or fitting.get("samplers")
    if listed is not None:
        _drop(fitting, [name for name, _ in _unlisted(fitting, sampler_names("samplers", listed))])
    for name, needed in NEEDS.items():
        if not fitting.get(needed) and not given.get(needed):
            _drop(fitting, (name,))
    return fitting


def without_effect(options: Any, defaults: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the options that are set, though the option that they need is off, and that option."""
    return [
        (name, needed)
        for name, needed in NEEDS.items()
        if getattr(options, name) != defaults[name] and not getattr(options, needed)
    ]


def switches_of(sampler: str) -> Iterable[str]:
    """Return the options that switch a sampler on."""
    return _SWITCHES[sampler]


def _drop(options: dict[str, Any], names: Iterable[str]) -> None:
    for name in names:
        options.pop(name, None)


def _replaced(values: Mapping[str, Any]) -> list[str]:
    """The options that are set and that mirostat does not read."""
    found = [name for name in _FILTERS if _is_set(name, values)]
    return [*found, *(["samplers"] if values.get("samplers") is not None else [])]


def _unlisted(values: Mapping[str, Any], listed: Iterable[str]) -> list[tuple[str, str]]:
    """The options that are set and whose sampler is not ``listed``, with that sampler."""
    return [
        (name, sampler)
        for sampler, switches in _SWITCHES.items()
        if sampler not in listed
        for name in switches
        if _is_set(name, values)
    ]


def _is_set(name: str, values: Mapping[str, Any]) -> bool:
    value = values.get(name)
    return value is not None and value not in _SETS_NOTHING[name]
