import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ortolan.core.trace_settings import ALL_MODELS, OwnSettings, TraceSettings, TraceTable, own_after
from ortolan.errors import InvalidArgument, Unsupported

OPERATOR = TraceSettings(level=("TIMESTAMPS",), rate=1, count=-1, log_frequency=0, file="t.json")
TABLE = TraceTable(OPERATOR)


def test_the_defaults_are_tritons() -> None:
    assert TraceSettings().as_answer() == {
        "trace_level": ["OFF"],
        "trace_rate": ["1000"],
        "trace_count": ["-1"],
        "log_frequency": ["0"],
        "trace_file": [""],
        "trace_mode": ["triton"],
    }


@pytest.mark.parametrize(
    ("change", "own"),
    [
        ({}, OwnSettings()),
        ({"trace_rate": "5"}, OwnSettings(rate=5)),
        ({"trace_rate": ["5"]}, OwnSettings(rate=5)),  # as gRPC has it
        ({"trace_rate": "007"}, OwnSettings(rate=7)),
        ({"trace_rate": "4294967295"}, OwnSettings(rate=2**32 - 1)),
        ({"trace_count": "-1"}, OwnSettings(count=-1)),
        ({"trace_count": "0"}, OwnSettings(count=0)),
        ({"log_frequency": "10"}, OwnSettings(log_frequency=10)),
        ({"trace_level": ["OFF"]}, OwnSettings(level=())),
        ({"trace_level": "TENSORS"}, OwnSettings(level=("TENSORS",))),
        ({"trace_level": ["TENSORS", "TIMESTAMPS"]}, OwnSettings(level=("TIMESTAMPS", "TENSORS"))),
        ({"trace_level": ["TENSORS", "TENSORS"]}, OwnSettings(level=("TENSORS",))),
        ({"trace_level": ["MIN"]}, OwnSettings(level=("TIMESTAMPS",))),  # the names of older Tritons
        ({"trace_level": ["MAX"]}, OwnSettings(level=("TIMESTAMPS",))),
        ({"trace_rate": "1", "trace_count": "2"}, OwnSettings(rate=1, count=2)),
    ],
)
def test_what_a_change_says_becomes_a_models_own(change: dict[str, object], own: OwnSettings) -> None:
    assert own_after(OwnSettings(), change) == own


@pytest.mark.parametrize("nothing", [None, []])
@pytest.mark.parametrize("name", ["trace_level", "trace_rate", "trace_count", "log_frequency"])
def test_null_and_an_empty_list_clear_a_setting(name: str, nothing: object) -> None:
    full = OwnSettings(("TENSORS",), 2, 3, 4)
    after = own_after(full, {name: nothing})
    assert getattr(after, name.removeprefix("trace_")) is None
    assert [after.level, after.rate, after.count, after.log_frequency].count(None) == 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"trace_rate": "x"}, "Unable to parse 'trace_rate', got: x"),
        ({"trace_rate": ""}, "Unable to parse 'trace_rate', got: "),
        ({"trace_rate": " 1"}, "Unable to parse 'trace_rate', got:  1"),
        ({"trace_rate": "1.5"}, "Unable to parse 'trace_rate', got: 1.5"),
        ({"trace_rate": "١"}, "Unable to parse 'trace_rate', got: ١"),  # a digit, but of another script
        ({"trace_rate": "4294967296"}, "'trace_rate', value is out of range [ 0, 4294967295 ], got: 4294967296"),
        ({"trace_rate": "-1"}, "'trace_rate', value is out of range [ 0, 4294967295 ], got: -1"),
        ({"trace_rate": "9" * 5000}, "'trace_rate', value is out of range"),
        ({"trace_count": "-2"}, "Unable to parse 'trace_count'. Expecting value >= -1, got: -2"),
        ({"trace_count": "2147483648"}, "'trace_count', value is out of range [ -1, 2147483647 ], got: 2147483648"),
        ({"log_frequency": "often"}, "Unable to parse 'log_frequency', got: often"),
        ({"trace_rate": ["1", "2"]}, "expect only 1 value for 'trace_rate'"),
        ({"trace_rate": 1}, "'trace_rate' expects text, or null for none of its own, got 1"),
        ({"trace_rate": True}, "'trace_rate' expects text"),
        ({"trace_level": {"a": 1}}, "'trace_level' expects text"),
        ({"trace_level": ["OFF", None]}, "'trace_level' expects text"),
        ({"trace_level": ["OFF", "TENSORS"]}, "Expect only one trace level 'OFF' is specified"),
        ({"trace_level": ["OFF", "OFF"]}, "Expect only one trace level 'OFF' is specified"),
        ({"trace_level": ["ALL"]}, "unknown level 'ALL' for 'trace_level'; there are OFF, TIMESTAMPS, TENSORS"),
        ({"trace_level": ["off"]}, "unknown level 'off' for 'trace_level'"),
        ({"rate": "1"}, "unknown trace setting 'rate'; there are trace_level, trace_rate, trace_count, log_frequency"),
        ({"x" * 1000: "1"}, "unknown trace setting 'xxx"),
    ],
)
def test_what_cannot_be_understood_is_named(change: dict[str, object], said: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        own_after(OwnSettings(), change)
    assert said in str(refused.value)
    assert len(str(refused.value)) < 300


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("trace_file", "trace file location can not be updated through network protocol"),
        ("trace_mode", "trace mode can not be updated through network protocol"),
    ],
)
@pytest.mark.parametrize("value", ["t.json", None, 1])
def test_where_and_how_traces_are_written_is_the_operators(name: str, said: str, value: object) -> None:
    with pytest.raises(Unsupported) as refused:
        own_after(OwnSettings(), {"trace_rate": "1", name: value})
    assert str(refused.value) == said


