"""Files that are missing, damaged or changed: a typed error that names the path, never a crash.

What llama.cpp could answer with an abort is loaded in a child process.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from gguf import GGUFWriter

from localgen import BackendError, InvalidGGUFError, LocalModel, ModelNotFoundError
from localgen.llama.library import llama
from models.make_tiny import LlamaShape, Vocab, bpe_vocab, finish, write_llama, write_vocab
from tests.conftest import RunChild

Damage = Callable[[bytes], bytes]

LOAD = """
import sys, localgen
try:
    model = localgen.LocalModel.from_pretrained(sys.argv[1], n_threads=1)
    print(model.generate([[40, 60]], max_new_tokens=2).shape)
except localgen.LocalgenError as error:
    print(type(error).__name__)
    print(error)
"""


def cut_at(share: float) -> Damage:
    return lambda data: data[: int(len(data) * share)]


DAMAGED: dict[str, Damage] = {
    "empty": lambda data: b"",
    "text": lambda data: b"this is a text file\n" * 20,
    "magic only": lambda data: data[:4],
    "half a header": lambda data: data[:12],
    "header only": lambda data: data[:24],
    "version 1": lambda data: data[:4] + (1).to_bytes(4, "little") + data[8:],
    "version 99": lambda data: data[:4] + (99).to_bytes(4, "little") + data[8:],
    "big-endian": lambda data: data[:4] + (3).to_bytes(4, "big") + data[8:],
    "huge tensor count": lambda data: data[:8] + b"\xff" * 7 + b"\x7f" + data[16:],
    "huge key count": lambda data: data[:16] + b"\xff" * 7 + b"\x7f" + data[24:],
    "cut at 10 %": cut_at(0.10),
    "cut at 50 %": cut_at(0.50),
    "cut at 99 %": cut_at(0.99),
    "cut by one byte": lambda data: data[:-1],
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_damaged_file(kind: str, tiny_bpe_path: Path, tmp_path: Path, fork_child: RunChild) -> None:
    """A broken download or a wrong file ends in InvalidGGUFError with its path, not in a signal."""
    path = tmp_path / "damaged.gguf"
    path.write_bytes(DAMAGED[kind](tiny_bpe_path.read_bytes()))
    child = fork_child(LOAD, path)
    assert child.returncode == 0, child.stderr
    kind_of_error, _, message = child.stdout.partition("\n")
    assert kind_of_error == "InvalidGGUFError"
    assert str(path) in message


def write_parts(path: Path, *, tensors: bool = True, vocab: Vocab | None) -> None:
    """A tiny llama without its tensors, or with another vocabulary (None: without one)."""
    writer = GGUFWriter(path, "llama")
    n_vocab = len(bpe_vocab().tokens)
    write_llama(writer, LlamaShape(), n_vocab, 0, "F32")
    if not tensors:
        writer.tensors[0].clear()
    if vocab is not None:
        write_vocab(writer, vocab)
    finish(writer)


def cut_vocab(**cuts: int) -> Vocab:
    """The BPE vocabulary with only the first entries of some of its lists."""
    vocab = bpe_vocab()
    return dataclasses.replace(
        vocab, **{name: getattr(vocab, name)[:length] for name, length in cuts.items()}
    )


def repeated_vocab() -> Vocab:
    vocab = bpe_vocab()
    return dataclasses.replace(vocab, tokens=[*vocab.tokens[:-1], vocab.tokens[5]])


PARTS: dict[str, Any] = {
    "no tensors": {"tensors": False, "vocab": bpe_vocab()},
    "no vocabulary": {"vocab": None},
    "no tokens": {"vocab": cut_vocab(tokens=0)},
    "fewer tokens than types": {"vocab": cut_vocab(tokens=50)},
    "fewer types than tokens": {"vocab": cut_vocab(types=50)},
    "fewer tokens than embeddings": {"vocab": cut_vocab(tokens=100, types=100, merges=0)},
    "one token twice": {"vocab": repeated_vocab()},
}


@pytest.mark.parametrize("kind", PARTS)
def test_incomplete_model(kind: str, tmp_path: Path, fork_child: RunChild) -> None:
    """A well-formed file whose content does not make a model is refused with its path."""
    path = tmp_path / "incomplete.gguf"
    write_parts(path, **PARTS[kind])
    child = fork_child(LOAD, path)
    assert child.returncode == 0, child.stderr
    kind_of_error, _, message = child.stdout.partition("\n")
    assert kind_of_error == "InvalidGGUFError"
    assert str(path) in message


@pytest.mark.parametrize("as_text", [True, False])
def test_missing_path(as_text: bool, tmp_path: Path) -> None:
    """A typo in a path gives the path, and says where models come from."""
    path = tmp_path / "missing.gguf"
    with pytest.raises(ModelNotFoundError) as caught:
        LocalModel.from_pretrained(str(path) if as_text else path)
    assert str(path) in str(caught.value)
    assert "localgen models aliases" in str(caught.value)


def test_folder(tmp_path: Path) -> None:
    """A folder is said to be one; a transformers user may well name a folder."""
    with pytest.raises(InvalidGGUFError, match="folder") as caught:
        LocalModel.from_pretrained(tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_failed_load_harms_nothing(tiny_bpe_path: Path, tmp_path: Path, tiny: LocalModel) -> None:
    """llama.cpp's complaints about one file never show up in the error about the next."""
    first, second = tmp_path / "first.gguf", tmp_path / "second.gguf"
    for path in (first, second):
        path.write_bytes(tiny_bpe_path.read_bytes()[:-1])
    before = tiny.complete("the cat", max_new_tokens=4).token_ids
    with pytest.raises(InvalidGGUFError):
        LocalModel.from_pretrained(first)
    with pytest.raises(InvalidGGUFError) as caught:
        LocalModel.from_pretrained(second)
    assert str(first) not in str(caught.value)
    assert tiny.complete("the cat", max_new_tokens=4).token_ids == before


