import pytest

from ortolan.errors import InvalidArgument, StartupError
from ortolan.frontends.header_forwarding import NO_FORWARDING, HeaderForwarding

HEADERS = [("x-request-id", "7"), ("authorization", "secret"), ("content-type", "json")]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("", {}),
        ("X-REQUEST", {"x-request-id": "7"}),
        ("^x-", {"x-request-id": "7"}),
        ("type|id", {"x-request-id": "7", "content-type": "json"}),
        ("nothing", {}),
    ],
)
def test_headers_with_a_match_in_their_name_become_parameters(pattern: str, expected: dict[str, str]) -> None:
    assert HeaderForwarding(pattern, "--flag").parameters(HEADERS, {"own": 1}) == {**expected, "own": 1}


def test_the_requests_own_parameter_beats_a_header_of_its_name() -> None:
    assert HeaderForwarding("x", "--flag").parameters([("x", "header")], {"x": 2}) == {"x": 2}


@pytest.mark.parametrize("name", ["triton_enable_empty_final_response", "sequence_id", "priority", "timeout"])
def test_a_header_cannot_pose_as_a_parameter_that_decides_about_the_request(name: str) -> None:
    with pytest.raises(InvalidArgument, match=f"header '{name}' cannot become a parameter"):
        HeaderForwarding(".*", "--flag").parameters([(name, "1")], {})


def test_a_pattern_that_is_none_ends_the_start() -> None:
    with pytest.raises(StartupError, match=r"--flag: '\[' is not a regular expression"):
        HeaderForwarding("[", "--flag")


def test_nothing_is_forwarded_unless_asked_for() -> None:
    assert not NO_FORWARDING


def test_what_restrictions_ask_for_and_how_errors_are_told_is_never_forwarded() -> None:
    headers = [("x-admin", "secret"), ("triton_grpc_error", "true"), ("x-request-id", "7")]
    assert HeaderForwarding(".*", "--flag", ["X-Admin"]).parameters(headers, {}) == {"x-request-id": "7"}
