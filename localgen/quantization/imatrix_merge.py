"""Merges importance matrices of one model."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from localgen._util.format import some_of
from localgen._util.home import expand_user
from localgen._util.warn import warn
from localgen.gguf.imatrix_file import Imatrix, read_sums
from localgen.gguf.imatrix_sums import Sums, merged
from localgen.quantization.imatrix_result import (
    ImportanceMatrix,
    described,
    target_of,
    text_hashes,
    warn_of_gaps,
)

# A file in the old format counts in chunks; this many tokens each if no other file tells.
_CHUNK_SIZE = 512
_FEWEST = 2


def merge_imatrices(
    files: Sequence[str | os.PathLike[str]],
    *,
    output: str | os.PathLike[str],
    overwrite: bool = False,
) -> ImportanceMatrix:
    """Write one importance matrix with the sums of several, of one model and different texts.

    files: GGUF files or those of the older format, at least two. overwrite: replace a matrix in
    ``output``. Warns of a text that several are made from, and of tensors that a file lacks. Raises
    ValueError for the arguments, also for two files with the same contents, and QuantizeError for
    files of different models and for a matrix in ``output`` without ``overwrite``.
    """
    paths = [expand_user(file) for file in files]
    if len(paths) < _FEWEST:
        raise ValueError(f"merging needs at least two files, got {len(paths)}")
    target = target_of(output, overwrite=overwrite, otherwise="overwrite=True replaces it")
    found = [read_sums(path) for path in paths]
    _check_different(paths)
    chunk_size = next((each.chunk_size for each in found if each.chunk_size), _CHUNK_SIZE)
    total = merged(
        (str(path), _by_tokens(each, chunk_size)) for path, each in zip(paths, found, strict=True)
    )
    most = max(int(sums.counts.max()) for sums in total.values())
    hashes = [text for each in found for text in text_hashes(each)]
    whole = Imatrix(
        sums=total,
        datasets=tuple(name for each in found for name in each.datasets),
        n_chunks=most // chunk_size,
        chunk_size=chunk_size,
        origin={"text_sha256": tuple(dict.fromkeys(hashes))},
    )
    whole.write(target)
    done = described(whole, target, (), 0.0)
    _warn_of_different_tensors(paths, found)
    _warn_of_shared_texts(paths, found)
    warn_of_gaps(done)
    return done


def _check_different(paths: Sequence[Path]) -> None:
    """Raise ValueError for files with the same contents, which would count twice."""
    seen: dict[bytes, Path] = {}
    for path in paths:
        digest = hashlib.sha256(path.read_bytes()).digest()
        if digest in seen:
            raise ValueError(
                f"{path} and {seen[digest]} are the same importance matrix, and its text would "
                f"count twice. Name it once."
            )
        seen[digest] = path


def _warn_of_different_tensors(paths: Sequence[Path], found: Sequence[Imatrix]) -> None:
    every = dict.fromkeys(name for each in found for name in each.sums)
    for path, each in zip(paths, found, strict=True):
        if lacking := [name for name in every if name not in each.sums]:
            warn(
                f"{path} lacks {some_of(lacking, 'tensor')} that another file has. Merge only "
                f"importance matrices of one model."
            )


def _warn_of_shared_texts(paths: Sequence[Path], found: Sequence[Imatrix]) -> None:
    sources: dict[str, list[str]] = {}
    for path, each in zip(paths, found, strict=True):
        for text in dict.fromkeys(text_hashes(each)):
            sources.setdefault(text, []).append(str(path))
    for shared in dict.fromkeys(tuple(names) for names in sources.values() if len(names) > 1):
        warn(f"{', '.join(shared)} are made from the same text, which counts {len(shared)} times")


def _by_tokens(found: Imatrix, chunk_size: int) -> Mapping[str, Sums]:
    """Return sums and counts of tokens; the older format's are of chunks."""
    if found.chunk_size:
        return found.sums
    return {
        name: Sums(sums.sums * chunk_size, sums.counts * chunk_size)
        for name, sums in found.sums.items()
    }
