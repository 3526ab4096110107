"""A batch that fails is taken apart, and an instance outlives whatever it ran."""

import queue as queues
import threading
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnx_models
import pytest
from onnx import TensorProto, helper
from server_process import eventually

from ortolan.errors import Cancelled, Internal, InvalidArgument, OrtolanError, RequestTimeout
from ortolan.execution.batch_policy import Batching
from ortolan.execution.device_share import DeviceShare, DeviceUser
from ortolan.execution.devices import CPU_PROVIDER, Placement, Provider
from ortolan.execution.instance import Execution, Instance, Outcome, execute
from ortolan.execution.queued_request import QueuedRequest
from ortolan.execution.request_queue import QueueLimits, RequestQueue
from ortolan.execution.running import Running
from ortolan.execution.session import Session
from ortolan.execution.session_settings import SessionSettings
from ortolan.execution.waiting_line import LinePolicy
from ortolan.inference.datatypes import Array
from ortolan.repository.model_config import InstanceKind

A_WHILE_S = 30.0
CPU = Placement("m_0", InstanceKind.CPU, 0, (Provider(CPU_PROVIDER),))


def session_of(proto: onnx.ModelProto) -> Session:
    return Session(proto.SerializeToString(), "m", SessionSettings(), CPU, Path())


GATHER = session_of(onnx_models.gather())
DOUBLER = session_of(onnx_models.doubler())


def request(array: Array, outputs: tuple[str, ...] = ("y",), name: str = "x") -> QueuedRequest:
    return QueuedRequest({name: array}, outputs, len(array), None, 0, None)


def index(value: int) -> QueuedRequest:
    return request(np.array([[value]]))


def row(value: float, rows: int = 1) -> QueuedRequest:
    return request(np.full((rows, 4), value, np.float32))


def executed(session: Session, *requests: QueuedRequest) -> list[Execution]:
    running = Running(requests, len(requests))
    for each in requests:
        each.running = running
    return execute(session, running)


def queue_of(batching: Batching) -> RequestQueue:
    return RequestQueue(batching, LinePolicy(), QueueLimits())


def instance_of(
    session: Session, queue: RequestQueue, deliver: Callable[[Outcome], None], name: str = "m_0"
) -> Instance:
    return Instance(name, session, queue, deliver, DeviceShare(1), DeviceUser("m"))


def answers(executions: Sequence[Execution]) -> list[object]:
    """The first output of each request, or the error's message."""
    return [
        answer.message if isinstance(answer, OrtolanError) else answer[0].tolist()
        for execution in executions
        for answer in execution.answers
    ]


def test_several_requests_are_one_execution() -> None:
    executions = executed(DOUBLER, row(1), row(2, rows=2), row(3))
    assert [execution.rows for execution in executions] == [4]
    assert answers(executions) == [[[2] * 4], [[4] * 4] * 2, [[6] * 4]]
    times = executions[0].times
    assert times.start_ns <= times.input_end_ns <= times.output_start_ns <= times.end_ns


def test_one_bad_request_among_63_good_ones_fails_alone() -> None:
    requests = [index(number % 4) for number in range(63)]
    requests.insert(30, index(4))
    executions = executed(GATHER, *requests)
    assert [execution.requests for execution in executions] == [[each] for each in requests]
    assert [execution.rows for execution in executions] == [1] * 64
    failed = [each for each in answers(executions) if isinstance(each, str)]
    assert len(failed) == 1
    assert "idx=4 must be within the inclusive range [-4,3]" in failed[0]
    assert answers(executions)[:30] + answers(executions)[31:] == [[[number % 4]] for number in range(63)]


def test_every_bad_request_has_an_error_of_its_own() -> None:
    first, second = executed(GATHER, index(5), index(6))
    assert isinstance(first.answers[0], InvalidArgument)
    assert isinstance(second.answers[0], InvalidArgument)
    assert first.answers[0] is not second.answers[0]
    assert "idx=5" in first.answers[0].message
    assert "idx=6" in second.answers[0].message


