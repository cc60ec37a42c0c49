"""Arrays of strings: the fast search finds the same as a walk, in good and bad files."""

from __future__ import annotations

import random
import struct
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFWriter

from localgen import InvalidGGUFError
from localgen.gguf import cursor, strings
from localgen.gguf.gate import check_model
from localgen.gguf.reader import read_gguf_from
from localgen.gguf.strings import Strings, string_ends

RNG = random.Random(5)


def words(n_strings: int, shortest: int, longest: int, alphabet: bytes = b"abcdef") -> list[bytes]:
    return [
        bytes(RNG.choices(alphabet, k=RNG.randint(shortest, longest))) for _ in range(n_strings)
    ]


ARRAYS: dict[str, list[bytes]] = {
    "none": [],
    "one": [b"a"],
    "one that is empty": [b""],
    "usual": words(3000, 1, 20),
    "an empty one": [*words(400, 1, 9), b"", *words(400, 1, 9)],
    "many empty": words(2000, 0, 2),
    "empty alone": [b""] * 1500,
    "a NUL": [*words(300, 1, 9), b"a\0b", *words(300, 1, 9)],
    "NULs": words(2000, 0, 24, b"\0\0\0a"),
    "NULs alone": [bytes(n % 40) for n in range(900)],
    "lengths as text": [struct.pack("<Q", n % 9) * (n % 3) for n in range(900)],
    "255 and 256": [*words(50, 250, 260), *words(50, 1, 5), *words(50, 250, 260)],
    "very long": [*words(20, 1, 9), b"x" * 70_000, *words(20, 1, 9), bytes(70_000)],
    "longer than a window": [b"y" * (strings._WINDOW_BYTES + 9), *words(20, 1, 9)],
    "more than a window": words(40_000, 1, 20),
}


def packed(texts: list[bytes]) -> bytes:
    return b"".join(struct.pack("<Q", len(text)) + text for text in texts)


def walked_ends(buffer: bytes, at: int, n_strings: int) -> list[int]:
    """The oracle: one string after another."""
    ends: list[int] = []
    while len(ends) < n_strings and at + 8 <= len(buffer):
        at += 8 + int.from_bytes(buffer[at : at + 8], "little")
        if at > len(buffer):
            break
        ends.append(at)
    return ends


def all_ends(buffer: bytes, at: int, n_strings: int) -> list[int]:
    """What ``string_ends`` finds, called again until it finds no more."""
    ends: list[int] = []
    while len(ends) < n_strings:
        found = string_ends(buffer, ends[-1] if ends else at, n_strings - len(ends)).tolist()
        if not found:
            break
        ends += found
    return ends


