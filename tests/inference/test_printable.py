"""Clients' text in messages: what could forge a line is escaped, what is long is cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ortolan.inference.printable import printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", ""),
        ("größer 数", "größer 数"),
        ("a\r\nb", "a\\r\\nb"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("\0\x7f\x9b", "\\x00\\x7f\\x9b"),
        ("a\u2028b\u2029c", "a\\u2028b\\u2029c"),
        ("x" * 8, "x" * 8),
        ("x" * 9, "x" * 8 + "..."),
        ("\n" * 8, "\\n" * 8),
    ],
)
def test_control_characters_are_escaped_and_long_text_is_cut(text: str, shown: str) -> None:
    assert printable(text, 8) == shown


@given(st.text())
def test_what_is_printable_is_one_line_and_stays_as_it_is(text: str) -> None:
    shown = printable(text, 100)
    assert len(shown.splitlines()) <= 1
    assert printable(shown, len(shown)) == shown
