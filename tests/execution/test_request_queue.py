"""Clients put, instances take: bounded, in order, each admitted request over exactly once."""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from ortolan.errors import DeadlineExceeded, QueueFull, RequestTimeout, Unavailable
from ortolan.execution.batch_policy import Batching
from ortolan.execution.cost_curve import CurveBook, CurvePoint
from ortolan.execution.queued_request import QueuedRequest, Refusal
from ortolan.execution.request_queue import QueueLimits, RequestQueue, Work
from ortolan.execution.waiting_line import LinePolicy
from ortolan.repository.model_config import QueuePolicy, TimeoutAction

MILLISECOND = 1_000_000
AN_HOUR_NS = 3_600 * 10**9
A_WHILE_S = 30.0
NO_POLICY = LinePolicy()


class Clock:
    """A clock that stands still until it is set."""

    def __init__(self) -> None:
        self.now_ns = 0

    def __call__(self) -> int:
        return self.now_ns


def request(rows: int = 1, shapes: object = None, enqueued_ns: int = 0, **more: int) -> QueuedRequest:
    return QueuedRequest({}, (), rows, shapes, enqueued_ns, None, **more)


def queue_of(
    *requests: QueuedRequest,
    batching: Batching | None = None,
    policy: LinePolicy = NO_POLICY,
    limits: QueueLimits | None = None,
    curves: CurveBook | None = None,
    instances: int = 1,
    clock: Callable[[], int] | None = None,
) -> RequestQueue:
    """A queue with ``requests`` in it, whose clock stands at 0 unless another is given."""
    limits = limits or QueueLimits(100)
    queue = RequestQueue(batching or Batching(8), policy, limits, curves, instances, clock or Clock())
    assert queue.put(requests) == []
    return queue


def explicit(max_rows: int, delay_ns: int) -> Batching:
    return Batching(max_rows, (), delay_ns, explicit=True)


def curves_of(*points: tuple[int, int], max_rows: int = 8) -> CurveBook:
    """The curve through (rows, milliseconds)."""
    return CurveBook([CurvePoint(rows, ms * MILLISECOND) for rows, ms in points], max_rows, rows_vary=False)


def taken(queue: RequestQueue) -> Sequence[QueuedRequest]:
    """The next batch, which nothing was refused for; empty once there is none any more."""
    work = queue.take()
    if work is None:
        return []
    assert not work.refusals
    assert work.running is not None
    return work.running.requests


def refused(refusals: Sequence[Refusal]) -> list[tuple[QueuedRequest, type[Exception]]]:
    return [(refusal.request, type(refusal.error)) for refusal in refusals]


def in_a_thread(function: Callable[[], Work | None]) -> tuple[threading.Thread, list[Work | None]]:
    results: list[Work | None] = []
    thread = threading.Thread(target=lambda: results.append(function()))
    thread.start()
    return thread, results


def requests_of(work: Work | None) -> Sequence[QueuedRequest]:
    assert work is not None
    assert work.running is not None
    return work.running.requests


# -- bounds ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("capacity", [1, 2, 7])
def test_the_capacity_is_exact_to_the_last_request(capacity: int) -> None:
    queue = queue_of(*(request() for _ in range(capacity)), limits=QueueLimits(capacity))
    beyond = request()
    (refusal,) = queue.put([beyond])
    assert refused([refusal]) == [(beyond, QueueFull)]
    assert refusal.error.message.startswith(f"Exceeds maximum queue size: {capacity} requests")
    assert len(queue) == capacity
    assert not beyond.waiting
    queue.take()
    assert queue.put([beyond]) == []


def test_of_several_requests_put_at_once_those_that_fit_are_let_in() -> None:
    several = [request() for _ in range(5)]
    queue = queue_of(limits=QueueLimits(3))
    assert refused(queue.put(several)) == [(several[3], QueueFull), (several[4], QueueFull)]
    assert taken(queue) == several[:3]


def test_a_capacity_of_nothing_refuses_everything() -> None:
    assert len(queue_of(limits=QueueLimits(0)).put([request()])) == 1


