"""What a refusal says of a number's range is what is accepted."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, get_args

import pytest

pytest.importorskip("pydantic")

from localgen.serve.reading import checked
from localgen.serve.refusals import Refusal
from localgen.serve.sampling_fields import sampling_options
from localgen.serve.schemas.chat import ChatRequest
from localgen.serve.schemas.common import RequestModel
from localgen.serve.schemas.completions import CompletionRequest

PLAIN: dict[type[Any], dict[str, Any]] = {
    ChatRequest: {"messages": [{"role": "user", "content": "Hi"}]},
    CompletionRequest: {"prompt": "a"},
}
# Without these, a field is refused whatever its value is.
COMPANIONS: dict[str, dict[str, Any]] = {
    "xtc_threshold": {"xtc_probability": 0.5},
    "dry_": {"dry_multiplier": 1},
    "dynatemp_exponent": {"dynatemp_range": 0.5},
    "mirostat_": {"mirostat": 2},
    "length_penalty": {"num_beams": 2},
    "max_matching_ngram_size": {"prompt_lookup_num_tokens": 2},
    "top_logprobs": {"logprobs": True},
}
NUMBERS = (
    *(-(10**12), -1001, -101, -11, -3, -2, -1, -0.5, 0, 1e-13, 1e-7, 0.5, 0.999, 1, 1.5, 2, 3),
    *(5, 11, 21, 101, 1001, 10**5, 2 * 10**6, 10**12, 2**63, 2**64),
)
NUMBER = r"(-?[\d.]+(?:e[+-]?\d+)?)"
LIMITS: tuple[tuple[str, Callable[[float, float], bool]], ...] = (
    (rf"at least {NUMBER}|(?:greater than or equal to) {NUMBER}", lambda x, low: x >= low),
    (rf"at most {NUMBER}|(?:less than or equal to) {NUMBER}", lambda x, high: x <= high),
    (rf"above {NUMBER}", lambda x, low: x > low),
    (rf"below {NUMBER}", lambda x, high: x < high),
    (rf"(?:between|from) {NUMBER} (?:and|to)", lambda x, low: x >= low),
    (rf"(?:between|from) \S+ (?:and|to) {NUMBER}", lambda x, high: x <= high),
)
OF_OTHER_THINGS = ("no effect", "cannot be used", "must be one of", "needs", "mean the same")


def numeric_fields(kind: type[RequestModel]) -> list[str]:
    """The fields that hold a number."""
    found = []
    for name, field in kind.model_fields.items():
        kinds = set(get_args(field.annotation))
        if kinds & {int, float} and not kinds & {bool, str}:
            found.append(name)
    return found


CASES = [(kind, name) for kind in PLAIN for name in numeric_fields(kind)]


def refusal_of(kind: type[Any], name: str, value: float) -> str | None:
    """What is said of a request with one number; None if it is accepted."""
    companions = next((more for key, more in COMPANIONS.items() if name.startswith(key)), {})
    try:
        given = checked(json.dumps({**PLAIN[kind], **companions, name: value}).encode(), kind)
        sampling_options(given, n=1, max_sequences=4, eos_token_ids=[7], other={})
    except Refusal as refusal:
        return str(refusal)
    return None


def admits(message: str, value: float) -> bool | None:
    """Whether a message says that a value is in range; None if it says nothing of a range."""
    said, _, _ = message.partition(", got ")
    exceptions = {float(each) for each in re.findall(rf", or {NUMBER}\b", said)}
    checks = []
    for pattern, is_within in LIMITS:
        for match in re.finditer(pattern, said):
            text = next(each for each in match.groups() if each is not None)
            limit = float(text) if set(text) & set(".e") else int(text)
            checks.append(is_within(value, limit))
    return (value in exceptions or all(checks)) if checks else None


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_what_is_said_of_a_range_is_what_is_accepted(kind: type[Any], name: str) -> None:
    """``temperature: -3`` was told "above 0", and 0 is accepted."""
    is_whole = float not in get_args(kind.model_fields[name].annotation)
    values = [each for each in NUMBERS if not is_whole or isinstance(each, int)]
    said = {value: refusal_of(kind, name, value) for value in values}
    accepted = [value for value, message in said.items() if message is None]
    assert accepted, said
    for value, message in said.items():
        if message is None or any(words in message for words in OF_OTHER_THINGS):
            continue
        assert admits(message, value) is False, message
        assert all(admits(message, each) for each in accepted), (message, accepted)


def test_both_kinds_have_their_numbers() -> None:
    assert len(CASES) > 40
    assert admits("n must be a number above 0, or -1, got -3", -3) is False
    assert admits("n must be a number above 0, or -1, got -3", -1) is True
    assert admits("n needs more", 1) is None
