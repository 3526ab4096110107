import pytest

from ortolan.commands.address import Address, grpc_address, http_address
from ortolan.errors import StartupError


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("localhost", Address("localhost", 8000)),
        ("10.0.0.7:9000", Address("10.0.0.7", 9000)),
        ("[::1]:9000", Address("::1", 9000)),
        ("http://models", Address("models", 80)),  # what a browser asks
        ("http://models:8000/", Address("models", 8000)),
        ("https://models", Address("models", 443, tls=True)),
        ("https://example.org/ortolan/", Address("example.org", 443, tls=True, path="/ortolan")),
    ],
)
def test_an_address_for_http_is_what_people_write(text: str, address: Address) -> None:
    assert http_address(text) == address


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("localhost", Address("localhost", 8001)),
        ("grpc://localhost:9", Address("localhost", 9)),
        ("grpcs://models", Address("models", 8001, tls=True)),
        ("https://models:443", Address("models", 443, tls=True)),
    ],
)
def test_an_address_for_grpc_has_ports_of_its_own(text: str, address: Address) -> None:
    assert grpc_address(text) == address


@pytest.mark.parametrize(
    "text",
    ["", ":8000", "http://", "localhost:x", "localhost:99999", "ftp://localhost", "http://me@host", "host?x=1", "[::1"],
)
def test_what_is_no_address_is_refused_with_what_was_expected(text: str) -> None:
    for read in (http_address, grpc_address):
        with pytest.raises(StartupError, match="expected HOST"):
            read(text)


def test_grpc_has_no_path() -> None:
    with pytest.raises(StartupError, match="without a path"):
        grpc_address("grpc://localhost/models")


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("localhost", True), ("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("128.0.0.1", False), ("a", False)],
)
def test_a_loopback_address_is_this_machine(host: str, loopback: bool) -> None:
    assert Address(host, 1).is_loopback == loopback


def test_an_ipv6_address_is_shown_as_urls_have_it() -> None:
    assert (Address("::1", 8000).place, Address("a", 8000).place) == ("[::1]:8000", "a:8000")
