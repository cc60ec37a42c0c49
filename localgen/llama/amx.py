"""Finds out whether a build of llama.cpp can use AMX, Intel's matrix unit, without crashing.

Some versions of GCC (12.2 is one) assume that the instruction which loads a tile configuration
reads eight bytes of it, and remove the writes of the others as dead stores; the first product of
two matrices then kills the process (llama.cpp's issue 20824 and pull request 26954). The library
does not report this, so one product is tried in a child process. Without that optimisation, AMX
works.
"""

from __future__ import annotations

import functools
import inspect
import subprocess
from pathlib import Path

from localgen._util.child import interpreter
from localgen._util.warn import warn
from localgen.errors import BackendError
from localgen.llama import amx_probe
from localgen.llama.library import library_folder, rebuild_command, system_info

_PROBE_SECONDS = 30
WORKING_AMX = ('CXXFLAGS="-fno-dse"',)


def is_safe() -> bool:
    """Return False if this build has AMX kernels and they crash, or could not be tried.

    llama.cpp must then not repack weights, since AMX is part of that.
    """
    return _fault() is None


@functools.cache
def warn_unless_safe() -> None:
    """Warn once, unless ``is_safe``, how much speed is lost and how to get it back."""
    if (fault := _fault()) is not None:
        warn(f"the AMX kernels of this build of llama.cpp {fault}")


@functools.cache
def _fault() -> str | None:
    """Return why the AMX kernels are not used, to end a sentence; None if they are, or if there
    are none."""
    return _probe(library_folder()) if "AMX_INT8 = 1" in system_info() else None


def _probe(folder: Path) -> str | None:
    """Have the ggml in ``folder`` multiply two matrices; see ``_fault``."""
    try:
        # Its text rather than its file, which is none in a zip file.
        command = [interpreter(), "-I", "-c", inspect.getsource(amx_probe), str(folder)]
        probe = subprocess.run(command, capture_output=True, timeout=_PROBE_SECONDS, check=False)
    except (BackendError, OSError, subprocess.TimeoutExpired) as error:
        return (
            f"could not be tried ({error}), so they are not used; with them, this model may be "
            f"about three times as fast"
        )
    if probe.returncode == 0:
        return None
    return (
        f"crash (some versions of GCC miscompile them), so they are not used; a working build is "
        f"about three times as fast. Build it with: {rebuild_command(*WORKING_AMX)}"
    )
