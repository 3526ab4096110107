"""Clients put, instances take: bounded, in order, each admitted request exactly once."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ortolan.errors import QueueFull, Unavailable
from ortolan.execution.batch_policy import Batching
from ortolan.execution.request_queue import QueuedRequest, RequestQueue

AN_HOUR_NS = 3_600 * 10**9
A_WHILE_S = 30.0


def request(rows: int = 1, shapes: object = None, enqueued_ns: int = 0) -> QueuedRequest:
    return QueuedRequest({}, (), rows, shapes, enqueued_ns, None)


def queue_of(*requests: QueuedRequest, batching: Batching | None = None, capacity: int = 100) -> RequestQueue:
    queue = RequestQueue(batching or Batching(8), capacity, clock_ns=lambda: 0)
    for each in requests:
        queue.put(each)
    return queue


def in_a_thread(function: Callable[[], list[QueuedRequest]]) -> tuple[threading.Thread, list[list[QueuedRequest]]]:
    results: list[list[QueuedRequest]] = []
    thread = threading.Thread(target=lambda: results.append(function()))
    thread.start()
    return thread, results


@pytest.mark.parametrize("capacity", [1, 2, 7])
def test_the_capacity_is_exact_to_the_last_request(capacity: int) -> None:
    queue = queue_of(*(request() for _ in range(capacity)), capacity=capacity)
    with pytest.raises(QueueFull, match=f"Exceeds maximum queue size: {capacity} requests"):
        queue.put(request())
    assert len(queue) == capacity
    queue.take()
    queue.put(request())


def test_a_capacity_of_nothing_refuses_everything() -> None:
    with pytest.raises(QueueFull):
        queue_of(capacity=0).put(request())


def test_a_removed_request_makes_room_and_is_never_taken() -> None:
    first, second, third = request(), request(), request()
    queue = queue_of(first, second, capacity=2)
    assert queue.remove(first)
    queue.put(third)
    assert queue.take() == [second, third]


def test_a_request_can_be_removed_once_and_only_while_it_waits() -> None:
    first, second = request(), request()
    queue = queue_of(first, second, batching=Batching())
    assert queue.take() == [first]
    assert not queue.remove(first)
    assert queue.remove(second)
    assert not queue.remove(second)


def test_requests_come_out_in_the_order_in_which_they_came() -> None:
    requests = [request() for _ in range(5)]
    queue = queue_of(*requests, batching=Batching(2))
    assert [queue.take(), queue.take(), queue.take()] == [requests[:2], requests[2:4], requests[4:]]


def test_a_closed_queue_refuses_but_gives_what_waits() -> None:
    first = request()
    queue = queue_of(first)
    queue.close()
    with pytest.raises(Unavailable, match="stopped accepting new inference requests"):
        queue.put(request())
    assert queue.take() == [first]
    assert queue.take() == []
    assert queue.take() == []


def test_closing_wakes_every_instance_that_waits() -> None:
    queue = queue_of()
    takers = [in_a_thread(queue.take) for _ in range(4)]
    queue.close()
    for thread, taken in takers:
        thread.join(A_WHILE_S)
        assert taken == [[]]


def test_a_request_that_arrives_wakes_an_instance() -> None:
    queue = queue_of()
    thread, taken = in_a_thread(queue.take)
    first = request()
    queue.put(first)
    thread.join(A_WHILE_S)
    assert taken == [[first]]


def test_a_delay_is_waited_and_then_over() -> None:
    delay_ns = 5_000_000
    queue = RequestQueue(Batching(8, (), delay_ns), 100)
    first = request(enqueued_ns=time.monotonic_ns())
    queue.put(first)
    assert queue.take() == [first]
    assert time.monotonic_ns() >= first.enqueued_ns + delay_ns


def test_the_last_row_of_a_full_batch_ends_the_delay() -> None:
    requests = [request() for _ in range(4)]
    queue = queue_of(*requests[:3], batching=Batching(4, (), AN_HOUR_NS))
    thread, taken = in_a_thread(queue.take)
    queue.put(requests[3])
    thread.join(A_WHILE_S)
    assert taken == [requests]


def test_closing_ends_the_delay_and_what_waits_goes_as_one_batch() -> None:
    requests = [request() for _ in range(3)]
    queue = queue_of(*requests, batching=Batching(8, (), AN_HOUR_NS))
    thread, taken = in_a_thread(queue.take)
    queue.close()
    thread.join(A_WHILE_S)
    assert taken == [requests]


def test_several_instances_share_what_several_clients_bring() -> None:
    queue = RequestQueue(Batching(3), 1_000)
    requests = [request() for _ in range(400)]

    def take_all() -> list[QueuedRequest]:
        found: list[QueuedRequest] = []
        while batch := queue.take():
            found += batch
        return found

    def put_some(first: int) -> list[QueuedRequest]:
        removed = []
        for index in range(first, len(requests), 4):
            queue.put(requests[index])
            if index % 5 == 0 and queue.remove(requests[index]):
                removed.append(requests[index])
        return removed

    with ThreadPoolExecutor(8) as threads:
        takers = [threads.submit(take_all) for _ in range(4)]
        putters = [threads.submit(put_some, first) for first in range(4)]
        out = [each for putter in putters for each in putter.result(A_WHILE_S)]
        queue.close()
        out += [each for taker in takers for each in taker.result(A_WHILE_S)]
    assert sorted(map(id, out)) == sorted(map(id, requests))


class QueueMachine(RuleBasedStateMachine):
    """Any order of put, take, remove and close: what was admitted comes out exactly once, in order."""

    CAPACITY = 5

    def __init__(self) -> None:
        super().__init__()
        self.queue = RequestQueue(Batching(4), self.CAPACITY, clock_ns=lambda: 0)
        self.inside: list[QueuedRequest] = []
        self.outside: list[QueuedRequest] = []
        self.closed = False

    @rule(rows=st.integers(1, 5), shapes=st.sampled_from("aab"))
    def put(self, rows: int, shapes: str) -> None:
        each = request(rows, shapes)
        if self.closed:
            with pytest.raises(Unavailable, match="stopped accepting"):
                self.queue.put(each)
        elif len(self.inside) == self.CAPACITY:
            with pytest.raises(QueueFull):
                self.queue.put(each)
        else:
            self.queue.put(each)
            self.inside.append(each)

    @precondition(lambda self: self.inside or self.closed)
    @rule()
    def take(self) -> None:
        batch = self.queue.take()
        assert bool(batch) == bool(self.inside)
        assert batch == self.inside[: len(batch)]
        assert len(batch) <= 1 or sum(each.rows for each in batch) <= 4
        assert len({each.shapes for each in batch}) <= 1
        self.outside += batch
        del self.inside[: len(batch)]

    @precondition(lambda self: self.inside)
    @rule(data=st.data())
    def remove_one_that_waits(self, data: st.DataObject) -> None:
        each = data.draw(st.sampled_from(self.inside))
        assert self.queue.remove(each)
        self.inside.remove(each)
        self.outside.append(each)

    @precondition(lambda self: self.outside)
    @rule(data=st.data())
    def remove_one_that_is_gone(self, data: st.DataObject) -> None:
        assert not self.queue.remove(data.draw(st.sampled_from(self.outside)))

    @rule()
    def close(self) -> None:
        self.queue.close()
        self.closed = True

    @invariant()
    def as_many_wait_as_are_inside(self) -> None:
        assert len(self.queue) == len(self.inside)
        assert all(each.waiting for each in self.inside)
        assert not any(each.waiting for each in self.outside)

    def teardown(self) -> None:
        self.queue.close()
        while batch := self.queue.take():
            self.outside += batch
            del self.inside[: len(batch)]
        assert not self.inside
        assert len(set(map(id, self.outside))) == len(self.outside)


TestQueueMachine = QueueMachine.TestCase
TestQueueMachine.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