@given(st.dictionaries(st.sampled_from(["trace_level", "trace_rate", "trace_count", "log_frequency", "?"]), st.text()))
def test_no_text_raises_anything_but_what_clients_are_told(change: dict[str, object]) -> None:
    with contextlib.suppress(InvalidArgument):
        own_after(OwnSettings(), change)


def test_a_model_has_what_all_have_until_it_has_its_own() -> None:
    table = TABLE.changed("m", {"trace_rate": "12", "log_frequency": "34"})
    table = table.changed(ALL_MODELS, {"trace_rate": "56", "trace_count": "78", "trace_level": ["OFF"]})
    assert table.of(ALL_MODELS) == TraceSettings((), 56, 78, 0, "t.json")
    assert table.of("m") == TraceSettings((), 12, 78, 34, "t.json")
    assert table.of("other") == table.of(ALL_MODELS)


def test_what_is_cleared_for_all_is_the_operators_again_and_what_a_model_clears_is_that_of_all() -> None:
    table = TABLE.changed("m", {"trace_rate": "12", "log_frequency": "34"})
    table = table.changed(ALL_MODELS, {"trace_rate": "56", "trace_count": "78", "trace_level": ["OFF"]})
    table = table.changed(ALL_MODELS, {"trace_rate": None, "trace_count": None})
    assert table.of(ALL_MODELS) == TraceSettings((), 1, -1, 0, "t.json")
    assert table.of("m") == TraceSettings((), 12, -1, 34, "t.json")
    table = table.changed("m", {"trace_rate": None, "trace_level": None})
    assert table.of("m") == TraceSettings((), 1, -1, 34, "t.json")
    assert table.changed("m", {"log_frequency": []}).own.keys() == {ALL_MODELS}


def test_tracing_every_zeroth_request_is_refused_but_may_be_said_while_it_is_off() -> None:
    with pytest.raises(InvalidArgument, match="sample rate must be non-zero"):
        TABLE.changed(ALL_MODELS, {"trace_rate": "0"})
    off = TABLE.changed(ALL_MODELS, {"trace_level": "OFF", "trace_rate": "0"})
    with pytest.raises(InvalidArgument, match="sample rate must be non-zero"):
        off.changed("m", {"trace_level": "TENSORS"})
    assert off.changed("m", {"trace_level": "TENSORS", "trace_rate": "1"}).of("m").level == ("TENSORS",)