@pytest.mark.parametrize("kind", ARRAYS)
def test_ends_are_those_of_a_walk(kind: str) -> None:
    """Whatever surrounds the array, and however many of its strings are requested."""
    texts = ARRAYS[kind]
    for before, after in ((b"", b""), (b"\5\0\0", bytes(64)), (bytes(9), b"\1" * 9)):
        buffer = before + packed(texts) + after
        for n_strings in (len(texts), len(texts) // 2, len(texts) + 3):
            expected = walked_ends(buffer, len(before), n_strings)
            assert all_ends(buffer, len(before), n_strings) == expected


@pytest.mark.slow
@pytest.mark.parametrize("kind", ARRAYS)
def test_a_cut_buffer(kind: str) -> None:
    """Incomplete strings are not found; all strings before them are."""
    buffer = packed(ARRAYS[kind])
    for cut in {*range(min(40, len(buffer))), *RNG.choices(range(len(buffer) + 1), k=20)}:
        found = all_ends(buffer[:-cut], 0, len(ARRAYS[kind])) if cut else []
        assert found == (walked_ends(buffer[:-cut], 0, len(ARRAYS[kind])) if cut else [])


@pytest.mark.parametrize("length", [2**63, 2**64 - 1, 2**40, 300])
def test_a_length_that_is_wrong(length: int) -> None:
    """The search stops before a string whose length is impossible, even as an address."""
    good = packed(words(100, 1, 9))
    buffer = good + struct.pack("<Q", length) + b"abc"
    assert all_ends(buffer, 0, 200) == walked_ends(good, 0, 200)


@pytest.mark.parametrize("kind", ARRAYS)
def test_strings_are_as_a_list(kind: str) -> None:
    """Length, items and equality, also for an array read in two parts."""
    texts = ARRAYS[kind]
    data = packed(texts)
    ends = np.array(walked_ends(data, 0, len(texts)), np.int64)
    whole = Strings([(data, ends)])
    assert len(whole) == len(texts)
    assert list(whole) == texts
    assert [whole[index] for index in range(len(texts))] == texts
    half = len(texts) // 2
    cut = int(ends[half - 1]) if half else 0
    parts = Strings([(data[:cut], ends[:half]), (data[cut:], ends[half:] - cut)])
    assert list(parts) == texts
    assert parts == whole
    assert whole != Strings([(packed([*texts, b"z"]), np.append(ends, len(data) + 9))])
    assert whole.has_nul == any(b"\0" in text for text in texts)
    assert whole.of_lengths(1, 6) == {text for text in texts if len(text) in (1, 6)}


def strings_of(texts: list[bytes]) -> Strings:
    data = packed(texts)
    return Strings([(data, np.array(walked_ends(data, 0, len(texts)), np.int64))])


def test_different_strings_do_not_seem_alike() -> None:
    """The hashes of a large vocabulary of similar strings differ."""
    numbers = [b"%d" % n for n in range(50_000)]
    spaces = [b" " * n for n in range(200)]
    tails = [b"0123456789abcdef" * n + bytes([m]) for n in range(4) for m in range(128, 256)]
    heads = [bytes([m]) + b"0123456789abcdef" * 3 for m in range(1, 256)]
    different = [*numbers, *spaces, *tails, *heads]
    assert len(set(different)) == len(different)
    assert not strings_of(different).may_repeat()


@pytest.mark.parametrize("length", [1, 7, 8, 9, 16, 63, 64, 65, 300])
def test_a_repeated_string_is_seen(length: int) -> None:
    """Whatever its length, and wherever the two are in the vocabulary."""
    text = b"q" * length
    others = [b"%d" % n for n in range(500)]
    assert strings_of([*others, text, b"end", text]).may_repeat()
    assert not strings_of([*others, text, b"end", text + b"r", b"", b""]).may_repeat()


def test_hashes_that_agree_by_chance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hash collision refuses nothing: the strings themselves decide."""
    path = tmp_path / "a.gguf"
    write_tokens(path, ["a", "b", "c"])
    monkeypatch.setattr(Strings, "may_repeat", lambda self: True)
    assert list(check_model(path).shards[0].tokens) == [b"a", b"b", b"c"]


# --- in files ---


def write_tokens(path: Path, tokens: list[str]) -> None:
    writer = GGUFWriter(path, "llama")
    writer.add_block_count(1)
    writer.add_token_list(tokens)
    writer.add_array("tokenizer.ggml.merges", [f"{token} x" for token in tokens[:700]])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def outcome(path: Path, chunk_bytes: int) -> list[bytes] | str:
    """The tokens, or the reason and the byte."""
    try:
        with path.open("rb", buffering=0) as file:
            size = path.stat().st_size
            return list(read_gguf_from(file, path, size, chunk_bytes=chunk_bytes).tokens)
    except InvalidGGUFError as error:
        return str(error)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [kind for kind in ARRAYS if kind not in ("none", "NULs alone")])
def test_files_are_read_and_refused_as_by_a_walk(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole, cut, and with one byte changed: the same tokens or the same reason."""
    path = tmp_path / "a.gguf"
    write_tokens(path, [text.decode() for text in ARRAYS[kind]])
    good = path.read_bytes()
    files = [good, *(good[:cut] for cut in RNG.choices(range(30, len(good)), k=8))]
    for at in RNG.choices(range(30, len(good)), k=8):
        files.append(good[:at] + bytes([good[at] ^ 1 << RNG.randrange(8)]) + good[at + 1 :])
    for chunk_bytes in (2**16, 1000):
        for data in files:
            path.write_bytes(data)
            found = outcome(path, chunk_bytes)
            with monkeypatch.context() as patch:
                patch.setattr(
                    cursor, "string_ends", lambda *given: np.array(walked_ends(*given), np.int64)
                )
                assert outcome(path, chunk_bytes) == found
