"""The settings of a comparison, and what is recorded to reproduce it."""

from __future__ import annotations

import dataclasses
import importlib
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from localgen.benchmark.measuring import surroundings
from localgen.compare.chat_file import ChatFile
from localgen.compare.compute_device import AUTO_DEVICE, ComputeDevice
from localgen.compare.levels import sha256
from localgen.compare.reference_pack import ReferencePack
from localgen.compare.task_answers import Task
from localgen.quantization.calibration import sha256_of

# Recorded settings that may differ when a comparison is resumed.
MAY_CHANGE = ("command", "date", "python", "numpy", "platform")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings of ``compare()``.

    source: the model's file. imatrix: the SHA-256 of the importance matrix that levels are made
    with, or "auto"; None without one. energy: the names of the counters; () if it is not measured.
    reference_pack: what levels are compared with, which has the text; None for the most precise
    level.
    """

    source: Path
    command: str
    text: str
    n_ctx: int
    n_chunks: int
    kv_types: tuple[str, ...]
    n_threads: int
    n_rounds: int
    imatrix: str | None = None
    devices: tuple[ComputeDevice, ...] = (AUTO_DEVICE,)
    chats: ChatFile | None = None
    depths: tuple[int, ...] = ()
    energy: tuple[str, ...] = ()
    tasks: tuple[Task, ...] = ()
    task_limit: int | None = None
    reference_pack: ReferencePack | None = None

    @property
    def text_sha256(self) -> str:
        if self.reference_pack is not None:
            return self.reference_pack.about.text_sha256
        return sha256_of(self.text)

    def as_dict(self) -> dict[str, Any]:
        """Return ``Comparison.settings``, the machine's and the versions included."""
        optional = {
            "imatrix": self.imatrix,
            "devices": self.devices != (AUTO_DEVICE,) and list(map(str, self.devices)),
            "depths": list(self.depths),
            "energy": list(self.energy),
            "chats_sha256": self.chats and self.chats.sha256,
            "reference_pack_sha256": self.reference_pack and self.reference_pack.sha256,
            "tasks_sha256": {task.name: task.sha256 for task in self.tasks},
            "task_limit": self.task_limit,
        }
        return {
            "command": self.command,
            "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M"),
            **surroundings(),
            "n_threads": self.n_threads,
            "n_ctx": self.n_ctx,
            "n_chunks": self.n_chunks,
            "kv_types": list(self.kv_types),
            "text_sha256": self.text_sha256,
            "source_sha256": sha256(self.source),
            **{name: value for name, value in optional.items() if value},
        }


def default_text() -> str:
    """Return the English prose that comes with CPython."""
    topics: dict[str, str] = importlib.import_module("pydoc_data.topics").topics
    return "\n".join(topics.values())