def test_the_bytes_that_wait_are_bounded_but_one_request_always_fits() -> None:
    queue = queue_of(request(size_bytes=60), limits=QueueLimits(100, max_bytes=100))
    third = request(size_bytes=1)
    assert queue.put([request(size_bytes=40)]) == []
    (refusal,) = queue.put([third])
    assert refused([refusal]) == [(third, QueueFull)]
    assert "100 bytes" in refusal.error.message
    assert queue.waiting_bytes == 100
    queue.take()
    assert queue.waiting_bytes == 0
    assert queue.put([request(size_bytes=1_000)]) == []


def test_a_request_that_is_refused_says_when_to_come_again() -> None:
    """A backlog of 40 rows at 8 rows in 4 s takes 20 s for one instance, 10 s for two."""
    for instances, seconds in ((1, 20), (2, 10)):
        queue = queue_of(
            *(request(rows=4) for _ in range(10)),
            limits=QueueLimits(10),
            curves=curves_of((1, 1000), (8, 4000)),
            instances=instances,
        )
        (refusal,) = queue.put([request()])
        assert isinstance(refusal.error, QueueFull)
        assert refusal.error.retry_after_s == seconds


# -- who comes out, and when -------------------------------------------------------------------------------------------


def test_requests_come_out_in_the_order_in_which_they_came() -> None:
    requests = [request() for _ in range(5)]
    queue = queue_of(*requests, batching=Batching(2))
    assert [taken(queue), taken(queue), taken(queue)] == [requests[:2], requests[2:4], requests[4:]]


def test_a_batch_is_as_large_as_pays_by_the_cost_curve() -> None:
    requests = [request() for _ in range(8)]
    flat = queue_of(*requests, curves=curves_of((1, 10), (8, 10)))
    assert taken(flat) == requests
    steep = queue_of(*(request() for _ in range(8)), curves=curves_of((1, 10), (8, 80)))
    assert [len(taken(steep)) for _ in range(8)] == [1] * 8


def test_the_first_levels_requests_come_first_and_a_delayed_one_last() -> None:
    clock = Clock()
    policy = LinePolicy(2, 2, QueuePolicy(TimeoutAction.DELAY), None, declared=True)
    late = request(priority=1, queue_deadline_ns=5)
    low, high = request(priority=2), request(priority=1)
    queue = queue_of(late, low, high, batching=Batching(), policy=policy, clock=clock)
    clock.now_ns = 5
    assert not queue.expire(late)
    assert [taken(queue) for _ in range(3)] == [[high], [late], [low]]


def test_a_delay_is_waited_and_then_over() -> None:
    delay_ns = 5 * MILLISECOND
    first = request(enqueued_ns=time.monotonic_ns())
    queue = queue_of(first, batching=explicit(8, delay_ns), clock=time.monotonic_ns)
    assert taken(queue) == [first]
    assert time.monotonic_ns() >= first.enqueued_ns + delay_ns


def test_of_several_instances_that_wait_for_a_batch_one_gets_it_when_it_is_due() -> None:
    queue = queue_of(batching=explicit(8, 20 * MILLISECOND), clock=time.monotonic_ns)
    takers = [in_a_thread(queue.take) for _ in range(3)]
    first, second = (request(enqueued_ns=time.monotonic_ns()) for _ in range(2))
    queue.put([first])
    queue.put([second])
    while len(queue):
        time.sleep(0)
    assert time.monotonic_ns() >= first.enqueued_ns + 20 * MILLISECOND
    queue.close()
    for thread, _ in takers:
        thread.join(A_WHILE_S)
    works = [work for _, (work,) in takers if work is not None]
    assert [requests_of(work) for work in works] == [[first, second]]


def test_the_last_row_of_a_full_batch_ends_the_delay() -> None:
    requests = [request() for _ in range(4)]
    queue = queue_of(*requests[:3], batching=explicit(4, AN_HOUR_NS))
    thread, found = in_a_thread(queue.take)
    queue.put([requests[3]])
    thread.join(A_WHILE_S)
    assert requests_of(found[0]) == requests


