"""Where this system keeps what localgen stores for a user; it does not know its content."""

from __future__ import annotations

import sys
from pathlib import Path

from localgen._util.home import home, path_from_environment


def cache_folder() -> Path | None:
    """Return the folder for files that can be recreated; it may not exist. None without a home."""
    if sys.platform == "darwin":
        return _folder("XDG_CACHE_HOME", "Library/Caches")
    return _folder("XDG_CACHE_HOME", ".cache")


def state_folder() -> Path | None:
    """Return the folder for what a user would miss; it may not exist. None without a home."""
    return _folder("XDG_STATE_HOME", ".local/state")


def _folder(variable: str, below_home: str) -> Path | None:
    """Return localgen's folder in the one that ``variable`` names, or below the home folder."""
    if sys.platform == "win32":
        variable, below_home = "LOCALAPPDATA", "AppData/Local"
    try:
        stated = path_from_environment(variable)
    except FileNotFoundError:
        stated = None
    # By the XDG specification, relative paths are invalid.
    if stated and stated.is_absolute():
        return stated / "localgen"
    found = home()
    return found / below_home / "localgen" if found else None
