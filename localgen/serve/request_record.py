"""RequestRecord: what the log and the metrics say of one request."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Iterable
from typing import Any

from starlette.routing import Match

from localgen.completion import Stats

_RECORD = "localgen.record"
# An id of a client's own: it goes into logs and headers.
_SANE_ID = re.compile(r"[A-Za-z0-9_.:@+/=-]{1,128}")


class RequestRecord:
    """A request, from its arrival to its end.

    id: the client's X-Request-Id if it is a plain one, else a new one. waited: seconds in the
    queue. model: the one that it used, if any. stats: of each text that was generated. status: of
    the answer; 499 if the client left before it began, as nginx counts it. failure: the status and
    the code of the error that ended a stream, whose own status was sent before.
    """

    def __init__(self, given_id: str | None = None) -> None:
        is_sane = given_id is not None and _SANE_ID.fullmatch(given_id)
        self.id = str(given_id) if is_sane else f"req-{secrets.token_hex(12)}"
        self.started = time.perf_counter()
        self.waited = 0.0
        self.model: str | None = None
        self.stats: list[Stats] = []
        self.status = 499
        self.failure: tuple[int, str] | None = None

    def count(self, model: str, stats: Iterable[Stats]) -> None:
        """Add what was generated, by the name of its model: ``[c.stats for c in completions]``."""
        self.model = model
        self.stats.extend(stats)

    @property
    def seconds(self) -> float:
        """Seconds since its arrival."""
        return time.perf_counter() - self.started

    @property
    def n_prompt(self) -> int:
        """The tokens of its prompts."""
        return sum(each.n_prompt for each in self.stats)

    @property
    def n_cached(self) -> int:
        """Those of ``n_prompt`` that were not computed."""
        return sum(each.n_cached for each in self.stats)

    @property
    def n_new(self) -> int:
        """The tokens that were generated."""
        return sum(each.n_new for each in self.stats)


def start_record(scope: Any, given_id: str | None) -> RequestRecord:
    """Return the record of a request that has arrived, and keep it in its scope."""
    record: RequestRecord = scope.setdefault(_RECORD, RequestRecord(given_id))
    return record


def record_of(scope: Any) -> RequestRecord:
    """Return the record of a request; a new one where no middleware has started it."""
    return start_record(scope, None)


def route_of(scope: Any) -> str:
    """Return the route of a request, of which there are few: ``/v1/models/{id}``; "other" if its
    path has none.

    A request that is refused before it takes its route, as for its key, has it as well.
    """
    app = scope.get("app")
    if app is None:
        return "other"
    paths = (each.path_format for each in app.routes if each.matches(scope)[0] is not Match.NONE)
    return next(paths, "other")
