"""Instances that share a resource, with real threads, queues and sessions."""

import queue as queues
import threading
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import onnx_models
import pytest
from server_process import eventually

from ortolan.errors import OrtolanError
from ortolan.execution.batch_policy import Batching
from ortolan.execution.device_share import DeviceShare, DeviceUser
from ortolan.execution.devices import CPU_PROVIDER, Placement, Provider
from ortolan.execution.instance import Execution, Instance, Outcome
from ortolan.execution.queued_request import QueuedRequest
from ortolan.execution.rate_limiter import LimitedWork, RateLimiter
from ortolan.execution.request_queue import QueueLimits, RequestQueue
from ortolan.execution.resource_turns import DeclaredResource, ResourceUser
from ortolan.execution.session import Session
from ortolan.execution.session_settings import SessionSettings
from ortolan.execution.waiting_line import LinePolicy
from ortolan.repository.model_config import InstanceKind

A_WHILE_S = 30.0
R = (0, "R")
ALONE = Batching()
CPU = Placement("m_0", InstanceKind.CPU, 0, (Provider(CPU_PROVIDER),))


def session_of(proto: onnx.ModelProto) -> Session:
    return Session(proto.SerializeToString(), "m", SessionSettings(), CPU, Path())


SLOW = session_of(onnx_models.slow_as_asked())
GATHER = session_of(onnx_models.gather())


def steps(count: float) -> QueuedRequest:
    return QueuedRequest({"x": np.full((1, 4), count, np.float32)}, ("y",), 1, None, 0, None)


class Limited:
    """Instances that need R once each, on one limiter, and what they deliver."""

    def __init__(self, limiter: RateLimiter | None) -> None:
        self.limiter = limiter
        self.delivered: queues.Queue[tuple[str, Execution]] = queues.Queue()
        self.queues: dict[str, RequestQueue] = {}
        self.instances: list[Instance] = []
        self.users: list[ResourceUser] = []

    def add(self, name: str, batching: Batching = ALONE, count: int = 1, session: Session = SLOW) -> RequestQueue:
        queue = self.queues[name] = RequestQueue(batching, LinePolicy(), QueueLimits(), instances=count)
        for number in range(count):
            user = ResourceUser(name, {R: 1})
            if self.limiter is not None:
                self.limiter.admit([user])
            work = None if self.limiter is None else LimitedWork(queue, self.limiter, user)
            share = DeviceShare(4)
            instance = Instance(
                f"{name}_{number}",
                session,
                queue,
                lambda outcome: self.deliver(name, outcome),
                share,
                DeviceUser(name),
                limited=work,
            )
            self.instances.append(instance)
            self.users.append(user)
            instance.start()
        return queue

    def deliver(self, name: str, outcome: Outcome) -> None:
        for execution in outcome.executions:
            self.delivered.put((name, execution))

    def executions(self, count: int) -> list[tuple[str, Execution]]:
        return [self.delivered.get(timeout=A_WHILE_S) for _ in range(count)]

    def stop(self) -> None:
        for queue in self.queues.values():
            queue.close()
        for instance in self.instances:
            running = instance.running
            if running is not None:
                running.abandon()
        assert all(instance.join(A_WHILE_S) for instance in self.instances)


@pytest.fixture
def limited() -> Iterator[Limited]:
    limited = Limited(RateLimiter())
    yield limited
    limited.stop()


def overlapping(executions: list[tuple[str, Execution]]) -> int:
    spans = sorted((execution.times.start_ns, execution.times.end_ns) for _, execution in executions)
    return sum(later[0] < earlier[1] for earlier, later in pairwise(spans))


def test_two_models_that_share_a_resource_never_run_at_once(limited: Limited) -> None:
    one, two = limited.add("one", count=2), limited.add("two", count=2)
    for _ in range(30):
        one.put([steps(300)])
        two.put([steps(300)])
    found = limited.executions(60)
    assert overlapping(found) == 0
    assert {name for name, _ in found} == {"one", "two"}


def test_those_with_as_much_as_both_need_run_at_once() -> None:
    limited = Limited(RateLimiter([DeclaredResource("R", 2)]))
    one, two = limited.add("one"), limited.add("two")
    one.put([steps(1e9)])
    two.put([steps(1e9)])
    eventually(lambda: all(instance.running is not None for instance in limited.instances))
    limited.stop()


