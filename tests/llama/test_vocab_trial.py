"""Unknown vocabulary types: tried in a real child process, once for each file, and remembered.

llama.cpp refuses every type that it does not know itself. So that a trial can succeed, crash or
hang, the gate is made to forget a type that llama.cpp knows.
"""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from gguf import GGUFWriter, TokenType

from localgen import InvalidGGUFError, LocalModel, inspect
from localgen._util.child import Failure, run_json_child
from localgen.cli import app
from localgen.gguf import vocab_types
from localgen.gguf.gate import ModelFile, check_model
from localgen.llama import vocab_trial
from localgen.llama.vocab_trial import check_unknown_vocabulary
from models.make_tiny import (
    LlamaShape,
    Vocab,
    bpe_vocab,
    finish,
    make_llama_bpe,
    spm_vocab,
    write_llama,
    write_vocab,
)

HOSTILE_BYTE = 0xA9  # the last one of "é", among others
NO_BPE_NAMES = frozenset[str]()


def write(path: Path, vocab: Vocab) -> Path:
    writer = GGUFWriter(path, "llama")
    write_llama(writer, LlamaShape(), len(vocab.tokens), 0, "F32")
    write_vocab(writer, vocab)
    finish(writer)
    return path


def crashing() -> Vocab:
    """A SentencePiece vocabulary without one of the byte tokens: llama.cpp aborts at that byte."""
    vocab = spm_vocab()
    tokens = [f"x{i}" if t == f"<0x{HOSTILE_BYTE:02X}>" else t for i, t in enumerate(vocab.tokens)]
    types = [
        TokenType.NORMAL if t.startswith("x") else k
        for t, k in zip(tokens, vocab.types, strict=True)
    ]
    return dataclasses.replace(vocab, tokens=tokens, types=types)


def hanging() -> Vocab:
    """An RWKV vocabulary with a word whose first byte is no token: llama.cpp does not end."""
    single = [repr(bytes([b]))[2:-1] for b in range(256) if b != ord("h")]
    tokens = ["<s>", *single, "hex"]
    types = [TokenType.CONTROL, *[TokenType.NORMAL] * (len(tokens) - 1)]
    return dataclasses.replace(spm_vocab(), model="rwkv", tokens=tokens, types=types, scores=None)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of this test's own, which does not exist yet."""
    folder = tmp_path / "cache"
    monkeypatch.setattr(vocab_trial, "cache_folder", lambda: folder / "localgen")
    return folder


