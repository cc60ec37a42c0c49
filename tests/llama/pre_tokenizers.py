"""Vocabularies with each pre-tokenizer of llama.cpp, and texts that its expressions match at once.

python -m tests.llama.pre_tokenizers [NAME …]

prints the bytes of stack that each character of such a text takes, found by trying in forked
processes: what ``localgen.llama.vocab_stack`` assumes. Linux only.
"""

from __future__ import annotations

import dataclasses
import os
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from localgen.gguf.vocab_types import PRE_TOKENIZERS, TYPES
from localgen.llama.vocab import LlamaVocab
from models.make_tiny import Vocab, bpe_vocab
from tests.children import NO_FORK
from tests.llama.vocab_files import load

# What a text repeats: letters by case and script, marks, digits, punctuation, white space, and
# mixtures that one part of an expression matches.
UNITS = (
    *("a", "A", "aA", "Ab ", "ab ", "é", "漢", "漢 ", "한", "か", "ก", "क्", "a\u0301", "\u0301"),
    *(
        "1",
        "1 ",
        "1a",
        "!",
        "!=",
        "! ",
        "!\n",
        "a!",
        "/",
        "/\n",
        "=",
        "$",
        "|",
        "\uff0c",
        "'",
        "'s",
    ),
    *("'s", "{}", "_", "🙂", "IMGIMGA", " ", "\t", "\n", "\r\n", "\n ", "\t ", "\v", "\f", "a\n"),
    *("\u3000", "\u3000 ", "\u00a0", "\u0085", "\u200b", "\x01", "\x1c", "\x1c ", "\ue000", "\0"),
)
_STACK = 8 * 2**20
_LONGEST = 200_000


def with_pre_tokenizer(name: str) -> Vocab:
    """Return a byte-level BPE vocabulary with a pre-tokenizer."""
    # Of some types of vocabulary the name is that of a pre-tokenizer, which needs it.
    return dataclasses.replace(bpe_vocab(), pre=name, model=name if name in TYPES else "gpt2")


def text_of(unit: str, length: int) -> bytes:
    """Return ``unit`` repeated to ``length`` characters."""
    return (unit * (length // len(unit) + 1))[:length].encode()


def survives(work: Callable[[], Any], stack: int) -> bool:
    """Return whether a forked process survives ``work`` on a thread with ``stack`` bytes."""
    if sys.platform == "win32":
        raise OSError(NO_FORK)
    pid = os.fork()
    if pid:
        return os.waitpid(pid, 0)[1] == 0
    threading.stack_size(stack)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    os._exit(0)


def bytes_per_character(vocab: LlamaVocab, unit: str) -> int:
    """Return the bytes of stack that a character takes; 0 if it is less than 42."""

    def fits(length: int) -> bool:
        text = text_of(unit, length)
        return survives(lambda: vocab._tokenize(text, False, False), _STACK)

    if fits(_LONGEST):
        return 0
    low, high = 0, _LONGEST
    while high - low > max(1, low // 100):
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return _STACK // max(1, low)


def main(names: list[str]) -> None:
    """Print a line for each pre-tokenizer: what takes stack, and how much a character."""
    worst = 0
    with tempfile.TemporaryDirectory() as folder:
        for name in names or sorted(PRE_TOKENIZERS):
            vocab = load(Path(folder) / f"{name}.gguf", with_pre_tokenizer(name))
            found = {unit: bytes_per_character(vocab, unit) for unit in UNITS}
            print(name, {unit: n for unit, n in found.items() if n}, flush=True)
            worst = max(worst, *found.values())
    print(f"at most {worst} bytes a character")


if __name__ == "__main__":
    main(sys.argv[1:])
