"""A session on a device, run by one thread: it takes batches from the queue and hands their outcome on."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ortolan.errors import Internal, OrtolanError
from ortolan.execution import batch
from ortolan.execution.model_statistics import ExecutionTimes
from ortolan.execution.request_queue import QueuedRequest, RequestQueue
from ortolan.execution.session import Session
from ortolan.inference.datatypes import Array


@dataclass(frozen=True, slots=True)
class Execution:
    """One run of the model over the rows of some requests; ``answers`` are the outputs of each, or why it failed."""

    requests: Sequence[QueuedRequest]
    answers: Sequence[list[Array] | OrtolanError]
    rows: int
    times: ExecutionTimes


class Instance:
    """One execution slot of a version. ``deliver`` is called in the instance's thread with everything it ran."""

    def __init__(
        self, name: str, session: Session, queue: RequestQueue, deliver: Callable[[list[Execution]], None]
    ) -> None:
        self.name = name
        self._session = session
        self._queue = queue
        self._deliver = deliver
        self._thread = threading.Thread(target=self._serve, name=f"instance {name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def join(self, timeout_s: float) -> bool:
        """Wait for the thread to end, which it does once the queue is closed and empty. False if it did not."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _serve(self) -> None:
        while requests := self._queue.take():
            self._deliver(execute(self._session, requests))


def execute(session: Session, requests: Sequence[QueuedRequest]) -> list[Execution]:
    """Run the requests as one batch; if that fails, each alone, so that only the culprit's request fails."""
    execution = _run(session, requests)
    if len(requests) == 1 or not isinstance(execution.answers[0], OrtolanError):
        return [execution]
    return [_run(session, [request]) for request in requests]


def _run(session: Session, requests: Sequence[QueuedRequest]) -> Execution:
    """One run. Outputs that only some of the requests want are fetched once and handed to those."""
    rows = sum(request.rows for request in requests)
    names = _wanted_outputs(requests)
    start_ns = time.monotonic_ns()
    input_end_ns = output_start_ns = start_ns
    answers: list[list[Array] | OrtolanError]
    try:
        inputs = batch.stack([request.inputs for request in requests])
        input_end_ns = output_start_ns = time.monotonic_ns()
        outputs = session.run(inputs, names)
        output_start_ns = time.monotonic_ns()
        answers = list(_divide(outputs, names, requests))
    # A failed batch fails each of its requests; the instance lives on.
    except OrtolanError as error:
        answers = [error] * len(requests)
    except Exception as error:
        failure = Internal("the server failed to run this request; its log has the details")
        failure.__cause__ = error
        answers = [failure] * len(requests)
    return Execution(
        requests, answers, rows, ExecutionTimes(start_ns, input_end_ns, output_start_ns, time.monotonic_ns())
    )


def _wanted_outputs(requests: Sequence[QueuedRequest]) -> tuple[str, ...]:
    first = requests[0].output_names
    if all(request.output_names == first for request in requests[1:]):
        return first
    return tuple(dict.fromkeys(name for request in requests for name in request.output_names))


def _divide(
    outputs: Sequence[Array], names: tuple[str, ...], requests: Sequence[QueuedRequest]
) -> Sequence[list[Array]]:
    if len(requests) == 1:
        return [list(outputs)]
    parts = batch.split(outputs, names, [request.rows for request in requests])
    place = {name: index for index, name in enumerate(names)}
    return [
        part if request.output_names == names else [part[place[name]] for name in request.output_names]
        for part, request in zip(parts, requests, strict=True)
    ]
