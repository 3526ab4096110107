"""Which hosts are any, and which the operator lets clients ask for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ortolan.errors import StartupError
from ortolan.frontends.rest.hosts import ANY_HOST, AllowedHosts, is_host

CHOSEN = AllowedHosts(["Example.com", "*.inner.example", "10.0.0.7", "[::1]"])
INFER = b"/v2/models/m/infer"


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"x",
        b"example.com:8000",
        b"example.com:",
        b"under_score",
        b"127.0.0.1:80",
        b"[::1]",
        b"[fe80::1%25eth0]:80",
        b"%C3%A4.example",
        b"a" * 1000,
    ],
)
def test_a_host_is_a_name_or_an_address_and_a_port(value: bytes) -> None:
    assert is_host(value)


@pytest.mark.parametrize(
    "value",
    [
        b"a b",
        b"a/b",
        b"user@x",
        b"x:80:80",
        b"x:http",
        b"::1",
        b"[::1",
        b"x?y",
        b"x#y",
        b"a\\b",
        b"\xc3\xa4",
        b"%zz",
        b"a,b c",
        b'"x"',
        b"a" * 1025,
    ],
)
def test_what_is_no_host(value: bytes) -> None:
    assert not is_host(value)


@given(st.binary(max_size=60))
def test_no_bytes_whatever_raise_anything(value: bytes) -> None:
    is_host(value)
    CHOSEN.allows(INFER, [(b"host", value)])
    CHOSEN.refusal([(b"host", value)])


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        (b"example.com", True),
        (b"EXAMPLE.com:8000", True),
        (b"example.com.", True),
        (b"www.example.com", False),
        (b"example.com.evil.example", False),
        (b"evil-example.com", False),
        (b"a.inner.example", True),
        (b"a.b.inner.example:80", True),
        (b"inner.example", False),
        (b"10.0.0.7:9", True),
        (b"10.0.0.70", False),
        (b"[::1]:8000", True),
        (b"[::2]", False),
        (b"", False),
        (b"not a host", False),
    ],
)
def test_names_are_allowed_whatever_their_port_and_capitals(host: bytes, allowed: bool) -> None:
    assert CHOSEN.allows(INFER, [(b"accept", b"*/*"), (b"host", host)]) is allowed


def test_without_a_host_nothing_is_allowed_but_health() -> None:
    assert not CHOSEN.allows(INFER, [])
    assert "a request without a host" in CHOSEN.refusal([])
    for path in (b"/v2/health/live", b"/v2/health/ready", b"/v2/models/m/ready", b"/", b"/v2/health/ready?x=1"):
        assert CHOSEN.allows(path, [(b"host", b"10.1.2.3:8000")]), path
    for path in (b"/v2", b"/v2/models/m", b"/v2/repository/index", b"/docs", b"//v2/health/live", b"/metrics"):
        assert not CHOSEN.allows(path, [(b"host", b"10.1.2.3:8000")]), path


@pytest.mark.parametrize("hosts", [ANY_HOST, AllowedHosts(["*"]), AllowedHosts(["x", "*"])])
def test_any_host_is_allowed_where_none_is_named(hosts: AllowedHosts) -> None:
    assert hosts.allows(INFER, [(b"host", b"anything")])
    assert hosts.allows(INFER, [])


def test_a_refusal_names_the_host_and_the_flag() -> None:
    said = CHOSEN.refusal([(b"host", b"evil.example:80")])
    assert "'evil.example:80'" in said
    assert "--http-allowed-host" in said
    assert len(CHOSEN.refusal([(b"host", b"a" * 1000)])) < 300


@pytest.mark.parametrize("name", ["example.com:8000", "http://x", "a b", "*x.example", "a.*.b", "::1", "", "*."])
def test_what_is_no_name_is_refused_at_the_start(name: str) -> None:
    with pytest.raises(StartupError, match="--http-allowed-host expects"):
        AllowedHosts([name])