def test_requests_that_cannot_be_joined_are_run_one_by_one() -> None:
    wide = request(np.zeros((1, 5), np.float32))
    misnamed = request(np.zeros((1, 4), np.float32), name="z")
    first, second, third = answers(executed(DOUBLER, row(1), wide, misnamed))
    assert first == [[2] * 4]
    assert "Got: 5 Expected: 4" in str(second)
    assert "Required inputs (['x']) are missing" in str(third)


def test_a_model_that_loses_the_batch_dimension_answers_each_request_by_itself() -> None:
    proto = onnx_models.model(
        [helper.make_node("ReduceSum", ["x"], ["y"], keepdims=1)],
        [("x", TensorProto.FLOAT, ["batch", 4])],
        [("y", TensorProto.FLOAT, ["batch", 1])],
    )
    executions = executed(session_of(proto), row(1), row(2))
    assert answers(executions) == [[[4]], [[8]]]
    assert [execution.rows for execution in executions] == [1, 1]


def test_each_request_of_a_batch_gets_the_outputs_that_it_wants() -> None:
    proto = onnx_models.model(
        [helper.make_node("Neg", ["x"], ["neg"]), helper.make_node("Abs", ["x"], ["abs"])],
        [("x", TensorProto.FLOAT, ["batch", 1])],
        [("neg", TensorProto.FLOAT, ["batch", 1]), ("abs", TensorProto.FLOAT, ["batch", 1])],
    )
    wanted = [("neg",), ("abs", "neg"), ("neg", "abs"), ("abs",)]
    requests = [request(np.array([[-number]], np.float32), names) for number, names in enumerate(wanted, start=1)]
    (execution,) = executed(session_of(proto), *requests)
    found = [
        [output.item() for output in answer] for answer in execution.answers if not isinstance(answer, OrtolanError)
    ]
    assert found == [[1], [2, 2], [3, 3], [4]]


def test_what_no_one_foresaw_fails_the_request_without_its_details() -> None:
    class Closed:
        """An input that is no tensor at all."""

        def __array__(self, *_: object, **__: object) -> Array:
            raise KeyError("/srv/secret")

    broken = QueuedRequest({"x": Closed()}, ("y",), 1, None, 0, None)  # type: ignore[dict-item]
    first, second = executed(DOUBLER, broken, row(2))
    assert isinstance(first.answers[0], Internal)
    assert "secret" not in first.answers[0].message
    assert answers([second]) == [[[4] * 4]]


def test_a_batch_that_no_one_wants_any_more_is_not_begun() -> None:
    requests = [row(1), row(2)]
    running = Running(requests, 2)
    running.forget_one()
    running.forget_one()
    (execution,) = execute(DOUBLER, running)
    assert all(isinstance(answer, Cancelled) for answer in execution.answers)


def test_each_run_of_a_batch_that_is_taken_apart_can_be_watched() -> None:
    requests = [index(1), index(9), index(2)]
    running = Running(requests, 3)
    for each in requests:
        each.running = running
    watched: list[Running[QueuedRequest]] = []
    execute(GATHER, running, watched.append)
    assert [alone.requests for alone in watched] == [[each] for each in requests]
    assert [each.running for each in requests] == watched
    assert all(alone.started_ns >= running.started_ns for alone in watched)


def test_a_request_that_hangs_after_its_batch_failed_can_be_ended() -> None:
    """The batch fails at once, because the two cannot be joined; alone, the first would take minutes."""
    session = session_of(onnx_models.slow_as_asked())
    endless, wide = row(1e9), request(np.zeros((1, 5), np.float32))
    running = Running([endless, wide], 2)
    endless.running = wide.running = running
    timer: list[threading.Thread] = []

    def end(alone: Running[QueuedRequest]) -> None:
        if alone.requests == [endless]:
            timer.append(threading.Thread(target=alone.abandon))
            timer[0].start()

    first, second = execute(session, running, end)
    timer[0].join()
    assert isinstance(first.answers[0], Cancelled)
    assert isinstance(second.answers[0], InvalidArgument)
    assert answers(executed(session, row(3))) == [[[3] * 4]]  # and the session is as good as before


