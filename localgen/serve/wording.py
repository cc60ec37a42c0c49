"""Messages of the library in an HTTP client's words: options by the names of its fields, those of
loading a model as options of ``localgen serve``, values as JSON."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields

from localgen.config import CONSTRAINTS, GenerationConfig, ModelConfig
from localgen.serve.schemas.common import RequestModel

_STRUCTURED = "structured_outputs"
# Options → the fields that they come from; of several, the one that the request has.
FIELDS: Mapping[str, tuple[str, ...]] = {
    "sequence_bias": ("logit_bias",),
    "eos_token_id": ("stop_token_ids",),
    "num_return_sequences": ("n",),
    "max_new_tokens": ("max_completion_tokens", "max_tokens"),
    "min_new_tokens": ("min_tokens",),
    "stop_strings": ("stop",),
    "repetition_penalty": ("repetition_penalty", "repeat_penalty"),
    "reasoning": ("reasoning_effort", "reasoning_budget"),
    "template_variables": ("chat_template_kwargs",),
    **dict.fromkeys(CONSTRAINTS, (_STRUCTURED, "response_format")),
}
_PARTS_OF_STRUCTURED = {"json_schema": "json", "choices": "choice"}
_OF_LOADING = {each.name for each in fields(ModelConfig)}
_NAMES = {
    *FIELDS,
    *_OF_LOADING,
    *(each.name for each in fields(GenerationConfig)),
    "parallel_tool_calls",
    "reply_format",
    "tool_choice",
}
_MENTION = re.compile(
    rf"(?<!['\w.-])({'|'.join(sorted(_NAMES))})\b(?:=(-?\d+(?:\.\d+)?|True|False|None|'[^']*'))?"
)
# What stands before an option's name that is an ordinary word, too.
_BEFORE_A_NAME = re.compile(r"(?:\b[Ll]eave(?: out)?|cannot be used with|;) $")
_ADVICE_FOR_PYTHON = re.compile(r"(?:;|,| or,) in Python, ([^.;]*)")
_KEYWORD = re.compile(r"\b(\w+)=")
_BARE_KEYWORD = re.compile(r"(?<=\w)=(?!\S)")
_LOAD = re.compile(r"\b([Ll])oad the model with")
_ENDPOINTS = {"complete()": "/v1/completions", "chat()": "/v1/chat/completions"}
_SAME_IN_JSON = {"True": "true", "False": "false", "None": "null"}
_PYTHON_VALUE = re.compile(r"(?<!['\w])(?:True|False|None)\b")
# Mentions with a value that no field takes as it is; an empty text leaves one out.
_IN_OTHER_WORDS = {
    " with do_sample=False": "",
    "do_sample=True": "a temperature above 0",
    "do_sample=False": "temperature=0",
    "reasoning='on', ": "",
    "reasoning='off'": "reasoning='none'",
}


def as_fields(message: str, given: RequestModel) -> str:
    """Return a message of the library in the words of a request."""
    message = _ADVICE_FOR_PYTHON.sub(lambda found: _advice(found, given), message)
    message = _LOAD.sub(lambda found: f"{'Ss'[found[1] == 'l']}tart the server with", message)
    for theirs, own in {**_ENDPOINTS, **_IN_OTHER_WORDS}.items():
        message = message.replace(theirs, own)
    message = _MENTION.sub(lambda found: _spelled(found, given), message)
    return as_json_values(_BARE_KEYWORD.sub("", message))


def as_json_values(message: str) -> str:
    """Return a message with the values of Python as JSON has them."""
    return _PYTHON_VALUE.sub(lambda found: _SAME_IN_JSON[found[0]], message)


def field_from(option: str, given: RequestModel) -> str | None:
    """Return the field of a request that an option comes from; None if the request has none."""
    names = FIELDS.get(option, (option,))
    return next((each for each in names if getattr(given, each, None) is not None), None)


def _advice(found: re.Match[str], given: RequestModel) -> str:
    """Return advice for programs in Python, if all that it names are fields of the request."""
    if all(name in type(given).model_fields for name in _KEYWORD.findall(found[1])):
        return found[0].replace("or, in Python,", "or").rstrip("=")
    return ""


def _spelled(found: re.Match[str], given: RequestModel) -> str:
    """Return the mention of an option as the client writes it, or whoever starts the server."""
    option, value = found.groups()
    before = found.string[: found.start()]
    if not (value or "_" in option or not before or _BEFORE_A_NAME.search(before)):
        return found[0]  # an ordinary word
    if option in _OF_LOADING:
        flag = f"--{option.replace('_', '-')}"
        return flag if value in (None, "True") else f"{flag} {value}"
    name = _name(option, value, given)
    if value is None:
        return name
    if option == "json_object" and not name.startswith(_STRUCTURED):
        return f'{name} of type "json_object"'
    return f"{name}={_json_of(value)}"


def _name(option: str, value: str | None, given: RequestModel) -> str:
    if option == "reasoning" and value is not None:
        name = "reasoning_budget" if value.isdecimal() else "reasoning_effort"
    else:
        known = [each for each in FIELDS.get(option, ()) if each in type(given).model_fields]
        name = field_from(option, given) or next(iter(known), option)
    if name == _STRUCTURED:
        return f"{name}.{_PARTS_OF_STRUCTURED.get(option, option)}"
    return given.spellings.get(name, name)


def _json_of(value: str) -> str:
    return f'"{value[1:-1]}"' if value.startswith("'") else value
