"""Streams of an isolated model: the same as ``generation.streaming``'s, with pieces that come by
themselves."""

from __future__ import annotations

from collections import deque

from localgen.completion import Completion
from localgen.generation.streaming import ChatStream
from localgen.text.replies.results import ReplyDelta
from localgen.worker.backend import RemoteBackend
from localgen.worker.calls import RemoteCall
from localgen.worker.client import Client
from localgen.worker.options import SentOptions
from localgen.worker.so_far import completions_so_far


class RemoteStream(ChatStream):
    """A call of one row that has begun in the worker."""

    def __init__(
        self, client: Client, call: RemoteCall, options: SentOptions, backend: RemoteBackend
    ) -> None:
        """backend: lives as long as the stream does."""
        self._client = client
        self._remote = call
        self._options = options
        self._owner = backend
        self._waiting: deque[ReplyDelta] = deque()
        self._ended = False

    def __del__(self) -> None:
        remote = getattr(self, "_remote", None)  # which an interrupted ``__init__`` did not set
        if remote is not None:
            self._client.supervisor.abandon_call(remote)

    def close(self) -> None:
        """End the generation; what was generated stays in ``completion``."""
        if not self._ended:
            self._ended = True
            self._waiting.clear()
            self._client.supervisor.check_usable()
            self._client.supervisor.cancel(self._remote)
            with self._client.carrying(self._remote, completions_so_far):
                self._client.wait(self._remote)

    @property
    def completion(self) -> Completion:
        """The Completion so far, "cancelled" unless it has come to its end."""
        remote = self._remote
        done = remote.outcome if remote.outcome is not None else completions_so_far(remote)
        return self._options.finished(0, done[0])

    def _next_delta(self) -> ReplyDelta:
        remote = self._remote
        while not self._waiting:
            if self._ended:
                raise StopIteration
            with self._client.carrying(remote, completions_so_far):
                self._client.wait(remote, lambda: bool(remote.updates))
                if not remote.updates:
                    self._ended = True
                    remote.result()
            self._take_updates()
        return self._waiting.popleft()

    def _take_updates(self) -> None:
        while self._remote.updates:
            for update in self._remote.updates.popleft():
                self._waiting.extend(update.deltas)
