"""Finds out whether a build of llama.cpp can use AMX, Intel's matrix unit, without crashing.

Some versions of GCC (12.2 is one) assume that the instruction which loads a tile configuration
reads eight bytes of it, and remove the writes of the others as dead stores; the first product of
two matrices then kills the process (llama.cpp's issue 20824 and pull request 26954). The library
does not report this, so one product is tried in a child process. Without that optimisation, AMX
works.
"""

from __future__ import annotations

import functools
import subprocess
import sys
from pathlib import Path

from localgen._util.warn import warn
from localgen.llama import amx_probe
from localgen.llama.library import library_folder, rebuild_command, system_info

_PROBE_SECONDS = 30
WORKING_AMX = ('CXXFLAGS="-fno-dse"',)


@functools.cache
def is_safe() -> bool:
    """Return False if this build has AMX kernels and they crash.

    llama.cpp must then not repack weights, since AMX is part of that.
    """
    return "AMX_INT8 = 1" not in system_info() or _probe(library_folder())


@functools.cache
def warn_unless_safe() -> None:
    """Warn once, unless ``is_safe``, how much speed is lost and how to get it back."""
    if not is_safe():
        warn(
            f"the AMX kernels of this build of llama.cpp crash (some versions of GCC miscompile "
            f"them), so they are not used; a working build is about three times as fast. Build it "
            f"with: {rebuild_command(*WORKING_AMX)}"
        )


def _probe(folder: Path) -> bool:
    """Return whether the ggml in ``folder`` multiplies two matrices without crashing."""
    command = [sys.executable, "-I", amx_probe.__file__, str(folder)]
    try:
        probe = subprocess.run(command, capture_output=True, timeout=_PROBE_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return probe.returncode == 0