def test_closing_ends_the_delay_and_what_waits_goes_as_one_batch() -> None:
    requests = [request() for _ in range(3)]
    queue = queue_of(*requests, batching=explicit(8, AN_HOUR_NS))
    thread, found = in_a_thread(queue.take)
    queue.close()
    thread.join(A_WHILE_S)
    assert requests_of(found[0]) == requests


def test_a_request_that_arrives_wakes_an_instance() -> None:
    queue = queue_of()
    thread, found = in_a_thread(queue.take)
    first = request()
    queue.put([first])
    thread.join(A_WHILE_S)
    assert requests_of(found[0]) == [first]


def test_nothing_is_taken_before_as_many_wait_as_a_test_asks_for() -> None:
    requests = [request() for _ in range(4)]
    queue = queue_of(*requests[:2], batching=Batching(), limits=QueueLimits(hold_until=3))
    thread, found = in_a_thread(queue.take)
    queue.put([requests[2]])
    thread.join(A_WHILE_S)
    assert requests_of(found[0]) == requests[:1]
    assert [taken(queue), taken(queue)] == [[requests[1]], [requests[2]]]
    queue.put([requests[3]])
    assert taken(queue) == requests[3:]  # it holds once only


def test_closing_ends_a_tests_hold() -> None:
    first = request()
    queue = queue_of(first, limits=QueueLimits(hold_until=3))
    queue.close()
    assert taken(queue) == [first]
    assert queue.take() is None


# -- who leaves without being executed ---------------------------------------------------------------------------------


def test_a_request_that_is_taken_out_makes_room_and_is_never_executed() -> None:
    first, second, third = request(), request(), request()
    queue = queue_of(first, second, limits=QueueLimits(2))
    assert queue.take_out(first)
    assert queue.put([third]) == []
    assert taken(queue) == [second, third]


def test_a_request_can_be_taken_out_once_and_only_while_it_waits() -> None:
    first, second = request(), request()
    queue = queue_of(first, second, batching=Batching())
    assert taken(queue) == [first]
    assert not queue.take_out(first)
    assert queue.take_out(second)
    assert not queue.take_out(second)


def test_a_run_is_given_up_when_the_last_of_its_requests_is_and_not_before() -> None:
    requests = [request() for _ in range(3)]
    queue = queue_of(*requests)
    work = queue.take()
    assert work is not None
    assert work.running is not None
    for each in requests[:2]:
        queue.take_out(each)
        queue.take_out(each)  # a second time makes no difference
    assert not work.running.abandoned
    queue.take_out(requests[2])
    assert work.running.abandoned


def test_a_request_expires_once_and_only_when_its_time_is_over() -> None:
    clock = Clock()
    first, second = request(queue_deadline_ns=10), request()
    queue = queue_of(first, second, clock=clock)
    assert not queue.expire(first)
    clock.now_ns = 10
    assert queue.expire(first)
    assert not queue.expire(first)
    assert not queue.expire(second)
    assert taken(queue) == [second]
    assert not queue.expire(second)


def test_an_instance_that_finds_a_request_expired_refuses_it_instead_of_running_it() -> None:
    clock = Clock()
    first, second = request(queue_deadline_ns=10), request()
    queue = queue_of(first, second, clock=clock)
    clock.now_ns = 10
    work = queue.take()
    assert work is not None
    assert (work.running, refused(work.refusals)) == (None, [(first, RequestTimeout)])
    assert work.refusals[0].error.message == "Request timeout expired"
    assert taken(queue) == [second]


def test_requests_that_would_be_late_are_refused_before_anything_is_spent_on_them() -> None:
    """Each of the first three would be part of a batch of 10 ms, and has 5 ms left."""
    clock = Clock()
    late = [request(deadline_ns=25 * MILLISECOND) for _ in range(3)]
    fine = request(deadline_ns=100 * MILLISECOND)
    queue = queue_of(*late, fine, curves=curves_of((1, 10), (8, 10)), clock=clock)
    clock.now_ns = 20 * MILLISECOND
    work = queue.take()
    assert work is not None
    assert (work.running, refused(work.refusals)) == (None, [(each, DeadlineExceeded) for each in late])
    assert taken(queue) == [fine]


