"""The options json_schema, json_object, regex, choices and grammar → compiled constraints."""

from __future__ import annotations

import functools
import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from llguidance import LLMatcher, LLTokenizer, grammar_from

from localgen._util.big_stack import on_big_stack
from localgen._util.kept import Kept
from localgen._util.places import Places
from localgen._util.system import usable_cpus
from localgen.constraints.classes import Parse, json_of, schema_of
from localgen.constraints.enforceable import CheckedGrammar, bounded, enforceable, name_of
from localgen.constraints.matcher import GrammarMatcher
from localgen.constraints.refusals import (
    reason,
    refusal_of_schema,
    regex_refusal,
    schema_refusal,
)
from localgen.errors import ConstraintError

if TYPE_CHECKING:
    from llguidance._lib import JsonCompileOptions

Result = TypeVar("Result")

# One line, as models write it and json.dumps does. With no white space to choose, keys are forced.
# Escapes have one spelling each, so a name cannot come in another guise.
_JSON: JsonCompileOptions = {
    "item_separator": ", ",
    "key_separator": ": ",
    "whitespace_flexible": False,
    "json_allowed_escapes": '"\\bfnrt',
}
# Compiling takes time and memory in proportion.
_MOST_CHARACTERS = 8_000_000
# llguidance recurses along rules that refer to each other, 4 kB of its stack for each of them, and
# an overflow ends the process.
_MOST_RULES = 10_000
_STACK_BYTES = 128 * 2**20
# Compiling a rule takes time with the square of its parts: three seconds and 1 GB for so many.
_MOST_PARTS = 30_000
_PART = re.compile(r'"(?:\\.|[^"\\\n])*"|/(?:\\.|[^/\\\n])+/|[\w-]+')
_KEPT = 64
# llguidance does not tell how large a compiled constraint is. Measured: 90 bytes for each character
# of choices, 550 for each of a grammar of many rules.
_BYTES_PER_CHARACTER, _BYTES_OF_GRAMMAR = 100, 600
_MOST_BYTES_KEPT = 2**29
# Compiles at a time: with one, a slow one would hold up all others.
_PLACES = Places(max(2, usable_cpus() // 2))
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_PLACES.reset)
# The rule that a Lark grammar begins with.
_START = re.compile(r"^\s*start\b", re.MULTILINE)
# What begins a schema in a grammar; texts, patterns and comments, in which nothing does.
_JSON_OR_LITERAL = re.compile(
    r'"(?:\\.|[^"\\\n])*"|//[^\n]*|#[^\n]*|/(?:\\.|[^/\\])+/|(?P<json>%json\s*)', re.DOTALL
)
# llguidance's error of the first mask of a grammar that allows no text.
_NO_TEXT = "NoExtension"
_SPECIAL = re.compile(r"[\\.+*?()|\[\]{}^$#&\-~]")


@dataclass(frozen=True, slots=True)
class CompiledConstraint:
    """One constraint, for any number of texts."""

    _matcher: LLMatcher
    _n_vocab: int
    _name: str
    _parse: Parse

    def matcher(self) -> GrammarMatcher:
        """Return a matcher of a text that has not begun."""
        matcher = self._matcher.deep_copy()
        return GrammarMatcher(matcher, self._n_vocab, self._name, self._matcher)

    def parse(self, text: str) -> Any:
        """Return what a complete text says: an object for JSON, else the text. Raises ValueError
        if the class that was given refuses it."""
        return self._parse(text)


class Compiler:
    """Compiles constraints for one vocabulary, and keeps the latest of them by content; usable from
    any thread.

    tokenizer: returns llguidance's view of the vocabulary, which is made when it is first needed.
    """

    def __init__(self, tokenizer: Callable[[], LLTokenizer], n_vocab: int) -> None:
        self._tokenizer = tokenizer
        self._n_vocab = n_vocab
        self._kept: Kept[LLMatcher] = Kept(_KEPT, _MOST_BYTES_KEPT)

    @functools.cached_property
    def _vocabulary(self) -> LLTokenizer:
        return self._tokenizer()

    def __call__(self, name: str, value: Any) -> CompiledConstraint:
        """Return the constraint of an option. Raises ValueError for one that cannot be enforced, or
        that no text satisfies."""
        text, parse = _described(name, value)
        shown = name_of(name, value)
        size = len(text) * (_BYTES_OF_GRAMMAR if name == "grammar" else _BYTES_PER_CHARACTER)
        make = lambda: self._compiled(name, shown, text)  # noqa: E731
        matcher = self._kept.get((name, text), make, size)
        return CompiledConstraint(matcher, self._n_vocab, shown, parse)

    def _compiled(self, name: str, shown: str, text: str) -> LLMatcher:
        return _compiling(shown, lambda: self._compiled_here(name, shown, text))

    def _compiled_here(self, name: str, shown: str, text: str) -> LLMatcher:
        try:
            grammar = _grammar(name, text)
        except ValueError as error:
            raise ValueError(f"{shown} cannot be enforced: {reason(str(error))}") from None
        matcher = LLMatcher(self._vocabulary, grammar, log_level=0)
        found = GrammarMatcher(matcher, self._n_vocab, shown, matcher)
        if matcher.is_error():
            raise ValueError(_refusal(name, shown, text, matcher.get_error()))
        try:
            allows_a_token = bool(found.fork().mask().any())
        except ConstraintError as error:  # so is a grammar without any text
            if _NO_TEXT not in str(error):
                raise ValueError(str(error)) from None
            allows_a_token = False
        if not allows_a_token:
            what = "only an empty text" if found.may_end else "no text at all"
            raise ValueError(f"{shown} allows {what}, so there is nothing to generate")
        return matcher


def check_compiles(schema: Any) -> None:
    """Raise ValueError, with a path, if llguidance refuses a schema that ``enforceable`` made."""
    refused = _checked_schema(json.dumps(schema, ensure_ascii=False))
    if refused is not None:
        raise ValueError(refused)


@functools.lru_cache(maxsize=256)
def _checked_schema(text: str) -> str | None:
    return _compiling("the schema", lambda: refusal_of_schema("json_schema", text))


def _compiling(what: str, work: Callable[[], Result]) -> Result:
    """Return the result of ``work``, which compiles, on a stack that lasts.

    It cannot be stopped. What nobody wants any more by the time that it has a place is left out.
    """
    with _PLACES.taken():
        return on_big_stack(
            _STACK_BYTES, "localgen-grammar", f"{what} is compiled: use a smaller one", work
        )


def _described(name: str, value: Any) -> tuple[str, Parse]:
    """Return an option's value as one text, and what reads the texts that it allows."""
    if name == "json_schema":
        schema, parse = schema_of(value)
        return _checked(name, json.dumps(enforceable(schema), ensure_ascii=False)), parse
    if name == "json_object":
        return '{"type": "object"}', json_of
    if name == "choices":
        return _checked(name, json.dumps(list(value), ensure_ascii=False)), str
    text = _checked(name, value)
    return (_with_json_options(text) if name == "grammar" else text), str


def _checked(name: str, text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        character = text[error.start]
        raise ValueError(f"{name} has {character!r}, half of a character, in no text") from None
    if len(text) > _MOST_CHARACTERS:
        raise ValueError(
            f"{name} has {len(text):,} characters; it must have at most {_MOST_CHARACTERS:,}"
        )
    return text


def _grammar(name: str, text: str) -> str:
    """Return what llguidance compiles. Raises ValueError for what it cannot."""
    if name in ("json_schema", "json_object"):
        return LLMatcher.grammar_from_json_schema(text, overrides=_JSON)
    if name == "grammar":
        _check_size(text)
        if "::=" not in text and not _START.search(text):
            raise ValueError('it has no rule "start", with which a Lark grammar begins')
        return grammar_from("grammar", text)
    if name == "regex" and (len(text) - len(text.rstrip("\\"))) % 2:
        raise ValueError("it ends with one backslash; write two for a backslash")
    pattern = _pattern_of(json.loads(text)) if name == "choices" else text
    return LLMatcher.grammar_from_regex(pattern)


def _refusal(name: str, shown: str, text: str, message: str) -> str:
    """Return why llguidance refuses an option: its ``message``, and where that is."""
    if name == "json_schema":
        return schema_refusal(name, text, message)
    if name == "regex":
        return regex_refusal(text, message)
    return f"{shown} cannot be enforced: {reason(message)}"


def _check_size(grammar: str) -> None:
    """Raise ValueError for a grammar that would take too long to compile."""
    if sum(":" in line for line in grammar.splitlines()) > _MOST_RULES:
        raise ValueError(f"it must have at most {_MOST_RULES:,} rules")
    n_parts = sum(1 for _ in _PART.finditer(grammar))
    if n_parts > _MOST_PARTS:
        raise ValueError(
            f"it has {n_parts:,} texts, patterns and names, and must have at most {_MOST_PARTS:,}; "
            f"choices takes more texts"
        )


def _with_json_options(grammar: str) -> str:
    """Return a grammar whose JSON schemas are written as that of ``json_schema`` is.

    Raises ValueError for a schema that cannot be enforced.
    """
    if "x-guidance" in grammar:
        raise ValueError("grammar: x-guidance is not taken")
    prepared = bounded if isinstance(grammar, CheckedGrammar) else enforceable
    parts, end = [], 0
    for found in _JSON_OR_LITERAL.finditer(grammar):
        if found["json"] is None or found.start() < end:
            continue
        try:
            schema, after = json.JSONDecoder().raw_decode(grammar, found.end())
        except (ValueError, RecursionError) as error:
            raise ValueError(f"grammar: %json needs a JSON object: {error}") from None
        if not isinstance(schema, dict):
            raise ValueError(f"grammar: %json needs a JSON object, got {schema!r:.60}")
        made = json.dumps({**_of_grammar(prepared, schema), "x-guidance": _JSON})
        parts += [grammar[end : found.end()], made]
        end = after
    return "".join((*parts, grammar[end:]))


def _of_grammar(prepared: Callable[[Any], Any], schema: Any) -> Any:
    try:
        return prepared(schema)
    except ValueError as error:
        raise ValueError(f"grammar cannot be enforced: {error}") from None


def _pattern_of(choices: list[str]) -> str:
    """Return a regular expression that matches each of ``choices``, and nothing else."""
    return "|".join(_SPECIAL.sub(r"\\\g<0>", each) for each in sorted(set(choices)))
