"""What Windows reports beyond psutil: the processor's name."""

from __future__ import annotations

import importlib
from typing import Any

from localgen._util.system.platform import Platform

_PROCESSOR = r"HARDWARE\DESCRIPTION\System\CentralProcessor\0"


class Windows(Platform):
    """Windows 10 and later."""

    def cpu_name(self) -> str:
        """Return the name in the registry: ``platform.processor()`` gives family and model only."""
        winreg: Any = importlib.import_module("winreg")  # typed on Windows alone
        try:
            with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, _PROCESSOR) as key:
                name, _kind = winreg.QueryValueEx(key, "ProcessorNameString")
        except OSError:
            return super().cpu_name()
        return str(name).strip()

    def peak_memory(self) -> int:
        """Return the peak of the working set."""
        import psutil  # noqa: PLC0415

        return int(psutil.Process().memory_info().peak_wset)
