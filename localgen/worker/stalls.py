"""StallWatch: tells a worker that stalls from one that works for long."""

from __future__ import annotations

_LOOKS = 4
# Of a worker that does not even say that it runs: it may start, or hold Python's lock, for a while.
_LEAST_SILENT_SECONDS = 60.0


class StallWatch:
    """Counts looks at a worker since it last gave a sign, or any news of its work.

    Looks are counted instead of time: after this process itself was stopped, as a container may be,
    what the worker has sent meanwhile is yet to be read.

    seconds: how long a forward pass may take. A silence may be as long, or a minute if that is
    longer. look_every: the seconds between looks.
    """

    def __init__(self, seconds: float) -> None:
        self.look_every = seconds / _LOOKS
        self._seconds = seconds
        self.silent_seconds = max(seconds, _LEAST_SILENT_SECONDS)
        self._seen: tuple[int, int, int] = (0, 0, 0)
        self._n_silent = self._n_without_news = 0

    def look(self, pid: int, n_signs: int, n_news: int, *, computes: bool) -> str | None:
        """Return how the worker has stalled, which continues a sentence about it; None if it has
        not.

        n_signs: its messages so far; n_news: those that are more than a sign that it runs.
        computes: whether it said that it would run a forward pass.
        """
        seen, self._seen = self._seen, (pid, n_signs, n_news)
        is_silent = self._seen == seen
        self._n_silent = self._n_silent + 1 if is_silent else 0
        stands = computes and (pid, n_news) == (seen[0], seen[2])
        self._n_without_news = self._n_without_news + 1 if stands else 0
        if self._n_without_news >= _LOOKS:
            return f"was killed: a forward pass took over {self._seconds:g} seconds"
        if self._n_silent * self.look_every >= self.silent_seconds:
            return f"was killed: it did nothing for over {self.silent_seconds:g} seconds"
        return None
