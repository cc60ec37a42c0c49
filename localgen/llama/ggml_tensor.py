"""Reads ggml's tensors while llama.cpp computes: the struct that its bindings do not declare.

Layout: struct ggml_tensor in ggml/include/ggml.h of llama.cpp, commit 0c1e57098. ``check_layout``
compares it with tensors that the library itself makes.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
from collections.abc import Iterator
from dataclasses import dataclass

from localgen.errors import BackendError
from localgen.llama.library import c_function, llama_version

F32, I32 = 0, 26
_N_DIMS, _N_PARAMS, _N_SOURCES, _N_NAME = 4, 16, 10, 64


class GgmlTensor(ctypes.Structure):
    """``struct ggml_tensor``, up to its name.

    ne: values along each dimension, rows first. nb: their strides in bytes.
    """

    _fields_ = (
        ("type", ctypes.c_int),
        ("buffer", ctypes.c_void_p),
        ("ne", ctypes.c_int64 * _N_DIMS),
        ("nb", ctypes.c_size_t * _N_DIMS),
        ("op", ctypes.c_int),
        ("op_params", ctypes.c_int32 * _N_PARAMS),
        ("flags", ctypes.c_int32),
        ("src", ctypes.c_void_p * _N_SOURCES),
        ("view_src", ctypes.c_void_p),
        ("view_offs", ctypes.c_size_t),
        ("data", ctypes.c_void_p),
        ("name", ctypes.c_char * _N_NAME),
    )


class _InitParams(ctypes.Structure):
    _fields_ = (
        ("mem_size", ctypes.c_size_t),
        ("mem_buffer", ctypes.c_void_p),
        ("no_alloc", ctypes.c_bool),
    )


@dataclass(frozen=True, slots=True)
class Products:
    """ggml's numbers of the operations that multiply with one matrix, and with those of experts."""

    dense: int
    by_expert: int


@functools.cache
def check_layout() -> Products:
    """Return the numbers of operations. Raises BackendError if this build of ggml has another
    layout of tensors."""
    with _made_tensors() as (weights, inputs, experts, dense, by_expert):
        made = [GgmlTensor.from_address(each) for each in (weights, inputs, dense, by_expert)]
        is_same = (
            made[0].name == b"weights"
            and list(made[0].ne) == [32, 8, 4, 1]
            and list(made[0].nb) == [4, 128, 1024, 4096]
            and (made[0].type, GgmlTensor.from_address(experts).type) == (F32, I32)
            and list(made[1].ne) == [32, 1, 8, 1]
            and list(made[2].src)[:3] == [weights, inputs, None]
            and list(made[3].src)[:3] == [weights, inputs, experts]
            and made[2].op != made[3].op
        )
        products = Products(made[2].op, made[3].op)
    if not is_same:
        raise BackendError(
            f"importance matrices cannot be made with llama-cpp-python {llama_version()}: its "
            f"ggml_tensor has another layout than localgen knows. Install a version that localgen "
            f"requires, or make the matrix with llama-imatrix."
        )
    return products


@contextlib.contextmanager
def _made_tensors() -> Iterator[tuple[int, int, int, int, int]]:
    """Yield the addresses of tensors without data: weights of 4 experts, inputs, ids of experts,
    and the products of the first two, and of all three."""
    address, number = ctypes.c_void_p, ctypes.c_int64
    context = c_function("ggml_init", address, _InitParams)(_InitParams(2**14, None, True))
    try:
        new = c_function("ggml_new_tensor_3d", address, address, ctypes.c_int, *[number] * 3)
        weights = new(context, F32, 32, 8, 4)
        c_function("ggml_set_name", address, address, ctypes.c_char_p)(weights, b"weights")
        inputs, experts = new(context, F32, 32, 1, 8), new(context, I32, 2, 8, 1)
        multiply = c_function("ggml_mul_mat", address, *[address] * 3)
        choose = c_function("ggml_mul_mat_id", address, *[address] * 4)
        dense = multiply(context, weights, inputs)
        yield weights, inputs, experts, dense, choose(context, weights, inputs, experts)
    finally:
        c_function("ggml_free", None, address)(context)
