"""Reads what the files of a repository are from their first bytes, on the disk or on the Hub."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING

from localgen.errors import InvalidGGUFError
from localgen.gguf.kind import kind_of
from localgen.gguf.reader import read_start
from localgen.hub.levels import KindOf, have_one_name
from localgen.hub.names import HubName
from localgen.hub.ranges import RemoteModel

if TYPE_CHECKING:
    from localgen.hub.remote import Listing

# What a model is stands before its vocabulary, in some kilobytes.
_BYTES = 2**16


def on_the_disk(folder: Path) -> KindOf:
    """Return a function that names what a file in ``folder`` is, if it is no language model."""

    @functools.cache
    def kind(file: str) -> str | None:
        try:
            with (folder / file).open("rb", buffering=0) as opened:
                return _described(opened.read(_BYTES), file)
        except OSError:  # the load says why
            return None

    return kind


def on_the_hub(name: HubName, listing: Listing) -> KindOf:
    """Return a function that names what a file of a repository is, if it is no language model.

    It makes a request for each file, unless all files are levels of one model by their names. Its
    function raises DownloadError.
    """
    if have_one_name(listing.files):
        return lambda _file: None

    @functools.cache
    def kind(file: str) -> str | None:
        from localgen.hub import remote  # noqa: PLC0415

        size = remote.file_size(name, listing, file)
        model = RemoteModel(name, listing.commit, ((file, size),))
        (reader,) = model.open()
        return _described(reader.read(_BYTES), file)

    return kind


def _described(start: bytes, file: str) -> str | None:
    """Return what a file is by its first bytes; None for a language model or no GGUF file."""
    try:
        n_tensors, metadata = read_start(start, Path(file))
    except InvalidGGUFError:  # the gate says why
        return None
    found = kind_of(metadata, n_tensors)
    return found.name if found else None
