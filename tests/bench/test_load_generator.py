"""The load generator against small servers that answer as a test wants."""

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from ortolan.bench.arrivals import arrivals
from ortolan.bench.load import Address, Form, Load, Outcome, PreparedRequest
from ortolan.bench.load_generator import generated
from ortolan.bench.load_process import LoadProcess
from ortolan.errors import StartupError

RIGHT = json.dumps({"outputs": [{"name": "y", "shape": [1], "datatype": "FP32", "data": [1.0]}]}).encode()
NEARLY = RIGHT.replace(b"1.0", b"1.0001")
WRONG = RIGHT.replace(b"1.0", b"7.0")
REQUEST = PreparedRequest(Form.JSON, b"POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\n", b"{}", RIGHT)

AnswerOf = Callable[[int], bytes]


def response(body: bytes = RIGHT, status: int = 200) -> bytes:
    return b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body)


@contextmanager
def answering(answer_of: AnswerOf) -> Iterator[Address]:
    """A server that answers the n-th request of each connection with ``answer_of(n)``, and closes it after b""."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=_accept, args=(listening, answer_of), daemon=True).start()
        yield Address("127.0.0.1", listening.getsockname()[1])


def _accept(listening: socket.socket, answer_of: AnswerOf) -> None:
    while True:
        try:
            connection, _ = listening.accept()
        except OSError:
            return
        threading.Thread(target=_answer, args=(connection, answer_of), daemon=True).start()


def _answer(connection: socket.socket, answer_of: AnswerOf) -> None:
    # A generator that is ended leaves answers unread.
    with connection, contextlib.suppress(ConnectionError):
        number = 0
        while connection.recv(4096):
            answer = answer_of(number)
            number += 1
            if not answer:
                return
            connection.sendall(answer)


def load(address: Address, rate: float | None = None, connections: int = 2, seconds: float = 0.3) -> Load:
    return Load(address, (REQUEST,), connections, seconds, warm_up_s=0.0, rate=rate, patience_s=2.0)


def closed(answer_of: AnswerOf) -> Outcome:
    with answering(answer_of) as address:
        return generated(load(address))


def test_a_closed_loop_counts_answers_with_their_latencies() -> None:
    found = closed(lambda _: response())
    assert found.answered == len(found.latencies) > 0
    assert (dict(found.failed), found.unanswered) == ({}, 0)
    assert min(found.latencies) > 0


def test_answers_that_round_otherwise_are_right() -> None:
    found = closed(lambda _: response(NEARLY))
    assert found.answered
    assert found.compared
    assert not found.failed


def test_wrong_answers_are_failures() -> None:
    assert "wrong answer" in closed(lambda _: response(WRONG)).failed


def test_answers_of_another_status_are_failures_by_their_number() -> None:
    found = closed(lambda _: response(b"{}", 503))
    assert (found.answered, list(found.failed)) == (0, ["503"])


def test_a_connection_that_is_closed_is_opened_again() -> None:
    found = closed(lambda number: response() if number < 3 else b"")
    assert found.answered > 3
    assert list(found.failed) == ["connection closed"]


def test_in_an_open_loop_every_request_that_was_due_counts_from_then_on() -> None:
    stall_s = 0.5

    def stall(number: int) -> bytes:
        if number == 0:
            time.sleep(stall_s)
        return response()

    with answering(stall) as address:
        found = generated(load(address, rate=200, connections=1, seconds=0.3))
    due = list(arrivals(200, 0.3, seed=1))
    # Whoever waited for the answer before sending the next would have seen one slow request only.
    assert len(found.latencies) == pytest.approx(len(due), abs=2)
    assert sorted(found.latencies)[len(due) // 2] > stall_s - 0.3


def test_requests_without_an_answer_are_counted() -> None:
    over = threading.Event()

    def never(_: int) -> bytes:
        over.wait(10)
        return b""

    with answering(never) as address:
        waiting = Load(address, (REQUEST,), 1, 0.1, warm_up_s=0.0, rate=100, patience_s=0.1)
        found = generated(waiting)
    over.set()
    assert (found.answered, found.patience_s) == (0, 0.1)
    assert found.unanswered == pytest.approx(len(list(arrivals(100, 0.1, seed=1))), abs=1)


def test_the_process_runs_one_load_after_the_other() -> None:
    with answering(lambda _: response()) as address, LoadProcess() as process:
        assert process.outcome(load(address)).answered
        assert process.outcome(load(address, rate=100)).answered


def test_what_comes_too_late_is_not_taken_for_the_outcome_of_the_next_load() -> None:
    with answering(lambda _: response()) as slow, answering(lambda _: response(b"{}", 503)) as refusing:
        late = Load(slow, (REQUEST,), 1, 0.001, warm_up_s=0.0, patience_s=0.0)
        following = Load(refusing, (REQUEST,), 1, 0.1, warm_up_s=0.0, patience_s=50.0)
        with LoadProcess(slack_s=0) as process:
            # No process starts within a millisecond.
            with pytest.raises(StartupError, match="not answered in time"):
                process.outcome(late)
            found = process.outcome(following)
    assert (found.answered, list(found.failed)) == (0, ["503"])


def test_a_server_that_is_not_there_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = Address("127.0.0.1", taken.getsockname()[1])
    with LoadProcess() as process, pytest.raises(StartupError, match="cannot be measured"):
        process.outcome(load(address))
