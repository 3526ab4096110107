import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ortolan.core.log_settings import LogControl, LogSettings, changed
from ortolan.errors import InvalidArgument, Unsupported


def test_the_defaults_are_tritons() -> None:
    assert LogSettings().as_answer() == {
        "log_file": "",
        "log_info": True,
        "log_warning": True,
        "log_error": True,
        "log_verbose_level": 0,
        "log_format": "default",
    }


@pytest.mark.parametrize(
    ("change", "after"),
    [
        ({}, LogSettings()),
        ({"log_info": False}, LogSettings(log_info=False)),
        ({"log_warning": False, "log_error": False}, LogSettings(log_warning=False, log_error=False)),
        ({"log_verbose_level": 2}, LogSettings(log_verbose_level=2)),
        ({"log_format": "ISO8601"}, LogSettings(log_format="ISO8601")),
        ({"log_format": "json"}, LogSettings(log_format="json")),
        (dict.fromkeys(LogSettings().as_answer()), LogSettings()),  # null leaves all as it is
    ],
)
def test_a_change_says_what_is_otherwise(change: dict[str, object], after: LogSettings) -> None:
    assert changed(LogSettings(), change) == after


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"log_info": "yes"}, "expect boolean for 'log_info', got 'yes'"),
        ({"log_warning": 1}, "expect boolean for 'log_warning', got 1"),
        ({"log_error": []}, "expect boolean for 'log_error', got []"),
        ({"log_verbose_level": "1"}, "expect int32 for 'log_verbose_level', 0 or more, got '1'"),
        ({"log_verbose_level": True}, "expect int32 for 'log_verbose_level', 0 or more, got True"),
        ({"log_verbose_level": -1}, "expect int32 for 'log_verbose_level', 0 or more, got -1"),
        ({"log_verbose_level": 2**31}, "expect int32 for 'log_verbose_level'"),
        ({"log_verbose_level": 1.0}, "expect int32 for 'log_verbose_level'"),
        ({"log_format": 8601}, "expect string for 'log_format', got 8601"),
        ({"log_format": "xml"}, "invalid argument for log_format, got: xml; there are default, ISO8601, json"),
        ({"log_warnings": True}, "unknown log setting 'log_warnings'; there are log_file, log_info, log_warning"),
    ],
)
def test_what_cannot_be_understood_is_named(change: dict[str, object], said: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        changed(LogSettings(), change)
    assert said in str(refused.value)


def test_where_lines_go_is_the_operators() -> None:
    with pytest.raises(Unsupported) as refused:
        changed(LogSettings(), {"log_info": False, "log_file": "other.log"})
    assert str(refused.value) == "log file location can not be updated through network protocol"


_VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.text())


@given(st.dictionaries(st.sampled_from([*LogSettings().as_answer(), "other"]), _VALUES))
def test_no_value_raises_anything_but_what_clients_are_told(change: dict[str, object]) -> None:
    try:
        after = changed(LogSettings(), change)
    except (InvalidArgument, Unsupported):
        return
    assert changed(LogSettings(), after.as_answer() | {"log_file": None}) == after


def test_a_change_takes_effect_once_and_is_told_before(caplog: pytest.LogCaptureFixture) -> None:
    lines_before: list[int] = []
    control = LogControl(LogSettings(), lambda _: lines_before.append(len(caplog.records)))
    with caplog.at_level(logging.INFO):
        control.change({"log_info": False})
        control.change({"log_info": False})
    assert lines_before == [1]
    assert control.settings == LogSettings(log_info=False)


def test_a_refused_change_has_no_effect() -> None:
    applied: list[LogSettings] = []
    control = LogControl(LogSettings(), applied.append)
    with pytest.raises(InvalidArgument):
        control.change({"log_info": False, "log_format": "xml"})
    assert (control.settings, applied) == (LogSettings(), [])


def test_no_change_hides_a_later_one(caplog: pytest.LogCaptureFixture) -> None:
    control = LogControl(LogSettings())
    with caplog.at_level(logging.DEBUG):
        for switch in ("log_info", "log_warning", "log_error"):
            control.change({switch: False})
        control.change({"log_info": True})
    assert [record.levelname for record in caplog.records] == ["INFO", "WARNING", "ERROR", "DEBUG"]
