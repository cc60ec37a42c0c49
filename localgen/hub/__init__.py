"""A name → a local file: an alias, a path, or a file on the Hugging Face Hub; it opens no model.

    lookup.py    resolve(): what a name means, step by step
    names.py     what a name says           levels.py    which file of many is meant
    catalog.py   aliases                    remote.py    the Hub: listing, download, errors
    cache.py     what is on the disk        inventory.py what there is, and removing it

Only ``remote`` makes requests. huggingface_hub is imported where a name needs it.
"""

from __future__ import annotations

from localgen.hub.catalog import DEFAULT_MODEL
from localgen.hub.lookup import resolve

__all__ = ["DEFAULT_MODEL", "resolve"]
