"""A long text cannot end the process, whatever the pre-tokenizer and the caller's stack."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from localgen._util import big_stack
from localgen._util.threads import start_thread
from localgen.errors import BackendError
from localgen.gguf.vocab_types import PRE_TOKENIZERS
from localgen.llama import vocab_stack
from localgen.llama.vocab_stack import longest_match, on_safe_stack
from tests.conftest import RunChild

ALL_PRE_TOKENIZERS = """
import sys, threading
from pathlib import Path
from localgen.llama import vocab_stack
from tests.llama.pre_tokenizers import UNITS, text_of, with_pre_tokenizer
from tests.llama.vocab_files import load

SMALL = 2**17
LENGTH = 3000

def tokenize_all(name, vocab):
    for unit in UNITS:
        print(name, repr(unit), flush=True)
        short, long = text_of(unit, vocab_stack._SHORT - 1), text_of(unit, LENGTH)
        vocab.tokenize(short[:vocab_stack._SHORT - 1], add_special=False, parse_special=False)
        length = vocab_stack.longest_match(long.decode(), name)
        assert length <= LENGTH + 1, length
        stack = SMALL + length * vocab_stack._BYTES_PER_CHARACTER
        vocab_stack._on_stack(stack, lambda: vocab._tokenize(long, False, False))

threading.stack_size(SMALL)
for name in sys.argv[2:]:
    vocab = load(Path(sys.argv[1]) / f"{name}.gguf", with_pre_tokenizer(name))
    thread = threading.Thread(target=tokenize_all, args=(name, vocab))
    thread.start()
    thread.join()
print("survived")
"""


def test_each_pre_tokenizer(tmp_path: Path, fork_child: RunChild) -> None:
    """Regression: 4,000 letters ended a thread of 512 KiB, a macOS thread; long white space any.

    Short texts run on the caller's stack, here 128 KiB; longer ones on one in proportion to what
    can be matched at once, and little more.
    """
    child = fork_child(ALL_PRE_TOKENIZERS, tmp_path, *sorted(PRE_TOKENIZERS))
    assert child.stdout.endswith("survived\n"), (child.returncode, child.stdout, child.stderr)


OTHER_TYPES = """
import dataclasses, sys, threading
from pathlib import Path
from gguf import TokenType
from models.make_tiny import spm_vocab
from tests.llama.pre_tokenizers import UNITS, text_of
from tests.llama.vocab_files import load

spm = spm_vocab()
bytes_ = [repr(bytes([b]))[2:-1] for b in range(256)]
rwkv = dataclasses.replace(spm, tokens=bytes_, types=[TokenType.NORMAL] * 256, scores=None)
normal = dataclasses.replace(spm, types=[TokenType.NORMAL] * len(spm.tokens))

def tokenize_all(vocab):
    for unit in UNITS:
        vocab.tokenize(text_of(unit, 5000), add_special=False, parse_special=False)

threading.stack_size(2**17)
for name, like in {"llama": spm, "t5": spm, "plamo2": spm, "bert": normal, "rwkv": rwkv}.items():
    vocab = load(Path(sys.argv[1]) / f"{name}.gguf", dataclasses.replace(like, model=name))
    thread = threading.Thread(target=tokenize_all, args=(vocab,))
    thread.start()
    thread.join()
    print(name, vocab._pre_tokenizer, flush=True)
"""


def test_types_without_expressions_need_no_stack(tmp_path: Path, fork_child: RunChild) -> None:
    """They do not recurse, so that their texts have no limit and need no thread."""
    child = fork_child(OTHER_TYPES, tmp_path)
    names = ("llama", "t5", "plamo2", "bert", "rwkv")
    assert child.stdout.splitlines() == [f"{name} None" for name in names], child.stderr


@pytest.mark.parametrize(
    ("text", "longest", "with_lines"),
    [
        ("", 0, 0),
        ("ab cd\n", 3, 5),  # and a line end after the letters
        ("a  \t\n  b", 6, 4),
        ("a\u3000 \u3000 \x85b", 5, 7),
        ("!!\n/\n/\nab", 7, 7),
        ("a\x1cb\x1c c", 4, 6),
        ("ab cd ef", 2, 8),
    ],
)
def test_what_can_be_matched_at_once(text: str, longest: int, with_lines: int) -> None:
    """By hand. A pre-tokenizer that is not known may match lines."""
    assert longest_match(text, "smollm") == longest
    for name in ("laguna", "made-up"):
        assert longest_match(text, name) == max(longest, with_lines)


@pytest.mark.parametrize("unit", ["a", " ", "/\n", "\u3000 "])
def test_a_text_that_no_stack_is_large_enough_for(unit: str) -> None:
    """Regression: white space was not counted, and ended the process."""
    limit = vocab_stack._LONGEST_MATCH
    fits, too_long = ((unit * 2 * limit)[:n].encode() for n in (limit // 2, limit + 1))
    assert on_safe_stack(fits, "gpt-4o", lambda: "done") == "done"
    with pytest.raises(ValueError, match=r"characters in a row .* at most \d+ can be tokenized"):
        on_safe_stack(too_long, "gpt-4o", lambda: "done")
    assert on_safe_stack(too_long, None, lambda: "done") == "done"


def test_a_long_text_of_words() -> None:
    """Only what is matched at once is limited."""
    text = b"the cat\n" * (vocab_stack._LONGEST_MATCH // 4)
    assert on_safe_stack(text, "gpt-4o", lambda: "done") == "done"


def test_short_texts_need_no_thread() -> None:
    """A thread costs as much as the tokenization of a few words."""
    threads = [
        on_safe_stack(b"a" * n, pre, threading.current_thread)
        for n, pre in ((vocab_stack._SHORT - 1, "gpt-4o"), (10**6, None))
    ]
    assert threads == [threading.current_thread()] * 2


def test_a_system_without_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says what to raise; the size of later stacks is what it was."""

    def refuse(*_: Any) -> None:
        raise RuntimeError("can't start new thread")

    before = threading.stack_size()
    monkeypatch.setattr(big_stack, "start_thread", refuse)
    with pytest.raises(BackendError, match=r"stack of 2 MiB, .*start new thread.*ulimit -v"):
        on_safe_stack(b"a" * 2000, "gpt-4o", lambda: None)
    assert threading.stack_size() == before


def test_ctrl_c_while_a_long_text_is_tokenized(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is raised once llama.cpp is done: nothing is freed under it."""
    may_end, done = threading.Event(), threading.Event()
    real = start_thread

    def work() -> None:
        may_end.wait(20)
        done.set()

    def start(*given: Any) -> Any:
        thread: Any
        thread, future = real(*given)
        join = thread.join

        def interrupted() -> None:
            thread.join = join
            may_end.set()
            raise KeyboardInterrupt

        thread.join = interrupted
        return thread, future

    monkeypatch.setattr(big_stack, "start_thread", start)
    with pytest.raises(KeyboardInterrupt):
        on_safe_stack(b"a" * 2000, "gpt-4o", work)
    assert done.is_set()
