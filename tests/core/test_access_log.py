"""The access log: which requests are written, in which order, and what happens when they cannot be written in time."""

import logging
import threading
from collections.abc import Sequence

import pytest

from ortolan.core.access_log import MOST_WAITING, AccessLog
from ortolan.core.request_note import RequestNote, valid_request_id

WAIT_S = 30


class Paper:
    """Takes what is written, once it is let."""

    def __init__(self) -> None:
        self.notes: list[RequestNote] = []
        self.may_write = threading.Event()
        self.may_write.set()
        self.begun = threading.Event()

    def write(self, notes: Sequence[RequestNote]) -> None:
        self.begun.set()
        assert self.may_write.wait(WAIT_S)
        self.notes += notes


def answer(log: AccessLog, target: bytes, code: int | str = 200) -> None:
    RequestNote(log, log.new_id(), "HTTP/1.1", None, "GET", target).answered(code)


INFER, READY, RPC = b"/v2/models/m/infer", b"/v2/health/ready?x", b"/inference.GRPCInferenceService/"
CASES = [(INFER, 200), (INFER, 400), (READY, 200), (READY, 503), (b"/v2/models/m/ready", 200)]
CASES += [
    (RPC + b"ServerLive", "OK"),
    (RPC + b"ModelInfer", "OK"),
    (RPC + b"ModelInfer", "NOT_FOUND"),
    (b"/alive", 200),
]


@pytest.mark.parametrize(
    ("kind", "shown"),
    [
        ("all", CASES),
        ("on", [(INFER, 200), (INFER, 400), (RPC + b"ModelInfer", "OK"), (RPC + b"ModelInfer", "NOT_FOUND")]),
        ("errors", [(INFER, 400), (RPC + b"ModelInfer", "NOT_FOUND")]),
    ],
)
def test_which_requests_are_written(kind: str, shown: list[tuple[bytes, int | str]]) -> None:
    paper = Paper()
    log = AccessLog(paper.write, kind, ["/alive"])
    for target, code in CASES:
        answer(log, target, code)
    log.close()
    assert [(note.target, note.code) for note in paper.notes] == shown


def test_all_is_written_in_order_while_more_comes() -> None:
    paper = Paper()
    log = AccessLog(paper.write, "on")
    for number in range(3000):
        answer(log, b"/%d" % number)
    log.close()
    assert [note.target for note in paper.notes] == [b"/%d" % number for number in range(3000)]


def test_what_cannot_be_written_in_time_is_lost_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    paper = Paper()
    paper.may_write.clear()
    log = AccessLog(paper.write, "on")
    answer(log, b"/first")
    assert paper.begun.wait(WAIT_S)
    for _ in range(MOST_WAITING + 5):
        answer(log, b"/more")
    with caplog.at_level(logging.WARNING):
        paper.may_write.set()
        log.close()
    assert len(paper.notes) == 1 + MOST_WAITING
    assert [record.getMessage() for record in caplog.records] == [
        "lines of the access log were lost, because they came faster than they could be written: 5 so far"
    ]


class Interruption(logging.Handler):
    """Logs a last request and closes the log, while its thread tells what was lost: behind the thread's last look."""

    def __init__(self, log: AccessLog) -> None:
        super().__init__()
        self._log = log
        self.closer = threading.Thread(target=log.close)
        self.began = threading.Event()

    def emit(self, record: logging.LogRecord) -> None:  # noqa: ARG002
        answer(self._log, b"/last")
        self.closer.start()
        self.began.set()
        # It waits for the thread that is here.
        self.closer.join(0.2)


def test_what_comes_while_the_thread_is_about_to_end_is_written() -> None:
    paper = Paper()
    paper.may_write.clear()
    log = AccessLog(paper.write, "on")
    answer(log, b"/first")
    assert paper.begun.wait(WAIT_S)
    for _ in range(MOST_WAITING + 1):
        answer(log, b"/more")
    interruption = Interruption(log)
    logger = logging.getLogger("ortolan.core.access_log")
    logger.addHandler(interruption)
    try:
        paper.may_write.set()
        assert interruption.began.wait(WAIT_S)
    finally:
        logger.removeHandler(interruption)
    interruption.closer.join(WAIT_S)
    assert paper.notes[-1].target == b"/last"


def test_a_failure_to_write_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    written: list[RequestNote] = []
    failed = threading.Event()

    def write(notes: Sequence[RequestNote]) -> None:
        if not failed.is_set():
            failed.set()
            raise ValueError("no paper")
        written.extend(notes)

    log = AccessLog(write, "on")
    answer(log, b"/lost")
    assert failed.wait(WAIT_S)
    answer(log, b"/kept")
    log.close()
    assert [note.target for note in written] == [b"/kept"]
    assert "could not be written: 1" in caplog.text


def test_a_request_is_written_once_however_often_it_ends() -> None:
    paper = Paper()
    log = AccessLog(paper.write, "on")
    note = RequestNote(log, "a", "HTTP/1.1", None, "GET", b"/x")
    note.answered(200, 5)
    note.answered(499)
    log.close()
    (written,) = paper.notes
    assert (written.code, written.bytes_out) == (200, 5)


def test_ids_that_are_made_differ_between_requests_and_processes() -> None:
    logs = [AccessLog(Paper().write, "on") for _ in range(2)]
    ids = [log.new_id() for log in logs for _ in range(100)]
    assert len(set(ids)) == 200
    assert all(valid_request_id(made) for made in ids)
    for log in logs:
        log.close()


@pytest.mark.parametrize(
    ("sent", "taken"),
    [
        ("a", True),
        ("550e8400-e29b-41d4-a716-446655440000", True),
        ('with spaces and "quotes"', True),
        ("x" * 128, True),
        ("x" * 129, False),
        ("", False),
        (" a", False),
        ("a\n", False),
        ("a\x1b[2J", False),
        ("größe", False),
    ],
)
def test_only_printable_ascii_of_some_length_is_an_id(sent: str, taken: bool) -> None:
    assert valid_request_id(sent) == (sent if taken else "")
