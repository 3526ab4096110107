"""Whom a client's certificate names, once TLS has verified it."""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

PEER_IDENTITY = "peer_identity"
"""What transports over TLS are asked for it, as ``get_extra_info`` has names for the rest."""

# In the order of how much they say of a program: SPIFFE's identities are URIs.
_ALTERNATIVE_NAMES = ("URI", "DNS", "email")
_COMMON_NAME = "commonName"
# The same as gRPC's core has it in a call's authentication context.
_PROPERTIES = ("peer_uri", "peer_dns", "peer_email", "x509_common_name")


@dataclass(frozen=True, slots=True)
class PeerIdentity:
    """The names that a certificate proves: URIs, DNS names and e-mail addresses of its alternative names, common name.

    Each stands there once. There may be none: an authority may certify a client without naming it.
    """

    names: tuple[str, ...]


def peer_identity(transport: asyncio.BaseTransport) -> PeerIdentity | None:
    """Whom the client's certificate names; None for one that showed none, and without TLS."""
    found = transport.get_extra_info(PEER_IDENTITY)
    return found if isinstance(found, PeerIdentity) else None


def identity_of(certificate: Mapping[str, Any] | None) -> PeerIdentity | None:
    """The names in what ``ssl`` tells of a certificate (``SSLSocket.getpeercert``); None where there is none."""
    if not certificate:
        return None
    alternatives: Iterable[tuple[str, str]] = certificate.get("subjectAltName", ())
    names = [name for kind in _ALTERNATIVE_NAMES for of, name in alternatives if of == kind]
    names += [name for part in certificate.get("subject", ()) for of, name in part if of == _COMMON_NAME]
    return PeerIdentity(tuple(dict.fromkeys(names)))


def identity_in(context: Mapping[str, Iterable[bytes]]) -> PeerIdentity | None:
    """As ``identity_of``, from what grpcio tells of a call's client (``ServicerContext.auth_context``)."""
    if not context.get("x509_pem_cert"):
        return None
    names = [name.decode("utf-8", "replace") for kind in _PROPERTIES for name in context.get(kind, ())]
    return PeerIdentity(tuple(dict.fromkeys(names)))
