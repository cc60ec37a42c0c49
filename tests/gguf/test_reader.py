"""The reader and the gate: what they read in good files, and why they refuse bad ones."""

from __future__ import annotations

import io
import socket
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFReader, GGUFWriter

from localgen import InvalidGGUFError, LocalModel, ModelNotFoundError
from localgen.gguf import cursor
from localgen.gguf.gate import check_model, shard_paths
from localgen.gguf.reader import Array, read_gguf, read_gguf_from
from localgen.gguf.tensor_types import TENSOR_TYPES
from models.make_tiny import make_gemma_swa, make_llama_bpe, make_llama_spm, make_mamba
from tests.hostile.mutations import fields_of
from tests.shards import write_shards
from tests.systems import make_pipe

MAKERS = [make_llama_bpe, make_llama_spm, make_gemma_swa, make_mamba]


@pytest.fixture(params=MAKERS, ids=lambda make: make.__name__)
def good(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "good.gguf"
    request.param(path)
    return path


# --- what is read ---


def test_the_same_as_the_packages_reader(good: Path) -> None:
    """Metadata, tensors and their places are the same as in the gguf package's reader."""
    file, other = read_gguf(good), GGUFReader(good)
    keys = {key for key in other.fields if not key.startswith("GGUF.")}
    assert set(file.metadata) == keys
    for key, value in file.metadata.items():
        expected = other.fields[key].contents()
        if not isinstance(value, Array):
            assert value == expected, key
        else:
            assert value.length == len(expected)
            if value.values is not None:
                assert value.values.tolist() == expected
    for tensor, theirs in zip(file.tensors, other.tensors, strict=True):
        assert tensor.name == theirs.name
        assert list(tensor.shape) == theirs.shape.tolist()
        assert tensor.n_values == theirs.n_elements
        assert file.data_offset + tensor.offset == theirs.data_offset
        assert tensor.n_bytes == theirs.n_bytes
    tokens = other.fields["tokenizer.ggml.tokens"].contents()
    assert [token.decode() for token in file.tokens] == tokens


def test_types_of_tensors() -> None:
    """Block and byte sizes are ggml's, for every type that both lists have."""
    known = {int(kind): sizes for kind, sizes in GGML_QUANT_SIZES.items()}
    shared = known.keys() & TENSOR_TYPES.keys()
    assert len(shared) > 25
    for number in shared:
        kind = TENSOR_TYPES[number]
        assert (kind.block, kind.n_bytes) == known[number]
        assert kind.name == GGMLQuantizationType(number).name


def test_small_reads_and_large(good: Path) -> None:
    """The result does not depend on where one read ends and the next starts."""
    whole = read_gguf(good)
    for n_bytes in (1, 13, 4096):
        with good.open("rb", buffering=0) as file:
            pieces = read_gguf_from(file, good, good.stat().st_size, chunk_bytes=n_bytes)
        assert pieces.tokens == whole.tokens
        assert pieces.tensors == whole.tensors
        assert pieces.metadata.keys() == whole.metadata.keys()


# --- what is refused ---


def test_the_reason_and_the_byte(tiny_bpe_path: Path, tmp_path: Path) -> None:
    """An error says what is wrong, and where."""
    data = bytearray(tiny_bpe_path.read_bytes())
    field = next(f for f in fields_of(bytes(data)) if f.name == "token_embd.weight type")
    data[field.start : field.start + 4] = struct.pack("<I", 77)
    path = tmp_path / "bad.gguf"
    path.write_bytes(data)
    with pytest.raises(InvalidGGUFError) as caught:
        read_gguf(path)
    reason = (
        "token_embd.weight has the unknown tensor type 77: a newer llama.cpp or a fork wrote it; "
        f"quantize the original model again, or update llama-cpp-python (byte {field.start})"
    )
    assert str(caught.value) == f"{path} is not a valid model file: {reason}"


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (4, "Q4_2, which llama.cpp removed in 2023; quantize the original model again"),
        (5, "Q4_3, which llama.cpp removed"),
        (9, "Q8_1, which is for activations only; quantize"),
        (15, "Q8_K, which is for activations only"),
        (31, "Q4_0_4_4, which llama.cpp removed, since it repacks Q4_0 at load; use Q4_0, or qu"),
        (32, "Q4_0_4_8, which llama.cpp removed"),
        (33, "Q4_0_8_8, which llama.cpp removed"),
        (36, r"IQ4_NL_4_4, .* repacks IQ4_NL at load \(or bitnet.cpp's I2_S, which only bitn"),
        (37, "IQ4_NL_4_8, which llama.cpp removed"),
        (38, "IQ4_NL_8_8, which llama.cpp removed"),
        (137, "IQ2_K, which only ik_llama.cpp reads; use it, or quantize the original model again"),
        (212, "Q4_K with interleaved rows, which only ik_llama.cpp reads"),
        (339, "IQ4_K with interleaved rows, which only ik_llama.cpp reads"),
    ],
)
def test_types_that_no_file_should_have(
    number: int, reason: str, tiny_bpe_path: Path, tmp_path: Path
) -> None:
    """The name of the type, what it was, and what to do."""
    data = bytearray(tiny_bpe_path.read_bytes())
    field = next(f for f in fields_of(bytes(data)) if f.name == "token_embd.weight type")
    data[field.start : field.start + 4] = struct.pack("<I", number)
    path = tmp_path / "bad.gguf"
    path.write_bytes(data)
    with pytest.raises(InvalidGGUFError, match=f"unknown tensor type {number}: {reason}"):
        read_gguf(path)


