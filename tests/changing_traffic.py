"""Clients of every kind that ask without end while models change, and know at any time which answers are right."""

import queue
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import tritonclient.grpc
import tritonclient.http
from server_process import ServerProcess

LONGEST_S = 30.0
SEQUENCE_LENGTH = 5


class Truth:
    """Which answers of a model are right now. All methods may be called from any thread."""

    def __init__(self, value: float) -> None:
        self.right = frozenset({value})
        self.seen: Counter[float] = Counter()
        self.faults: list[str] = []

    def may_become(self, value: float) -> None:
        """From now on ``value`` is right too."""
        self.right |= {value}

    def is_now(self, value: float) -> None:
        """Requests that begin from now on are right with ``value`` only."""
        self.right = frozenset({value})

    def check(self, before: frozenset[float], value: float, asker: str) -> None:
        """``before``: what was right when the request began; what has become right since may have answered it too."""
        self.seen[value] += 1
        if value not in before | self.right:
            self.faults.append(f"{asker}: {value}, where {sorted(before)} or {sorted(self.right)} were right")


@contextmanager
def asked(server: ServerProcess, truths: Mapping[str, Truth], sequences: Mapping[str, Truth]) -> Iterator[None]:
    """All the while each model of ``truths`` is asked over HTTP, over gRPC and on a stream for what it makes of zeros;
    each of ``sequences`` for the sums of sequences. What goes wrong is among the faults of its truth.
    """
    over = threading.Event()
    threads = [
        threading.Thread(target=_ask, args=(client, server, model, truth, over))
        for clients, group in ((CLIENTS, truths), ((_sum_in_streams, _sum_over_http), sequences))
        for model, truth in group.items()
        for client in clients
    ]
    for each in threads:
        each.start()
    try:
        yield
    finally:
        over.set()
        for each in threads:
            each.join(2 * LONGEST_S)
            assert not each.is_alive()


Client = Callable[[ServerProcess, str, Truth, threading.Event], None]


def _ask(client: Client, server: ServerProcess, model: str, truth: Truth, over: threading.Event) -> None:
    try:
        client(server, model, truth, over)
    # What is raised in a thread would otherwise be seen by no one.
    except Exception as error:
        truth.faults.append(f"{client.__name__} of {model}: {error!r}")


def _over_http(server: ServerProcess, model: str, truth: Truth, over: threading.Event) -> None:
    _in_turn(tritonclient.http, server.http, model, truth, over)


def _over_grpc(server: ServerProcess, model: str, truth: Truth, over: threading.Event) -> None:
    _in_turn(tritonclient.grpc, server.grpc, model, truth, over)


def _in_turn(module: Any, address: str, model: str, truth: Truth, over: threading.Event) -> None:
    with module.InferenceServerClient(address) as client:
        while not over.is_set():
            before = truth.right
            truth.check(before, _number(client.infer(model, _filled(module, 0))), module.__name__)


def _on_a_stream(server: ServerProcess, model: str, truth: Truth, over: threading.Event) -> None:
    with _Stream(server) as stream:
        while not over.is_set():
            before = truth.right
            # Several are under way at any time.
            for _ in range(3):
                stream.client.async_stream_infer(model, _filled(tritonclient.grpc, 0))
            for _ in range(3):
                truth.check(before, stream.next(), "stream")


def _sum_in_streams(server: ServerProcess, model: str, truth: Truth, over: threading.Event) -> None:
    with _Stream(server) as stream:

        def step(**terms: Any) -> float:
            stream.client.async_stream_infer(model, _filled(tritonclient.grpc, 1, 1), **terms)
            return stream.next()

        _sum(step, 1 << 20, truth, over)


def _sum_over_http(server: ServerProcess, model: str, truth: Truth, over: threading.Event) -> None:
    with tritonclient.http.InferenceServerClient(server.http) as client:

        def step(**terms: Any) -> float:
            return _number(client.infer(model, _filled(tritonclient.http, 1, 1), **terms))

        _sum(step, 1 << 21, truth, over)


def _sum(step: Callable[..., float], first_id: int, truth: Truth, over: threading.Event) -> None:
    """Sequences of ones, one after the other; the sum counts them, if nothing is forgotten."""
    sequence = first_id
    while not over.is_set():
        sequence += 1
        for count in range(1, SEQUENCE_LENGTH + 1):
            terms = {"sequence_start": count == 1, "sequence_end": count == SEQUENCE_LENGTH}
            value = step(sequence_id=sequence, **terms)
            if value != count:
                truth.faults.append(f"sequence {sequence}: {value}, where {count} was right")
        truth.seen[SEQUENCE_LENGTH] += 1


class _Stream:
    """One stream, whose answers come one by one."""

    def __init__(self, server: ServerProcess) -> None:
        self.client = tritonclient.grpc.InferenceServerClient(server.grpc)
        self._answers: queue.Queue[tuple[Any, Any]] = queue.Queue()

    def __enter__(self) -> "_Stream":
        self.client.start_stream(lambda result, error: self._answers.put((result, error)))
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()

    def next(self) -> float:
        result, error = self._answers.get(timeout=LONGEST_S)
        if error is not None:
            raise error
        return _number(result)


CLIENTS: tuple[Client, ...] = (_over_http, _over_grpc, _on_a_stream)


def _filled(module: Any, value: float, columns: int = 4) -> list[Any]:
    tensor = module.InferInput("x", [1, columns], "FP32")
    tensor.set_data_from_numpy(np.full((1, columns), value, np.float32))
    return [tensor]


def _number(result: Any) -> float:
    return float(result.as_numpy("y").flat[0])
