"""Shows localgen's plain docstrings as lists; it knows docstrings, and nothing of localgen.

A docstring here is prose. Where a sentence begins with the name of a parameter or a field and a
colon ("n_ctx: the most tokens …"), that sentence becomes an entry of a definition list, and
"Returns …" and "Raises …" become fields.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sphinx.application import Sphinx

_FIELD = re.compile(r"(?:^|(?<=[.)] ))(Returns|Raises) ")


def names_of(thing: Any) -> list[str]:
    """Return the names that a docstring may explain: fields of a dataclass, or parameters."""
    if dataclasses.is_dataclass(thing):
        return [field.name for field in dataclasses.fields(thing)]
    try:
        return [name for name in inspect.signature(thing).parameters if name != "self"]
    except (TypeError, ValueError):
        return []


def as_lists(lines: Iterable[str], names: Iterable[str]) -> list[str]:
    """Return a docstring's lines, with its entries and fields as reStructuredText."""
    entry = _entry(names)
    result: list[str] = []
    for paragraph in _paragraphs(lines):
        if paragraph[0].startswith(" "):  # a drawing, or code
            result += [*paragraph, ""]
            continue
        prose, *fields = _split(" ".join(paragraph), _FIELD)
        text, *entries = _split(prose[1], entry) if entry else [prose]
        result += [text[1], ""] if text[1] else []
        for found, meaning in entries:
            literals = re.sub(r"\w+", r"``\g<0>``", found).replace("``to``", "to")
            result += [literals, f"    {meaning}", ""]
        for found, meaning in fields:
            result += [f":{found.lower()}: {meaning}", ""]
    return result


def _entry(names: Iterable[str]) -> re.Pattern[str] | None:
    """Match where the explanation of one or several names begins."""
    name = "|".join(sorted(map(re.escape, names), key=len, reverse=True))
    if not name:
        return None
    return re.compile(rf"(?:^|(?<=[.;)\"] ))((?:{name})(?:(?:, | and | to )(?:{name}))*): ")


def _paragraphs(lines: Iterable[str]) -> Iterable[list[str]]:
    paragraph: list[str] = []
    for line in [*lines, ""]:
        if line.strip():
            paragraph.append(line)
        elif paragraph:
            yield paragraph
            paragraph = []


def _split(text: str, pattern: re.Pattern[str]) -> list[tuple[str, str]]:
    """Cut ``text`` at each match: ("", what comes first), then (the match's group, the rest)."""
    parts = pattern.split(text)
    pairs = zip(parts[1::2], parts[2::2], strict=True)
    return [("", parts[0].strip()), *((found, rest.strip()) for found, rest in pairs)]


def _process(
    _app: Sphinx, _what: str, _name: str, thing: Any, _options: Any, lines: list[str]
) -> None:
    lines[:] = as_lists(lines, names_of(thing))


def setup(app: Sphinx) -> dict[str, Any]:
    """Have autodoc's docstrings pass through here."""
    app.connect("autodoc-process-docstring", _process)
    return {"parallel_read_safe": True}
