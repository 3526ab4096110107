import pytest

from ortolan.core.span_losses import SpanLosses


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def losses(clock: Clock) -> SpanLosses:
    return SpanLosses("http://c", clock)


def test_every_span_is_waiting_or_sent_or_lost(losses: SpanLosses) -> None:
    losses.put(10)
    losses.dropped(3)
    losses.taken(6)
    assert (losses.waiting, losses.sent, losses.lost) == (4, 0, 3)
    losses.succeeded(4)
    losses.failed(2, "")
    assert (losses.waiting, losses.sent, losses.lost) == (4, 4, 5)
    losses.end()
    assert (losses.waiting, losses.sent, losses.lost) == (0, 4, 9)


def test_losses_are_told_at_once_and_then_once_a_minute(
    losses: SpanLosses, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(500):
        losses.failed(2, "Connection refused")
    (line,) = caplog.messages
    assert line == (
        "2 spans did not reach http://c (Connection refused); requests are answered all the same. "
        "Lost since the start: 2"
    )
    clock.now_s += 61
    losses.dropped(1)
    assert caplog.messages[1:] == [
        "999 spans did not reach http://c (they come faster than they are taken, and the queue is full); requests are "
        "answered all the same. Lost since the start: 1001"
    ]


def test_what_has_not_been_told_is_told_at_the_end(losses: SpanLosses, caplog: pytest.LogCaptureFixture) -> None:
    losses.failed(2, "")
    losses.failed(3, "")
    losses.put(4)
    losses.end()
    assert caplog.messages[1:] == ["7 spans did not reach http://c before the server ended"]


def test_nothing_is_told_where_nothing_is_lost(losses: SpanLosses, caplog: pytest.LogCaptureFixture) -> None:
    losses.put(4)
    losses.taken(4)
    losses.succeeded(4)
    losses.end()
    assert not caplog.messages
