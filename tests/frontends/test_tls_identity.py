"""Whom certificates name."""

from typing import Any

import pytest

from ortolan.frontends.tls.identity import PeerIdentity, identity_in, identity_of

URI, DNS, MAIL = ("URI", "spiffe://a/b"), ("DNS", "b.example"), ("email", "b@example")


def certificate(alternatives: tuple[tuple[str, str], ...] = (), *common: str) -> dict[str, Any]:
    subject = ((("organizationName", "Others"),), *((("commonName", name),) for name in common))
    return {"subject": subject, "subjectAltName": alternatives, "notAfter": "Jan 1 00:00:00 2030 GMT"}


@pytest.mark.parametrize(
    ("shown", "names"),
    [
        (certificate((MAIL, DNS, URI), "b"), ("spiffe://a/b", "b.example", "b@example", "b")),
        (certificate((), "b"), ("b",)),
        (certificate((DNS,), "b.example"), ("b.example",)),  # once
        (certificate((("IP Address", "127.0.0.1"), ("DirName", "x")), "b"), ("b",)),  # an address is nobody's name
        (certificate((), "b", "c"), ("b", "c")),
        (certificate(), ()),  # known to the authority, and not named
    ],
)
def test_a_certificate_proves_its_names(shown: dict[str, Any], names: tuple[str, ...]) -> None:
    assert identity_of(shown) == PeerIdentity(names)


@pytest.mark.parametrize("nothing", [None, {}])
def test_without_a_certificate_nobody_is_named(nothing: dict[str, Any] | None) -> None:
    assert identity_of(nothing) is None


def test_grpcio_tells_the_same_names() -> None:
    told = {
        "transport_security_type": [b"ssl"],
        "x509_common_name": [b"b"],
        "x509_pem_cert": [b"-----BEGIN CERTIFICATE-----"],
        "x509_subject_alternative_name": [b"b.example", b"spiffe://a/b", b"b@example"],
        "peer_dns": [b"b.example"],
        "peer_uri": [b"spiffe://a/b"],
        "peer_email": [b"b@example"],
    }
    assert identity_in(told) == PeerIdentity(("spiffe://a/b", "b.example", "b@example", "b"))
    assert identity_in({"transport_security_type": [b"ssl"], "x509_common_name": [b"b"]}) is None
    assert identity_in({}) is None
