"""How the site shows docstrings: hand-made ones, and those of the public API."""

from __future__ import annotations

import importlib.util
import inspect
import re
import sys

import localgen
from tests.docs.pages import DOCS


def _load():
    spec = importlib.util.spec_from_file_location(
        "plain_docstrings", DOCS / "_ext" / "plain_docstrings.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


plain = _load()


def test_names_become_a_definition_list():
    lines = ["n_ctx: tokens of a", "sequence. low, high: the ends (of it)."]
    assert plain.as_lists(lines, ["n_ctx", "low", "high"]) == [
        "``n_ctx``", "    tokens of a sequence.", "",
        "``low``, ``high``", "    the ends (of it).", "",
    ]  # fmt: skip


def test_a_name_inside_a_sentence_is_left_alone():
    assert plain.as_lists(["It has one n_ctx: see there."], ["n_ctx"]) == [
        "It has one n_ctx: see there.",
        "",
    ]


def test_what_is_returned_and_raised_becomes_fields():
    lines = ["path: a file. Returns how many.", "Raises OSError."]
    assert plain.as_lists(lines, ["path"]) == [
        "``path``", "    a file.", "", ":returns: how many.", "", ":raises: OSError.", "",
    ]  # fmt: skip


def test_a_drawing_stays_as_it_is():
    assert plain.as_lists(["A tree:", "", "    a", "    b"], []) == [
        "A tree:", "", "    a", "    b", "",
    ]  # fmt: skip


def test_no_word_of_the_public_api_is_lost():
    public = [getattr(localgen, name) for name in localgen.__all__]
    methods = [member for _, member in inspect.getmembers(localgen.LocalModel, callable)]
    for thing in [*public, *methods]:
        text = inspect.getdoc(thing)
        if text and callable(thing):
            shown = " ".join(plain.as_lists(text.splitlines(), plain.names_of(thing)))
            words = [re.findall(r"\w+", each.lower()) for each in (text, shown)]
            assert words[0] == words[1], thing