@pytest.mark.parametrize("bad_first", [True, False])
def test_an_instance_goes_on_after_a_failure_and_ends_when_the_queue_is_closed(bad_first: bool) -> None:
    queue = queue_of(Batching())
    delivered: queues.SimpleQueue[Outcome] = queues.SimpleQueue()
    instance = instance_of(GATHER, queue, delivered.put)
    instance.start()
    queue.put([index(value) for value in ((9, 1) if bad_first else (1, 9))])
    found = [delivered.get(timeout=A_WHILE_S).executions for _ in range(2)]
    good, bad = reversed(found) if bad_first else found
    assert answers(good) == [[[1]]]
    assert isinstance(bad[0].answers[0], InvalidArgument)
    assert not instance.join(0)
    queue.close()
    assert instance.join(A_WHILE_S)
    assert delivered.empty()
    assert instance.running is None


def test_what_waits_when_the_queue_is_closed_is_still_executed() -> None:
    queue = queue_of(Batching(8))
    delivered: list[Outcome] = []
    queue.put([row(value) for value in range(3)])
    queue.close()
    instance = instance_of(DOUBLER, queue, delivered.append)
    instance.start()
    assert instance.join(A_WHILE_S)
    assert [answers(outcome.executions) for outcome in delivered] == [[[[0] * 4], [[2] * 4], [[4] * 4]]]


def test_what_its_queue_refuses_is_handed_on_without_a_run() -> None:
    queue = queue_of(Batching(8))
    delivered: list[Outcome] = []
    expired, fine = row(1), row(2)
    expired.queue_deadline_ns = 1
    queue.put([expired, fine])
    queue.close()
    instance = instance_of(DOUBLER, queue, delivered.append)
    instance.start()
    assert instance.join(A_WHILE_S)
    ((refusal,), nothing) = (delivered[0].refusals, delivered[0].executions)
    assert not nothing
    assert refusal.request is expired
    assert isinstance(refusal.error, RequestTimeout)
    assert answers(delivered[1].executions) == [[[4] * 4]]


def test_an_instance_waits_for_its_turn_on_the_device() -> None:
    queue = queue_of(Batching(8))
    delivered: queues.SimpleQueue[Outcome] = queues.SimpleQueue()
    share, other = DeviceShare(1, longest_hold_s=A_WHILE_S), DeviceUser("other")
    instance = Instance("m_0", DOUBLER, queue, delivered.put, share, DeviceUser("m"))
    share.enter(other)
    instance.start()
    queue.put([row(1)])
    while not share.waiting:
        threading.Event().wait(0)
    assert delivered.empty()
    share.leave(other, 1)
    assert answers(delivered.get(timeout=A_WHILE_S).executions) == [[[2] * 4]]
    queue.close()
    assert instance.join(A_WHILE_S)


def test_an_instances_thread_is_named_after_it() -> None:
    queue = queue_of(Batching())
    instance = instance_of(DOUBLER, queue, lambda _: None, "digits_0_gpu1")
    instance.start()
    assert "instance digits_0_gpu1" in {thread.name for thread in threading.enumerate()}
    queue.close()
    assert instance.join(A_WHILE_S)


def test_an_instance_that_waits_holds_nothing_of_what_it_ran() -> None:
    queue = queue_of(Batching())
    delivered: queues.SimpleQueue[object] = queues.SimpleQueue()

    def deliver(outcome: Outcome) -> None:
        # As the scheduler does, because the two refer to each other.
        outcome.executions[0].requests[0].running = None
        delivered.put([weakref.ref(answer[0]) for answer in outcome.executions[0].answers if isinstance(answer, list)])

    instance = instance_of(DOUBLER, queue, deliver)
    instance.start()
    sent = row(1)
    tensors = [weakref.ref(sent.inputs["x"])]
    queue.put([sent])
    del sent
    tensors += delivered.get(timeout=A_WHILE_S)
    assert len(tensors) == 2
    eventually(lambda: not any(tensor() is not None for tensor in tensors), A_WHILE_S)
    queue.close()
    assert instance.join(A_WHILE_S)
