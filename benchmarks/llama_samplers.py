"""llama.cpp's own chain of samplers, to compare the time of localgen's with."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from localgen.config import SamplingOptions
from localgen.llama.library import llama

_TOKEN_DATA = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])
_SEED = 7


class LlamaChain:
    """llama.cpp's samplers for ``options``, after the tokens ``prompt_ids``."""

    def __init__(self, n_vocab: int, options: SamplingOptions, prompt_ids: np.ndarray) -> None:
        self._llama = llama()
        self._data = np.zeros(n_vocab, _TOKEN_DATA)
        self._ids = np.arange(n_vocab, dtype=np.int32)
        self._chain = self._llama.llama_sampler_chain_init(
            self._llama.llama_sampler_chain_default_params()
        )
        for sampler in self._samplers(options, len(prompt_ids)):
            self._llama.llama_sampler_chain_add(self._chain, sampler)
        for token_id in prompt_ids:
            self._llama.llama_sampler_accept(self._chain, int(token_id))

    def sample(self, logits: np.ndarray) -> int:
        """Return the id that the chain chooses of ``logits`` (n_vocab,).

        As in llama_sampler_sample, every token id is written into an array with its logit.
        """
        self._data["id"], self._data["logit"] = self._ids, logits
        array = self._llama.llama_token_data_array(
            data=self._data.ctypes.data_as(ctypes.POINTER(self._llama.llama_token_data)),
            size=len(self._data),
            selected=-1,
            sorted=False,
        )
        self._llama.llama_sampler_apply(self._chain, ctypes.byref(array))
        return int(array.data[array.selected].id)

    def sample_output(self, context: Any, index: int) -> int:
        """Return the id that the chain chooses, and accepts, of a pass's output ``index``."""
        return int(self._llama.llama_sampler_sample(self._chain, context, index))

    def close(self) -> None:
        self._llama.llama_sampler_free(self._chain)

    def _samplers(self, options: SamplingOptions, n_seen: int) -> list[Any]:
        """Return them in the order of llama.cpp's tools."""
        library = self._llama
        samplers = []
        if options.repetition_penalty != 1.0:
            samplers.append(
                library.llama_sampler_init_penalties(
                    len(self._data), n_seen, options.repetition_penalty, 0.0, 0.0
                )
            )
        if not options.do_sample:
            return [*samplers, library.llama_sampler_init_greedy()]
        if options.top_k:
            samplers.append(library.llama_sampler_init_top_k(options.top_k))
        if options.typical_p < 1.0:
            samplers.append(library.llama_sampler_init_typical(options.typical_p, 1))
        if options.top_p < 1.0:
            samplers.append(library.llama_sampler_init_top_p(options.top_p, 1))
        if options.min_p:
            samplers.append(library.llama_sampler_init_min_p(options.min_p, 1))
        samplers.append(library.llama_sampler_init_temp(options.temperature))
        return [*samplers, library.llama_sampler_init_dist(_SEED)]
