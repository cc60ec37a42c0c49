"""Texts as options: stop strings, negative prompts, and what constrains the output."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import is_dataclass
from typing import get_origin

from localgen.config.token_checks import check_token_ids

_MOST_BREAKERS = 128
_FILE_NAME = re.compile(r"(?:[A-Za-z]:)?[^\n{}:\"']*\.(?:json|lark|gbnf|ebnf|txt)")


def check_text(name: str, value: object) -> str:
    if isinstance(value, str) and value:
        return value
    hint = "; pass its .pattern" if isinstance(value, re.Pattern) else ""
    raise ValueError(f"{name} must be a text that is not empty, got {value!r:.80}{hint}")


def check_stop_strings(name: str, value: object) -> tuple[str, ...]:
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


def check_sequence_breakers(name: str, value: object) -> tuple[str, ...]:
    """An empty list is none, and so is "none" alone, as on llama.cpp's command line."""
    breakers = check_stop_strings(name, value)
    if len(breakers) > _MOST_BREAKERS:
        raise ValueError(
            f"{name} must hold at most {_MOST_BREAKERS} texts, got {len(breakers):,}: each is "
            f"looked for in every token of the vocabulary"
        )
    return () if breakers == ("none",) else breakers


def check_negative_prompt(name: str, value: object) -> str | tuple[int, ...]:
    if isinstance(value, str) and value:
        return check_stop_strings(name, value)[0]
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
    return check_token_ids(name, given)


def check_choices(name: str, value: object) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise ValueError(f"{name} must be a list of texts, got {value!r:.80}")
    found = tuple(check_text(f"each of {name}", each) for each in value)
    if not found:
        raise ValueError(f"{name} must hold at least one text, got none")
    if len(set(found)) < len(found):
        twice = next(each for each, n_times in Counter(found).items() if n_times > 1)
        raise ValueError(f"{name} has {twice!r:.80} twice; leave one of them out")
    return found


def check_grammar(name: str, value: object) -> str:
    _refuse_file(name, value)
    return check_text(name, value)


def check_schema(name: str, value: object) -> object:
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


def _refuse_file(name: str, value: object) -> None:
    """Raise ValueError for the name of a file where its text is expected."""
    is_name = isinstance(value, str) and _FILE_NAME.fullmatch(value)
    if is_name or isinstance(value, os.PathLike):
        raise ValueError(
            f"{name} takes the text of a file, not its name, got {value!r:.80}; pass "
            f"pathlib.Path(...).read_text('utf-8')"
        )