CHANGED = """
import os, pathlib, sys, localgen
path, other, how = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), sys.argv[3]
model = localgen.LocalModel.from_pretrained(path, n_ctx=512, n_threads=1)
ids = [[40, 60, 70]]
stream = model.stream("the cat", max_new_tokens=8, min_new_tokens=8)
next(stream)
if how == "truncated":
    os.truncate(path, 1000)
elif how == "replaced":
    os.replace(other, path)
elif how == "emptied":
    path.write_bytes(b"")
uses = (
    lambda: model.generate(ids, max_new_tokens=2),
    lambda: model.complete("hi", max_new_tokens=2),
    lambda: model.score("hello the cat"),
    lambda: list(stream),
)
for use in uses:
    try:
        use()
        print("ran")
    except localgen.BackendError as error:
        print("refused" if str(path) in str(error) else error)
model.close()
print("closed")
"""


@pytest.mark.parametrize("how", ["truncated", "replaced", "emptied"])
def test_file_changed_after_load(
    how: str, tiny_bpe_path: Path, tmp_path: Path, fork_child: RunChild
) -> None:
    """Reading a mapped file that shrank is a SIGBUS: each call looks at the file first."""
    path, other = tmp_path / "model.gguf", tmp_path / "other.gguf"
    for copy in (path, other):
        copy.write_bytes(tiny_bpe_path.read_bytes())
    child = fork_child(CHANGED, path, other, how)
    assert child.returncode == 0, child.stderr
    assert child.stdout.split() == ["refused"] * 4 + ["closed"]


@pytest.fixture
def in_a_folder(tiny_bpe_path: Path, tmp_path: Path) -> Iterator[LocalModel]:
    """A model whose file is alone in ``tmp_path / "folder"``."""
    folder = tmp_path / "folder"
    folder.mkdir()
    shutil.copy(tiny_bpe_path, folder / "model.gguf")
    with LocalModel.from_pretrained(folder / "model.gguf", n_ctx=512, n_threads=1) as model:
        yield model


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are text there")
def test_a_name_that_is_no_text(tiny_bpe_path: Path, tmp_path: Path) -> None:
    """A file whose name has bytes that are no UTF-8 loads, and is named in errors."""
    path = tmp_path / os.fsdecode(b"m\xff.gguf")
    shutil.copy(tiny_bpe_path, path)
    with LocalModel.from_pretrained(path, n_ctx=64, n_threads=1) as model:
        assert model.complete("a", max_new_tokens=1).stats.n_new == 1
    path.write_bytes(b"GGUF")
    with pytest.raises(InvalidGGUFError, match=r"m.*\.gguf"):
        LocalModel.from_pretrained(path)


