import json
import logging
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from server_process import finished

from ortolan.access_lines import text_line
from ortolan.core.log_settings import LogSettings
from ortolan.core.request_note import RequestNote
from ortolan.logs import JsonFormatter, TextFormatter, set_up

MOMENT = 1_769_860_800.25
"""2026-01-31T12:00:00.250Z"""


def record(message: str, *values: object, level: int = logging.WARNING, failed: bool = False) -> logging.LogRecord:
    made = logging.LogRecord("ortolan.core", level, __file__, 1, message, values, None)
    made.created = MOMENT
    if failed:
        try:
            raise ValueError("the cause")
        except ValueError:
            made.exc_info = sys.exc_info()
    return made


MESSAGES = [
    (("plain",), "plain"),
    (("model '%s' version %d", "digits", 1), "model 'digits' version 1"),
    (("größer 日本",), "größer 日本"),
    (("a\nforged line",), r"a\nforged line"),
    (("carriage\rreturn\tand tab",), r"carriage\rreturn\tand tab"),
    (("\x1b[31mred\x1b[0m",), r"\x1b[31mred\x1b[0m"),
    (("nul \0 and del \x7f",), r"nul \x00 and del \x7f"),
    (("csi \x9b31m and nel \x85",), r"csi \x9b31m and nel \x85"),
    (("line \u2028 paragraph \u2029",), r"line \u2028 paragraph \u2029"),
]


@pytest.mark.parametrize(("arguments", "shown"), MESSAGES)
def test_a_text_line_is_one_line_without_control_characters(arguments: tuple[str, ...], shown: str) -> None:
    assert TextFormatter().format(record(*arguments)) == f"2026-01-31T12:00:00.250Z WARNING ortolan.core: {shown}"


@pytest.mark.parametrize(("arguments", "shown"), MESSAGES)
def test_a_json_line_is_one_object_that_keeps_the_message(arguments: tuple[str, ...], shown: str) -> None:
    line = JsonFormatter().format(record(*arguments))
    assert len(line.splitlines()) == 1
    message = arguments[0] % arguments[1:]
    assert json.loads(line) == {
        "time": "2026-01-31T12:00:00.250Z",
        "level": "warning",
        "logger": "ortolan.core",
        "message": message,
    }


@pytest.mark.parametrize("level", ["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"])
def test_both_forms_say_the_level(level: str) -> None:
    made = record("x", level=getattr(logging, level))
    assert f" {level} " in TextFormatter().format(made)
    assert json.loads(JsonFormatter().format(made))["level"] == level.lower()


def test_what_a_traceback_quotes_cannot_move_the_cursor() -> None:
    made = record("it failed", failed=True)
    made.exc_info = (ValueError, ValueError("\x1b[2J\r\x9b31m"), None)
    text = TextFormatter().format(made)
    assert text.endswith(r"ValueError: \x1b[2J\r\x9b31m")
    assert len(JsonFormatter().format(made).splitlines()) == 1


def test_an_exception_follows_its_text_line_and_is_in_the_json_object() -> None:
    text = TextFormatter().format(record("it failed", failed=True))
    assert text.splitlines()[0].endswith("it failed")
    assert text.endswith("ValueError: the cause")
    line = JsonFormatter().format(record("it failed", failed=True))
    assert "\n" not in line
    assert json.loads(line)["exception"].endswith("ValueError: the cause")


def test_a_line_about_a_request_names_it() -> None:
    made = record("it failed")
    made.request_id = "r-1\x1b"
    assert TextFormatter().format(made).endswith(r"ortolan.core: it failed (request r-1\x1b)")
    assert json.loads(JsonFormatter().format(made))["request_id"] == "r-1\x1b"


def test_lines_of_the_access_log_are_written_whatever_levels_are_off_and_follow_the_form(tmp_path: Path) -> None:
    file = tmp_path / "log"
    settings = LogSettings(log_file=str(file), log_info=False, log_warning=False, log_error=False)
    logs = set_up(settings, replica=3)
    note = RequestNote(None, "r-1", "HTTP/1.1", ("192.0.2.1", 5), "GET", b"/v2")
    logs.write_access([note] * 100)
    logs(replace(settings, log_format="json"))
    logs.write_access([note])
    logging.getLogger().handlers[0].close()
    *texts, entry = file.read_text().splitlines()
    assert texts == [text_line(note, 3)] * 100
    assert json.loads(entry)["replica"] == 3


@pytest.mark.parametrize(
    ("logger", "message", "kept"),
    [
        ("grpc._cython.cygrpc", "ExecuteBatchError raised in core by servicer method [/a/B]", False),
        # It quotes what a client sent, which may be a key.
        ("grpc._cython.cygrpc", "Invalid encoding on b'secret'", False),
        ("grpc._cython.cygrpc", "Unexpected [ValueError] raised by servicer method [/a/B]", True),
        ("ortolan.core", "ExecuteBatchError raised in core by servicer method [/a/B]", True),
    ],
)
def test_a_client_that_goes_while_it_is_answered_is_no_error_in_the_log(
    tmp_path: Path, logger: str, message: str, kept: bool
) -> None:
    set_up(LogSettings(log_file=str(tmp_path / "log")))
    logging.getLogger(logger).error(message)
    logging.getLogger().handlers[0].close()
    assert (message in (tmp_path / "log").read_text()) is kept


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    (tmp_path / "broken" / "1").mkdir(parents=True)
    (tmp_path / "broken" / "1" / "model.onnx").write_bytes(b"nonsense")
    return tmp_path


def test_with_log_format_json_every_line_of_the_log_is_an_object(broken: Path) -> None:
    lines = finished("models", broken, "--log-format=json").stderr.splitlines()
    assert lines
    for line in lines:
        entry = json.loads(line)
        assert {"time", "level", "logger", "message"} <= set(entry)
    assert "broken" in json.loads(lines[-1])["message"]


def test_by_default_every_line_of_the_log_is_text(broken: Path) -> None:
    lines = finished("models", broken).stderr.splitlines()
    assert lines
    for line in lines:
        assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (WARNING|ERROR) ortolan\.[\w.]+: ", line)
