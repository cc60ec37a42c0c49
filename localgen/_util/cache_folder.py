"""Where this system keeps files that can be recreated; it does not know their content."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def cache_folder() -> Path | None:
    """Return localgen's folder in the user's cache, which may not exist; None without a home."""
    if sys.platform == "win32":
        variable, below_home = "LOCALAPPDATA", Path("AppData", "Local")
    elif sys.platform == "darwin":
        variable, below_home = "XDG_CACHE_HOME", Path("Library", "Caches")
    else:
        variable, below_home = "XDG_CACHE_HOME", Path(".cache")
    stated = os.environ.get(variable, "")
    # By the XDG specification, relative paths are invalid.
    if stated and Path(stated).is_absolute():
        return Path(stated) / "localgen"
    try:
        return Path.home() / below_home / "localgen"
    except RuntimeError:  # this user has no home folder
        return None
