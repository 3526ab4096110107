"""What clients write into X-Request-Timeout, and the time that it means."""

import contextlib
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ortolan.errors import InvalidArgument
from ortolan.frontends.deadlines import deadline_after, deadline_of_header

A_DAY_S = 86_400


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1", 1),
        ("1.5", 1.5),
        ("0.025", 0.025),
        (".5", 0.5),
        ("2.", 2),
        (" 3 ", 3),
        ("1e-3", 0.001),
        ("007", 7),
        ("1e9", A_DAY_S),  # no one waits for longer than a day
        ("9" * 400, A_DAY_S),
    ],
)
def test_a_timeout_in_seconds_becomes_a_time_on_our_clock(text: str, seconds: float) -> None:
    before_ns = time.monotonic_ns()
    deadline_ns = deadline_of_header(text)
    after_ns = time.monotonic_ns()
    assert before_ns <= deadline_ns - int(seconds * 1e9) <= after_ns


def test_without_the_header_there_is_no_deadline() -> None:
    assert deadline_of_header(None) == 0


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "0",
        "0.0",
        "-1",
        "+1",
        "1,5",
        "1s",
        "nan",
        "inf",
        "Infinity",
        "1_000",
        "0x10",
        "١",
        "1 2",
        ".",
        "e5",
        "--1",
    ],
)
def test_what_is_no_time_above_zero_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match="X-Request-Timeout must be a number of seconds above 0, got"):
        deadline_of_header(text)


def test_the_message_does_not_repeat_a_long_header_nor_its_control_characters() -> None:
    with pytest.raises(InvalidArgument) as caught:
        deadline_of_header("\r\nx" * 1000)
    assert len(str(caught.value)) < 200
    assert str(caught.value).isprintable()


@given(st.text(max_size=40))
def test_no_text_whatever_is_another_error(text: str) -> None:
    with contextlib.suppress(InvalidArgument):
        assert deadline_of_header(text) > 0


@given(st.floats(-1e12, 1e12))
def test_no_time_is_later_than_a_day(seconds: float) -> None:
    assert deadline_after(seconds) <= time.monotonic_ns() + A_DAY_S * 10**9


def test_a_time_that_has_passed_is_a_deadline_in_the_past() -> None:
    assert deadline_after(-0.5) < time.monotonic_ns()
