"""Multiplies two matrices in AMX tiles, through ggml alone; run as a script in a child process.

    python amx_probe.py FOLDER_OF_GGML

If the kernels were miscompiled, a signal kills the process; see ``amx``. It imports only the
standard library, to start fast.
"""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path
from typing import Any

_CPU = 0
_F32, _Q8_0 = 0, 8
# The kernels need multiples of 32 columns and rows of weights; 16 rows of input fill a tile.
_WIDTH, _ROWS, _INPUTS = 64, 64, 16
_LIBRARIES = ("libggml.so*", "libggml.dylib", "*ggml.dll", "*ggml-base.dll")


class _InitParams(ctypes.Structure):
    _fields_ = (("size", ctypes.c_size_t), ("buffer", ctypes.c_void_p), ("no_alloc", ctypes.c_bool))


class _Ggml:
    """ggml's functions by name, from all of a build's libraries."""

    def __init__(self, folder: Path) -> None:
        """folder: holds libggml.so, libggml.dylib or ggml.dll, and the libraries that they need."""
        paths = [path for pattern in _LIBRARIES for path in sorted(folder.glob(pattern))]
        self._libraries = [ctypes.CDLL(str(path)) for path in paths]

    def __getattr__(self, name: str) -> Any:
        # Windows looks up only a library's own functions, not those of its dependencies.
        for library in self._libraries:
            if hasattr(library, name):
                return getattr(library, name)
        raise AttributeError(name)


def _call(ggml: _Ggml, name: str, *arguments: object, result: Any = ctypes.c_void_p) -> Any:
    """Call a C function by name; ints are passed as 64 bits, and pointers are returned so."""
    function = getattr(ggml, name)
    function.restype = result
    wide = [ctypes.c_int64(a) if isinstance(a, int) else a for a in arguments]
    return function(*wide)


def _amx_buffers(ggml: _Ggml, cpu: int) -> int | None:
    """Return the buffer type whose weights AMX multiplies; None if this CPU or build has none."""
    device = _call(ggml, "ggml_backend_get_device", cpu)
    registry = _call(ggml, "ggml_backend_dev_backend_reg", device)
    address = _call(
        ggml, "ggml_backend_reg_get_proc_address", registry, b"ggml_backend_dev_get_extra_bufts"
    )
    prototype = ctypes.CFUNCTYPE(ctypes.POINTER(ctypes.c_void_p), ctypes.c_void_p)
    for found in prototype(address)(device):
        if found is None:
            return None
        if _call(ggml, "ggml_backend_buft_name", found, result=ctypes.c_char_p) == b"AMX":
            return int(found)
    return None


def main() -> None:
    """Multiply matrices of zeros, if there is AMX."""
    ggml = _Ggml(Path(sys.argv[1]))
    cpu = _call(ggml, "ggml_backend_init_by_type", _CPU, None)
    buffers = _amx_buffers(ggml, cpu)
    if buffers is None:
        return
    ggml.ggml_init.argtypes = (_InitParams,)
    context = _call(ggml, "ggml_init", _InitParams(2**20, None, True))
    weights = _call(ggml, "ggml_new_tensor_2d", context, _Q8_0, _WIDTH, _ROWS)
    inputs = _call(ggml, "ggml_new_tensor_2d", context, _F32, _WIDTH, _INPUTS)
    size = _call(ggml, "ggml_backend_buft_get_alloc_size", buffers, weights)
    buffer = _call(ggml, "ggml_backend_buft_alloc_buffer", buffers, size)
    base = _call(ggml, "ggml_backend_buffer_get_base", buffer)
    _call(ggml, "ggml_backend_tensor_alloc", buffer, weights, base)
    n_bytes = _call(ggml, "ggml_nbytes", weights)
    _call(ggml, "ggml_backend_tensor_set", weights, bytes(n_bytes), 0, n_bytes)
    product = _call(ggml, "ggml_mul_mat", context, weights, inputs)
    _call(ggml, "ggml_backend_alloc_ctx_tensors", context, cpu)
    graph = _call(ggml, "ggml_new_graph", context)
    _call(ggml, "ggml_build_forward_expand", graph, product)
    _call(ggml, "ggml_backend_graph_compute", cpu, graph)


if __name__ == "__main__":
    main()
