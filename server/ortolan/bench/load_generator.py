"""Sends a load and keeps what came of it: closed loop, or open loop without coordinated omission."""

import itertools
import time
from array import array
from collections import deque
from collections.abc import Callable

from ortolan.bench.answer_check import AnswerCheck
from ortolan.bench.arrivals import arrivals
from ortolan.bench.connections import Connection, Connections, Exchange
from ortolan.bench.grpc_exchange import GrpcExchange
from ortolan.bench.http_exchange import Answer, HttpExchange
from ortolan.bench.load import Form, Load, Outcome
from ortolan.bench.process_usage import Usage, usage

_LONGEST_WAIT_S = 0.1


def generated(load: Load) -> Outcome:
    """Send ``load`` and wait for its answers. Raises OSError or ValueError if the server cannot be talked to."""
    make_exchange: Callable[[], Exchange] = GrpcExchange if load.requests[0].form is Form.GRPC else HttpExchange
    connections = Connections(load.address, load.connections, make_exchange)
    try:
        tally = _Tally(load)
        if load.rate is None:
            _closed_loop(load, connections, tally)
        else:
            _open_loop(load, load.rate, connections, tally)
        return tally.outcome()
    finally:
        connections.close()


class _Tally:
    """Counts answers within a window: from the end of the warm-up, for the load's seconds."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._check = AnswerCheck()
        self._turns = itertools.cycle(range(len(load.requests)))
        self._latencies = array("d")
        self._failed: dict[str, array[float]] = {}
        self._answered = 0
        self._before: Usage | None = None
        self._after: Usage | None = None
        self._own_cpu_s = 0.0
        self.under_way = 0
        self.begin = float("inf")
        self.end = float("inf")

    def open_window(self) -> None:
        self._before, self._own_cpu_s = usage(self._load.watched), time.process_time()
        self.begin = time.perf_counter()
        self.end = self.begin + self._load.seconds

    def close_window(self) -> None:
        self.end = time.perf_counter()
        self._after, self._own_cpu_s = usage(self._load.watched), time.process_time() - self._own_cpu_s

    def send(self, connection: Connection, moment: float) -> None:
        """Send the next request, whose latency counts from ``moment``."""
        turn = next(self._turns)
        self.under_way += 1
        connection.ask(self._load.requests[turn], (moment, turn))

    def take(self, answer: Answer) -> None:
        now = time.perf_counter()
        moment, turn = answer.tag
        self.under_way -= 1
        failure = answer.failure or self._check.failure(self._load.requests[turn], answer.body)
        inside = self.begin <= now <= self.end
        # Of an open loop each request that was due counts, however late its answer.
        counts = inside if self._load.rate is None else self.begin <= moment <= self.end
        if not failure:
            self._answered += inside
        if counts:
            (self._failed.setdefault(failure, array("d")) if failure else self._latencies).append(now - moment)

    def outcome(self) -> Outcome:
        return Outcome(
            self.end - self.begin,
            self._answered,
            self._latencies,
            self._failed,
            self.under_way,
            self._load.patience_s,
            self._check.compared,
            self._own_cpu_s,
            self._before,
            self._after,
        )


def _closed_loop(load: Load, connections: Connections, tally: _Tally) -> None:
    for connection in connections.all:
        for _ in range(load.streams):
            tally.send(connection, time.perf_counter())
    window_at = time.perf_counter() + load.warm_up_s
    while (now := time.perf_counter()) < tally.end:
        if now >= window_at:
            tally.open_window()
            window_at = float("inf")
        until = min(tally.end, window_at) - now
        for connection, answer in connections.answers(min(until, _LONGEST_WAIT_S)):
            tally.take(answer)
            tally.send(connection, time.perf_counter())
    tally.close_window()
    _wait_for_the_rest(load, connections, tally)


def _wait_for_the_rest(load: Load, connections: Connections, tally: _Tally) -> None:
    """Without it what is still under way would disturb who comes next."""
    until = time.perf_counter() + load.patience_s
    while tally.under_way and (now := time.perf_counter()) < until:
        for _, answer in connections.answers(min(until - now, _LONGEST_WAIT_S)):
            tally.take(answer)


def _open_loop(load: Load, rate: float, connections: Connections, tally: _Tally) -> None:
    begin = time.perf_counter()
    moments = map(begin.__add__, arrivals(rate, load.warm_up_s + load.seconds, load.seed))
    due = next(moments, None)
    # A request that finds all connections busy is late from now on, and its latency tells so.
    late: deque[float] = deque()
    free = deque(connection for connection in connections.all for _ in range(load.streams))
    stages = deque(
        [(begin + load.warm_up_s, tally.open_window), (begin + load.warm_up_s + load.seconds, tally.close_window)]
    )
    last = stages[-1][0] + load.patience_s
    while (now := time.perf_counter()) < last:
        if stages and now >= stages[0][0]:
            stages.popleft()[1]()
        while due is not None and due <= now:
            late.append(due)
            due = next(moments, None)
        while late and free:
            tally.send(free.popleft(), late.popleft())
        if due is None and not late and not tally.under_way and not stages:
            break
        until = min(last if due is None else due, stages[0][0] if stages else last)
        for connection, answer in connections.answers(min(until - time.perf_counter(), _LONGEST_WAIT_S)):
            tally.take(answer)
            free.append(connection)
    tally.under_way += len(late)
