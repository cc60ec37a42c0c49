"""Reference packs: a reference's predictions for a text, in a file that is checked when it is read.

A pack is an uncompressed ZIP archive: ``pack.json`` says what it was made from, ``tokens.npy`` has
the text as token ids (n_chunks, n_ctx), and ``rows-0.npy``, … the predictions of a chunk's second
half each, as ``packed_rows.packed_type`` has them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import json
import math
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from localgen._util.atomic_write import atomic_write
from localgen._util.checks import check_int
from localgen._util.json_text import read_json
from localgen._util.typed_fields import check_fields
from localgen.compare.divergence import GreedyText
from localgen.compare.levels import sha256
from localgen.compare.packed_rows import Packed, are_possible, packed_type
from localgen.engine.backend import TokenIds
from localgen.errors import CompareError
from localgen.gguf.gate import ModelFile

VERSION = 1
_ABOUT, _TOKENS = "pack.json", "tokens.npy"
_MOST_BYTES_ABOUT = 2**24
_MOST_BYTES = 2**50  # of a model
_MOST_BYTES_NPY_HEADER = 2**12
_CORRUPT = (
    zipfile.BadZipFile, zlib.error, KeyError, TypeError, ValueError, EOFError, MemoryError,
    OverflowError, RuntimeError, struct.error, tokenize.TokenError,
)  # fmt: skip
# The values that a pack may have.
_RANGES = (
    ("n_vocab", 1, 2**24),
    ("n_ctx", 8, 2**20),
    ("n_chunks", 1, 2**24),
    ("n_top", 1, 2**24),
    ("n_samples", 1, 2**24),
)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PackedModel:
    """The reference of a pack; the fields are those of its LevelResult."""

    name: str
    kv_type: str
    file: str | None
    sha256: str | None
    file_bytes: int | None
    bits_per_weight: float | None
    flash_attention: str | None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What a pack was made from.

    text_sha256: of the whole text. tokenizer_sha256: see ``tokenizer_sha256``. n_top, n_samples:
    see ``packed_rows``. made_with: versions and the machine. texts: the reference's greedy texts.
    """

    reference: PackedModel
    text_sha256: str
    tokenizer_sha256: str
    n_vocab: int
    n_ctx: int
    n_chunks: int
    n_top: int
    n_samples: int
    made_with: dict[str, Any]
    texts: tuple[GreedyText, ...]

    @property
    def n_scored(self) -> int:
        """How many tokens of a chunk are scored."""
        return self.n_ctx - 1 - self.n_ctx // 2

    @property
    def dtype(self) -> np.dtype[np.void]:
        return packed_type(self.n_vocab, self.n_top, self.n_samples)


def tokenizer_sha256(file: ModelFile) -> str:
    """Return a hash of a model's tokens in their order: what a token id means."""
    digest = hashlib.sha256()
    for token in file.shards[0].tokens:
        digest.update(len(token).to_bytes(4, "little") + token)
    return digest.hexdigest()


def write_pack(path: Path, about: About, parts: Sequence[TokenIds], rows: Iterable[Packed]) -> None:
    """Write a pack, one chunk of ``rows`` after another, completely or not at all."""
    with atomic_write(path) as file, zipfile.ZipFile(file, "w") as archive:
        said = {"version": VERSION, **dataclasses.asdict(about)}
        archive.writestr(zipfile.ZipInfo(_ABOUT), json.dumps(said, indent=1))
        _write_array(archive, _TOKENS, np.stack(parts).astype("<i4"))
        for number, chunk in enumerate(rows):
            _write_array(archive, _rows_name(number), chunk)


def _write_array(archive: zipfile.ZipFile, name: str, array: npt.NDArray[Any]) -> None:
    with archive.open(zipfile.ZipInfo(name), "w", force_zip64=True) as member:
        np.lib.format.write_array(member, array, allow_pickle=False)


def _rows_name(number: int) -> str:
    return f"rows-{number}.npy"


