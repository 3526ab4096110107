"""Files of certificates that are of use, and what is said of those that are not."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from certificates import Authority, Pair, key_bytes
from cryptography.hazmat.primitives.asymmetric import ec

from ortolan.errors import StartupError
from ortolan.frontends.tls.certificates import Age, Expiry, Speaks, age, expiry_text, load_certificates
from ortolan.frontends.tls.tls_files import GRPC_TLS_FLAGS, TlsFiles

DAY_S = 86_400.0


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def files(pair: Pair, client_ca: Path | None = None) -> TlsFiles:
    return TlsFiles(pair.certificate, pair.key, client_ca)


def test_files_become_a_context_for_each_kind_of_port(authority: Authority) -> None:
    found = load_certificates(files(authority.server(), authority.file), time.time())
    assert set(found.contexts) == set(Speaks)
    assert [expiry.flag for expiry in found.expiries] == ["--tls-certificate", "--tls-client-ca"]
    assert [age(expiry, time.time()) for expiry in found.expiries] == [Age.FRESH, Age.FRESH]


def test_a_certificate_may_come_with_those_that_lead_to_its_authority(authority: Authority) -> None:
    pair = authority.server()
    pair.certificate.write_bytes("Wer dies liest: grüß Gott\n".encode() + pair.pem + authority.pem)
    load_certificates(files(pair), time.time())


def test_a_key_is_not_shown_with_what_the_files_hold(authority: Authority) -> None:
    assert "PRIVATE" not in repr(load_certificates(files(authority.server()), time.time()).contents)


def missing(authority: Authority, pair: Pair) -> None:
    pair.certificate.unlink()


def missing_key(authority: Authority, pair: Pair) -> None:
    pair.key.unlink()


def unreadable_key(authority: Authority, pair: Pair) -> None:
    pair.key.unlink()
    pair.key.mkdir()


def another_key(authority: Authority, pair: Pair) -> None:
    pair.key.write_bytes(authority.server("other").key_pem)


def encrypted_key(authority: Authority, pair: Pair) -> None:
    pair.key.write_bytes(key_bytes(ec.generate_private_key(ec.SECP256R1()), b"secret"))


def swapped(authority: Authority, pair: Pair) -> None:
    os.replace(pair.key, pair.certificate)
    pair.key.write_bytes(pair.certificate.read_bytes())


def certificate_as_key(authority: Authority, pair: Pair) -> None:
    pair.key.write_bytes(pair.pem)


def damaged_certificate(authority: Authority, pair: Pair) -> None:
    pair.certificate.write_bytes(pair.pem[:120] + b"\n-----END CERTIFICATE-----\n")


def damaged_key(authority: Authority, pair: Pair) -> None:
    pair.key.write_bytes(pair.key_pem[:60] + b"\n-----END PRIVATE KEY-----\n")


def expired(authority: Authority, pair: Pair) -> None:
    pair.replace_by(authority.server("expired", -10, -1))


def of_tomorrow(authority: Authority, pair: Pair) -> None:
    pair.replace_by(authority.server("tomorrow", 1, 10))


def of_a_client(authority: Authority, pair: Pair) -> None:
    pair.replace_by(authority.client())


def authority_first(authority: Authority, pair: Pair) -> None:
    pair.certificate.write_bytes(authority.pem + pair.pem)


@pytest.mark.parametrize(
    ("spoil", "flag", "said"),
    [
        (missing, "--tls-certificate", "No such file"),
        (missing_key, "--tls-key", "No such file"),
        (unreadable_key, "--tls-key", "Is a directory"),
        (another_key, "--tls-key", "is not that of the certificate in --tls-certificate"),
        (authority_first, "--tls-key", "of which the first must be the server's own"),
        (encrypted_key, "--tls-key", "is encrypted"),
        (swapped, "--tls-certificate", "holds no certificate in PEM form"),
        (certificate_as_key, "--tls-key", "holds no private key in PEM form"),
        (damaged_certificate, "--tls-certificate", "cannot be used"),
        (damaged_key, "--tls-key", "cannot be used"),
        (expired, "--tls-certificate", "expired on 20"),
        (of_tomorrow, "--tls-certificate", "is valid from 20"),
        (of_a_client, "--tls-certificate", "is refused by clients: unsuitable certificate purpose"),
    ],
)
def test_wrong_files_are_refused_by_their_flag(
    authority: Authority, spoil: Callable[[Authority, Pair], None], flag: str, said: str
) -> None:
    pair = authority.server()
    spoil(authority, pair)
    with pytest.raises(StartupError) as caught:
        load_certificates(files(pair), time.time())
    assert str(caught.value).startswith(f"{flag}: ")
    assert said in str(caught.value)
    assert "PRIVATE KEY" not in str(caught.value)


@pytest.mark.parametrize(
    "content", [b"", b"nothing", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
def test_an_authority_that_is_none_is_refused(authority: Authority, tmp_path: Path, content: bytes) -> None:
    wrong = tmp_path / "wrong.pem"
    wrong.write_bytes(content)
    with pytest.raises(StartupError, match="--tls-client-ca"):
        load_certificates(files(authority.server(), wrong), time.time())


def test_an_authority_that_has_ended_is_refused_and_one_of_several_is_not(tmp_path: Path) -> None:
    old, new = Authority(tmp_path, "old", to_days=-0.5), Authority(tmp_path, "new")
    with pytest.raises(StartupError, match=r"--tls-client-ca: .* expired on 20"):
        load_certificates(files(new.server(), old.file), time.time())
    old.file.write_bytes(old.pem + new.pem)
    load_certificates(files(new.server(), old.file), time.time())


def test_flags_of_triton_are_named_where_they_were_given(authority: Authority) -> None:
    pair = authority.server()
    pair.key.unlink()
    with pytest.raises(StartupError, match=r"^--grpc-server-key: "):
        load_certificates(TlsFiles(pair.certificate, pair.key, flags=GRPC_TLS_FLAGS), time.time())


@pytest.mark.parametrize(
    ("left_s", "found", "said"),
    [
        (15 * DAY_S, Age.FRESH, "in 15 days"),
        (14 * DAY_S - 1, Age.ENDING, "in 13 days"),
        (1.5 * DAY_S, Age.ENDING, "in 1 day,"),
        (60.0, Age.ENDING, "in less than a day"),
        (0.0, Age.OVER, "expired on 1970-01-12"),
        (-DAY_S, Age.OVER, "expired on 1970-01-"),
    ],
)
def test_the_end_of_a_certificate_is_told_two_weeks_before(left_s: float, found: Age, said: str) -> None:
    expiry = Expiry("--tls-certificate", 1e6)
    assert age(expiry, 1e6 - left_s) is found
    assert said in expiry_text(expiry, 1e6 - left_s)
