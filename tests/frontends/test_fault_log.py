"""Who sends what is no HTTP is told in the log, and cannot fill it."""

import logging

import pytest

from ortolan.frontends.rest.fault_log import FaultLog


class Clock:
    """Stands still until it is set."""

    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_a_line_a_second_with_the_number_of_those_left_out(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    log = FaultLog(clock)
    with caplog.at_level(logging.WARNING):
        for port in range(1000):
            log.tell(("10.0.0.1", port), "Invalid method encountered")
        clock.now_s += 0.999
        log.tell(("10.0.0.1", 1), "not logged either")
        clock.now_s += 0.001
        log.tell(("fe80::1", 7, 0, 2), "Duplicate Content-Length")
        clock.now_s += 1
        log.tell(None, "alone")
    assert caplog.messages == [
        "10.0.0.1:0 sent what is no HTTP: Invalid method encountered",
        "[fe80::1]:7 sent what is no HTTP: Duplicate Content-Length; 1000 others were not logged",
        "a client sent what is no HTTP: alone",
    ]


def test_an_address_cannot_write_into_the_log(caplog: pytest.LogCaptureFixture) -> None:
    FaultLog().tell("/run/a\nforged", "x")
    assert "\n" not in caplog.messages[0]