def text(key: bytes, value: bytes) -> bytes:
    """A metadata pair of two strings."""
    return b"".join((struct.pack("<Q", len(key)), key, struct.pack("<IQ", 8, len(value)), value))


@pytest.mark.parametrize("key", ["general.description", "general.author", "llama.note"])
def test_text_that_is_only_shown_may_be_no_utf8(key: str, tmp_path: Path) -> None:
    """llama.cpp loads it; a byte of Latin-1 is shown as a replacement character."""
    pairs = [text(key.encode(), b"caf\xe9"), text(b"sch\xf6n", b"1"), text(b"sch\xfcn", b"2")]
    path = tmp_path / "latin.gguf"
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, len(pairs)) + b"".join(pairs))
    found = read_gguf(path).metadata
    assert found == {key: "caf\ufffd", r"sch\xf6n": "1", r"sch\xfcn": "2"}


@pytest.mark.parametrize(
    "key", ["general.architecture", "tokenizer.chat_template", "tokenizer.ggml.pre"]
)
def test_text_that_is_computed_with_is_utf8(key: str, tmp_path: Path) -> None:
    path = tmp_path / "latin.gguf"
    pair = text(key.encode(), b"caf\xe9")
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + pair)
    with pytest.raises(InvalidGGUFError, match=f"{key} is not UTF-8"):
        read_gguf(path)


def test_pipes_and_devices(tmp_path: Path) -> None:
    """Regression: opening a pipe waited forever for somebody to write."""
    make_pipe(tmp_path / "pipe.gguf")
    for path, kind in ((tmp_path / "pipe.gguf", "pipe"), (Path("/dev/null"), "device")):
        with pytest.raises(InvalidGGUFError, match=f"{path} is a {kind}, and llama.cpp maps"):
            read_gguf(path)
    if sys.platform != "win32":
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(tmp_path / "s.gguf"))
            with pytest.raises(InvalidGGUFError, match="is a socket"):
                read_gguf(tmp_path / "s.gguf")


def writer(path: Path, n_layers: int = 1, architecture: str = "llama") -> GGUFWriter:
    """A file without tensors that passes the gate, unless a change breaks it."""
    made = GGUFWriter(path, architecture)
    made.add_block_count(n_layers)
    return made


def finish(made: GGUFWriter) -> None:
    made.write_header_to_file()
    made.write_kv_data_to_file()
    made.write_tensors_to_file()
    made.close()


