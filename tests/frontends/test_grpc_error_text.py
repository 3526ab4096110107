from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ortolan.frontends.grpc.error_text import sendable

MOST = 4096
# What percent-encoding of grpc-message leaves as it is.
PLAIN = "".join(map(chr, range(0x20, 0x7F))).replace("%", "")


def encoded_bytes(text: str) -> int:
    return len(quote(text, safe=PLAIN))


@given(st.text() | st.text().map(lambda text: text * 500))
def test_no_message_whatever_is_too_long_for_a_header(message: str) -> None:
    assert encoded_bytes(sendable(message)) <= MOST


@pytest.mark.parametrize(
    ("message", "sent"),
    [
        ("", ""),
        ("plain, 100 %", "plain, 100 %"),
        ("größer 日本 🙂", "größer 日本 🙂"),
        ("a\nb\0", "a\nb\\x00"),
        ("\ud800", "?"),
        ("x" * MOST, "x" * MOST),
        ("x" * (MOST + 1), "x" * (MOST - 3) + "..."),
        ("é" * 682, "é" * 682),
        ("é" * 1000, "é" * 682 + "..."),
        ("🙂" * 1000, "🙂" * 341 + "..."),
        ("%" * 2000, "%" * 1364 + "..."),
    ],
)
def test_a_message_is_cut_by_what_it_takes_encoded(message: str, sent: str) -> None:
    assert sendable(message) == sent
