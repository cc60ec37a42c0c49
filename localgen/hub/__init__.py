"""A name → a local file: an alias, a path, or a file on the Hugging Face Hub; it opens no model.

    lookup.py    resolve() and locate(): what a name means, step by step
    names.py     what a name says           levels.py    which file of many is meant
    catalog.py   aliases                    remote.py    the Hub: listing, download, errors
    cache.py     what is on the disk        inventory.py what there is, and removing it
    ranges.py    the beginnings of files that stay on the Hub

Only ``remote`` and ``ranges`` make requests. huggingface_hub is imported where a name needs it.
"""

from __future__ import annotations

from localgen.hub.catalog import DEFAULT_MODEL
from localgen.hub.lookup import locate, resolve
from localgen.hub.ranges import RemoteModel

__all__ = ["DEFAULT_MODEL", "RemoteModel", "locate", "resolve"]
