"""Rows of a job's input that stand for all of them; it reads files, with pyarrow or without."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from localgen.errors import JobError
from localgen.jobs.rows import Line, read_lines


@dataclass(frozen=True, slots=True)
class Sample:
    """Lines chosen by chance, the same in each run, and how many there are in all."""

    lines: tuple[Line, ...]
    n_rows: int

    @property
    def hash(self) -> str:
        """A hash of the lines, to tell whether they are the same."""
        digest = hashlib.sha256()
        for line in self.lines:
            digest.update(line.data + b"\n")
        return digest.hexdigest()[:32]


def take_sample(lines: Iterable[Line], n_lines: int) -> Sample:
    """Return a sample of ``n_lines`` lines, or all if there are fewer; it reads each once."""
    draw = random.Random(0)  # the same sample each time
    kept: list[Line] = []
    n_rows = 0
    for line in lines:
        n_rows += 1
        if len(kept) < n_lines:
            kept.append(line)
        elif (place := draw.randrange(n_rows)) < n_lines:
            kept[place] = line
    draw.shuffle(kept)
    return Sample(tuple(kept), n_rows)


def lines_of_input(source: str) -> Iterator[Line]:
    """Yield the lines of a job's input. Raises JobError, also for what needs pyarrow without it."""
    if find_spec("pyarrow") is not None:
        from localgen.jobs.ray.source import find_files, lines_of  # noqa: PLC0415

        for file in find_files(source):
            yield from lines_of(file)
        return
    if "://" in source or Path(source).suffix in (".parquet", ".csv") or Path(source).is_dir():
        raise JobError(
            f"reading {source} needs pyarrow, which is not installed: without it the input must be "
            f"a file of JSON Lines. Install it with: pip install 'localgen[ray]'"
        )
    with open(source, "rb") as stream:
        yield from read_lines(stream)
