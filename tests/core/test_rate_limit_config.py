"""The texts of ``--rate-limit-resource``."""

import pytest

from ortolan.core.rate_limit_config import parse_resources, rate_limiter_for
from ortolan.errors import StartupError
from ortolan.execution.resource_turns import DeclaredResource


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("R1:10", DeclaredResource("R1", 10)),
        ("R2:5:0", DeclaredResource("R2", 5, 0)),
        (" R3 : 0 : 1 ", DeclaredResource("R3", 0, 1)),
    ],
)
def test_a_text_is_a_name_a_count_and_perhaps_a_device(text: str, expected: DeclaredResource) -> None:
    assert parse_resources([text]) == (expected,)


@pytest.mark.parametrize("text", ["R", ":1", "R:", "R:x", "R:-1", "R:1:", "R:1:x", "R:1:2:3", "R:1.5", "R:12345678901"])
def test_anything_else_ends_the_start_even_where_the_limiter_is_off(text: str) -> None:
    with pytest.raises(StartupError, match="--rate-limit-resource: expected NAME:COUNT or NAME:COUNT:DEVICE"):
        rate_limiter_for("off", [text])


def test_there_is_no_limiter_unless_it_is_asked_for() -> None:
    assert rate_limiter_for("off", ["R:1"]) is None
    assert rate_limiter_for("execution_count", []) is not None
