import datetime
import http.server
import socket
import ssl
import threading
import time
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from issuers import AUDIENCE, Issuer, issuer

from ortolan.frontends.access.key_address import is_loopback, refuse_wrong_address
from ortolan.frontends.access.key_fetching import KeysUnavailable, fetch
from ortolan.frontends.access.key_sources import Discovery, key_source
from ortolan.frontends.access.token_options import TokenOptions

LONG_S = 20.0


@pytest.mark.parametrize(
    "address",
    [
        "https://issuer.test",
        "https://issuer.test:8443/a/keys?tenant=1",
        "http://127.0.0.1:8080/keys",
        "http://127.8.8.8/keys",
        "http://[::1]:8080/keys",
        "http://localhost/keys",
    ],
)
def test_keys_may_be_fetched_where_nobody_can_replace_them(address: str) -> None:
    refuse_wrong_address(address)


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("http://issuer.test/keys", "must begin with https://"),
        ("http://localhost.issuer.test/keys", "must begin with https://"),
        ("http://127.0.0.1.issuer.test/keys", "must begin with https://"),
        ("http://169.254.169.254/keys", "must begin with https://"),
        ("http://0.0.0.0/keys", "must begin with https://"),
        ("ftp://127.0.0.1/keys", "must begin with https://"),
        ("file:///etc/passwd", "is no address"),
        ("https:///keys", "is no address"),
        ("https://issuer.test/keys#part", "is no address"),
        ("https://issuer.test:port/keys", "is no address"),
        ("https://[::1/keys", "is no address"),
        ("https://issuer.test/a b", "is no address"),
        ("https://issuer.test/\r\nHost: other", "is no address"),
        ("https://user:word@issuer.test/keys", "must carry no name"),
        ("http://127.0.0.1@issuer.test/keys", "must carry no name"),
        ("", "is no address"),
    ],
)
def test_other_addresses_are_refused(address: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        refuse_wrong_address(address)


def test_names_that_only_look_like_this_machine_are_not() -> None:
    assert not is_loopback("https://localhost.test")
    assert not is_loopback("https://127.0.0.1.test")


def refused(address: str, said: str, within_s: float = LONG_S) -> None:
    with pytest.raises(KeysUnavailable, match=said):
        fetch(address, time.monotonic() + within_s)


@pytest.mark.parametrize("status", [204, 304, 403, 404, 500, 503])
def test_only_a_whole_answer_counts(status: int) -> None:
    with issuer() as server:
        server.put("/keys", b"", status)
        if status == 204:
            assert fetch(f"{server.address}/keys", time.monotonic() + LONG_S) == b""
        else:
            refused(f"{server.address}/keys", f"/keys answers with HTTP status {status}")


@pytest.mark.parametrize("target", ["/other", "http://127.0.0.1:9/", "https://issuer.test/keys", "file:///etc/hosts"])
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_not_followed(status: int, target: str) -> None:
    with issuer() as server:
        server.put("/keys", b"", status, Location=target)
        server.put("/other", b"{}")
        refused(f"{server.address}/keys", f"HTTP status {status}; redirects are not followed")
        assert server.asked == ["/keys"]


def test_a_large_answer_is_not_read() -> None:
    with issuer() as server:
        server.put("/keys", b" " * (1 << 20))
        assert len(fetch(f"{server.address}/keys", time.monotonic() + LONG_S)) == 1 << 20
        server.put("/keys", b" " * ((1 << 20) + 1))
        refused(f"{server.address}/keys", "answers with more than 1 MiB")


def test_an_answer_that_does_not_come_is_not_waited_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        refused(f"http://127.0.0.1:{silent.getsockname()[1]}/keys", "does not answer in time", within_s=0.2)


def test_an_answer_that_never_ends_is_not_waited_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        stop = threading.Event()
        thread = threading.Thread(target=drip, args=(server, stop), daemon=True)
        thread.start()
        refused(f"http://127.0.0.1:{server.getsockname()[1]}/keys", "does not answer in time", within_s=0.5)
        stop.set()
        thread.join(10)


def drip(server: socket.socket, stop: threading.Event) -> None:
    connection, _ = server.accept()
    with connection:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
        try:
            while not stop.wait(0.02):
                connection.sendall(b" ")
        except OSError:
            return


def test_nobody_there_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    refused(
        f"http://127.0.0.1:{port}/keys?secret=1", f"^http://127.0.0.1:{port}/keys cannot be reached: Connection refu"
    )


def test_what_is_no_http_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=answer, args=(server, b"SSH-2.0-x\r\n"), daemon=True)
        thread.start()
        refused(f"http://127.0.0.1:{server.getsockname()[1]}/keys", "cannot be reached: BadStatusLine")
        thread.join(10)


