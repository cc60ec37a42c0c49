"""The sampling fields of a request → localgen's options; what cannot be honoured is refused.

It reads no text, and needs no model but for the tokens that end a sequence.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from localgen._util.warn import warnings_as_errors
from localgen.config import GenerationConfig, replace_options
from localgen.generation.resolve import (
    check_guidance,
    warn_of_lengths,
    with_file_defaults,
    with_sampling_resolved,
)
from localgen.serve.blame import refused
from localgen.serve.refusals import Refusal
from localgen.serve.schemas.common import ResponseFormat, StructuredOutputs
from localgen.serve.schemas.sampling import SamplingFields

Options = dict[str, Any]

_MAX_BIAS = 100.0
# Names that localgen has another name for.
_RENAMED = {
    "repeat_penalty": "repetition_penalty",
    "min_tokens": "min_new_tokens",
    "stop": "stop_strings",
}
# These need more than a name.
_OTHER = {
    "logit_bias",
    "response_format",
    "structured_outputs",
    "stop_token_ids",
    "ignore_eos",
    "seed",
    "cache_prompt",
    "skip_special_tokens",
    "include_stop_str_in_output",
}
_SAME = [name for name in SamplingFields.model_fields if name not in {*_RENAMED, *_OTHER}]
# They always keep the likeliest token, so that greedy decoding need not read them.
_KEEPS_THE_TOP = ("temperature", "top_k", "top_p", "min_p", "epsilon_cutoff", "eta_cutoff", "top_h",
                  "top_n_sigma", "seed")  # fmt: skip


def sampling_options(
    given: SamplingFields,
    *,
    n: int,
    max_sequences: int,
    eos_token_ids: Iterable[int],
    other: Options,
) -> Options:
    """Return the options of ``astream_rows()`` that a request's sampling fields ask for.

    n: rows of each prompt. other: options that follow from further fields, such as the most tokens.
    Raises Refusal with the field as ``param``.
    """
    options = {name: value for name in _SAME if (value := getattr(given, name)) is not None}
    for name, own in _RENAMED.items():
        if (value := getattr(given, name)) is not None:
            if own in options:
                raise Refusal(400, f"{name} and {own} mean the same: give one", param=name)
            options[own] = value
    if given.seed is not None and given.seed != -1:
        options["seed"] = given.seed
    if given.logit_bias:
        options["sequence_bias"] = _biases(given.logit_bias)
    options |= _ends(given, eos_token_ids)
    options |= constraint_options(given)
    options["num_return_sequences"] = n
    options |= _with_sampling(options, given, n)
    options |= other
    check_options(options, given, max_sequences)
    return options


def sampling_in_use(options: Options, model: Any) -> GenerationConfig:
    """Return the options of a text with those that its request leaves to the model and its file."""
    defaults: GenerationConfig = model.generation_config.config
    if options["do_sample"]:
        defaults = with_file_defaults(defaults, model.sampling_defaults, options)
    return replace_options(defaults, options)


def _with_sampling(options: Options, given: SamplingFields, n: int) -> Options:
    """Take from ``options`` what greedy decoding does not read; return how tokens are chosen."""
    searches = (given.num_beams or 1) > 1
    if given.temperature != 0 and not (searches and given.temperature is None):
        return {"do_sample": True}
    for name in _KEEPS_THE_TOP:
        options.pop(name, None)
    if n == 1 or searches:
        return {"do_sample": False}
    return {"do_sample": True, "top_k": 1}  # n times the same text


def _biases(given: Mapping[str, float]) -> dict[tuple[int], float]:
    found = {}
    for text, bias in given.items():
        if not (text.isascii() and text.isdecimal()) or len(text) > 10:
            raise Refusal(
                400, f"logit_bias has token ids as keys, got {text!r:.40}", param="logit_bias"
            )
        if not -_MAX_BIAS <= bias <= _MAX_BIAS:
            raise Refusal(
                400,
                f"logit_bias must hold numbers from -100 to 100, got {bias} for token {text}",
                param="logit_bias",
            )
        found[int(text),] = float(bias)
    return found


def _ends(given: SamplingFields, eos_token_ids: Iterable[int]) -> Options:
    """Return which tokens end a text, if the request says so."""
    if given.ignore_eos:
        return {"eos_token_id": list(given.stop_token_ids or [])}
    if given.stop_token_ids:
        return {"eos_token_id": [*eos_token_ids, *given.stop_token_ids]}
    return {}


# --- what the text must be ---


def constraint_options(given: SamplingFields) -> Options:
    """Return the option that constrains the text, if a field asks for one."""
    own = _of_format(given.response_format)
    if given.structured_outputs is not None:
        if own:
            message = "response_format and structured_outputs both say what the text must be"
            raise Refusal(400, f"{message}: give one", param="structured_outputs")
        own = _of_structure(given.structured_outputs)
    return own


def _of_format(given: ResponseFormat | None) -> Options:
    if given is None or given.type == "text":
        return {}
    if given.type == "json_object":
        return {"json_object": True}
    schema = given.json_schema.schema_
    return {"json_object": True} if schema is None else {"json_schema": schema}


def _of_structure(given: StructuredOutputs) -> Options:
    found = {
        "json_schema": given.json_,
        "json_object": given.json_object,
        "regex": given.regex,
        "choices": given.choice,
        "grammar": given.grammar,
    }
    options = {name: value for name, value in found.items() if value is not None}
    if len(options) != 1:
        raise Refusal(
            400,
            f"structured_outputs takes one of json, json_object, regex, choice and grammar, got "
            f"{len(options)} of them",
            param="structured_outputs",
        )
    return options


# --- checks ---


def check_options(options: Options, given: SamplingFields, max_sequences: int) -> None:
    """Refuse options of wrong values, and those that have no effect beside the others."""
    try:
        with warnings_as_errors():
            config = with_sampling_resolved(GenerationConfig(**options), infer=True)
            check_guidance([config], max_sequences)
            warn_of_lengths(config)
    except ValueError as error:
        raise refused(error, given) from None
