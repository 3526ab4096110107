import logging

import pytest

from ortolan.errors import Forbidden, Unauthenticated
from ortolan.frontends.access.access import Access, Credentials, RefusalCount
from ortolan.frontends.access.browsers import is_loopback, refuse_foreign_page
from ortolan.frontends.access.grants import ANYBODY, ANYBODY_BUT_ADMIN, Grant, Scope, parse_grant
from ortolan.frontends.access.operations import OPERATIONS, Concern
from ortolan.frontends.tls.identity import PeerIdentity

READER = parse_grant("reader", ["read"])
EDGE = parse_grant("edge", ["infer"])


class Known:
    """Knows one key."""

    def find(self, key: str) -> Grant | None:
        return READER if key == "key" else None


def access() -> Access:
    edges = PeerIdentity(("edge",))
    return Access(Credentials((Known(),), lambda peer: EDGE if peer == edges else None))


@pytest.mark.parametrize(
    ("headers", "certificate", "holder"),
    [
        ({"authorization": "Bearer key"}, None, "reader"),
        ({"authorization": "bearer  key "}, None, "reader"),
        ({"x-api-key": "key"}, None, "reader"),
        # A proxy's own credentials beside the client's.
        ({"x-api-key": "key", "authorization": "Basic abc"}, None, "reader"),
        ({"x-api-key": "key", "authorization": "Bearer other"}, None, "reader"),
        ({}, "edge", "edge"),
        ({"authorization": "Basic abc"}, "edge", "edge"),
        # Whoever says a key is judged by it, whatever the certificate.
        ({"x-api-key": "key"}, "edge", "reader"),
        ({"x-api-key": "other"}, "edge", None),
        ({"x-api-key": ""}, "edge", None),
        ({"authorization": "Bearer"}, None, None),
        ({"authorization": "key"}, None, None),
        ({"authorization": "Bearer key,key"}, None, None),
        ({}, "stranger", None),
        ({}, None, None),
    ],
)
def test_who_asks_is_known_by_a_key_or_else_by_a_certificate(
    headers: dict[str, str], certificate: str | None, holder: str | None
) -> None:
    peer = PeerIdentity((certificate,)) if certificate else None
    if holder is None:
        with pytest.raises(Unauthenticated):
            access().grant(headers.get, peer)
    else:
        assert access().grant(headers.get, peer).holder == holder


def test_without_credentials_all_may_do_what_anybody_may() -> None:
    infer, load = OPERATIONS["ModelInfer"], OPERATIONS["RepositoryModelLoad"]
    open_, closed = Access(None), Access(None, ANYBODY_BUT_ADMIN)
    assert (open_.guards, closed.guards) == (False, True)
    for each in (open_, closed):
        each.check(infer, "m", {}.get, None)
    open_.check(load, "m", {}.get, None)
    with pytest.raises(Forbidden, match="--api-keys-file"):
        closed.check(load, "m", {}.get, None)


def test_what_is_open_is_open_to_everybody() -> None:
    for operation in OPERATIONS.values():
        if operation.scopes:
            with pytest.raises(Unauthenticated):
                access().check(operation, "m", {}.get, None)
        else:
            access().check(operation, None, {}.get, None)


def test_what_changes_something_is_administration() -> None:
    admin = {name for name, operation in OPERATIONS.items() if operation.is_admin}
    changing = ("Load", "Unload", "Register", "Unregister", "Change", "SharedMemoryStatus")
    assert admin == {name for name in OPERATIONS if name.endswith(changing)}
    assert {operation.concern for operation in OPERATIONS.values() if operation.is_admin} == {
        Concern.MODEL,
        Concern.EVERYTHING,
    }


@pytest.mark.parametrize(
    ("headers", "is_taken"),
    [
        ({"host": "localhost"}, True),
        ({"host": "LOCALHOST:8000"}, True),
        ({"host": "127.0.0.1:8000"}, True),
        ({"host": "127.8.9.1"}, True),
        ({"host": "[::1]:8000"}, True),
        ({"host": "localhost:8000", "origin": "http://localhost:8000"}, True),
        ({"host": "localhost:8000", "origin": "http://localhost:3000"}, False),
        ({"host": "localhost:8000", "origin": "null"}, False),
        ({"host": "localhost:8000", "origin": ""}, False),
        ({"host": "pages.example"}, False),
        # Its name was made to lead here.
        ({"host": "pages.example:8000", "origin": "http://pages.example:8000"}, False),
        ({"host": "127.0.0.1.pages.example"}, False),
        ({"host": "localhost.pages.example"}, False),
        ({"host": "10.0.0.1"}, False),
        ({"host": ""}, False),
        ({}, False),
    ],
)
def test_administration_without_a_key_is_for_programs_on_the_machine(headers: dict[str, str], is_taken: bool) -> None:
    guarded = Access(None, ANYBODY, checks_browsers=True)
    guarded.check(OPERATIONS["ModelInfer"], "m", headers.get, None)
    if is_taken:
        refuse_foreign_page(headers.get)
        guarded.check(OPERATIONS["LogChange"], None, headers.get, None)
    else:
        with pytest.raises(Forbidden, match="Host has to be localhost"):
            guarded.check(OPERATIONS["LogChange"], None, headers.get, None)


@pytest.mark.parametrize(
    ("host", "is_this_machine"),
    [("localhost", True), ("localhost.", True), ("127.0.0.2", True), ("::1", True), ("::ffff:127.0.0.1", False)]
    + [(host, False) for host in ("::", "", "example.org", "127.1", "192.168.0.1")],
)
def test_loopback_is_what_no_other_machine_reaches(host: str, is_this_machine: bool) -> None:
    # 3.13 takes addresses of IPv4 inside IPv6 for what they are; either way nobody else comes in.
    assert is_loopback(host) is is_this_machine or host.startswith("::ffff")


def test_refusals_are_counted_and_told_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    times = iter([0.0, 1.0, 59.0, 61.0, 62.0])
    count = RefusalCount(lambda: next(times))
    with caplog.at_level(logging.WARNING):
        for _ in range(5):
            count.add()
    assert [record.args for record in caplog.records] == [(1,), (3,)]


def test_no_refusal_names_a_model() -> None:
    limited = parse_grant("limited", ["infer@mine"])
    guarded = Access(Credentials((), lambda _: limited))
    with pytest.raises(Forbidden) as refused:
        guarded.check(OPERATIONS["ModelInfer"], "secret-model", {}.get, PeerIdentity(()))
    assert "secret-model" not in str(refused.value)
    assert "other models only" in str(refused.value)
    with pytest.raises(Forbidden, match="the scope 'admin'"):
        guarded.check(OPERATIONS["LogChange"], None, {}.get, PeerIdentity(()))
    assert not limited.allows(Scope.READ, "mine")


def test_who_administers_stands_in_the_log_and_names_cannot_write_lines_there(caplog: pytest.LogCaptureFixture) -> None:
    guarded = Access(Credentials((), lambda _: parse_grant("deploy", ["admin"])))
    with caplog.at_level(logging.DEBUG):
        guarded.check(OPERATIONS["RepositoryModelUnload"], "m\nforged", {}.get, PeerIdentity(()))
        with pytest.raises(Forbidden):
            guarded.check(OPERATIONS["ModelInfer"], "m", {}.get, PeerIdentity(()))
    told, refused = (record.getMessage() for record in caplog.records)
    assert told.startswith("RepositoryModelUnload of 'm")
    assert told.endswith("by 'deploy'")
    assert "\n" not in told
    assert refused == "ModelInfer of 'm' was refused to 'deploy'"