Change = Callable[[GGUFWriter], Any]
TOKENS: Change = lambda w: w.add_token_list(["a", "b"])  # noqa: E731
REFUSED: dict[str, tuple[list[Change], str]] = {
    "no vocabulary": ([], "no vocabulary"),
    "numbers as tokens": (
        [lambda w: w.add_array("tokenizer.ggml.tokens", [1, 2])],
        "must be a list of strings",
    ),
    "a token twice": ([lambda w: w.add_token_list(["a", "b", "a"])], "token 2, b'a'"),
    "twice for C": ([lambda w: w.add_token_list(["a\0b", "a\0c"])], "appears twice"),
    "scores of another type": (
        [TOKENS, lambda w: w.add_array("tokenizer.ggml.scores", [True, False])],
        "scores must be a list of f32 or i32",
    ),
    "too few scores": ([TOKENS, lambda w: w.add_token_scores([0.5])], "has 1 items for 2 tokens"),
    "too many types": (
        [TOKENS, lambda w: w.add_token_types([1, 1, 1])],
        "has 3 items for 2 tokens",
    ),
    "merges of numbers": (
        [TOKENS, lambda w: w.add_array("tokenizer.ggml.merges", [1])],
        "merges must be a list of strings",
    ),
    "no byte tokens": ([TOKENS, lambda w: w.add_tokenizer_model("llama")], "256 byte tokens"),
    "one of several shards": (
        [TOKENS, lambda w: w.add_uint16("split.count", 3)],
        "NAME-00001-of-00003",
    ),
    "a number of shards as text": (
        [TOKENS, lambda w: w.add_string("split.count", "3")],
        r"split\.count must be an integer, got '3'",
    ),
    "a type that is no text": (
        [TOKENS, lambda w: w.add_uint32("tokenizer.ggml.model", 3)],
        r"tokenizer\.ggml\.model must be a string, got 3",
    ),
}


def pair(key: str, kind: int, value: bytes) -> bytes:
    """A metadata pair as it is in a file; ``kind`` is the number of its type."""
    return struct.pack("<Q", len(key)) + key.encode() + struct.pack("<I", kind) + value


ONE = struct.pack("<I", 1)
TENSOR = struct.pack("<Q1sIQIQ", 1, b"t", 1, 32, 0, 0)
INVALID: dict[str, tuple[list[bytes], list[bytes], str]] = {
    "a key twice": ([pair("a", 4, ONE), pair("a", 4, ONE)], [], "the metadata key 'a' appears twi"),
    "an odd alignment": (
        [pair("general.alignment", 4, struct.pack("<I", 24))],
        [],
        "must be a power of two as u32, got 24",
    ),
    "an alignment of another type": (
        [pair("general.alignment", 5, ONE)],
        [],
        "must be a power of two as u32, got 1",
    ),
    "a tensor twice": ([], [TENSOR, TENSOR], "the tensor 't' appears twice"),
}


@pytest.mark.parametrize("kind", INVALID)
def test_invalid_structure(kind: str, tmp_path: Path) -> None:
    """What no writer writes is refused with a reason."""
    pairs, tensors, reason = INVALID[kind]
    path = tmp_path / "bad.gguf"
    header = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(pairs))
    path.write_bytes(header + b"".join([*pairs, *tensors]) + bytes(512))
    with pytest.raises(InvalidGGUFError, match=reason):
        read_gguf(path)


def test_file_that_becomes_shorter(tiny_bpe_path: Path) -> None:
    """The size was taken before; reading ends with an error, not in a loop."""
    data = tiny_bpe_path.read_bytes()[:1000]
    with pytest.raises(InvalidGGUFError, match="the file became shorter while"):
        read_gguf_from(io.BytesIO(data), tiny_bpe_path, 10**6)


