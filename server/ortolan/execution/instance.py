"""A session on a device, run by one thread: it takes work from the queue and hands the outcome on."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ortolan.errors import Cancelled, Internal, OrtolanError, OutOfMemory
from ortolan.execution import batch
from ortolan.execution.device_share import DeviceShare, DeviceUser
from ortolan.execution.model_statistics import ExecutionTimes
from ortolan.execution.queued_request import QueuedRequest, Refusal
from ortolan.execution.ragged_batch import RaggedForm
from ortolan.execution.rate_limiter import LimitedWork
from ortolan.execution.request_queue import RequestQueue, Work
from ortolan.execution.running import Running
from ortolan.execution.session import Session
from ortolan.execution.timer_slack import wake_exactly
from ortolan.inference.datatypes import Array

_log = logging.getLogger(__name__)
_NO_MEMORY = "there is no memory left to run this request: send it to another server, or again later"


@dataclass(slots=True)
class Execution:
    """One run of the model over the rows of some requests; ``answers`` are the outputs of each, or why it failed."""

    requests: Sequence[QueuedRequest]
    answers: Sequence[list[Array] | OrtolanError]
    rows: int
    times: ExecutionTimes


@dataclass(slots=True)
class Outcome:
    """What an instance did with one piece of work."""

    executions: Sequence[Execution] = ()
    refusals: Sequence[Refusal] = ()


class Instance:
    """One execution slot of a version. ``deliver`` is called in the instance's thread with every outcome."""

    def __init__(
        self,
        name: str,
        session: Session,
        queue: RequestQueue,
        deliver: Callable[[Outcome], None],
        share: DeviceShare,
        user: DeviceUser,
        ragged: RaggedForm | None = None,
        limited: LimitedWork | None = None,
    ) -> None:
        """``share`` is the device's, ``user`` the account of this version on it; ``limited`` gives out ``queue``."""
        self.name = name
        self.running: Running[QueuedRequest] | None = None
        """What it executes at the moment; read by the watchdog."""
        self._session = session
        self._queue = queue
        self._deliver = deliver
        self._share = share
        self._user = user
        self._ragged = ragged
        self._limited = limited
        self._thread = threading.Thread(target=self._serve, name=f"instance {name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def join(self, timeout_s: float) -> bool:
        """Wait for the thread to end, which it does once the queue is closed and empty. False if it did not."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def lose_resources(self) -> None:
        """Its run hangs: what the rate limiter gave it for that goes to others."""
        if self._limited is not None:
            self._limited.lose()

    def _serve(self) -> None:
        if self._queue.delays:
            wake_exactly()
        take = self._queue.take if self._limited is None else self._limited.take
        while (work := take()) is not None:
            self._deliver(self._outcome(work))
            # Its tensors would stay while the next work is waited for.
            del work
        # Who is delivered to holds its instances: the two would keep each other, and the session, until the garbage
        # collector comes by.
        self._deliver = _nowhere

    def _outcome(self, work: Work) -> Outcome:
        executions = self._execute(work.running) if work.running is not None else ()
        return Outcome(executions, work.refusals)

    def _execute(self, running: Running[QueuedRequest]) -> Sequence[Execution]:
        self._share.enter(self._user)
        start_ns = running.started_ns = time.monotonic_ns()
        self.running = running
        try:
            return execute(self._session, running, self._watched, self._ragged)
        finally:
            self.running = None
            self._share.leave(self._user, time.monotonic_ns() - start_ns)
            if self._limited is not None:
                self._limited.done()

    def _watched(self, running: Running[QueuedRequest]) -> None:
        self.running = running


def _nowhere(outcome: Outcome) -> None:
    """Where outcomes go after the last one."""


def execute(
    session: Session,
    running: Running[QueuedRequest],
    watched: Callable[[Running[QueuedRequest]], None] = lambda _: None,
    ragged: RaggedForm | None = None,
    ends_by_itself: bool = False,
) -> list[Execution]:
    """Run the requests as one batch; if that fails, each alone, so that only the culprit's request fails.

    ``watched`` is told of each further run before it starts; ``ragged`` is how batches are formed, if not by rows;
    ``ends_by_itself``: nobody could end it.
    """
    execution = execute_once(session, running, ragged, ends_by_itself)
    failed = isinstance(execution.answers[0], OrtolanError)
    if not failed or len(running.requests) == 1 or running.abandoned:
        return [execution]
    executions: list[Execution] = []
    for request in running.requests:
        alone = _alone(request, running)
        watched(alone)
        executions.append(execute_once(session, alone, ragged))
    return executions


def _alone(request: QueuedRequest, companions: Running[QueuedRequest]) -> Running[QueuedRequest]:
    """The request by itself, after its batch failed; not wanted if it was not wanted any more in the batch."""
    wanted = request.running is companions
    alone = Running([request], 1, abandoned=not wanted)
    if wanted:
        request.running = alone
    return alone


def execute_once(
    session: Session,
    running: Running[QueuedRequest],
    ragged: RaggedForm | None = None,
    ends_by_itself: bool = False,
) -> Execution:
    """One run. Outputs that only some of the requests want are fetched once and handed to those."""
    requests = running.requests
    alone = len(requests) == 1
    names = requests[0].output_names if alone else _wanted_outputs(requests)
    start_ns = time.monotonic_ns()
    input_end_ns = output_start_ns = start_ns
    answers: list[list[Array] | OrtolanError]
    try:
        run = None if ends_by_itself else session.new_run()
        if run is not None and not running.begin(run):
            raise Cancelled("no one waited for the answer any more")
        given = [request.inputs for request in requests]
        inputs = batch.stack(given) if ragged is None else ragged.gathered(given)
        input_end_ns = output_start_ns = time.monotonic_ns()
        outputs = session.run(inputs, names, run)
        output_start_ns = time.monotonic_ns()
        answers = [outputs] if alone and ragged is None else list(_divide(outputs, names, requests, ragged))
    # A failed batch fails each of its requests; the instance lives on.
    except OrtolanError as error:
        # Its traceback would refer to what refers to it; where it comes from is told by its cause.
        answers = [error.with_traceback(None)] * len(requests)
        if isinstance(error, OutOfMemory):
            # The arena would grow by as much as could not be had when next it grows, or else by all that there is.
            session.shrink_arena()
    except MemoryError:
        answers = [OutOfMemory(_NO_MEMORY)] * len(requests)
    except Exception:
        _log.exception("running a batch failed in an unforeseen way")
        answers = [Internal("the server failed to run this request; its log has the details")] * len(requests)
    rows = requests[0].rows if alone else sum([request.rows for request in requests])
    times = ExecutionTimes(start_ns, input_end_ns, output_start_ns, time.monotonic_ns())
    return Execution(requests, answers, rows, times)


def _wanted_outputs(requests: Sequence[QueuedRequest]) -> tuple[str, ...]:
    first = requests[0].output_names
    if all(request.output_names == first for request in requests[1:]):
        return first
    return tuple(dict.fromkeys(name for request in requests for name in request.output_names))


def _divide(
    outputs: Sequence[Array], names: tuple[str, ...], requests: Sequence[QueuedRequest], ragged: RaggedForm | None
) -> Sequence[list[Array]]:
    rows = [request.rows for request in requests]
    if ragged is not None:
        parts = ragged.dealt(outputs, names, [request.inputs for request in requests], rows)
    elif len(requests) == 1:
        return [list(outputs)]
    else:
        parts = batch.split(outputs, names, rows)
    place = {name: index for index, name in enumerate(names)}
    return [
        part if request.output_names == names else [part[place[name]] for name in request.output_names]
        for part, request in zip(parts, requests, strict=True)
    ]
