"""Watches a server from outside: its processes, and what its log says of each request."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

import psutil

_SECONDS_BETWEEN_SAMPLES = 1.0
# Between a time in the log and one of another process.
_CLOCK_SECONDS = 0.005
_LINE = re.compile(
    r"(?P<at>\S+ \S+) (?P<id>\S+) \S+ POST \S+ \d+ .*?"
    r"(?:waited=(?P<waited>[\d.]+)s )?(?P<seconds>[\d.]+)s"
)


@dataclass
class Watch:
    """Samples of memory (MB), open files and threads of a process and its children."""

    pid: int
    samples: list[tuple[float, int, int]] = field(default_factory=list)

    def processes(self) -> list[psutil.Process]:
        """Return the server's process, and then its children."""
        server = psutil.Process(self.pid)
        return [server, *server.children(recursive=True)]

    def sample(self) -> None:
        """Read once."""
        found = [(0.0, 0, 0)]
        for each in self.processes():
            try:
                found.append((each.memory_info().rss / 1e6, each.num_fds(), each.num_threads()))
            except psutil.Error:  # it ended meanwhile
                continue
        memory, files, threads = zip(*found, strict=True)
        self.samples.append((sum(memory), sum(files), sum(threads)))

    def worker(self) -> psutil.Process | None:
        """Return the process that computes: the child with the most memory."""
        sizes = {}
        for each in self.processes()[1:]:
            try:
                sizes[each] = each.memory_info().rss
            except psutil.Error:
                continue
        return max(sizes, key=lambda each: sizes[each], default=None)

    async def follow(self) -> None:
        """Read once a second."""
        while True:
            self.sample()
            await asyncio.sleep(_SECONDS_BETWEEN_SAMPLES)


@dataclass(frozen=True)
class Turn:
    """When a request came, when it had a place, and when it ended; times of ``time.time()``."""

    arrived: float
    began: float
    ended: float

    def is_at(self, kill: tuple[float, float]) -> bool:
        """Return whether it had a place at a kill, which happened between two times."""
        before, after = kill
        return self.began - _CLOCK_SECONDS <= after and before <= self.ended + _CLOCK_SECONDS

    def waited_through(self, kill: tuple[float, float]) -> bool:
        """Return whether it had come, and had no place yet, at a kill."""
        before, after = kill
        return self.arrived < before and after < self.began


def turns_of(log: Iterable[str]) -> dict[str, Turn]:
    """Return the turns of requests by their ids, from the lines of an access log."""
    found = {}
    for line in log:
        if (match := _LINE.fullmatch(line.strip())) is not None:
            ended = datetime.strptime(match["at"], "%Y-%m-%d %H:%M:%S,%f").timestamp()
            arrived = ended - float(match["seconds"])
            found[match["id"]] = Turn(arrived, arrived + float(match["waited"] or 0.0), ended)
    return found