class ReferencePack:
    """A pack in a file, of which ``rows`` reads one chunk at a time.

    about: what it was made from. parts: the text's chunks of token ids. sha256: of the file.
    """

    def __init__(self, path: Path) -> None:
        """Open a pack. Raises CompareError if the file is not one, OSError if it cannot be read."""
        self.path = path
        with _opened(path) as archive:
            self.about = _read_about(archive)
            shape = self.about.n_chunks, self.about.n_ctx
            tokens = _read_array(archive, _TOKENS, shape, np.dtype("<i4"))
            _check_ids(tokens, self.about.n_vocab)
            for number in range(self.about.n_chunks):
                archive.getinfo(_rows_name(number))
        self.parts: list[TokenIds] = list(tokens.astype(np.int32))
        self.sha256 = sha256(path)

    def rows(self, number: int) -> Packed:
        """Return a chunk's predictions (n_scored,). Raises CompareError if they are corrupt."""
        about = self.about
        with _opened(self.path) as archive:
            rows = _read_array(archive, _rows_name(number), (about.n_scored,), about.dtype)
            for name in ("best", "top_ids", "sample_ids"):
                _check_ids(rows[name], about.n_vocab)
            for name in ("target", "tail", "low", "step"):
                if not np.isfinite(rows[name]).all():
                    raise ValueError(f"{_rows_name(number)} has a {name} that is not finite")
            if not are_possible(rows):
                raise ValueError(f"{_rows_name(number)} has probabilities that cannot be")
        return rows


def is_pack(path: Path) -> bool:
    """Return whether a file is a reference pack, of any version, by the names in it."""
    try:
        with zipfile.ZipFile(path) as archive:
            return {_ABOUT, _TOKENS} <= {*archive.namelist()}
    except _CORRUPT:
        return False


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open an archive; errors in what it holds become CompareError."""
    if not path.is_file():  # a pipe would be waited for
        reason = "is not a file" if path.exists() else "does not exist"
        raise CompareError(f"{path} cannot be the reference pack: it {reason}")
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except _CORRUPT as error:
        raise _corrupt(path, error) from error
    except OSError as error:
        if error.errno != errno.EINVAL:  # of a place in the file before its beginning
            raise
        raise _corrupt(path, error) from error


def _corrupt(path: Path, error: Exception) -> CompareError:
    return CompareError(
        f"{path} is not a reference pack, or is corrupt: {error}. Write it again with "
        f"--save-reference-pack."
    )


def _read_about(archive: zipfile.ZipFile) -> About:
    if archive.getinfo(_ABOUT).file_size > _MOST_BYTES_ABOUT:
        raise ValueError(f"{_ABOUT} is too large")
    said = read_json(archive.read(_ABOUT))
    if not isinstance(said, dict):
        raise TypeError(f"{_ABOUT} is not an object")
    version = said.pop("version")
    if version != VERSION:
        raise ValueError(
            f"its version is {version!r}, and this version of localgen reads {VERSION}"
        )
    said["reference"] = PackedModel(**said["reference"])
    said["texts"] = tuple(
        GreedyText(each["prompt"], each["text"], tuple(each["token_ids"])) for each in said["texts"]
    )
    about = About(**said)
    check_fields(about)
    for name, low, high in _RANGES:
        check_int(name, getattr(about, name), low, high)
    _check_reference(about)
    return about


def _check_reference(about: About) -> None:
    """Raise ValueError for figures of the reference that cannot be, and texts that no model has."""
    for name in ("file_bytes", "bits_per_weight"):
        value = getattr(about.reference, name)
        if value is not None and not 0 <= value <= _MOST_BYTES:  # also not a number
            raise ValueError(f"{name} of its reference is {value}")
    if not about.texts:
        raise ValueError("it has no texts of its reference")
    for each in about.texts:
        each.prompt.encode()  # half a character cannot be


def _read_array(
    archive: zipfile.ZipFile, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]
) -> npt.NDArray[Any]:
    """Return an array that must have this shape and type, before any memory is taken for it."""
    info = archive.getinfo(name)
    if info.compress_type != zipfile.ZIP_STORED:  # a few bytes may become any number
        raise ValueError(f"{name} is compressed")
    n_bytes = info.file_size
    expected = math.prod(shape) * dtype.itemsize
    if not expected < n_bytes <= expected + _MOST_BYTES_NPY_HEADER:
        raise ValueError(f"{name} has {n_bytes} bytes, not those of an array of {expected}")
    with archive.open(name) as member:
        array: npt.NDArray[Any] = np.lib.format.read_array(member, allow_pickle=False)
    if (array.shape, array.dtype) != (shape, dtype):
        raise ValueError(f"{name} is of {array.dtype} {array.shape}, not of {dtype} {shape}")
    return array


def _check_ids(token_ids: npt.NDArray[Any], n_vocab: int) -> None:
    if token_ids.min() < 0 or token_ids.max() >= n_vocab:
        raise ValueError(f"it has a token that is not one of {n_vocab}")
