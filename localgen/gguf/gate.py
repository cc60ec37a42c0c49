"""Refuses model files that llama.cpp would not survive; it knows GGUF's keys, and loads nothing.

llama.cpp checks much of a file itself and returns an error. Checked here is what it asserts, where
a failure kills the process, and what it takes for granted, where a bad file makes it read memory
out of bounds.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from localgen.errors import InvalidGGUFError
from localgen.gguf.fingerprint import FileIdentity
from localgen.gguf.hyperparameters import check_hyperparameters
from localgen.gguf.kind import Kind, kind_of
from localgen.gguf.layer_tensors import check_layer_tensors
from localgen.gguf.reader import ARCHITECTURE, GGUF, TOKENS, Tensor, Value, read_gguf
from localgen.gguf.refusal import refuse
from localgen.gguf.vocab_gate import check_vocabulary
from localgen.gguf.vocab_types import unknown_type

_MAX_LAYERS = 512
_INTEGERS = ("I8", "I16", "I32", "I64")
_SHARD = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf")
_IN_CACHE = re.compile(r"/models--(?P<repo>[^/]+)/snapshots/(?P<commit>[0-9a-f]{40})/(?P<file>.+)")
_SPLIT_COUNT, _SPLIT_NUMBER = "split.count", "split.no"


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A model's file, or all of its shards in order; the first one holds the metadata.

    identities: one for each shard; empty if they are not on the disk.
    """

    shards: tuple[GGUF, ...]
    identities: tuple[FileIdentity, ...]

    @property
    def path(self) -> Path:
        return self.shards[0].path

    @property
    def metadata(self) -> dict[str, Value]:
        return self.shards[0].metadata

    @property
    def paths(self) -> tuple[Path, ...]:
        return tuple(shard.path for shard in self.shards)

    def tensor(self, name: str) -> Tensor | None:
        """Return the tensor of this name; None if there is none."""
        tensors = (tensor for shard in self.shards for tensor in shard.tensors)
        return next((tensor for tensor in tensors if tensor.name == name), None)

    @property
    def unknown_vocabulary(self) -> str | None:
        """The metadata entry that names a type of vocabulary without rules here; None if known."""
        return unknown_type(self.metadata)

    def has_changed(self) -> bool:
        """Return whether a file was changed or replaced since it was checked.

        Not if it was only removed or renamed, since a mapped file stays readable. Raises OSError
        if a file cannot be examined.
        """
        for shard, identity in zip(self.shards, self.identities, strict=True):
            try:
                if FileIdentity.of(shard.path) != identity:
                    return True
            except (FileNotFoundError, NotADirectoryError):  # the file, or a folder on its path
                continue
        return False


def check_model(path: Path) -> ModelFile:
    """Read a model's file with all its shards, and refuse what must not reach C.

    path: any of the shards. Raises ModelNotFoundError, or InvalidGGUFError with the reason.
    """
    paths = shard_paths(path)
    identities = []

    def read(each: Path) -> GGUF:
        try:
            file = read_gguf(each)
        except InvalidGGUFError as error:
            raise InvalidGGUFError(f"{error}{_how_to_fetch_again(each)}") from error
        identities.append(FileIdentity.of(each))
        return file

    shards = check_shards(map(read, paths), len(paths))
    return ModelFile(shards, tuple(identities))


def _how_to_fetch_again(path: Path) -> str:
    """Return what to do about a damaged file in huggingface_hub's cache; nothing for another."""
    match = _IN_CACHE.search(path.as_posix())
    if match is None:
        return ""
    name = f"{match['repo'].replace('--', '/')}/{match['file']}@{match['commit']}"
    return f". Remove it with `localgen models rm {name}`, and it is fetched again"


def check_shards(shards: Iterable[GGUF], n_shards: int) -> tuple[GGUF, ...]:
    """Check a model's ``n_shards`` files, in order, and return them; see ``check_model``.

    Each is checked before the next one is read. Raises InvalidGGUFError.
    """
    checked: list[GGUF] = []
    for number, shard in enumerate(shards):
        if not checked:
            _check_kind(shard)
        _check_split(shard, number, n_shards)
        _check_vectors(shard)
        checked.append(shard)
    _check_names(checked)
    check_layer_tensors(checked)
    _check_architecture(checked[0])
    check_vocabulary(checked[0])
    return tuple(checked)


