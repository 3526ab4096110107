import pytest
from hypothesis import given
from hypothesis import strategies as st

from ortolan.commands.status_figures import Row, Status
from ortolan.commands.status_table import fitted, status_text

BUSY = Row("digits", "1", "READY", "", 1234.5, 0.758, 0.686, 6.02, 3.5, 2, 0.431, 799_309, 10_000, 12, 3)
IDLE = Row("iris", "1", "READY", "", 0.0, None, None, None, None, 0, 0.0, 734_218, 0, 0, 0)
GONE = Row("wine", "", "UNAVAILABLE", "no file", None, None, None, None, None, None, None, None, 0, 0, 0)


def test_a_table_has_a_line_on_the_server_and_one_for_each_version() -> None:
    text = status_text(Status("ortolan 1", True, 2.0, 1234.5, 0.43, 60, 122 << 20, (BUSY, IDLE, GONE)), "here:8000")
    assert text == (
        "ortolan 1 at here:8000  ready  utilization 43 %  1234 requests/s  memory 122 MiB  error answers 60  over 2 s\n"
        "\n"
        "MODEL   VERSION  STATE        REQ/S   MEAN    P50  P99 ms  BATCH  QUEUE  UTIL   MEMORY  FAILED\n"
        "digits  1        READY         1234  0.758  0.686    6.02    3.5      2  43 %  781 KiB   12 +3\n"
        "iris    1        READY            0      –      –       –      –      0   0 %  717 KiB       0\n"
        "wine             UNAVAILABLE      –      –      –       –      –      –     –        –       –  no file"
    )


def test_what_a_server_does_not_tell_is_not_told() -> None:
    text = status_text(Status("triton 2", False, 0.0, None, None, None, None, ()), "here:8000")
    assert text == "triton 2 at here:8000  NOT READY  since the models were loaded\n\nno models"


def test_no_name_of_a_server_or_model_moves_the_cursor() -> None:
    evil = "\x1b[2J\r\n\x9b\u202e\u2028"
    row = GONE._replace(model=evil, version=evil, state=evil, reason=evil)
    text = status_text(Status(evil, True, 1.0, None, None, None, None, (row,)), "here")
    assert text.count("\n") == 3
    assert not set(evil) & set(text) - set("[2J\n")


@pytest.mark.parametrize(
    ("columns", "lines", "shown"),
    [
        (10, 5, "abcdef\ngh\nij\nkl"),
        (4, 5, "abc…\ngh\nij\nkl"),
        (10, 4, "abcdef\ngh\nij\nkl"),
        (10, 3, "abcdef\ngh\n… 2 more"),
        (10, 1, "… 4 more"),
    ],
)
def test_a_text_is_cut_to_the_terminal(columns: int, lines: int, shown: str) -> None:
    assert fitted("abcdef\ngh\nij\nkl", columns, lines) == shown


def test_wide_characters_take_two_columns() -> None:
    assert fitted("模型模型", 5, 1) == "模型…"
    row = IDLE._replace(model="模型")
    lines = status_text(Status("s", True, 1.0, None, None, None, None, (row, BUSY)), "here").split("\n")
    assert lines[3].startswith("模型    1 ")
    assert lines[4].startswith("digits  1 ")


@given(text=st.text(max_size=200), columns=st.integers(2, 20), lines=st.integers(1, 5))
def test_no_text_needs_more_lines_than_there_are(text: str, columns: int, lines: int) -> None:
    assert fitted(text, columns, lines).count("\n") < lines
