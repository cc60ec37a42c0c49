"""Keeps measured speeds, with the model, the job and the machine that they hold for."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from localgen._util.atomic_write import atomic_write_bytes
from localgen._util.json_text import read_json
from localgen.errors import JobError
from localgen.jobs.ray.measuring import Measured
from localgen.jobs.ray.plan import Arrangement
from localgen.jobs.ray.speed import Speed
from localgen.profiles import store
from localgen.profiles.store import ProfileKey

_FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Speeds:
    """What was measured of one job on one machine.

    model: its fingerprint. job: a hash of its options and of the sample, see ``job_hash``. machine:
    as ``profiles.store`` names it. n_cpus: that it may use.
    """

    model: str
    job: str
    machine: str
    n_cpus: int
    measured: tuple[Measured, ...] = ()

    def of(self, found: Arrangement) -> Measured | None:
        """Return what was measured with so many actors and threads; None if that was not."""
        for each in self.measured:
            if (each.speed.n_actors, each.speed.n_threads) == (found.n_actors, found.n_threads):
                return each
        return None

    def with_measured(self, new: Measured) -> Speeds:
        return replace(self, measured=(*self.measured, new))


def job_hash(header: Mapping[str, Any], sample_hash: str) -> str:
    """Return a hash of what a job's speed depends on: its options, without the seed, and rows."""
    options = [header["model_options"], {**header["generation_options"], "seed": None}]
    text = json.dumps([options, sample_hash], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def read_speeds(path: Path, wanted: Speeds) -> Speeds | None:
    """Return the speeds of a file, of any machine; None if there is no file.

    Raises JobError for a file that is none, and for speeds of another model or job; OSError.
    """
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        found = _speeds(read_json(text))
    except (ValueError, TypeError, KeyError):
        raise JobError(
            f"{path} is no file of speeds that this version can read. Choose another name; the "
            f"speeds are then measured and written there."
        ) from None
    for name, what in (("model", "another model"), ("job", "another job or input")):
        if getattr(found, name) != getattr(wanted, name):
            raise JobError(
                f"the speeds in {path} are those of {what}. Choose another name; the speeds are "
                f"then measured and written there."
            )
    return found


def write_speeds(path: Path, speeds: Speeds) -> None:
    """Write a file of speeds. Raises OSError."""
    atomic_write_bytes(path, (json.dumps(_as_json(speeds), indent=1) + "\n").encode())


def kept_speeds(key: ProfileKey, wanted: Speeds) -> Speeds:
    """Return the speeds that this machine's measurements have for the job, or ``wanted``."""
    data = store.load(key, _kind(wanted))
    try:
        return wanted if data is None else _speeds(data)
    except (ValueError, TypeError, KeyError):
        return wanted


def keep_speeds(key: ProfileKey, speeds: Speeds) -> None:
    """Save speeds among this machine's measurements, if they can be written."""
    store.save(key, _kind(speeds), _as_json(speeds))


def _kind(speeds: Speeds) -> str:
    return f"speeds_{speeds.job}"


def _as_json(speeds: Speeds) -> dict[str, Any]:
    return {"localgen_speeds": _FORMAT, **asdict(speeds)}


def _speeds(data: dict[str, Any]) -> Speeds:
    """Return the speeds of a JSON object. Raises ValueError, TypeError or KeyError."""
    data = dict(data)
    if data.pop("localgen_speeds") != _FORMAT:
        raise ValueError("of another version")
    measured = tuple(
        Measured(
            speed=Speed(**each["speed"]),
            rows=tuple((int(computed), int(new)) for computed, new in each["rows"]),
            longest=int(each["longest"]),
        )
        for each in data.pop("measured")
    )
    return Speeds(**data, measured=measured)
