"""Writes grammars in llguidance's dialect of Lark: rules, terminals, marks, text up to a mark."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

# The id of a mark that is one special token; None for one that text spells.
SpecialId = Callable[[str], "int | None"]

ANY_TEXT = "/(?s:.*)/"
# White space as Python's ``str.strip`` and ``re`` know it.
SPACE = r"[\s\x1c-\x1f]*"


def pattern_of(text: str) -> str:
    """Return a regular expression for ``text``, for use between slashes."""
    return "".join(
        char if char.isalnum() or char in " _" else f"\\x{{{ord(char):x}}}" for char in text
    )


def any_pattern(texts: Sequence[str]) -> str:
    """Return a regular expression for any of ``texts``."""
    return f"({'|'.join(map(pattern_of, texts))})"


def containing(pattern: str) -> str:
    """Return a terminal's part for texts with something in them that ``pattern`` matches."""
    return f"/(?s:.*){pattern}(?s:.*)/"


def quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


class GrammarWriter:
    """Collects rules; what its methods return stands for text inside a rule.

    marks: texts that are special tokens of some models, written as these where they are.
    """

    def __init__(self, marks: Collection[str], special_id: SpecialId) -> None:
        ids = {mark: special_id(mark) for mark in sorted(marks)}
        self._special = {mark: each for mark, each in ids.items() if each is not None}
        longest_first = sorted(self._special, key=len, reverse=True)
        pattern = "|".join(map(re.escape, longest_first)) or "(?!)"
        self._split = re.compile(f"({pattern})")
        self._rules: list[str] = []
        self._names: dict[str, str] = {}
        self._n_names = 0

    def grammar(self, start: str) -> str:
        """Return the whole grammar."""
        return "\n".join([f"start: {start}", *self._rules]) + "\n"

    # --- rules and terminals ---

    def new_name(self) -> str:
        """Return the name of a rule to define later, for rules that refer to each other."""
        self._n_names += 1
        return f"r{self._n_names}"

    def define(self, name: str, body: str) -> str:
        """Add a rule and return its name."""
        self._rules.append(f"{name}: {body}")
        return name

    def rule(self, body: str) -> str:
        """Return the name of a rule."""
        return self._named(body, "r")

    def terminal(self, body: str) -> str:
        """Return the name of a terminal, which is one piece of text to the lexer."""
        return self._named(body, "T")

    def _named(self, body: str, kind: str, options: str = "") -> str:
        if body not in self._names:
            self._n_names += 1
            name = self._names[body] = f"{kind}{self._n_names}"
            self.define(name + options, body)
        return self._names[body]

    def json(self, schema: Mapping[str, Any]) -> str:
        """Return the JSON texts of a schema."""
        return self.rule(f"%json {json.dumps(schema, ensure_ascii=False)}")

    def any_of(self, each: Sequence[str]) -> str:
        """Return one of several."""
        return each[0] if len(each) == 1 else self.rule(" | ".join(each))

    def list_of(self, item: str, separator: str, *, several: bool) -> str:
        """Return one item or, if there may be several, a list of them."""
        between = quoted(separator) if separator else ""
        return f"{item} ({between} {item})*" if several else item

    # --- text and marks ---

    def literal(self, text: str) -> str:
        """Return a text whose marks are special tokens where the model has them."""
        parts = filter(None, self._split.split(text))
        return " ".join(
            f"<[{self._special[part]}]>" if part in self._special else quoted(part)
            for part in parts
        )

    def spaced(self, mark: str) -> str:
        """Return a mark after any white space."""
        if mark in self._special:
            return f"{self.terminal(f'/{SPACE}/')}? {self.literal(mark)}"
        return self.terminal(f"/{SPACE}{pattern_of(mark)}/")

    def content(self, but: Sequence[str], within: str = ANY_TEXT, *more: str) -> str:
        """Return a terminal: text of ``within`` in which nothing matches one of the patterns
        ``but``, and that none of the terminals ``more`` matches."""
        without = [containing(f"({'|'.join(but)})")] if but else []
        return self.terminal(" & ".join([within, *(f"~{each}" for each in (*without, *more))]))

    def free(self, end: str, stops: Sequence[str], *, not_first: str = "") -> str:
        """Return any text up to one of the marks ``stops``, and that: ``end``, or "" if the reply
        ends before it. Other marks may come in it.

        not_first: a pattern that does not match at its beginning.
        """
        patterns = list(map(pattern_of, stops))
        later = self.content(patterns)
        first = later
        if not_first:
            first = self.content(patterns, ANY_TEXT, f"/{not_first}(?s:.*)/")
        marks = [each for mark, each in self._special.items() if mark not in stops]
        if not marks:
            return self.ended(first, end)
        mark = f"<[{','.join(map(str, sorted(marks)))}]>"
        before = f"{first} {mark} ({later} {mark})*"
        return self.rule(f"{self.ended(first, end)} | {before} {self.ended(later, end)}")

    def ended(self, content: str, end: str) -> str:
        """Return a terminal's text and the mark after it, if there is one.

        A mark that text spells becomes part of the terminal, since the lexer never goes back. It is
        lazy, to end with the mark: llguidance does not see that nothing of it could follow.
        """
        if not end or end in self._special:
            return f"{content} {self.literal(end)}".rstrip()
        return self._named(f"{content} {quoted(end)}", "r", "[lazy]")
