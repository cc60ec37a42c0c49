"""Types that a caller wants for some tensors, instead of those that a level gives them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from localgen._util.format import counted, either
from localgen._util.suggestions import did_you_mean
from localgen.errors import QuantizeError
from localgen.gguf.gate import ModelFile
from localgen.gguf.tensor_types import TENSOR_TYPES, TensorType

_TOKEN_EMBEDDING, _OUTPUT = "token_embd.weight", "output.weight"
# Types that llama.cpp's quantizer does not write.
_NOT_WRITTEN = ("F64", "I8", "I16", "I32", "I64")
TYPES = {
    kind.name: (number, kind)
    for number, kind in TENSOR_TYPES.items()
    if kind.name not in _NOT_WRITTEN
}


@dataclass(frozen=True, slots=True)
class Wish:
    """One option as it was written, the type it names, and the tensors it decides on."""

    option: str
    type: str
    tensors: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TypeOverrides:
    """All wishes of a call. by_pattern: those by pattern, of which llama.cpp knows the tensors."""

    by_pattern: tuple[Wish, ...] = ()
    token_embedding: Wish | None = None
    output: Wish | None = None
    _all: tuple[Wish, ...] = field(init=False)

    def __post_init__(self) -> None:
        single = (wish for wish in (self.token_embedding, self.output) if wish is not None)
        object.__setattr__(self, "_all", (*self.by_pattern, *single))

    def numbers(self) -> dict[str, int]:
        """Return ggml's number of the type of each tensor that a pattern decides on."""
        return {name: TYPES[wish.type][0] for wish in self.by_pattern for name in wish.tensors}

    def check_level(self, level: str, *, is_quantized: bool) -> None:
        """Raise ValueError for a level at which llama.cpp takes no notice of patterns."""
        if self.by_pattern and not is_quantized:
            raise ValueError(
                f"{self.by_pattern[0].option} has no effect at {level}, which quantizes nothing. "
                f"Choose a quantized level."
            )

    def check_plan(self, level: str, types: Mapping[str, str]) -> None:
        """Raise QuantizeError for a wish that no tensor of a planned file fulfils."""
        for wish in self._all:
            got = {types[name] for name in wish.tensors}
            if wish.type not in got:
                raise QuantizeError(
                    f"{wish.option}: {counted(len(wish.tensors), 'tensor')} cannot be stored as "
                    f"{wish.type} at {level}; llama.cpp would use {either(sorted(got))}"
                )


def type_overrides(
    file: ModelFile,
    tensor_types: Mapping[str, str] | None,
    token_embedding_type: str | None,
    output_tensor_type: str | None,
) -> TypeOverrides:
    """Return the wishes for a model. Raises ValueError for what has no effect or no meaning.

    tensor_types: {regular expression: type}; the first that is found in a tensor's name decides.
    """
    return TypeOverrides(
        tuple(_by_pattern(file, tensor_types or {})),
        _single(file, "token_embedding_type", token_embedding_type, _TOKEN_EMBEDDING),
        _single(file, "output_tensor_type", output_tensor_type, _OUTPUT),
    )


def _by_pattern(file: ModelFile, tensor_types: Mapping[str, str]) -> Iterator[Wish]:
    free = [tensor.name for shard in file.shards for tensor in shard.tensors]
    n_tensors, example = len(free), next((name for name in free if name.startswith("blk.")), "")
    for pattern, kind in tensor_types.items():
        option = f"tensor_types {pattern}={kind}"
        type_name = _known(option, kind)
        try:
            matches = re.compile(pattern).search
        except re.error as error:
            raise ValueError(f"{option}: the pattern is no regular expression: {error}") from None
        found = tuple(name for name in free if matches(name))
        if not found:
            raise ValueError(
                f"{option} has no effect: the pattern is found in none of the {n_tensors} tensor "
                f"names (such as {example}) that no earlier pattern decides on"
            )
        free = [name for name in free if not matches(name)]
        yield Wish(option, type_name, found)


def _single(file: ModelFile, name: str, kind: str | None, tensor_name: str) -> Wish | None:
    if kind is None:
        return None
    option = f"{name}={kind}"
    type_name = _known(option, kind)
    tensor = file.tensor(tensor_name)
    if tensor is None:
        hint = " Its output matrix is that of the token embeddings." * (tensor_name == _OUTPUT)
        raise ValueError(f"{option} has no effect: the model has no {tensor_name}.{hint}")
    _check_rows(option, tensor.shape[0], TYPES[type_name][1])
    return Wish(option, type_name, (tensor_name,))


def _check_rows(option: str, n_columns: int, kind: TensorType) -> None:
    """Raise ValueError for rows that blocks do not divide: llama.cpp would not look."""
    if n_columns % kind.block:
        raise ValueError(
            f"{option} is not possible: rows of {n_columns} values do not divide into blocks of "
            f"{kind.block}. Choose a type with blocks of 32, such as Q8_0."
        )


def _known(option: str, kind: str) -> str:
    """Return ggml's name of a type. Raises ValueError for an unknown one."""
    name = str(kind).strip().upper()
    if name in TYPES:
        return name
    hint = did_you_mean(name, TYPES) or "."
    raise ValueError(f"{option}: unknown tensor type{hint} Types are {', '.join(TYPES)}")