def test_folder_replaced_by_a_file(in_a_folder: LocalModel, tmp_path: Path) -> None:
    """The file was removed, and what is mapped stays; it once was NotADirectoryError."""
    before = in_a_folder.generate([[40, 60]], max_new_tokens=2).tolist()
    shutil.rmtree(tmp_path / "folder")
    (tmp_path / "folder").write_text("a file now")
    assert in_a_folder.generate([[40, 60]], max_new_tokens=2).tolist() == before


def test_folder_that_cannot_be_entered(in_a_folder: LocalModel, tmp_path: Path) -> None:
    """Whether the file is still what was mapped cannot be told: a typed error that says so."""
    shutil.rmtree(tmp_path / "folder")
    (tmp_path / "folder").symlink_to("folder")  # to itself
    with pytest.raises(BackendError, match="can no longer be checked"):
        in_a_folder.generate([[40, 60]], max_new_tokens=2)


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_progress_that_raises(error: type[BaseException], tiny_bpe_path: Path) -> None:
    """Ctrl-C in a load comes through although ctypes swallows it, and frees what was mapped."""

    inside = []

    def progress(fraction: float) -> None:
        inside.append(fraction)
        raise error("stop here")

    before = n_mappings(tiny_bpe_path)
    with pytest.raises(error, match="stop here"):
        LocalModel.from_pretrained(tiny_bpe_path, progress=progress)
    assert inside == [0.0]
    assert n_mappings(tiny_bpe_path) == before
    seen: list[float] = []
    with LocalModel.from_pretrained(tiny_bpe_path, progress=seen.append) as model:
        assert model.generate([[40]], max_new_tokens=1).shape == (1, 2)
    assert seen == sorted(seen)
    assert seen[-1] == 1.0


def n_mappings(path: Path) -> int:
    """How often this process has the file in its memory."""
    return Path("/proc/self/maps").read_text().count(os.fspath(path))


LOADS = """
import signal, sys, time, localgen
def load():
    localgen.LocalModel.from_pretrained(sys.argv[1], n_ctx=512).close()
load()
started = time.perf_counter()
load()
seconds = time.perf_counter() - started
inside = False
def on_alarm(*_):
    if inside:
        raise KeyboardInterrupt
signal.signal(signal.SIGALRM, on_alarm)
outcomes = set()
for step in range(100):
    signal.setitimer(signal.ITIMER_REAL, seconds * (step + 1) / 80)
    try:
        inside = True
        load()
        inside = False
    except KeyboardInterrupt:
        inside = False
    except Exception as error:
        inside = False
        outcomes.add(repr(error))
    signal.setitimer(signal.ITIMER_REAL, 0)
print(sorted(outcomes))
"""


def test_ctrl_c_at_any_moment_of_a_load(tiny_bpe_path: Path, fork_child: RunChild) -> None:
    """A signal that comes while C loads is KeyboardInterrupt, not a complaint about the file."""
    child = fork_child(LOADS, tiny_bpe_path)
    assert (child.returncode, child.stdout) == (0, "[]\n"), child.stderr
    assert "ctypes callback" not in child.stderr


@pytest.fixture
def cpu_only_build() -> None:
    if llama().llama_supports_gpu_offload():
        pytest.skip("this build of llama.cpp has a GPU backend")


@pytest.mark.usefixtures("cpu_only_build")
@pytest.mark.parametrize(
    "options", [{"device": "cuda"}, {"device": "metal"}, {"n_gpu_layers": 5}], ids=str
)
def test_gpu_on_a_cpu_build(options: dict[str, Any], tiny_bpe_path: Path) -> None:
    """No silent CPU run: the error names what was asked and how to build for it."""
    with pytest.raises(BackendError, match="CMAKE_ARGS") as caught:
        LocalModel.from_pretrained(tiny_bpe_path, **options)
    (asked,) = options.values()
    assert str(asked) in str(caught.value)


@pytest.mark.usefixtures("cpu_only_build")
def test_no_gpu_layers_on_a_cpu_build(tiny_bpe_path: Path) -> None:
    """Asking for none is no error."""
    with LocalModel.from_pretrained(tiny_bpe_path, n_gpu_layers=0) as model:
        assert model.generate([[40]], max_new_tokens=1).shape == (1, 2)
