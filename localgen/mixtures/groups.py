"""Groups the tensors of a model that get one type together, and lists the types they may have."""

from __future__ import annotations

import re
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass

from localgen.gguf.reader import Tensor
from localgen.gguf.tensor_types import TENSOR_TYPES
from localgen.quantization.runner import stored_bytes

# From the most precise to the smallest. A type is listed where no other of its size is better:
# without an importance matrix those below Q3_K lose more than Q2_K.
_PLAIN = ("Q8_0", "Q6_K", "Q5_K", "Q4_K", "IQ4_XS", "Q3_K", "Q2_K")
_WITH_IMATRIX = (
    "Q8_0", "Q6_K", "Q5_K", "Q4_K", "IQ4_XS", "IQ3_S", "IQ3_XXS", "IQ2_S", "IQ2_XXS",
)  # fmt: skip
# For rows that blocks of 256 do not divide.
_SMALL_BLOCKS = ("Q8_0", "Q5_1", "Q5_0", "IQ4_NL")
_LARGE_BLOCK = 256
_LAYER = re.compile(r"blk\.(\d+)\.(.+)\.weight")
# The first prefix decides.
_KINDS = {
    "attn_qkv": "attn_qkv", "attn_output": "attn_output", "attn_q": "attn_qk",
    "attn_k": "attn_qk", "attn_v": "attn_v", "ffn_down": "ffn_down", "ffn_gate": "ffn_up_gate",
    "ffn_up": "ffn_up_gate",
}  # fmt: skip
_DEPTHS = ("early", "middle", "late")
_BLOCK_OF = {kind.name: kind.block for kind in TENSOR_TYPES.values()}
# The data of each tensor in a file begins at a multiple of this.
_ALIGNMENT = 32


@dataclass(frozen=True, slots=True)
class Group:
    """Tensors of one kind and depth. sizes: {tensor: number of values}. source: their types there.

    ladder: the types that they may get, all smaller than the source's, the largest first.
    """

    name: str
    sizes: Mapping[str, int]
    source: Mapping[str, str]
    ladder: tuple[str, ...]

    def n_bytes(self, kind: str | None) -> int:
        """Return the bytes of all in a file as one type; None keeps those of the source."""
        return sum(
            aligned(stored_bytes(n, kind or self.source[name])) for name, n in self.sizes.items()
        )

    def types(self, kind: str | None) -> dict[str, str]:
        """Return each tensor's type; None keeps that of the source."""
        return {name: kind or self.source[name] for name in self.sizes}


def aligned(n_bytes: int) -> int:
    """Return the bytes that a tensor takes up in a file."""
    return -(-n_bytes // _ALIGNMENT) * _ALIGNMENT


def groups_of(tensors: Sequence[Tensor], with_data: Container[str]) -> list[Group]:
    """Return the groups of some tensors, in the order of their first ones.

    with_data: the tensors that an importance matrix has.
    """
    n_layers = 1 + max((int(m[1]) for t in tensors if (m := _LAYER.fullmatch(t.name))), default=0)
    found: dict[tuple[str, tuple[str, ...]], list[Tensor]] = {}
    for tensor in tensors:
        if ladder := ladder_of(tensor, has_data=tensor.name in with_data):
            found.setdefault((_name(tensor.name, n_layers), ladder), []).append(tensor)
    names = [name for name, _ in found]
    return [
        Group(
            name if names.count(name) == 1 else f"{name} ({ladder[-1]})",
            {tensor.name: tensor.n_values for tensor in members},
            {tensor.name: tensor.type.name for tensor in members},
            ladder,
        )
        for (name, ladder), members in found.items()
    ]


def ladder_of(tensor: Tensor, *, has_data: bool) -> tuple[str, ...]:
    """Return the types that a tensor may get, the largest first; none if the source's is small."""
    large = _WITH_IMATRIX if has_data else _PLAIN
    return tuple(
        kind
        for kind in (_SMALL_BLOCKS if tensor.shape[0] % _LARGE_BLOCK else large)
        if tensor.shape[0] % _BLOCK_OF[kind] == 0
        and stored_bytes(tensor.n_values, kind) < tensor.n_bytes
    )


def _name(tensor: str, n_layers: int) -> str:
    match = _LAYER.fullmatch(tensor)
    if match is None:
        return tensor.removesuffix(".weight")
    kind = next((kind for prefix, kind in _KINDS.items() if match[2].startswith(prefix)), match[2])
    return f"{kind}.{_DEPTHS[int(match[1]) * len(_DEPTHS) // n_layers]}"
