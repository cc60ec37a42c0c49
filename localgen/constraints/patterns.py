"""Regular expressions as JSON Schema and Python write them → those of llguidance.

The dialects differ in what \\w, \\s and a dot match. What is made here matches only texts that
match under ECMA 262 and under Python's ``re``; what llguidance cannot enforce is refused.
"""

from __future__ import annotations

import re

_QUANTIFIER = re.compile(r"[*+?]|\{\d+(?:,\d*)?\}")
_NAMED = re.compile(r"\?P?<\w+>")
# Line ends are outside a dot in ECMA 262.
_DOT = r"[^\n\r\x{2028}\x{2029}]"
# In a class, and in one that is negated: what both dialects match, and what either one does.
_NARROW = {
    "d": "0-9", "w": "0-9A-Za-z_", "s": r" \t\n\r\f\v",
    "D": r"\P{Nd}", "W": r"[^\p{L}\p{N}\p{M}_]", "S": r"[^\p{White_Space}\x1c-\x1f\x{feff}]",
}  # fmt: skip
_WIDE = {
    "d": r"\p{Nd}", "w": r"\p{L}\p{N}\p{M}_", "s": r"\p{White_Space}\x1c-\x1f\x{feff}",
    "D": "[^0-9]", "W": "[^0-9A-Za-z_]", "S": r"[^ \t\n\r\f\v]",
}  # fmt: skip


def portable_pattern(pattern: str) -> str:
    """Return ``pattern`` for llguidance. Raises ValueError for what cannot be enforced."""
    try:
        return _Translation(pattern).text()
    except IndexError:
        raise ValueError(f"the pattern {pattern!r:.80} is not complete") from None


class _Translation:
    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._at = 0

    def _refuse(self, what: str, instead: str = "") -> ValueError:
        hint = f"; {instead}" if instead else ""
        return ValueError(f"the pattern {self._pattern!r:.80} has {what}, not enforced here{hint}")

    def text(self) -> str:
        parts = []
        if self._pattern.startswith("(?i)"):
            parts.append("(?i)")
            self._at = 4
        while self._at < len(self._pattern):
            parts.append(self._next())
        return "".join(parts)

    def _take(self, found: re.Match[str]) -> str:
        self._at = found.end()
        return found[0]

    def _next(self) -> str:
        pattern, at = self._pattern, self._at
        if found := _QUANTIFIER.match(pattern, at):
            quantifier = self._take(found)
            self._at += pattern.startswith("?", self._at)  # lazy ones match the same texts
            if _QUANTIFIER.match(pattern, self._at):
                raise self._refuse("a quantifier of a quantifier")
            return quantifier
        self._at += 1
        character = pattern[at]
        if character == "\\":
            return self._escape(_NARROW, in_class=False)
        if character == "[":
            return self._class()
        if character == "(":
            return self._group()
        if character == "{" and pattern[at + 1 : at + 2] == ",":
            raise self._refuse("a repetition without a minimum", "write {0,n}")
        return {".": _DOT, "{": r"\{", "}": r"\}", "]": r"\]"}.get(character, character)

    def _group(self) -> str:
        pattern, at = self._pattern, self._at
        if pattern[at : at + 1] != "?" or pattern.startswith("?:", at):
            return "("
        if pattern.startswith(("?=", "?!", "?<=", "?<!"), at):
            raise self._refuse("look-around", "say what must match instead of what must not")
        if found := _NAMED.match(pattern, at):
            self._take(found)
            return "("
        raise self._refuse(f"the group ({pattern[at : at + 3]}")

    def _class(self) -> str:
        pattern = self._pattern
        is_negated = pattern.startswith("^", self._at)
        self._at += is_negated
        if pattern.startswith("]", self._at):
            raise self._refuse("a class that begins with ]", "escape it")
        parts = ["[^" if is_negated else "["]
        while not pattern.startswith("]", self._at):
            character = pattern[self._at]
            self._at += 1
            if character == "\\":
                parts.append(self._escape(_WIDE if is_negated else _NARROW, in_class=True))
            elif pattern.startswith("--", self._at - 1):
                raise self._refuse("-- in a class", "escape the hyphens")
            else:
                parts.append(f"\\{character}" if character in "[&~^" else character)
        self._at += 1
        return "".join((*parts, "]"))

    def _escape(self, classes: dict[str, str], *, in_class: bool) -> str:
        pattern, at = self._pattern, self._at
        character = pattern[at]
        self._at += 1
        if character in classes:
            return classes[character] if in_class else f"[{classes[character]}]"
        if character in "pP" and (found := re.compile(r"\{\w+\}").match(pattern, self._at)):
            return f"\\{character}{self._take(found)}"
        sizes = {"x": 2, "u": 4}
        if character in sizes:
            digits = pattern[self._at : self._at + sizes[character]]
            self._at += sizes[character]
            if re.fullmatch(r"[0-9A-Fa-f]+", digits) and not 0xD800 <= int(digits, 16) < 0xE000:
                return rf"\x{{{digits}}}"
            raise self._refuse(f"the character \\{character}{digits}")
        if character == "0" and not pattern[self._at : self._at + 1].isdigit():
            return r"\x00"
        if character in "tnrfv":
            return f"\\{character}"
        if character.isalnum():
            what = "a reference to a group" if character.isdigit() else "the escape"
            raise self._refuse(f"{what} \\{character}")
        return f"\\{character}" if character.isascii() and character.isprintable() else character
