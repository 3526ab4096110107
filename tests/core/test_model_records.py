"""What is known of a model: which version a request gets, and what the index says of those that it cannot get."""

import pytest

from ortolan.core.model_records import UNLOADED, IndexEntry, Model, VersionRecord
from ortolan.core.version_state import VersionState
from ortolan.errors import InvalidArgument, NotFound, OrtolanError, Unavailable

READY, UNAVAILABLE = VersionState.READY, VersionState.UNAVAILABLE


@pytest.mark.parametrize(
    ("version", "kind", "words"),
    [
        ("", NotFound, "'m' has no available versions"),
        ("7", NotFound, "'m' version 7 is not found"),
        ("1", Unavailable, "'m' version 1 is not at ready state"),
        ("-1", InvalidArgument, "whole number, got '-1'"),
        ("1_0", InvalidArgument, "whole number"),
        ("９", InvalidArgument, "whole number"),
        ("1" * 21, InvalidArgument, "whole number"),
    ],
)
def test_a_version_that_cannot_be_had_is_refused_for_its_reason(
    version: str, kind: type[OrtolanError], words: str
) -> None:
    model = Model("m", {1: VersionRecord(UNAVAILABLE, UNLOADED), 8: VersionRecord(UNAVAILABLE, UNLOADED)})
    with pytest.raises(kind, match=words):
        model.find(version)


@pytest.mark.parametrize(
    ("reason", "why"),
    [
        (UNLOADED, ""),  # Triton's words alone: there is no more to say
        ("bad file", ": version 1 is at UNAVAILABLE state: bad file"),
        ("unloaded: idle for 300 s", ": unloaded: idle for 300 s"),
    ],
)
def test_a_request_for_what_is_not_served_is_told_the_reason_that_is_known(reason: str, why: str) -> None:
    model = Model("m", {1: VersionRecord(UNAVAILABLE, reason)})
    with pytest.raises(NotFound) as refused:
        model.find("")
    assert refused.value.message == f"Request for unknown model: 'm' has no available versions{why}"


@pytest.mark.parametrize(
    ("model", "lines"),
    [
        (Model("m"), [IndexEntry("m")]),
        (Model("m", problem="no config"), [IndexEntry("m", "", "UNAVAILABLE", "no config")]),
        (
            # A model that cannot be read any more says so where it still serves, and nowhere else.
            Model("m", {2: VersionRecord(READY), 1: VersionRecord(UNAVAILABLE, UNLOADED)}, "no config"),
            [IndexEntry("m", "1", "UNAVAILABLE", UNLOADED), IndexEntry("m", "2", "READY", "no config")],
        ),
    ],
)
def test_the_index_tells_each_version_and_why(model: Model, lines: list[IndexEntry]) -> None:
    assert model.index() == lines


@pytest.mark.parametrize(
    ("model", "amiss", "failures"),
    [
        (Model("m"), False, []),
        (Model("m", {1: VersionRecord(UNAVAILABLE, UNLOADED)}), False, []),
        (Model("m", {1: VersionRecord(UNAVAILABLE, "bad")}), True, ["version 1 is at UNAVAILABLE state: bad"]),
        (Model("m", {1: VersionRecord(VersionState.UNLOADING)}), False, []),
        (Model("m", problem="no config"), True, ["no config"]),
        (Model("m", problem="no version", incomplete=True), False, ["no version"]),
        (
            Model("m", {1: VersionRecord(UNAVAILABLE, "cut", incomplete=True)}),
            False,
            ["version 1 is at UNAVAILABLE state: cut"],
        ),
        (Model("m", {1: VersionRecord(UNAVAILABLE, UNLOADED)}, lost=True), True, []),
    ],
)
def test_a_model_is_amiss_when_something_should_be_ready_and_is_not(
    model: Model, amiss: bool, failures: list[str]
) -> None:
    assert model.is_amiss == amiss
    assert model.failures == failures


def test_what_is_wanted_no_more_is_forgiven_and_what_failed_may_be_tried_again() -> None:
    model = Model(
        "m", {1: VersionRecord(UNAVAILABLE, "bad", failed_fingerprint="a"), 2: VersionRecord(READY, "x", "b", "c")}
    )
    model.forgive({2: "b"})
    assert [(record.reason, record.failed_fingerprint) for record in model.versions.values()] == [
        (UNLOADED, None),
        ("", None),
    ]
    model.versions[2].failed_fingerprint = "d"
    model.forget_failures(None)
    assert model.versions[2].failed_fingerprint == "d"
    model.forget_failures(attempt := object())
    assert model.versions[2].failed_fingerprint is None
    model.versions[2].failed_fingerprint = "e"
    model.forget_failures(attempt)
    assert model.versions[2].failed_fingerprint == "e"
