"""Reads the aliases in catalog.toml."""

from __future__ import annotations

import functools
import importlib.util
import sys
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from localgen.errors import ModelNotFoundError

DEFAULT_MODEL = "smollm2"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A model with an alias: in the repository ``repo`` or in the package ``package``."""

    description: str
    license: str
    repo: str | None = None
    level: str | None = None
    package: str | None = None
    install: str | None = None

    def package_file(self) -> Path | None:
        """Return the GGUF file in the package, without importing it; None if not installed."""
        spec = importlib.util.find_spec(self.package) if self.package else None
        folders = spec.submodule_search_locations if spec else None
        files = [file for folder in folders or () for file in sorted(Path(folder).glob("*.gguf"))]
        return files[0] if files else None


@functools.cache
def catalog() -> dict[str, Entry]:
    """Return the entries by alias, in the order of the file."""
    if sys.version_info >= (3, 11):
        import tomllib  # noqa: PLC0415  # not needed for a path
    else:
        import tomli as tomllib  # noqa: PLC0415

    text = resources.files("localgen.hub").joinpath("catalog.toml").read_text("utf-8")
    return {alias: Entry(**fields) for alias, fields in tomllib.loads(text).items()}


def installed_file(alias: str, entry: Entry) -> Path:
    """Return ``Entry.package_file``; ModelNotFoundError, with how to install it, if missing."""
    path = entry.package_file()
    if path is None:
        raise ModelNotFoundError(
            f"the model {alias!r} is not installed. Run `{entry.install}`, or pass the path of a "
            f".gguf file or a repository on the Hub (org/name)."
        )
    return path
