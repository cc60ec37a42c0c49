"""The results of a job on Ray, for programs that use them."""

from __future__ import annotations

import os
from collections.abc import Iterator

from localgen.jobs.ray.folder import Folder
from localgen.jobs.ray.parts import read_records
from localgen.jobs.results import Record


def read_results(location: str | os.PathLike[str]) -> Iterator[Record]:
    """Yield the record of each row of a job's folder once, in no order.

    location: a path or URI. A record is as those of ``localgen batch``, with the number of its
    ``file``. A row that only failed has its last ``error``. Raises JobError for a corrupt part, if
    there is no such folder, and for one without results, unless its job has no rows.
    """
    yield from read_records(Folder.existing(os.fspath(location)))