def test_metadata_of_more_bytes_than_the_limit(
    tiny_bpe_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file cannot make the reader fill the memory."""
    monkeypatch.setattr(cursor, "_MAX_METADATA_BYTES", 100)
    size = tiny_bpe_path.stat().st_size
    reason = "exceeds the limit of 100 bytes for all metadata"
    with tiny_bpe_path.open("rb") as file, pytest.raises(InvalidGGUFError, match=reason):
        read_gguf_from(file, tiny_bpe_path, size, chunk_bytes=1)


def test_file_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says why."""

    def refuse(*_: Any, **__: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    (tmp_path / "a.gguf").touch()
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(InvalidGGUFError, match=r"a\.gguf cannot be read: Permission denied"):
        read_gguf(tmp_path / "a.gguf")


@pytest.mark.parametrize("kind", REFUSED)
def test_refused_content(kind: str, tmp_path: Path) -> None:
    """What llama.cpp asserts or takes for granted is refused with a reason."""
    changes, reason = REFUSED[kind]
    path = tmp_path / "bad.gguf"
    made = writer(path)
    for change in changes:
        change(made)
    finish(made)
    with pytest.raises(InvalidGGUFError, match=reason):
        check_model(path)


@pytest.mark.parametrize("head_size", [0, 16, 32, 65])
def test_refused_heads_of_rwkv(head_size: int, tmp_path: Path) -> None:
    """ggml's RWKV kernels step over a head by 64 values, beyond the end of a smaller one."""
    made = writer(tmp_path / "bad.gguf")
    TOKENS(made)
    made.add_uint32("llama.wkv.head_size", head_size)
    finish(made)
    with pytest.raises(InvalidGGUFError, match=f"multiple of 64, got {head_size}"):
        check_model(tmp_path / "bad.gguf")


def test_refused_groups_of_plamo2(tmp_path: Path) -> None:
    """llama.cpp asserts that there are none."""
    made = writer(tmp_path / "bad.gguf", architecture="plamo2")
    TOKENS(made)
    made.add_uint32("plamo2.ssm.group_count", 1)
    finish(made)
    with pytest.raises(InvalidGGUFError, match="group_count must be 0"):
        check_model(tmp_path / "bad.gguf")


@pytest.mark.parametrize("n_layers", [0, 513, 2**31])
def test_refused_layers(n_layers: int, tmp_path: Path) -> None:
    """llama.cpp has arrays of 512 layers."""
    made = writer(tmp_path / "bad.gguf", n_layers)
    TOKENS(made)
    finish(made)
    with pytest.raises(InvalidGGUFError, match="block_count"):
        check_model(tmp_path / "bad.gguf")


def test_empty_tokens_are_different(tmp_path: Path) -> None:
    """llama.cpp gives empty tokens distinct names, so there may be several."""
    made = writer(tmp_path / "good.gguf")
    made.add_token_list(["", "a", ""])
    finish(made)
    tokens = check_model(tmp_path / "good.gguf").shards[0].tokens
    assert list(tokens) == [b"", b"a", b""]


# --- split files ---


def test_names_of_shards(tmp_path: Path) -> None:
    """The names of other shards derive from the given one, in the same folder."""
    names = [f"m-0000{i}-of-00003.gguf" for i in (1, 2, 3)]
    assert [path.name for path in shard_paths(tmp_path / names[1])] == names
    assert shard_paths(tmp_path / "m-00001-of-00001.gguf") == [tmp_path / "m-00001-of-00001.gguf"]
    assert shard_paths(tmp_path / "model.gguf") == [tmp_path / "model.gguf"]
    for wrong in ("m-00004-of-00003.gguf", "m-00000-of-00003.gguf"):
        with pytest.raises(InvalidGGUFError, match="of 3 shards"):
            shard_paths(tmp_path / wrong)


@pytest.fixture
def split(tiny_bpe_path: Path, tmp_path: Path) -> list[Path]:
    """The tiny model in two files."""
    return write_shards(tiny_bpe_path, tmp_path)


def test_a_split_model_loads(split: list[Path], tiny: LocalModel) -> None:
    """Any of its files loads the whole model, with the same output."""
    expected = tiny.generate([[40, 60]], max_new_tokens=4).tolist()
    for path in split:
        with LocalModel.from_pretrained(path, n_ctx=512, n_threads=1) as model:
            assert model.generate([[40, 60]], max_new_tokens=4).tolist() == expected


@pytest.mark.slow
def test_a_split_model_without_a_part(split: list[Path]) -> None:
    """The error names the missing file."""
    split[1].unlink()
    with pytest.raises(ModelNotFoundError, match="00002-of-00002"):
        LocalModel.from_pretrained(split[0])


@pytest.mark.slow
def test_a_split_model_with_a_part_twice(split: list[Path]) -> None:
    """A shard that states another number is refused."""
    split[1].write_bytes(split[0].read_bytes())
    with pytest.raises(InvalidGGUFError, match=r"split\.no is 0"):
        LocalModel.from_pretrained(split[0])


@pytest.mark.parametrize(
    ("count", "tensors", "reason"),
    [
        (3, ("a", "b"), r"split\.count is 3; the file's name says 2, as u16"),
        (2, ("a", "a"), "the tensor 'a' is also in another shard"),
    ],
)
def test_shards_that_do_not_belong_together(
    count: int, tensors: tuple[str, str], reason: str, tmp_path: Path
) -> None:
    """What the second shard says is refused: another number of shards, or a tensor again."""
    for number, name in enumerate(tensors):
        made = writer(tmp_path / f"a-0000{number + 1}-of-00002.gguf")
        TOKENS(made)
        made.add_uint16("split.no", number)
        made.add_uint16("split.count", count if number else 2)
        made.add_int32("split.tensors.count", 2)
        made.add_tensor(name, np.zeros((32, 1), np.float32))
        finish(made)
    with pytest.raises(InvalidGGUFError, match=reason):
        check_model(tmp_path / "a-00001-of-00002.gguf")
