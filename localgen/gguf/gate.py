"""Refuses model files that llama.cpp would not survive; it knows GGUF's keys, and loads nothing.

llama.cpp checks much of a file itself and gives an error. What is checked here is what it asserts,
which ends the process, or takes for granted, which reads memory that is not the file's.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from localgen.errors import InvalidGGUFError
from localgen.gguf.fingerprint import FileIdentity
from localgen.gguf.reader import GGUF, Array, Value, read_gguf
from localgen.gguf.refusal import refuse
from localgen.gguf.vocab_gate import check_vocabulary, unknown_type

_MAX_LAYERS = 512
_WINDOW_PATTERN = "attention.sliding_window_pattern"
_INTEGERS = ("I8", "I16", "I32", "I64")
_SHARD = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf")
_SPLIT_COUNT, _SPLIT_NUMBER = "split.count", "split.no"


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A model's file, or all of its shards in order; the first one holds the metadata.

    identities: of the shards; none if they are not on the disk.
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

    @property
    def unknown_vocabulary(self) -> str | None:
        """The key and value that name a type of vocabulary which the gate has no rules for."""
        return unknown_type(self.shards[0])

    def has_changed(self) -> bool:
        """Whether a file is another one than was checked; False if it was only removed or renamed,
        since what is mapped stays. Raises OSError where that cannot be told."""
        for shard, identity in zip(self.shards, self.identities, strict=True):
            try:
                if FileIdentity.of(shard.path) != identity:
                    return True
            except (FileNotFoundError, NotADirectoryError):  # it, or a folder on its path, is gone
                continue
        return False


def check_model(path: Path) -> ModelFile:
    """Read a model's file, and that of each other shard, and refuse what must not reach C.

    path: of any of a model's shards. Raises ModelNotFoundError, or InvalidGGUFError with the
    reason.
    """
    paths = shard_paths(path)
    identities = []

    def read(each: Path) -> GGUF:
        file = read_gguf(each)
        identities.append(FileIdentity.of(each))
        return file

    shards = check_shards(map(read, paths), len(paths))
    return ModelFile(shards, tuple(identities))


def check_shards(shards: Iterable[GGUF], n_shards: int) -> tuple[GGUF, ...]:
    """What ``check_model`` checks of a model's ``n_shards`` files once they are read, in order.

    Each is checked before the next one is taken. Raises InvalidGGUFError.
    """
    checked = []
    for number, shard in enumerate(shards):
        _check_split(shard, number, n_shards)
        _check_vectors(shard)
        checked.append(shard)
    _check_names(checked)
    _check_architecture(checked[0])
    check_vocabulary(checked[0])
    return tuple(checked)


def shard_paths(path: Path) -> list[Path]:
    """All files of the model that ``path`` is of, in order: one, unless its name says otherwise.

    The names are made from the given one, never taken from the file.
    """
    match = _SHARD.fullmatch(path.name)
    if match is None or match["count"] == "00001":
        return [path]
    count = int(match["count"])
    if not 1 <= int(match["number"]) <= count:
        raise InvalidGGUFError(f"{path} is named as number {match['number']} of {count} shards")
    return [
        path.with_name(f"{match['stem']}-{number:05d}-of-{count:05d}.gguf")
        for number in range(1, count + 1)
    ]


def shard_stem(path: Path) -> str:
    """A model's name without ".gguf" and without a shard's number."""
    match = _SHARD.fullmatch(path.name)
    return match["stem"] if match else path.stem


def _check_split(file: GGUF, number: int, n_shards: int) -> None:
    count = file.metadata.get(_SPLIT_COUNT, 0)
    if n_shards == 1:
        if count not in (0, 1):
            refuse(
                file,
                f"it is one of {count} shards, and its name is not of the form "
                f"NAME-00001-of-{count:05d}.gguf by which the others are found",
            )
        return
    found = file.metadata.get(_SPLIT_NUMBER)
    if file.types.get(_SPLIT_NUMBER) != "u16" or found != number:
        refuse(file, f"{_SPLIT_NUMBER} is {found!r}, and by its name it is {number} in a u16")
    if file.types.get(_SPLIT_COUNT) != "u16" or count != n_shards:
        refuse(file, f"{_SPLIT_COUNT} is {count!r}, and by its name it is {n_shards} in a u16")


def _check_names(shards: list[GGUF]) -> None:
    seen: set[str] = set()
    for shard in shards:
        for tensor in shard.tensors:
            if tensor.name in seen:
                refuse(shard, f"the tensor {tensor.name!r} is in another shard already")
            seen.add(tensor.name)


def _check_architecture(file: GGUF) -> None:
    architecture = file.metadata.get("general.architecture")
    if not isinstance(architecture, str) or not architecture:
        refuse(file, f"general.architecture is {architecture!r}")
    key = f"{architecture}.block_count"
    n_layers = file.metadata.get(key)
    if type(n_layers) is not int or not 0 < n_layers <= _MAX_LAYERS:
        refuse(file, f"{key} is {n_layers!r}; it must be 1 to {_MAX_LAYERS}")
    _check_hyperparameters(file, architecture)


def _check_hyperparameters(file: GGUF, architecture: str) -> None:
    """What ggml's operations assert of their parameters, and a loop without an end."""

    def of_model(name: str) -> Value | None:
        return file.metadata.get(f"{architecture}.{name}")

    for name in ("attention.layer_norm_rms_epsilon", "attention.layer_norm_epsilon"):
        epsilon = of_model(name)
        if isinstance(epsilon, float) and not 0 <= epsilon < math.inf:
            refuse(file, f"{architecture}.{name} is {epsilon}")
    n_rotated, head_size = of_model("rope.dimension_count"), of_model("attention.key_length")
    n_embd, n_head = of_model("embedding_length"), of_model("attention.head_count")
    if head_size is None and isinstance(n_embd, int) and isinstance(n_head, int):
        head_size = n_embd // max(1, n_head)
    both_known = isinstance(n_rotated, int) and isinstance(head_size, int)
    if both_known and (n_rotated % 2 or not 0 < n_rotated <= head_size):  # type: ignore[operator]
        refuse(
            file,
            f"{architecture}.rope.dimension_count is {n_rotated}; it must be even, and at most the "
            f"{head_size} of an attention head",
        )
    window, pattern = of_model("attention.sliding_window"), of_model(_WINDOW_PATTERN)
    if window and isinstance(pattern, Array) and not np.any(pattern.values):
        refuse(file, "it has a sliding window, and no layer that uses it")


def _check_vectors(file: GGUF) -> None:
    """ggml adds and multiplies by a vector in F32 only."""
    for tensor in file.tensors:
        name = tensor.type.name
        if len(tensor.shape) == 1 and name != "F32" and name not in _INTEGERS:
            refuse(file, f"{tensor.name} is a vector of type {name}; only F32 can be computed")
