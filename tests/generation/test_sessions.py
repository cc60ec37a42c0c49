"""Saved sessions: the file, what the engine does with it, and each kind of llama.cpp's memory."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from localgen import BackendError, ClosedError, LocalModel, ModelFileError, StateError
from localgen.engine.backend import Saved
from localgen.generation import session_file
from localgen.generation.streaming import CompletionStream
from localgen.llama.library import llama
from models.make_tiny import make_gemma_swa, make_llama_bpe, make_llama_spm, make_mamba
from tests.conformance.invariants import backend_of
from tests.fakes import FakeBackend, FakeModel, engine_of, fake_model, reference_greedy
from tests.systems import make_pipe

IDENTITY = {"model": "a", "kv_type": "f16"}
START = struct.Struct("<8sIIQ")


def some_saved(*lengths: tuple[int, int]) -> list[Saved]:
    """Sequences of these numbers of tokens and of bytes."""
    return [
        Saved(
            np.arange(n_tokens, dtype=np.int32) * 7919 + 2**30,
            np.random.default_rng(n_bytes).integers(256, size=n_bytes, dtype=np.uint8),
        )
        for n_tokens, n_bytes in lengths
    ]


def as_lists(saved: list[Saved]) -> list[tuple[list[int], list[int]]]:
    return [(each.token_ids.tolist(), each.state.tolist()) for each in saved]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A small session of two sequences."""
    path = tmp_path / "small.session"
    session_file.write(path, IDENTITY, some_saved((3, 40), (5, 61)))
    return path


def forged(header: bytes, body: bytes = b"", **lengths: int) -> bytes:
    """A file around a header of one's own, with digests that are right."""
    n_header = lengths.get("n_header", len(header))
    n_bytes = lengths.get("n_bytes", START.size + len(header) + len(body) + 64)
    data = START.pack(b"\x89lgs\r\n\x1a\n", lengths.get("layout", 1), n_header, n_bytes) + header
    data += hashlib.sha256(data).digest() + body
    return data + hashlib.sha256(data).digest()


def described(sequences: Any, identity: Any = IDENTITY) -> bytes:
    return json.dumps({"localgen": "9", "identity": identity, "sequences": sequences}).encode()


# --- the file ---


@pytest.mark.parametrize(
    "lengths",
    [[], [(1, 1)], [(3, 40), (5, 61)], [(2, 3_000_000), (100_000, 7)]],
    ids=["none", "smallest", "two", "longer than a chunk"],
)
def test_round_trip(lengths: list[tuple[int, int]], tmp_path: Path) -> None:
    """Protects tokens, states and order: what is read is what was written."""
    saved = some_saved(*lengths)
    session_file.write(tmp_path / "s", IDENTITY, saved)
    again = session_file.read(tmp_path / "s", IDENTITY)
    assert as_lists(again) == as_lists(saved)
    assert all(each.token_ids.dtype == np.int32 for each in again)


def test_layout_is_the_documented_one(path: Path) -> None:
    """Protects files that exist: another layout needs another version number."""
    saved = some_saved((3, 40), (5, 61))
    data = path.read_bytes()
    _, _, n_header, _ = START.unpack(data[: START.size])
    header = data[START.size : START.size + n_header]
    assert json.loads(header)["sequences"] == [[3, 40], [5, 61]]
    body = b"".join(each.token_ids.tobytes() + each.state.tobytes() for each in saved)
    assert data == forged(header, body)


@pytest.mark.slow
def test_truncated_anywhere(path: Path) -> None:
    """Protects llama.cpp, which believes what it is given, from a file of any smaller length."""
    data = path.read_bytes()
    for length in range(len(data)):
        path.write_bytes(data[:length])
        reason = "cut off" if length >= 8 else "not a session"
        with pytest.raises(StateError, match=reason):
            session_file.read(path, IDENTITY)


@pytest.mark.slow
def test_any_bit_flipped(path: Path) -> None:
    """Protects from a flipped bit wherever it is: each byte of the file is covered."""
    data = path.read_bytes()
    for place in range(len(data)):
        damaged = bytearray(data)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        with pytest.raises(StateError):
            session_file.read(path, IDENTITY)


