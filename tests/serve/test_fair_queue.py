"""The order of requests: computed by hand, and in random walks."""

from __future__ import annotations

from collections import Counter

import hypothesis.strategies as st
from hypothesis import given
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from localgen.serve.fair_queue import FairQueue, State, Ticket


def enter(queue: FairQueue, client: str, n_rows: int = 1) -> Ticket:
    ticket, dropped = queue.enter(client, n_rows)
    assert dropped is None
    return ticket


def order(queue: FairQueue) -> str:
    """The clients in the order in which they run, one at a time."""
    served = ""
    while (ticket := queue.start_next()) is not None:
        served += ticket.client
        queue.leave(ticket)
    return served


def test_a_client_with_one_request_does_not_wait_for_all_those_of_another() -> None:
    queue = FairQueue(1, 100)
    for client in "aaaaabcb":
        enter(queue, client)
    assert order(queue) == "abcabaaa"


def test_places_go_to_the_client_that_has_the_fewest() -> None:
    queue = FairQueue(4, 100)
    running = [enter(queue, "a") for _ in range(4)]
    while queue.start_next():
        pass
    for client in "aabb":
        enter(queue, client)
    for expected in "bb":
        queue.leave(running.pop())
        started = queue.start_next()
        assert started is not None
        assert started.client == expected
        assert queue.start_next() is None


def test_nobody_overtakes_a_request_that_waits_for_several_places() -> None:
    queue = FairQueue(4, 100)
    first = enter(queue, "a", 2)
    assert queue.start_next() is first
    wide, narrow = enter(queue, "b", 4), enter(queue, "c", 1)
    assert queue.start_next() is None
    queue.leave(first)
    assert queue.start_next() is wide
    queue.leave(wide)
    assert queue.start_next() is narrow


def test_a_request_for_more_rows_than_there_are_places_takes_all_of_them() -> None:
    queue = FairQueue(4, 0)
    ticket = enter(queue, "a", 64)
    assert queue.start_next() is ticket
    assert queue.n_running == 4


def test_without_a_queue_only_what_can_run_at_once_enters() -> None:
    queue = FairQueue(1, 0)
    first = enter(queue, "a")
    assert queue.start_next() is first
    ticket, dropped = queue.enter("b")
    assert dropped is ticket


def test_a_full_queue_drops_the_newest_of_the_client_with_the_most() -> None:
    queue = FairQueue(1, 3)
    enter(queue, "a")
    queue.start_next()
    _, _, newest = (enter(queue, "a") for _ in range(3))
    _, dropped = queue.enter("b")
    assert dropped is newest
    # Now a has two and b one: b's next one is dropped itself, as is a's.
    for client in "ba":
        ticket, dropped = queue.enter(client)
        assert dropped is ticket
    assert order(queue) == ""
    assert queue.n_waiting == 3


class Walk(RuleBasedStateMachine):
    """Requests come, run, end and give up in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.queue = FairQueue(3, 4)
        self.waiting: list[Ticket] = []
        self.running: list[Ticket] = []

    @rule(client=st.sampled_from("abc"), n_rows=st.integers(1, 5))
    def come(self, client: str, n_rows: int) -> None:
        ticket, dropped = self.queue.enter(client, n_rows)
        self.waiting.append(ticket)
        if dropped is not None:
            assert dropped.state is State.LEFT
            n_of = Counter(each.client for each in self.waiting)
            assert n_of[dropped.client] == max(n_of.values())
            self.waiting.remove(dropped)
        while (started := self.queue.start_next()) is not None:
            self.waiting.remove(started)
            self.running.append(started)

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        ticket = data.draw(st.sampled_from(self.running))
        self.running.remove(ticket)
        self.leave(ticket)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        ticket = data.draw(st.sampled_from(self.waiting))
        self.waiting.remove(ticket)
        self.leave(ticket)

    def leave(self, ticket: Ticket) -> None:
        self.queue.leave(ticket)
        self.queue.leave(ticket)
        while (started := self.queue.start_next()) is not None:
            self.waiting.remove(started)
            self.running.append(started)

    @invariant()
    def none_is_lost_and_never_too_many_run(self) -> None:
        assert self.queue.n_waiting == len(self.waiting) <= 4
        assert self.queue.n_running == sum(each.n_rows for each in self.running) <= 3
        assert all(each.state is State.WAITING for each in self.waiting)
        assert all(each.state is State.RUNNING for each in self.running)
        rows = sum(each.n_rows for each in (*self.waiting, *self.running))
        assert self.queue.rows_ahead() == rows

    @invariant()
    def no_place_is_left_free_for_a_single_row(self) -> None:
        if self.waiting and all(each.n_rows == 1 for each in self.waiting):
            assert self.queue.n_running == 3

    def teardown(self) -> None:
        while self.running:
            self.leave(self.running.pop())
        assert not self.waiting


TestWalk = Walk.TestCase


@given(st.lists(st.sampled_from("abcd"), max_size=40))
def test_of_clients_that_wait_none_is_served_twice_before_another_once(clients: list[str]) -> None:
    queue = FairQueue(1, 100)
    for client in clients:
        enter(queue, client)
    served = order(queue)
    assert Counter(served) == Counter(clients)
    for at, client in enumerate(served):
        again = served.find(client, at + 1)
        if again > 0:
            still_waiting = set(served[again:])
            assert still_waiting - {client} <= set(served[at + 1 : again])
