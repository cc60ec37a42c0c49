"""Runs a text's tokenization on a thread whose stack the longest possible match cannot overflow.

llama.cpp splits a text for byte-level BPE by expressions, most of them with std::regex, which
recurses for each character of a match and kills the process when the stack ends. Other types of
vocabulary do not recurse. ``python -m tests.llama.pre_tokenizers`` measures what is assumed here.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable
from typing import TypeVar

from localgen._util.big_stack import on_big_stack
from localgen.gguf.vocab_types import PRE_TOKENIZERS

Result = TypeVar("Result")

# The most stack that a character of a match takes, with some reserve.
_BYTES_PER_CHARACTER = 512
# What everything else on the thread takes, and a unit that lets the system reuse stacks.
_BASE = 2**20
# A text of so many bytes fits the stack that any caller has left.
_SHORT = 128
# Python's own limit on Windows is just below 256 MiB.
_MAX_STACK = (255 if sys.platform == "win32" else 512) * 2**20
_LONGEST_MATCH = (_MAX_STACK - _BASE) // _BYTES_PER_CHARACTER
# What the expressions repeat: white space; anything else, and then line ends and slashes. Python
# and C++ disagree on U+001C to U+001F, so they count as both.
_WHITE_SPACE, _OTHERS, _LINE_ENDS = map(re.compile, (r"\s+", r"[\S\x1c-\x1f]+", r"[\r\n/]+"))
# Some pre-tokenizers have an expression that matches across spaces, at most a whole line.
_LINE = re.compile(r"[^\n]+")
MATCH_LINES = frozenset({"exaone-moe", "gemma4", "laguna"})


def on_safe_stack(text: bytes, pre_tokenizer: str | None, tokenize: Callable[[], Result]) -> Result:
    """Return the result of ``tokenize``, run on a stack large enough for ``text``.

    pre_tokenizer: its name in the file; None for a vocabulary without expressions.
    Raises ValueError if no stack is large enough, and BackendError if the system cannot create a
    thread. A tokenization cannot be interrupted: Ctrl-C is raised once it is done.
    """
    if pre_tokenizer is None or len(text) < _SHORT:
        return tokenize()
    length = len(text)
    if length > _LONGEST_MATCH:
        length = longest_match(text.decode("utf-8", errors="replace"), pre_tokenizer)
    if length > _LONGEST_MATCH:
        raise ValueError(
            f"the text has {length} characters in a row that are split as a whole (white space, "
            f"anything without white space, or a line); at most {_LONGEST_MATCH} can be tokenized "
            f"safely. Split the text, or pass token ids."
        )
    n_bytes = _BASE + math.ceil(length * _BYTES_PER_CHARACTER / _BASE) * _BASE
    return _on_stack(n_bytes, tokenize)


def longest_match(text: str, pre_tokenizer: str) -> int:
    """Return how many characters of ``text`` an expression can match at once, or more."""
    others = _longest(_OTHERS, text) + _longest(_LINE_ENDS, text)
    longest = max(others, _longest(_WHITE_SPACE, text))
    if pre_tokenizer in PRE_TOKENIZERS - MATCH_LINES:
        return longest
    return max(longest, _longest(_LINE, text))


def _longest(run: re.Pattern[str], text: str) -> int:
    return max((match.end() - match.start() for match in run.finditer(text)), default=0)


def _on_stack(n_bytes: int, work: Callable[[], Result]) -> Result:
    what = "a text is tokenized: tokenize shorter parts"
    return on_big_stack(n_bytes, "localgen-tokenize", what, work)