def shard_paths(path: Path) -> list[Path]:
    """Return all files of the model that ``path`` belongs to, in order.

    There is one unless its name says otherwise. The other names are derived from this name, never
    read from the file.
    """
    match = _SHARD.fullmatch(path.name)
    if match is None or match["count"] == "00001":
        return [path]
    count = int(match["count"])
    if not 1 <= int(match["number"]) <= count:
        raise InvalidGGUFError(
            f"{path} is named as shard {match['number']} of {count} shards; they count from 1"
        )
    return [
        path.with_name(f"{match['stem']}-{number:05d}-of-{count:05d}.gguf")
        for number in range(1, count + 1)
    ]


def shard_stem(path: Path) -> str:
    """Return a file's name without ".gguf" and without a shard's number."""
    match = _SHARD.fullmatch(path.name)
    return match["stem"] if match else path.stem


def kind_of_model(file: ModelFile) -> str | None:
    """Return what a file is, if it is no model that generates text."""
    kind = _kind(file)
    return kind.name if kind else None


def check_generates(file: ModelFile) -> None:
    """Raise InvalidGGUFError unless ``file`` is a model that generates text, token by token."""
    if kind := _kind(file):
        _refuse_kind(file.shards[0], kind)


def _kind(file: ModelFile) -> Kind | None:
    return kind_of(file.metadata, sum(len(shard.tensors) for shard in file.shards))


def _check_kind(file: GGUF) -> None:
    kind = kind_of(file.metadata, len(file.tensors))
    is_without_vocabulary = file.tensors and TOKENS not in file.metadata
    if kind and (is_without_vocabulary or not kind.is_inspected):
        _refuse_kind(file, kind)


def _refuse_kind(file: GGUF, kind: Kind) -> NoReturn:
    architecture = file.metadata.get(ARCHITECTURE)
    named = f" (architecture {architecture})" if architecture else ""
    raise InvalidGGUFError(
        f"{file.path} is {kind.name}{named}, and not a model that generates text; {kind.use}"
    )


def _check_split(file: GGUF, number: int, n_shards: int) -> None:
    count = file.metadata.get(_SPLIT_COUNT, 0)
    if not isinstance(count, int):
        refuse(file, f"{_SPLIT_COUNT} must be an integer, got {count!r}")
    if n_shards == 1:
        if count not in (0, 1):
            refuse(
                file,
                f"it is one of {count} shards, but its name does not have the form "
                f"NAME-00001-of-{count:05d}.gguf, from which the other names follow",
            )
        return
    found = file.metadata.get(_SPLIT_NUMBER)
    if file.types.get(_SPLIT_NUMBER) != "u16" or found != number:
        refuse(file, f"{_SPLIT_NUMBER} is {found!r}; the file's name says {number}, as u16")
    if file.types.get(_SPLIT_COUNT) != "u16" or count != n_shards:
        refuse(file, f"{_SPLIT_COUNT} is {count!r}; the file's name says {n_shards}, as u16")


def _check_names(shards: list[GGUF]) -> None:
    seen: set[str] = set()
    for shard in shards:
        for tensor in shard.tensors:
            if tensor.name in seen:
                refuse(shard, f"the tensor {tensor.name!r} is also in another shard")
            seen.add(tensor.name)


def _check_architecture(file: GGUF) -> None:
    architecture = file.metadata.get(ARCHITECTURE)
    if not isinstance(architecture, str) or not architecture:
        refuse(file, f"{ARCHITECTURE} must be a non-empty string, got {architecture!r}")
    key = f"{architecture}.block_count"
    n_layers = file.metadata.get(key)
    if type(n_layers) is not int or not 0 < n_layers <= _MAX_LAYERS:
        refuse(file, f"{key} must be an integer from 1 to {_MAX_LAYERS}, got {n_layers!r}")
    check_hyperparameters(file, architecture, n_layers)


def _check_vectors(file: GGUF) -> None:
    """Check that vectors are F32: ggml adds and multiplies by no others."""
    for tensor in file.tensors:
        name = tensor.type.name
        if len(tensor.shape) == 1 and name != "F32" and name not in _INTEGERS:
            refuse(file, f"{tensor.name} is a vector of type {name}; llama.cpp supports only F32")