def test_a_request_is_refused_at_the_door_when_those_before_it_would_make_it_late() -> None:
    queue = queue_of(*(request() for _ in range(8)), batching=Batching(), curves=curves_of((1, 10), (8, 80)))
    late, fine = request(deadline_ns=89 * MILLISECOND), request(deadline_ns=91 * MILLISECOND)
    (refusal,) = queue.put([late, fine])
    assert refused([refusal]) == [(late, DeadlineExceeded)]
    assert "about 90.0 ms are needed" in refusal.error.message
    assert queue.predicted_wait_ns(len(queue)) == 90 * MILLISECOND


def test_a_request_whose_deadline_has_passed_is_refused_at_the_door() -> None:
    clock = Clock()
    clock.now_ns = 20
    queue = queue_of(clock=clock)
    assert refused(queue.put([late := request(deadline_ns=19)])) == [(late, DeadlineExceeded)]


def test_a_cost_that_was_measured_wrong_does_not_refuse_every_request_for_ever() -> None:
    """The curve says an hour. Who waits with a deadline before that is executed all the same where nothing else is
    to be done, so that the curve is corrected."""
    queue = queue_of(curves=curves_of((1, 3_600_000), (8, 3_600_000)))
    requests = [request(deadline_ns=1000 * MILLISECOND) for _ in range(3)]
    thread, found = in_a_thread(queue.take)
    while refused(queue.put([requests[0]])):  # until the instance waits
        time.sleep(0)
    thread.join(A_WHILE_S)
    assert requests_of(found[0]) == requests[:1]


# -- the end -----------------------------------------------------------------------------------------------------------


def test_a_closed_queue_refuses_but_gives_what_waits() -> None:
    first = request()
    queue = queue_of(first)
    queue.close()
    (refusal,) = queue.put([request()])
    assert type(refusal.error) is Unavailable
    assert "stopped accepting new inference requests" in refusal.error.message
    assert taken(queue) == [first]
    assert queue.take() is None
    assert queue.take() is None


def test_closing_wakes_every_instance_that_waits() -> None:
    queue = queue_of()
    takers = [in_a_thread(queue.take) for _ in range(4)]
    queue.close()
    for thread, found in takers:
        thread.join(A_WHILE_S)
        assert found == [None]


@pytest.mark.parametrize("batching", [Batching(3), explicit(3, 200_000)], ids=["at once", "delayed"])
def test_several_instances_share_what_several_clients_bring(batching: Batching) -> None:
    queue = queue_of(batching=batching, limits=QueueLimits(1_000), instances=4, clock=time.monotonic_ns)
    requests = [request() for _ in range(400)]

    def take_all() -> list[QueuedRequest]:
        found: list[QueuedRequest] = []
        while batch := taken(queue):
            found += batch
        return found

    def put_some(first: int) -> list[QueuedRequest]:
        out = []
        for index in range(first, len(requests), 4):
            requests[index].enqueued_ns = time.monotonic_ns()
            assert queue.put([requests[index]]) == []
            if index % 5 == 0 and queue.take_out(requests[index]):
                out.append(requests[index])
        return out

    with ThreadPoolExecutor(8) as threads:
        takers = [threads.submit(take_all) for _ in range(4)]
        putters = [threads.submit(put_some, first) for first in range(4)]
        out = [each for putter in putters for each in putter.result(A_WHILE_S)]
        queue.close()
        out += [each for taker in takers for each in taker.result(A_WHILE_S)]
    assert sorted(map(id, out)) == sorted(map(id, requests))


def test_a_row_has_the_bytes_of_its_request_divided_by_its_rows() -> None:
    each = request(rows=4, size_bytes=64)
    assert each.row_bytes == 16
    assert replace(each, rows=0).row_bytes == 0