def test_damage_is_not_called_another_model(path: Path) -> None:
    """A flipped bit in the header's model name is damage, not a reason to look for that model."""
    data = path.read_bytes()
    path.write_bytes(data.replace(b'"model": "a"', b'"model": "c"'))
    with pytest.raises(StateError, match="damaged"):
        session_file.read(path, IDENTITY)


def test_longer_file(path: Path) -> None:
    """Bytes behind the end are damage too."""
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(StateError, match="damaged"):
        session_file.read(path, IDENTITY)


FORGERIES = {
    "huge sequence": forged(described([[2**60, 2**60]])),
    "huge number": forged(described([["HUGE", 1]]).replace(b'"HUGE"', b"9" * 5000)),
    "sequence beyond the file": forged(described([[2, 2]]), b"123456789"),
    "less than the file": forged(described([[2, 2]]), b"12345678901"),
    "negative length": forged(described([[-1, 14]]), b"1234567890"),
    "sequence of no tokens": forged(described([[0, 10]]), b"1234567890"),
    "length that is no number": forged(described([["2", 2]]), b"1234567890"),
    "length that is a truth": forged(described([[True, 6]]), b"1234567890"),
    "length with a point": forged(described([[2.0, 2]]), b"1234567890"),
    "sequences that are none": forged(described(7)),
    "identity that is none": forged(described([], 7)),
    "no object": forged(b"[]"),
    "no JSON": forged(b"{"),
    "no text": forged(b"\xff\xfe"),
    "deep": forged(b"[" * 60_000),
    "huge header": forged(described([]), n_header=2**32 - 1),
    "header beyond the bound": forged(described([]) + b" " * 2**17),
    "header into the digests": forged(described([]), n_header=len(described([])) + 32),
    "huge file": forged(described([]), n_bytes=2**63),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_forged_lengths(name: str, tmp_path: Path) -> None:
    """Protects memory: with right digests too, no length is believed beyond the file's own."""
    path = tmp_path / "forged"
    path.write_bytes(FORGERIES[name])
    tracemalloc.start()
    try:
        with pytest.raises(StateError):
            session_file.read(path, IDENTITY)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2**20


def test_other_version_of_the_format(tmp_path: Path) -> None:
    """A file of a later localgen is not called damaged."""
    (tmp_path / "s").write_bytes(forged(described([]), layout=2))
    with pytest.raises(StateError, match=r"version 2 .* version 1"):
        session_file.read(tmp_path / "s", IDENTITY)


@pytest.mark.parametrize(
    ("identity", "words"),
    [
        ({"model": "b", "kv_type": "f16"}, "model is a, here it is b"),
        ({"model": "a", "kv_type": "q8_0"}, "kv_type is f16, here it is q8_0"),
        ({"model": "a", "kv_type": "f16", "more": "x"}, "more is None, here it is x"),
        ({"model": "a"}, "kv_type is f16, here it is None"),
    ],
)
def test_other_identity(identity: dict[str, str], words: str, path: Path) -> None:
    """The message says which thing differs, and both sides of it."""
    with pytest.raises(StateError, match=words):
        session_file.read(path, identity)


def test_only_the_owner_may_read(path: Path, tmp_path: Path) -> None:
    """Prompts are private, also where the old file was not."""
    path.chmod(0o644)
    session_file.write(path, IDENTITY, [])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == [path.name]


def fail(error: BaseException) -> Callable[..., Any]:
    def failing(*_: object, **__: object) -> None:
        raise error

    return failing


@pytest.mark.parametrize("step", ["fsync", "replace"])
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "disk full"), KeyboardInterrupt()])
def test_failed_write_leaves_the_old_file(
    step: str, error: BaseException, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Protects the old session: a full disk or Ctrl-C costs the new one only, and leaves none."""
    before = path.read_bytes()
    monkeypatch.setattr(os, step, fail(error))
    with pytest.raises(type(error)):
        session_file.write(path, IDENTITY, some_saved((9, 9)))
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


def test_write_that_fails_between_two_sequences(path: Path) -> None:
    """As above, with part of the new file written."""
    before = path.read_bytes()
    broken = Saved(np.zeros(2, np.int32), np.zeros((4, 4), np.uint8)[:, 1])  # not contiguous
    with pytest.raises((BufferError, ValueError, TypeError)):
        session_file.write(path, IDENTITY, [*some_saved((9, 2**20)), broken])
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


def test_bytes_reach_the_disk_before_the_name(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects from a power cut: file, then name, then folder."""
    steps = []
    fsync, replace = os.fsync, os.replace

    def noting_fsync(descriptor: int) -> None:
        steps.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        fsync(descriptor)

    def noting_replace(*names: Any) -> None:
        steps.append("name")
        replace(*names)

    monkeypatch.setattr(os, "fsync", noting_fsync)
    monkeypatch.setattr(os, "replace", noting_replace)
    session_file.write(path, IDENTITY, [])
    assert steps == ["file", "name", "folder"]


def test_link_stays_a_link(path: Path, tmp_path: Path) -> None:
    """A session behind a link is replaced where it is."""
    link = tmp_path / "link"
    link.symlink_to(path)
    session_file.write(link, IDENTITY, some_saved((7, 7)))
    assert link.is_symlink()
    assert as_lists(session_file.read(path, IDENTITY)) == as_lists(some_saved((7, 7)))


@pytest.mark.parametrize("make", [os.mkdir, make_pipe])
def test_path_that_is_no_file(make: Callable[[Path], None], tmp_path: Path) -> None:
    """Nobody waits for a pipe, and none is replaced."""
    path = tmp_path / "other"
    make(path)
    for use in (
        lambda: session_file.read(path, IDENTITY),
        lambda: session_file.write(path, IDENTITY, []),
    ):
        with pytest.raises(StateError, match="not a file"):
            use()
    assert not path.is_file()


def test_no_file(tmp_path: Path) -> None:
    """What one catches before the first run is Python's own error."""
    with pytest.raises(FileNotFoundError):
        session_file.read(tmp_path / "no", IDENTITY)


def test_a_missing_folder_is_made(tmp_path: Path) -> None:
    session_file.write(tmp_path / "new" / "talk.session", IDENTITY, [])
    assert session_file.read(tmp_path / "new" / "talk.session", IDENTITY) == []


# --- the engine ---

TALK = list(b"a talk that is longer than sixteen tokens, ")
OTHER = list(b"Other words, also more than there are to be shared, ")
THIRD = list(b"the third of them: just as long as it has to be, ")


def text_of(model: LocalModel, prompt: list[int], n: int = 8) -> list[int]:
    return model.complete([prompt], max_new_tokens=n)[0].token_ids


def cached(model: FakeModel) -> list[tuple[list[int], int | None, int]]:
    """All that there is to know of what a cache holds."""
    entries = engine_of(model).kv_cache.cached
    for entry in entries:
        assert entry.seq_id is not None
        assert model.backend.kv[entry.seq_id] == entry.token_ids.tolist()
    return [(entry.token_ids.tolist(), entry.seq_id, entry.is_pinned) for entry in entries]


def token_lists(model: FakeModel) -> list[list[int]]:
    return [tokens for tokens, _, _ in cached(model)]


@pytest.fixture
def talk(tmp_path: Path) -> Path:
    """A session of three texts, TALK the last."""
    model = fake_model()
    for prompt in (OTHER, THIRD, TALK):
        text_of(model, prompt)
    assert model.save_session(tmp_path / "talk") == 3
    return tmp_path / "talk"


def test_session_is_gone_on_from(talk: Path) -> None:
    """A prompt that begins with what was saved computes only what follows, and gives its text."""
    model = fake_model()
    assert model.load_session(talk) == 3
    for prompt in (OTHER, THIRD, TALK):
        longer = [*prompt, *reference_greedy(prompt, 8), *b" and on"]
        done = model.complete([longer], max_new_tokens=8)[0]
        assert done.stats.n_cached == len(prompt) + 7
        assert done.token_ids == reference_greedy(longer, 8)
    assert not engine_of(model).kv_cache.n_pinned


def test_pinned_is_saved_and_comes_back_unpinned(tmp_path: Path) -> None:
    """A prefix belongs to the process that asked for it; its tokens are in the session."""
    model = fake_model()
    model.prefill(TALK)
    assert model.save_session(tmp_path / "s") == 1
    other = fake_model()
    assert other.load_session(tmp_path / "s") == 1
    assert cached(other) == [(TALK, 0, 0)]


def test_empty_session(tmp_path: Path) -> None:
    """A model that has computed nothing has a session too."""
    model = fake_model()
    assert model.save_session(tmp_path / "s") == 0
    assert model.load_session(tmp_path / "s") == 0
    assert text_of(model, TALK) == reference_greedy(TALK, 8)


def test_order_of_use_is_kept(talk: Path) -> None:
    """What a session used last is forgotten last, and all of it after what was cached before: for
    that there are more slots where they fit."""
    before = list(b"something before, of some length as well")
    expected = [[*ids, *reference_greedy(ids, 7)] for ids in (before, OTHER, THIRD, TALK)]
    for max_sequences in (3, 4):
        model = fake_model(max_sequences=max_sequences)
        text_of(model, before)
        assert model.load_session(talk) == 3
        assert token_lists(model) == expected[-max_sequences:]


def test_slots_are_not_given_up(talk: Path) -> None:
    """A session takes the places of what was used least recently, and nothing else goes."""
    model = fake_model(max_sequences=6)
    model.complete([[65 + i] * 60 for i in range(6)], max_new_tokens=4)
    before = token_lists(model)
    assert model.load_session(talk) == 3
    assert token_lists(model)[:3] == before[3:]
    assert len(token_lists(model)) == 6


@pytest.mark.parametrize("limit", ["max_sequences", "budget"])
def test_more_than_fits(limit: str, talk: Path) -> None:
    """Protects the budget: what was used least recently is left out, and the count says so."""
    options: dict[str, Any] = (
        {"max_sequences": 2} if limit == "max_sequences" else {"budget": 2 * 64}
    )
    model = fake_model(**options)
    assert model.load_session(talk) == 2
    assert [tokens[:5] for tokens in token_lists(model)] == [THIRD[:5], TALK[:5]]
    assert text_of(model, OTHER) == reference_greedy(OTHER, 8)


def test_nothing_fits(talk: Path) -> None:
    """Not even the last one: an error that names its length, and the cache as it was."""
    model = fake_model(budget=32)
    text_of(model, list(b"a short one, that fits"))
    before = cached(model)
    with pytest.raises(StateError, match=f"{len(TALK) + 7} tokens"):
        model.load_session(talk)
    assert cached(model) == before


def test_longer_than_the_context(tmp_path: Path) -> None:
    """A sequence beyond n_ctx is left out; if it is the last, an error has both numbers."""
    model = fake_model()
    text_of(model, TALK * 3)
    text_of(model, OTHER)
    model.save_session(tmp_path / "first")
    text_of(model, THIRD * 3)
    model.save_session(tmp_path / "last")
    small = fake_model(n_ctx=100)
    assert small.load_session(tmp_path / "first") == 1
    with pytest.raises(StateError, match=f"{3 * len(THIRD) + 7} tokens and n_ctx is 100"):
        small.load_session(tmp_path / "last")
    assert [tokens[:5] for tokens in token_lists(small)] == [OTHER[:5]]


def test_pinned_stays(talk: Path) -> None:
    """A pinned prefix is never forgotten for a session, though it be used least recently."""
    model = fake_model(max_sequences=2)
    prefix = model.prefill("pinned, and longer than sixteen tokens")
    text_of(model, OTHER)
    assert model.load_session(talk) == 1
    assert prefix.is_cached
    assert len(cached(model)) == 2
    full = fake_model(max_sequences=1)
    pinned = full.prefill(THIRD)
    with pytest.raises(StateError, match="1 that run or are pinned"):
        full.load_session(talk)
    assert pinned.is_cached


@pytest.mark.parametrize("n_before", [0, 4])
def test_loaded_while_rows_run(n_before: int, talk: Path) -> None:
    """Protects running rows, in whatever slots they are when the KV cache is made anew: they go on
    with their own tokens."""
    model = fake_model(max_sequences=8)
    for i in range(n_before):
        text_of(model, [65 + i] * 20)
    prompts = [list(b"run %d, not at all like the others" % i) for i in range(2)]
    streams = [model.stream(prompt, max_new_tokens=40) for prompt in prompts]
    for _ in range(5):  # until both are decoding, which repeats its batch
        for stream in streams:
            next(stream)
    slots = [stream._call.sequences[0].seq_id for stream in streams]
    assert model.load_session(talk) == 3
    moved = [stream._call.sequences[0].seq_id for stream in streams] != slots
    assert moved == (n_before == 4)
    for prompt, stream in zip(prompts, streams, strict=True):
        for _ in stream:
            pass
        assert stream.completion.token_ids == reference_greedy(prompt, 40)
    done = model.complete([[*TALK, *reference_greedy(TALK, 8)]], max_new_tokens=4)[0]
    assert done.stats.n_cached == len(TALK) + 7


def running(model: LocalModel, prompts: list[list[int]]) -> list[CompletionStream]:
    """Streams of 20 tokens that are some tokens on their way."""
    streams = [model.stream(prompt, max_new_tokens=20) for prompt in prompts]
    for _ in range(5):
        for stream in streams:
            next(stream)
    return streams


def lose_all(backend: FakeBackend) -> None:
    backend.forget()
    backend.n_cache_resets += 1


@pytest.mark.parametrize("n_running", [1, 2])
def test_loss_while_rows_run(n_running: int, talk: Path) -> None:
    """Protects running rows where finishing the backend's copies loses the whole KV cache, whether
    it is made anew for the session or not."""
    model = fake_model(max_sequences=8)
    prompts = [[*OTHER, 65 + i] for i in range(n_running)]
    streams = running(model, prompts)
    backend: FakeBackend = model.backend
    n_made = backend.count("reserve")
    backend.flush_copies = lambda: lose_all(backend)  # type: ignore[method-assign]
    assert model.load_session(talk) == 3
    assert backend.n_cache_resets == 1
    assert (backend.count("reserve") > n_made) == (n_running == 2)
    for prompt, stream in zip(prompts, streams, strict=True):
        for _ in stream:
            pass
        assert stream.completion.token_ids == reference_greedy(prompt, 20)
    done = model.complete([[*TALK, *reference_greedy(TALK, 8)]], max_new_tokens=4)[0]
    assert done.stats.n_cached == len(TALK) + 7


def test_loss_while_saving(tmp_path: Path) -> None:
    """What was lost is not saved."""
    model = fake_model()
    text_of(model, TALK)
    model.backend.flush_copies = lambda: lose_all(model.backend)  # type: ignore[method-assign]
    assert model.save_session(tmp_path / "s") == 0


@pytest.mark.parametrize("options", [{}, {"max_sequences": 3}, {"budget": 300}], ids=str)
@pytest.mark.parametrize("which", [OTHER, TALK], ids=["first", "last"])
def test_refused_state(which: list[int], options: dict[str, Any], talk: Path) -> None:
    """Protects from half a session: what was there is there again, also what had made room."""
    model = fake_model(**options)
    for i in range(3):
        text_of(model, [65 + i] * 50)
    before = cached(model)
    model.backend.refuses_state = lambda tokens: tokens[:5] == which[:5]
    with pytest.raises(StateError, match="refused"):
        model.load_session(talk)
    assert [(t, n) for t, _, n in cached(model)] == [(t, n) for t, _, n in before]
    for prompt in (TALK, OTHER, [65] * 60):
        assert text_of(model, prompt) == reference_greedy(prompt, 8)


@pytest.mark.parametrize("error", [BackendError("no memory"), KeyboardInterrupt()], ids=repr)
def test_error_in_the_middle(error: BaseException, talk: Path) -> None:
    """Protects the model when making room fails: nothing is cached, and rows start afresh."""
    model = fake_model(max_sequences=8)
    prompts = [[*OTHER, 65], [*OTHER, 66]]
    streams = running(model, prompts)
    backend: FakeBackend = model.backend
    reserve = backend.reserve
    backend.reserve = fail(error)  # type: ignore[method-assign]
    with pytest.raises(type(error)):
        model.load_session(talk)
    backend.reserve = reserve  # type: ignore[method-assign]
    for prompt, stream in zip(prompts, streams, strict=True):
        for _ in stream:
            pass
        assert stream.completion.token_ids == reference_greedy(prompt, 20)
    assert text_of(model, TALK) == reference_greedy(TALK, 8)


def test_longer_prompt_keeps_several_sequences(tmp_path: Path) -> None:
    """Protects what a session brought when slots for a longer prompt are made: more than one of
    many stays."""
    model = fake_model(max_sequences=8)
    prompts = [[65 + i] * 20 for i in range(6)]
    model.complete(prompts, max_new_tokens=4)
    model.save_session(tmp_path / "s")
    other = fake_model(max_sequences=8)
    assert other.load_session(tmp_path / "s") == 6
    text_of(other, list(b"something much longer than all of those before it") * 2)
    assert len(cached(other)) == 4


def test_models_without_sessions(talk: Path) -> None:
    """The reason is said; a deterministic model would save what it never uses."""
    backend = FakeBackend()
    backend.not_saved_because = "it forgets"
    for model, reason in (
        (fake_model(backend=backend), "it forgets"),
        (fake_model(deterministic=True), "deterministic"),
    ):
        for use in (model.save_session, model.load_session):
            with pytest.raises(StateError, match=reason):
                use(talk)


def test_closed_model(talk: Path) -> None:
    """A closed model has no session, and the file stays."""
    before = talk.read_bytes()
    model = fake_model()
    model.close()
    for use in (model.save_session, model.load_session):
        with pytest.raises(ClosedError):
            use(talk)
    assert talk.read_bytes() == before


# --- llama.cpp ---

KINDS: dict[str, Callable[[Path], None]] = {
    "llama-bpe": make_llama_bpe,
    "llama-spm": make_llama_spm,
    "mamba": make_mamba,
}
OPTIONS: dict[str, Any] = {"n_ctx": 512, "n_threads": 1, "kv_type": "f32"}


def prompt_of(row: int, length: int) -> list[int]:
    """Byte tokens, which have the same ids in both vocabularies; another text for each row."""
    return [3 + (7 * i + 31 * row + i * i) % 250 for i in range(length)]


PROMPTS = [prompt_of(18, 40), prompt_of(13, 23), prompt_of(6, 60)]


@pytest.fixture(scope="module", params=list(KINDS))
def gguf(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of one architecture whose state can be saved."""
    path = tmp_path_factory.mktemp("sessions") / f"{request.param}.gguf"
    KINDS[request.param](path)
    return path


def load(path: Path, **options: Any) -> LocalModel:
    return LocalModel.from_pretrained(path, **{**OPTIONS, **options})


def greedy(model: LocalModel, prompts: list[list[int]], **options: Any) -> list[Any]:
    """Eight greedy tokens for each prompt, never the model's own end of text."""
    ends = list(model.tokenizer.eos_token_ids)
    options = {"max_new_tokens": 8, "suppress_tokens": ends, **options}
    return model.complete(prompts, do_sample=False, **options)


@pytest.mark.slow
def test_new_process_goes_on(gguf: Path, tmp_path: Path) -> None:
    """Protects the text: saved, loaded by a new model with more slots, and gone on from, it is that
    of the model that never stopped."""
    with load(gguf, max_sequences=3) as model:
        firsts = greedy(model, PROMPTS)
        assert model.save_session(tmp_path / "s") == 3
        longer = [[*row.prompt_token_ids, *row.token_ids, 40, 50] for row in firsts]
        expected = [greedy(model, [ids])[0].token_ids for ids in longer]
    with load(gguf, max_sequences=8) as other:
        greedy(other, [prompt_of(3, 30)])
        assert other.load_session(tmp_path / "s") == 3
        for ids, token_ids in zip(longer, expected, strict=True):
            (row,) = greedy(other, [ids])
            assert row.stats.n_cached == len(ids) - 3
            assert row.token_ids == token_ids


@pytest.mark.slow
def test_fewer_slots(gguf: Path, tmp_path: Path) -> None:
    """Protects sessions that move to a smaller model object: the sequence used last comes back."""
    with load(gguf) as model:
        greedy(model, PROMPTS)
        (last,) = greedy(model, [prompt_of(9, 33)])
        assert model.save_session(tmp_path / "s") == 4
        ids = [*last.prompt_token_ids, *last.token_ids, 40]
        expected = greedy(model, [ids])[0].token_ids
    with load(gguf, max_sequences=1) as other:
        assert other.load_session(tmp_path / "s") == 1
        (row,) = greedy(other, [ids])
        assert row.stats.n_cached == len(ids) - 2
        assert row.token_ids == expected


@pytest.mark.slow
def test_copies_that_no_pass_has_made_yet(gguf: Path, tmp_path: Path) -> None:
    """Protects samples that ended with their first token: llama.cpp copies their data at the next
    pass, and there was none."""
    with load(gguf, max_sequences=3) as model:
        expected = greedy(model, [[*PROMPTS[0], 40]])[0].token_ids
    with load(gguf, max_sequences=3) as model:
        model.complete(PROMPTS[:1], max_new_tokens=1, num_return_sequences=3, do_sample=True)
        assert model.save_session(tmp_path / "s") == 3
        assert greedy(model, [[*PROMPTS[0], 40]])[0].token_ids == expected
    with load(gguf, max_sequences=3) as other:
        assert other.load_session(tmp_path / "s") == 3
        rows = greedy(other, [[*PROMPTS[0], 40]] * 3)
        assert [row.token_ids for row in rows] == [expected] * 3


@pytest.mark.slow
def test_loaded_between_two_tokens(gguf: Path, tmp_path: Path) -> None:
    """Protects texts that are being generated when a session is loaded beside them."""
    with load(gguf) as model:
        (last,) = greedy(model, PROMPTS[:1])
        model.save_session(tmp_path / "s")
        expected = [row.token_ids for row in greedy(model, PROMPTS[1:], max_new_tokens=24)]
    with load(gguf) as model:
        options: dict[str, Any] = {
            "max_new_tokens": 24,
            "suppress_tokens": list(model.tokenizer.eos_token_ids),
        }
        streams = [model.stream(ids, **options) for ids in PROMPTS[1:]]
        for _ in range(3):
            for stream in streams:
                next(stream)
        assert model.load_session(tmp_path / "s") == 1
        for stream, token_ids in zip(streams, expected, strict=True):
            for _ in stream:
                pass
            assert stream.completion.token_ids == token_ids
        ids = [*last.prompt_token_ids, *last.token_ids]
        assert greedy(model, [ids])[0].stats.n_cached == len(ids) - 1


@pytest.mark.slow
def test_other_models_and_settings(gguf: Path, tmp_path: Path) -> None:
    """Protects from numbers of another model, which llama.cpp would take: it says what differs."""
    with load(gguf) as model:
        greedy(model, PROMPTS[:1])
        model.save_session(tmp_path / "s")
    other = tmp_path / "other.gguf"
    data = bytearray(gguf.read_bytes())
    data[-1] ^= 1  # a weight
    other.write_bytes(data)
    copy = tmp_path / "copy.gguf"
    copy.write_bytes(gguf.read_bytes())
    for path, options, words in (
        (other, {}, "fingerprint"),
        (gguf, {"kv_type": "f16"}, "kv_type is f32, here it is f16"),
        (gguf, {"flash_attention": "on"}, "flash_attention is off, here it is on"),
    ):
        with load(path, **options) as model, pytest.raises(StateError, match=words):
            model.load_session(tmp_path / "s")
    with load(copy, n_threads=2, n_ctx=256, n_batch=64) as model:
        assert model.load_session(tmp_path / "s") == 1


@pytest.mark.slow
def test_other_version_of_llama_cpp(
    gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Protects from another version's bytes, which may mean something else."""
    with monkeypatch.context() as patch, load(gguf) as model:
        patch.setattr("localgen.llama.backend.llama_version", lambda: "0.0.1")
        model.save_session(tmp_path / "s")
    with load(gguf) as model, pytest.raises(StateError, match=r"llama\.cpp is 0\.0\.1, here it is"):
        model.load_session(tmp_path / "s")


@pytest.mark.slow
def test_state_that_llama_cpp_refuses(gguf: Path, tmp_path: Path) -> None:
    """Protects the cache and the next text when C itself says no to bytes of the right checksum."""
    with load(gguf) as model:
        firsts = greedy(model, PROMPTS)
        longer = [[*row.prompt_token_ids, *row.token_ids] for row in firsts]
        expected = [greedy(model, [ids])[0].token_ids for ids in longer]
    with load(gguf) as model:
        greedy(model, PROMPTS)
        saved = engine_of(model).kv_cache.save()
        before = [(e.token_ids.tolist(), e.last_used) for e in engine_of(model).kv_cache.cached]
        bad = [Saved(saved[0].token_ids, saved[0].state[:-9])]
        bad += [Saved(saved[0].token_ids[:-1], saved[0].state)]
        for each in bad:
            session_file.write(tmp_path / "s", backend_of(model).state_identity, [saved[1], each])
            with pytest.raises(StateError, match="refused"):
                model.load_session(tmp_path / "s")
            entries = engine_of(model).kv_cache.cached
            assert [(e.token_ids.tolist(), e.last_used) for e in entries] == before
        rows = [greedy(model, [ids])[0] for ids in longer]
        assert [row.stats.n_cached for row in rows] == [len(ids) - 1 for ids in longer]
        assert [row.token_ids for row in rows] == expected


@pytest.mark.slow
def test_sliding_window_has_no_session(tmp_path: Path) -> None:
    """llama.cpp saves only the window's end, so that the sequence could never be cut again."""
    make_gemma_swa(tmp_path / "gemma.gguf")
    with load(tmp_path / "gemma.gguf") as model:
        greedy(model, PROMPTS[:1])
        for use in (model.save_session, model.load_session):
            with pytest.raises(StateError, match="sliding window"):
                use(tmp_path / "s")
    assert not (tmp_path / "s").exists()


@pytest.mark.slow
def test_hybrid_model_has_no_session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its bytes fit only a context with as many slots: that is said before a file is there."""
    make_llama_bpe(tmp_path / "tiny.gguf")
    monkeypatch.setattr(llama(), "llama_model_is_hybrid", lambda _: True)
    with load(tmp_path / "tiny.gguf") as model, pytest.raises(StateError, match="recurrent"):
        model.save_session(tmp_path / "s")


@pytest.mark.slow
def test_model_file_that_is_gone(tmp_path: Path) -> None:
    """A missing model is not taken for a missing session."""
    path = tmp_path / "tiny.gguf"
    make_llama_bpe(path)
    with load(path) as model:
        path.unlink()
        with pytest.raises(ModelFileError, match=r"tiny\.gguf"):
            model.load_session(tmp_path / "s")


@pytest.mark.slow
@pytest.mark.parametrize("flash_attention", ["auto", "on"])
def test_a_quantized_kv_cache_is_saved_and_loaded(
    flash_attention: str, path: Path, tmp_path: Path
) -> None:
    """Regression: with flash attention asked for, its bytes were refused as not understood."""
    model_path = tmp_path / "model.gguf"
    make_llama_bpe(model_path)
    options: dict[str, Any] = {
        "n_ctx": 512, "n_threads": 1, "kv_type": "q8_0", "flash_attention": flash_attention,
    }  # fmt: skip
    for saves in (True, False):
        with LocalModel.from_pretrained(model_path, **options) as model:
            if not saves:
                assert model.load_session(path) == 1
            done = model.complete([list(range(40, 80))], max_new_tokens=4, eos_token_id=[])[0]
            if saves:
                model.save_session(path)
    assert done.stats.n_cached == 39
