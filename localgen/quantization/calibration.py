"""The texts that importance matrices are made from; it loads no model."""

from __future__ import annotations

import hashlib
import importlib.util
import os
from collections.abc import Sequence
from dataclasses import dataclass

from localgen._util.home import expand_user
from localgen._util.text_file import read_text
from localgen._util.warn import warn
from localgen.errors import QuantizeError

TextLike = str | os.PathLike[str]

# Modules of Python's standard library whose sources are prose and code in about equal parts.
_MODULES = (
    "argparse", "difflib", "doctest", "fractions", "heapq", "optparse", "random", "statistics",
    "tarfile", "textwrap", "turtle",
)  # fmt: skip
# About 100 chunks of 512 tokens.
_MOST_CHARACTERS = 200_000


@dataclass(frozen=True, slots=True)
class CalibrationText:
    """A text and its name. is_literal: whether it was given itself, not as a file."""

    name: str
    text: str
    is_literal: bool = False

    @property
    def sha256(self) -> str:
        return sha256_of(self.text)


def sha256_of(text: str) -> str:
    """Return what a text is recognized by."""
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


def calibration_texts(texts: TextLike | Sequence[TextLike] | None) -> list[CalibrationText]:
    """Return the texts: a str is one, a Path a UTF-8 file with one, None is the default.

    Raises ValueError for no text or a wrong type, and OSError.
    """
    if texts is None:
        return [default_text()]
    given = [texts] if isinstance(texts, str | os.PathLike) else list(texts)
    if not given:
        raise ValueError("texts is empty: give at least one text, or None for the default")
    found = [_text(each, number) for number, each in enumerate(given, 1)]
    _warn_of_copies(found)
    return found


def _warn_of_copies(texts: Sequence[CalibrationText]) -> None:
    names: dict[str, str] = {}
    for each in texts:
        if each.sha256 in names:
            warn(f"{each.name} is the same text as {names[each.sha256]}, which counts once more")
        names.setdefault(each.sha256, each.name)


def _text(given: TextLike, number: int) -> CalibrationText:
    if isinstance(given, str):
        return CalibrationText(f"text {number}", given, is_literal=True)
    if not isinstance(given, os.PathLike):
        raise ValueError(
            f"texts must be str (a text) or Path (a file), got {type(given).__name__} {given!r:.40}"
        )
    path = expand_user(given)
    try:
        return CalibrationText(path.name, read_text(path))
    except ValueError as error:
        raise ValueError(f"{path} cannot be used: {error}") from None


def default_text() -> CalibrationText:
    """Return documented sources of Python's standard library. Raises QuantizeError without them."""
    sources = [_source(name) for name in _MODULES]
    text = "\n".join(source for source in sources if source)[:_MOST_CHARACTERS]
    if not text:
        raise QuantizeError(
            "this Python has no sources of its standard library, the default calibration text. "
            "Give a text of your own."
        )
    return CalibrationText("Python's standard library", text)


def _source(module: str) -> str | None:
    spec = importlib.util.find_spec(module)
    loader = spec.loader if spec is not None else None
    get_source = getattr(loader, "get_source", None)
    source: str | None = get_source(module) if get_source is not None else None
    return source
