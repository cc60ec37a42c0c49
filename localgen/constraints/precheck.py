"""Checks a constraint before there is a model: what every vocabulary would refuse."""

from __future__ import annotations

import re
from typing import Any

from llguidance import LLTokenizer

from localgen.constraints.compiler import Compiler

# A grammar may name a token by its text or its id, which only a model's vocabulary knows.
_NAMED_TOKEN = re.compile(r"<[\[|\w]")


def check_constraint(name: str, value: Any) -> None:
    """Raise ValueError if no model can enforce an option, or if no text satisfies it.

    A grammar that names tokens of a vocabulary may still be refused by a model.
    """
    vocabulary = LLTokenizer("byte")  # its last token is an end, no text
    try:
        Compiler(lambda: vocabulary, vocabulary.eos_token)(name, value)
    except ValueError:
        if name == "grammar" and _NAMED_TOKEN.search(value):
            return
        raise