def test_who_waits_for_a_resource_stays_in_line_and_joins_a_larger_batch(limited: Limited) -> None:
    limited.add("holder").put([endless := steps(1e9)])
    eventually(lambda: endless.running is not None)
    waits = limited.add("waits", Batching(8))
    gone = steps(1)
    waits.put([gone])
    eventually(lambda: limited.limiter is not None and limited.limiter.waiting == 1)
    waits.put([steps(1), steps(1), steps(1)])
    assert len(waits) == 4
    assert waits.take_out(gone)  # its client gave up
    assert endless.running is not None
    endless.running.abandon()
    (_, first), (name, second) = limited.executions(2)
    assert isinstance(first.answers[0], OrtolanError)
    assert (name, second.rows) == ("waits", 3)


def test_a_turn_that_finds_no_one_any_more_is_passed_on(limited: Limited) -> None:
    limited.add("holder").put([endless := steps(1e9)])
    eventually(lambda: endless.running is not None)
    waits, other = limited.add("waits"), limited.add("other")
    gone = steps(1)
    waits.put([gone])
    eventually(lambda: limited.limiter is not None and limited.limiter.waiting == 1)
    other.put([steps(1)])
    assert waits.take_out(gone)
    assert endless.running is not None
    endless.running.abandon()
    assert [name for name, _ in limited.executions(2)] == ["holder", "other"]


def test_a_model_that_fails_gives_back_what_it_held(limited: Limited) -> None:
    fails, other = limited.add("fails", session=GATHER), limited.add("other")
    for _ in range(3):
        fails.put([QueuedRequest({"x": np.array([[9]])}, ("y",), 1, None, 0, None)])
        other.put([steps(1)])
    found = limited.executions(6)
    assert sum(isinstance(execution.answers[0], OrtolanError) for _, execution in found) == 3


def test_what_a_hung_run_holds_goes_to_others(limited: Limited) -> None:
    limited.add("hangs").put([endless := steps(1e9)])
    eventually(lambda: endless.running is not None)
    other = limited.add("other")
    other.put([steps(1)])
    limited.instances[0].lose_resources()
    assert limited.executions(1)[0][0] == "other"
    assert endless.running is not None
    endless.running.abandon()
    assert limited.executions(1)[0][0] == "hangs"
    limited.queues["hangs"].put([steps(1)])  # and gets them again for its next run
    assert limited.executions(1)[0][0] == "hangs"


def test_whoever_is_dismissed_while_it_waits_ends() -> None:
    limiter = RateLimiter()
    holder, waits = ResourceUser("holder", {R: 1}), ResourceUser("waits", {R: 1})
    limiter.admit([holder, waits])
    held = limiter.ask(holder)
    queue = RequestQueue(Batching(), LinePolicy(), QueueLimits())
    queue.put([steps(1)])
    got: list[object] = []
    thread = threading.Thread(target=lambda: got.append(LimitedWork(queue, limiter, waits).take()), daemon=True)
    thread.start()
    eventually(lambda: limiter.waiting == 1)
    limiter.dismiss([waits])
    thread.join(A_WHILE_S)
    assert got == [None]
    limiter.give_back(held, ran=True)


def test_one_instance_that_may_not_run_does_not_keep_work_from_another() -> None:
    """Both take from one queue; what the first needs is held."""
    limiter = RateLimiter()
    holder, blocked, free = (ResourceUser("m", {(device, "R"): 1}) for device in (0, 0, 1))
    limiter.admit([holder, blocked, free])
    limiter.ask(holder)
    queue = RequestQueue(Batching(), LinePolicy(), QueueLimits(), instances=2)
    got: queues.Queue[object] = queues.Queue()

    def work(user: ResourceUser) -> None:
        mine = LimitedWork(queue, limiter, user)
        while (taken := mine.take()) is not None:
            got.put((user, taken))
            mine.done()

    threads = [threading.Thread(target=work, args=[each], daemon=True) for each in (blocked, free)]
    for thread in threads:
        thread.start()
    for _ in range(5):
        queue.put([steps(1)])
        assert got.get(timeout=A_WHILE_S)[0] is free  # type: ignore[index]
    queue.close()
    limiter.dismiss([holder, blocked, free])
    for thread in threads:
        thread.join(A_WHILE_S)
        assert not thread.is_alive()
