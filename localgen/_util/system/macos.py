"""What macOS reports beyond psutil: the processor's name and a process's peak memory."""

from __future__ import annotations

import subprocess

from localgen._util.system.platform import Platform, max_rss

_SYSCTL_SECONDS = 5.0


class MacOS(Platform):
    """macOS on Intel and on Apple's own processors."""

    def cpu_name(self) -> str:
        """Return the brand, as "Apple M2": ``platform.processor()`` gives the architecture."""
        command = ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"]
        try:
            brand = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_SYSCTL_SECONDS,
                check=True,
            )
        except (OSError, subprocess.SubprocessError):
            return super().cpu_name()
        return brand.stdout.decode("utf-8", errors="replace").strip() or super().cpu_name()

    def peak_memory(self) -> int:
        """Return getrusage's peak, which macOS counts in bytes."""
        peak = max_rss()
        return super().peak_memory() if peak is None else peak
