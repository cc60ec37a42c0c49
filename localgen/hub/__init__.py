"""Resolves a name to a local file: an alias, a path, or a name on the Hugging Face Hub.

    lookup.py    resolve() and locate(): from a name to a file, step by step
    names.py     parses names               levels.py     chooses one file of a repository
    catalog.py   aliases                    remote.py     lists and fetches files of the Hub
    cache.py     reads the Hub's cache      inventory.py  lists and removes cached models
    headers.py   what a file is             ranges.py     reads the start of files on the Hub
    failures.py  explains the Hub's errors  bars.py       progress bars
    settings.py  huggingface_hub's settings

It loads no model. Only ``remote`` and ``ranges`` make requests; huggingface_hub is imported only
for names that need it.
"""

from __future__ import annotations

from localgen.hub.catalog import DEFAULT_MODEL
from localgen.hub.lookup import absolute_name, locate, resolve
from localgen.hub.ranges import RemoteModel

__all__ = ["DEFAULT_MODEL", "RemoteModel", "absolute_name", "locate", "resolve"]
