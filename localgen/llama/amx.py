"""Whether AMX, Intel's matrix unit, can be trusted with a build of llama.cpp.

Some versions of GCC (12.2 is one) take it that the instruction which loads a tile configuration
reads eight bytes of it, and drop the writes of the others as dead stores; then the first product of
two matrices kills the process (llama.cpp's issue 20824 and pull request 26954). Nothing in the
library tells, so one product is tried in a child process. Without that optimisation, AMX works.
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
    """False if this build has AMX kernels and they do not work.

    llama.cpp must then be kept from repacking weights, of which AMX is a part.
    """
    return "AMX_INT8 = 1" not in system_info() or _probe(library_folder())


@functools.cache
def warn_unless_safe() -> None:
    """Say once what is lost where ``is_safe`` is False, and how to have it."""
    if not is_safe():
        warn(
            f"the AMX kernels of this build of llama.cpp crash (some versions of GCC compile them "
            f"wrongly) and are left out: another build is about three times as fast; make it "
            f"with: {rebuild_command(*WORKING_AMX)}"
        )


def _probe(folder: Path) -> bool:
    """Whether a matrix product by the ggml in ``folder`` ends well, in a process of its own."""
    command = [sys.executable, "-I", amx_probe.__file__, str(folder)]
    try:
        probe = subprocess.run(command, capture_output=True, timeout=_PROBE_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return probe.returncode == 0
