"""Ids and the parameters with a meaning: which are taken, and how an id stands in a message."""

import pytest

from ortolan.core.request_terms import MAX_ID_CHARACTERS, check_id, limits_of, sequence_of, with_id
from ortolan.errors import InvalidArgument
from ortolan.execution.graph_request import NO_LIMITS, RequestLimits, SequenceTerms
from ortolan.inference.request import InferenceRequest, ParameterValue


def test_an_id_may_be_so_long_and_no_longer() -> None:
    check_id("")
    check_id("x" * MAX_ID_CHARACTERS)
    with pytest.raises(InvalidArgument, match="the request's id has 1025 characters, at most 1024 are accepted"):
        check_id("x" * (MAX_ID_CHARACTERS + 1))


@pytest.mark.parametrize(
    ("request_id", "shown"),
    [
        ("", "<id_unknown>"),
        ("order 66", "order 66"),
        ("größer", "größer"),
        ("a\r\nE0101 forged\x1b[2J", "a\\r\\nE0101 forged\\x1b[2J"),
        ("x" * 128, "x" * 128),
        ("x" * 129, "x" * 128 + "..."),
    ],
)
def test_a_message_says_of_which_request_it_is(request_id: str, shown: str) -> None:
    assert with_id("so it is", request_id) == f"[request id: {shown}] so it is"


def asked(deadline_ns: int = 0, **parameters: ParameterValue) -> InferenceRequest:
    return InferenceRequest("m", parameters=parameters, deadline_ns=deadline_ns)


@pytest.mark.parametrize(
    ("request_", "limits"),
    [
        (asked(), NO_LIMITS),
        (asked(mine="anything", yours=1.5), NO_LIMITS),
        (asked(priority=0, timeout=0), NO_LIMITS),
        (asked(priority=2), RequestLimits(priority=2)),
        (asked(timeout=1000), RequestLimits(timeout_us=1000)),
        (asked(deadline_ns=7), RequestLimits(deadline_ns=7)),
        (asked(deadline_ns=7, mine=True), RequestLimits(deadline_ns=7)),
        (asked(sequence_id=0, sequence_start=True, sequence_end=False), NO_LIMITS),
        (asked(sequence_id=2**64 - 1), NO_LIMITS),
        (asked(sequence_id="x" * 128), NO_LIMITS),
        (asked(sequence_id=""), NO_LIMITS),
    ],
)
def test_what_a_request_asks_of_the_scheduler_is_in_its_parameters(
    request_: InferenceRequest, limits: RequestLimits
) -> None:
    assert limits_of(request_) == limits


WHOLE = "must be a whole number, 0 or more, got "
TRUTH = "must be true or false, got "
SEQUENCE = "must be a whole number, 0 or more, or a text of at most 128 characters, got "


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        *((name, value, WHOLE) for name in ("priority", "timeout") for value in (-1, 1.5, "1", True, 1 << 63)),
        *((name, value, TRUTH) for name in ("sequence_start", "sequence_end") for value in (1, 0, "true", 1.0)),
        *(("sequence_id", value, SEQUENCE) for value in (-1, 1 << 64, 1.5, True, "x" * 129)),
    ],
)
def test_a_parameter_with_a_meaning_is_of_its_type(name: str, value: ParameterValue, said: str) -> None:
    with pytest.raises(InvalidArgument, match=f"^request parameter '{name}' {said}") as refused:
        limits_of(asked(**{name: value}))
    assert len(refused.value.message) < 200


@pytest.mark.parametrize(
    ("parameters", "terms"),
    [
        ({}, None),
        ({"sequence_id": 0, "sequence_start": True}, None),
        ({"sequence_id": "", "sequence_start": True}, None),
        ({"sequence_id": 7}, SequenceTerms(7)),
        ({"sequence_id": "seven", "sequence_start": True}, SequenceTerms("seven", start=True)),
        ({"sequence_id": 7, "sequence_start": False, "sequence_end": True}, SequenceTerms(7, end=True)),
    ],
)
def test_a_request_says_which_sequence_it_belongs_to(
    parameters: dict[str, ParameterValue], terms: SequenceTerms | None
) -> None:
    assert sequence_of(parameters) == terms