@pytest.fixture
def forget(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """``forget(type)`` takes the rules for a type away from the gate."""

    def remove(name: str) -> None:
        left = {known: rules for known, rules in vocab_types.TYPES.items() if known != name}
        monkeypatch.setattr(vocab_types, "TYPES", left)

    return remove


@pytest.fixture
def children(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files for which a child process was started."""
    started: list[str] = []
    run = run_json_child

    def counted(module: str, path: str, *, limit_seconds: float) -> object:
        started.append(path)
        return run(module, path, limit_seconds=limit_seconds)

    monkeypatch.setattr(vocab_trial, "run_json_child", counted)
    return started


@pytest.fixture
def unknown_bpe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelFile:
    """A sound file whose pre-tokenizer the gate does not know."""
    make_llama_bpe(tmp_path / "sound.gguf")
    monkeypatch.setattr(vocab_types, "PRE_TOKENIZERS", NO_BPE_NAMES)
    return check_model(tmp_path / "sound.gguf")


def entries(cache: Path) -> list[Path]:
    return [path for path in cache.rglob("*") if path.is_file()]


def load(path: Path) -> list[int]:
    """Load a model as users do, and generate."""
    with LocalModel.from_pretrained(path, n_ctx=64, n_threads=1) as model:
        (done,) = model.complete(["hello"], max_new_tokens=2, do_sample=False)
        return done.token_ids


@pytest.mark.parametrize("change", [{"model": "t6"}, {"pre": "made-up"}])
def test_what_llama_cpp_refuses_itself(
    change: dict[str, Any], tmp_path: Path, cache: Path, children: list[str]
) -> None:
    """The error says so; as no process died, the next load tries again."""
    path = write(tmp_path / "new.gguf", dataclasses.replace(bpe_vocab(), **change))
    with pytest.raises(InvalidGGUFError, match=r"unknown type .* failed: llama\.cpp refuses"):
        load(path)
    assert children == [str(path)]
    assert not entries(cache)


def test_a_sound_file_is_tried_once(
    unknown_bpe: ModelFile, cache: Path, children: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """The load goes on, the log says what it costs, and the second load starts no process."""
    caplog.set_level(logging.INFO, "localgen.llama")
    first = load(unknown_bpe.path)
    assert first
    assert children == [str(unknown_bpe.path)]
    assert "doubles the load time, once for this file" in caplog.text
    assert "llama.cpp survives tokenizer.ggml.pre='smollm'" in caplog.text
    (entry,) = entries(cache)
    assert json.loads(entry.read_text("utf-8")) == {"failure": None}
    assert load(unknown_bpe.path) == first
    assert len(children) == 1


def test_another_file_or_version_is_tried_again(
    unknown_bpe: ModelFile, cache: Path, children: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is remembered holds for the same bytes and the same llama.cpp."""
    check_unknown_vocabulary(unknown_bpe)
    vocab = bpe_vocab()
    other = dataclasses.replace(vocab, tokens=[*vocab.tokens[:-1], "other"])
    check_unknown_vocabulary(check_model(write(unknown_bpe.path.with_name("b.gguf"), other)))
    assert len(children) == len(entries(cache)) == 2
    monkeypatch.setattr(vocab_trial, "llama_version", lambda: "0.4.0 (abc)")
    check_unknown_vocabulary(unknown_bpe)
    check_unknown_vocabulary(unknown_bpe)
    assert len(children) == len(entries(cache)) == 3


def test_a_crash_is_an_error_and_remembered(
    tmp_path: Path, cache: Path, children: list[str], forget: Callable[[str], None]
) -> None:
    """llama.cpp aborts in the child; this process says by which signal, and what to do."""
    forget("llama")
    path = write(tmp_path / "deadly.gguf", crashing())
    with pytest.raises(InvalidGGUFError, match="killed by SIGABRT") as first:
        load(path)
    for part in (str(path), "tokenizer.ggml.model='llama'", "Update llama-cpp-python"):
        assert part in str(first.value)
    (entry,) = entries(cache)
    with pytest.raises(InvalidGGUFError, match=f"SIGABRT.*delete {entry} to try again"):
        load(path)
    assert len(children) == 1
    entry.unlink()
    with pytest.raises(InvalidGGUFError, match="SIGABRT"):
        load(path)
    assert len(children) == 2


def test_a_hang_ends_with_the_time_limit(
    tmp_path: Path, cache: Path, forget: Callable[[str], None]
) -> None:
    """It is not remembered: a machine may have been too busy."""
    forget("rwkv")
    file = check_model(write(tmp_path / "endless.gguf", hanging()))
    with pytest.raises(InvalidGGUFError, match="did not end within 4 seconds"):
        check_unknown_vocabulary(file, limit_seconds=4)
    assert not entries(cache)


def test_a_kill_from_outside_is_not_remembered(
    unknown_bpe: ModelFile, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system kills a process when the memory runs out, which says nothing of the file."""
    killed = Failure("was killed by SIGKILL", "SIGKILL")
    monkeypatch.setattr(vocab_trial, "run_json_child", lambda *_, **__: killed)
    with pytest.raises(InvalidGGUFError, match="the process was killed by SIGKILL"):
        check_unknown_vocabulary(unknown_bpe)
    assert not entries(cache)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"{}", b'{"failure": 1}', b"\xff", b"[" * 10**5]
)
def test_a_damaged_entry_is_ignored(
    content: bytes, unknown_bpe: ModelFile, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is tried again, and the entry replaced."""
    tried: list[str] = []
    monkeypatch.setattr(vocab_trial, "run_json_child", lambda *args, **_: tried.append(args[1]))
    check_unknown_vocabulary(unknown_bpe)
    (entry,) = entries(cache)
    entry.write_bytes(content)
    check_unknown_vocabulary(unknown_bpe)
    check_unknown_vocabulary(unknown_bpe)
    assert len(tried) == 2


def test_a_cache_that_cannot_be_written(
    unknown_bpe: ModelFile, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or none at all: each load tries the file."""
    tried: list[str] = []
    monkeypatch.setattr(vocab_trial, "run_json_child", lambda *args, **_: tried.append(args[1]))
    cache.write_text("a file where the folder would be", "utf-8")
    check_unknown_vocabulary(unknown_bpe)
    monkeypatch.setattr(vocab_trial, "cache_folder", lambda: None)
    check_unknown_vocabulary(unknown_bpe)
    assert len(tried) == 2


def test_inspect_starts_no_trial(
    unknown_bpe: ModelFile,
    children: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It says that the type is unknown, and what will happen."""
    assert inspect(unknown_bpe.path).tokenizer.unknown_type == "tokenizer.ggml.pre='smollm'"
    monkeypatch.setattr("sys.argv", ["localgen", "inspect", str(unknown_bpe.path)])
    assert app.run_command() == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "unknown vocabulary type (tokenizer.ggml.pre='smollm'): it is tried at load" in shown
    assert not children


def test_file_that_went_away_has_no_remembered_result(tiny_bpe_path: Path, tmp_path: Path) -> None:
    """Its result cannot be found or kept, which is no error of its own."""
    path = tmp_path / "a.gguf"
    path.write_bytes(tiny_bpe_path.read_bytes())
    file = check_model(path)
    assert vocab_trial._entry(file) is not None
    path.unlink()
    assert vocab_trial._entry(file) is None
