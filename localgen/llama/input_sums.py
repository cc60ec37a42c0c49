"""Sums the squares of what weight matrices are multiplied with, while llama.cpp computes.

Which products count follows llama-imatrix (tools/imatrix/imatrix.cpp of llama.cpp, commit
0c1e57098), so that both make the same importance matrix.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from localgen.errors import QuantizeError
from localgen.gguf.imatrix_sums import Sums, dense_sums, expert_sums
from localgen.llama.callbacks import collected_errors
from localgen.llama.ggml_tensor import F32, GgmlTensor, check_layout
from localgen.llama.library import c_function, llama

# A product with fewer rows is skipped.
LEAST_ROWS = 16
OUTPUT = "output.weight"
_LAYERS = b"blk."
# The values that the output matrix, the last and often the largest one, is multiplied with.
_LAST = b"result_norm"


class InputSums:
    """The sums of one context's passes; ``callback`` goes into its parameters as ``cb_eval``.

    with_output: whether the output matrix counts. Raises BackendError where this build of llama.cpp
    cannot be observed.
    """

    def __init__(self, *, with_output: bool = False) -> None:
        self._products = check_layout()
        self._with_output = with_output
        self._sums: dict[str, Sums] = {}
        self._copies = _Copies()
        self._is_past_last = False
        # Whether all that counts comes before the output matrix, whose product is then left out.
        # A whole pass tells.
        self._ends_early: bool | None = None
        self._is_last_needed = False
        self.callback = llama().ggml_backend_sched_eval_callback(self._observe)

    def take(self) -> dict[str, Sums]:
        """Return the sums of each tensor since the last call."""
        sums, self._sums = self._sums, {}
        return sums

    def run(self, forward_pass: Callable[[], object]) -> None:
        """Run one pass of the context. Raises what it raises, QuantizeError for inputs that are not
        finite, and what a signal handler raises meanwhile."""
        self._is_past_last = False
        with collected_errors() as errors:
            forward_pass()
        if errors:
            raise errors[0]
        if self._is_past_last and self._ends_early is None:
            self._ends_early = not self._is_last_needed

    def _observe(self, address: int, ask: bool, _user_data: object) -> bool:
        """Answer whether a tensor's values are wanted; then, whether to go on with the pass."""
        tensor = GgmlTensor.from_address(address)
        if ask:
            return self._wants(tensor)
        if tensor.name == _LAST:
            return False
        self._add(tensor)
        return True

    def _wants(self, tensor: GgmlTensor) -> bool:
        if tensor.name == _LAST:
            self._is_past_last = True
            return bool(self._ends_early)
        if not self._counts(tensor):
            return False
        self._is_last_needed = self._is_last_needed or self._is_past_last
        return True

    def _counts(self, tensor: GgmlTensor) -> bool:
        """Return whether a tensor is a product that counts."""
        if tensor.op not in (self._products.dense, self._products.by_expert):
            return False
        inputs = GgmlTensor.from_address(tensor.src[1])
        if inputs.type != F32:
            return False
        if tensor.op == self._products.by_expert:
            return True
        if inputs.ne[1] < LEAST_ROWS:
            return False
        name = weight_name(GgmlTensor.from_address(tensor.src[0]).name)
        return name.startswith(_LAYERS) or (self._with_output and name == OUTPUT.encode())

    def _add(self, tensor: GgmlTensor) -> None:
        weights, inputs = (GgmlTensor.from_address(tensor.src[i]) for i in (0, 1))
        values = self._copies.values(inputs, np.dtype(np.float32))
        if tensor.op == self._products.by_expert:
            chosen = GgmlTensor.from_address(tensor.src[2])
            experts = self._copies.values(chosen, np.dtype(np.int32))[0, 0]
            found = expert_sums(values[0], experts, weights.ne[2])
        else:
            found = dense_sums(values, (weights.ne[3], weights.ne[2]))
        name = weight_name(weights.name).decode(errors="replace")
        if not np.isfinite(found.sums).all():
            raise QuantizeError(
                f"the inputs of {name} are not finite: the weights may be corrupt, or too large "
                f"for the type that llama.cpp computes in"
            )
        self._sums[name] = self._sums[name] + found if name in self._sums else found


class _Copies:
    """Values of tensors as arrays: views of memory, or copies from a device's own."""

    def __init__(self) -> None:
        pointer, size = ctypes.c_void_p, ctypes.c_size_t
        self._is_host: Callable[[int], bool] = c_function(
            "ggml_backend_buffer_is_host", ctypes.c_bool, pointer
        )
        self._get: Callable[..., None] = c_function(
            "ggml_backend_tensor_get", None, pointer, pointer, size, size
        )

    def values(self, tensor: GgmlTensor, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
        """Return all values, (ne3, ne2, ne1, ne0); a view is valid until the callback returns."""
        shape, strides = tuple(tensor.ne)[::-1], tuple(tensor.nb)[::-1]
        last = math.fsum((n - 1) * step for n, step in zip(shape, strides, strict=True))
        n_bytes = int(last) + dtype.itemsize
        if self._is_host(tensor.buffer):
            memory: Any = (ctypes.c_char * n_bytes).from_address(tensor.data)
        else:
            memory = ctypes.create_string_buffer(n_bytes)
            self._get(ctypes.addressof(tensor), ctypes.addressof(memory), 0, n_bytes)
        values: npt.NDArray[Any] = np.ndarray(shape, dtype, memory, strides=strides)
        return values


def weight_name(name: bytes) -> bytes:
    """Return a tensor's own name: the middle one of the "CUDA0#blk.0.attn_k.weight#0" that the
    scheduler gives to its copies."""
    _, is_copy, rest = name.partition(b"#")
    return rest.partition(b"#")[0] if is_copy else name
