"""llama.cpp's own samplers, called through its functions: what localgen's are compared with."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import numpy.typing as npt

from localgen.llama.library import llama

Row = npt.NDArray[np.float32]


class Reference:
    """A sampler of llama.cpp, freed with the object."""

    def __init__(self, sampler: Any) -> None:
        assert sampler
        self._sampler = sampler

    def __del__(self) -> None:
        llama().llama_sampler_free(self._sampler)

    def accept(self, tokens: list[int]) -> None:
        for token in tokens:
            llama().llama_sampler_accept(self._sampler, token)

    def apply(self, row: Row) -> tuple[Row, int | None]:
        """The scores after it, -inf where a token is dropped, and the token that it chose."""
        lib = llama()
        data = (lib.llama_token_data * len(row))()
        for token, logit in enumerate(row.tolist()):
            data[token] = lib.llama_token_data(token, logit, 0.0)
        array = lib.llama_token_data_array(data, len(row), -1, False)
        lib.llama_sampler_apply(self._sampler, ctypes.byref(array))
        scores = np.full(len(row), -np.inf, np.float32)
        for index in range(array.size):
            scores[array.data[index].id] = array.data[index].logit
        chosen = array.data[array.selected].id if array.selected >= 0 else None
        return scores, chosen


def chain(*samplers: Any) -> Reference:
    lib = llama()
    made = lib.llama_sampler_chain_init(lib.llama_sampler_chain_default_params())
    for sampler in samplers:
        lib.llama_sampler_chain_add(made, sampler)
    return Reference(made)


def their_dry(
    vocab: Any, texts: list[str], tokens: list[int], options: dict[str, Any]
) -> Reference:
    encoded = [text.encode() for text in texts]
    made = Reference(
        llama().llama_sampler_init_dry(
            vocab._vocab,
            options["dry_multiplier"],
            options["dry_base"],
            options["dry_allowed_length"],
            options["dry_penalty_last_n"],
            (ctypes.c_char_p * len(encoded))(*encoded),
            len(encoded),
        )
    )
    made.accept(tokens)
    return made