def answer(server: socket.socket, data: bytes) -> None:
    connection, _ = server.accept()
    with connection:
        connection.recv(65_536)
        connection.sendall(data)


def test_a_certificate_that_nobody_vouches_for_is_refused(tmp_path: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(self_signed(tmp_path))
    server = http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=True)
    thread = threading.Thread(target=server.handle_request, daemon=True)
    thread.start()
    try:
        refused(f"https://127.0.0.1:{server.server_port}/keys", "cannot be reached: its certificate is not valid")
    finally:
        thread.join(10)
        server.server_close()


def self_signed(directory: Path) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    day = datetime.timedelta(days=1)
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now - day).not_valid_after(now + day)
    path = directory / "server.pem"
    certificate = builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + certificate)
    return path


CONFIGURATIONS = [
    ({"issuer": "https://other.test", "jwks_uri": "SELF/keys"}, "is of the issuer 'https://other.test', and not of"),
    ({"issuer": "SELF/", "jwks_uri": "SELF/keys"}, "letter by letter"),
    ({"jwks_uri": "SELF/keys"}, "is of the issuer 'None'"),
    ({"issuer": "SELF"}, "has no jwks_uri"),
    ({"issuer": "SELF", "jwks_uri": ["SELF/keys"]}, "has no jwks_uri"),
    (
        {"issuer": "SELF", "jwks_uri": "http://issuer.test/keys"},
        "the jwks_uri 'http://issuer.test/keys' of .* must begin",
    ),
    ({"issuer": "SELF", "jwks_uri": "file:///etc/passwd"}, "the jwks_uri 'file:///etc/passwd' of .* is no address"),
    ({"issuer": "SELF", "jwks_uri": "SELF/nothing"}, "/nothing answers with HTTP status 404"),
]


@pytest.mark.parametrize(("configuration", "said"), CONFIGURATIONS)
def test_a_configuration_that_is_not_the_issuers_does_not_count(configuration: dict[str, object], said: str) -> None:
    with issuer() as server:
        server.configure(**{name: own(server, value) for name, value in configuration.items()})
        server.put("/keys", b"{}")
        with pytest.raises(KeysUnavailable, match=said):
            Discovery(server.address).read(LONG_S)
        assert "/keys" not in server.asked


def own(server: Issuer, value: object) -> object:
    return value.replace("SELF", server.address) if isinstance(value, str) else value


def test_a_configuration_that_is_no_json_does_not_count() -> None:
    with issuer() as server:
        for body in (b"", b"[]", b"<html>"):
            server.put("/.well-known/openid-configuration", body)
            with pytest.raises(KeysUnavailable, match="is no JSON object"):
                Discovery(server.address).read(LONG_S)


@pytest.mark.parametrize("ending", ["", "/"])
def test_an_issuers_name_may_end_in_a_slash_that_its_address_has_once(ending: str) -> None:
    with issuer() as server:
        name = f"{server.address}/realm{ending}"
        server.put(
            "/realm/.well-known/openid-configuration",
            b'{"issuer":"%s","jwks_uri":"%s/keys"}' % (name.encode(), server.address.encode()),
        )
        server.put("/keys", b'{"keys":[]}')
        assert Discovery(name).read(LONG_S) == b'{"keys":[]}'


@pytest.mark.parametrize(
    ("keys", "shown"),
    [
        ("", "https://issuer.test/.well-known/openid-configuration"),
        ("https://keys.test/k?tenant=1", "https://keys.test/k"),
        ("etc/keys.json", "etc/keys.json"),
    ],
)
def test_keys_come_from_where_the_operator_says(keys: str, shown: str) -> None:
    assert key_source(TokenOptions("https://issuer.test", AUDIENCE, keys)).shown == shown
