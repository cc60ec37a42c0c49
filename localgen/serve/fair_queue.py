"""FairQueue: who waits, in which order they go, and whom a full queue refuses.

It knows clients by name and requests by the rows that they compute, and neither HTTP nor time.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass
from enum import Enum, auto


class State(Enum):
    """Where a request stands."""

    WAITING = auto()
    RUNNING = auto()
    LEFT = auto()  # it ended, gave up, or was refused


@dataclass(slots=True, eq=False)
class Ticket:
    """A request in the queue. n_rows: the places that it takes while it runs."""

    client: str
    n_rows: int
    state: State = State.WAITING


class FairQueue:
    """Requests of clients that share ``max_running`` places; ``max_waiting`` may wait for one.

    Of the clients that wait, the one goes next that has the fewest rows running, and of several
    such the one that was not served for longest: with equal requests they take turns. The requests
    of one client run in the order in which they came. Nobody overtakes a request that waits for
    more places than are free, so it is not starved by smaller ones.
    """

    def __init__(self, max_running: int, max_waiting: int) -> None:
        self.max_running = max_running
        self.max_waiting = max_waiting
        self.n_running = 0
        self.n_waiting = 0
        # The clients that wait, the one not served for longest first.
        self._waiting: dict[str, deque[Ticket]] = {}
        self._rows: Counter[str] = Counter()

    def enter(self, client: str, n_rows: int = 1) -> tuple[Ticket, Ticket | None]:
        """Add a request; return its ticket, and the ticket that must leave for it, if any.

        A full queue drops the newest request of the client with the most of them. That is the new
        one itself unless another client has at least two more. A request for more rows than there
        are places takes all of them.
        """
        ticket = Ticket(client, min(n_rows, self.max_running))
        self._waiting.setdefault(client, deque()).append(ticket)
        self.n_waiting += 1
        if self.n_waiting <= self.max_waiting or self._next() is ticket:
            return ticket, None
        dropped = self._newest_of_greediest(client)
        self.leave(dropped)
        return ticket, dropped

    def start_next(self) -> Ticket | None:
        """Start the request whose turn it is, and return it; None if none can start now."""
        ticket = self._next()
        if ticket is None:
            return None
        queue = self._waiting.pop(ticket.client)
        queue.popleft()
        if queue:  # at the end: it was served last
            self._waiting[ticket.client] = queue
        self.n_waiting -= 1
        self.n_running += ticket.n_rows
        self._rows[ticket.client] += ticket.n_rows
        ticket.state = State.RUNNING
        return ticket

    def leave(self, ticket: Ticket) -> None:
        """Take a request out, wherever it stands; a second call does nothing."""
        if ticket.state is State.WAITING:
            queue = self._waiting[ticket.client]
            queue.remove(ticket)
            if not queue:
                del self._waiting[ticket.client]
            self.n_waiting -= 1
        elif ticket.state is State.RUNNING:
            self.n_running -= ticket.n_rows
            self._rows[ticket.client] -= ticket.n_rows
            if not self._rows[ticket.client]:
                del self._rows[ticket.client]
        ticket.state = State.LEFT

    def rows_ahead(self) -> int:
        """Return the rows that run or wait."""
        return self.n_running + sum(
            ticket.n_rows for queue in self._waiting.values() for ticket in queue
        )

    def _next(self) -> Ticket | None:
        """Return the request whose turn it is, if its rows find places."""
        if not self._waiting:
            return None
        client = min(self._waiting, key=lambda name: self._rows[name])
        ticket = self._waiting[client][0]
        return ticket if self.n_running + ticket.n_rows <= self.max_running else None

    def _newest_of_greediest(self, client: str) -> Ticket:
        """Return the ticket that leaves a full queue which ``client`` has just entered."""
        own = len(self._waiting[client])
        greediest = max(self._waiting, key=lambda name: len(self._waiting[name]))
        # The newcomer is counted, so that clients with equal shares do not drop one another.
        if len(self._waiting[greediest]) <= own:
            greediest = client
        return self._waiting[greediest][-1]
