"""Files of certificates → contexts for TLS, which are tried before they are used."""

import enum
import ssl
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NoReturn, cast

from ortolan.errors import StartupError
from ortolan.frontends.tls.tls_files import TlsContents, TlsFiles, read_contents

SOON_S = 14 * 86_400.0
"""So long before its end a certificate is worth a warning."""

_DAY_S = 86_400.0
_CERTIFICATE = b"-----BEGIN CERTIFICATE-----"
_KEY = b"PRIVATE KEY-----"
_NO_MATCH = ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH")
_TOO_WEAK = ("EE_KEY_TOO_SMALL", "CA_KEY_TOO_SMALL", "CA_MD_TOO_WEAK")
# OpenSSL's X509_V_FLAG_NO_CHECK_TIME, for which Python has no name.
_AT_ANY_TIME = ssl.VerifyFlags(0x200000)


class Speaks(enum.Enum):
    """What is spoken over TLS on a port, by the names that clients choose from (ALPN, RFC 7301)."""

    HTTP = ("http/1.1",)
    GRPC = ("h2",)
    BOTH = ("h2", "http/1.1")


@dataclass(frozen=True, slots=True)
class Expiry:
    """Until when the file that ``flag`` names is of use, in seconds since 1970."""

    flag: str
    ends_s: float


class Age(enum.IntEnum):
    FRESH = 0
    ENDING = 1
    OVER = 2


@dataclass(frozen=True, slots=True)
class Certificates:
    """Contents of files that belong together, and a context of them for each kind of port."""

    contents: TlsContents
    contexts: Mapping[Speaks, ssl.SSLContext]
    expiries: tuple[Expiry, ...]


def load_certificates(files: TlsFiles, now_s: float) -> Certificates:
    """The newest of ``files``.

    Raises StartupError, which names the flag and what is wrong, for files that cannot be read, do not belong together
    or are of no use at ``now_s`` (seconds since 1970).
    """
    contents = read_contents(files)
    _refuse_other_contents(files, contents)
    expiries = [_certificate_expiry(files, contents, now_s)]
    contexts = {speaks: _context(files, contents, speaks) for speaks in Speaks}
    # Of several authorities some may have ended: that is how they are replaced.
    if ends_s := max(map(_ends_s, contexts[Speaks.HTTP].get_ca_certs()), default=0.0):
        expiries.append(Expiry(files.flags.client_ca, ends_s))
        if ends_s <= now_s:
            raise StartupError(f"{files.flags.client_ca}: '{files.client_ca}' expired on {_date(ends_s)}; renew it")
    return Certificates(contents, contexts, tuple(expiries))


def age(expiry: Expiry, now_s: float) -> Age:
    """How near its end ``expiry`` is at ``now_s``."""
    if expiry.ends_s <= now_s:
        return Age.OVER
    return Age.ENDING if expiry.ends_s - now_s < SOON_S else Age.FRESH


def expiry_text(expiry: Expiry, now_s: float) -> str:
    """What is told of one that is not fresh any more."""
    if expiry.ends_s <= now_s:
        return f"{expiry.flag}: the file in use expired on {_date(expiry.ends_s)}, and others refuse it; renew it"
    days = int((expiry.ends_s - now_s) / _DAY_S)
    left = "in less than a day" if not days else "in 1 day" if days == 1 else f"in {days} days"
    return f"{expiry.flag}: the file expires {left}, on {_date(expiry.ends_s)}; renew it"


def _refuse_other_contents(files: TlsFiles, contents: TlsContents) -> None:
    """Raises StartupError for files that hold something else, whatever that is."""
    flags = files.flags
    if _CERTIFICATE not in contents.certificate:
        raise StartupError(f"{flags.certificate}: '{files.certificate}' holds no certificate in PEM form")
    if _KEY not in contents.key:
        raise StartupError(f"{flags.key}: '{files.key}' holds no private key in PEM form")
    if contents.client_ca is not None and _CERTIFICATE not in contents.client_ca:
        raise StartupError(f"{flags.client_ca}: '{files.client_ca}' holds no certificate in PEM form")


def _context(files: TlsFiles, contents: TlsContents, speaks: Speaks) -> ssl.SSLContext:
    context = _own_context(files)
    context.set_alpn_protocols(speaks.value)
    if contents.client_ca is not None:
        context.verify_mode = ssl.CERT_OPTIONAL if files.client_optional else ssl.CERT_REQUIRED
        # An authority counts that is named, whether or not whoever certified it is named as well.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        try:
            context.load_verify_locations(cadata=_text(contents.client_ca))
        except ssl.SSLError as error:
            _refuse_unreadable(f"{files.flags.client_ca}: '{files.client_ca}'", error)
    return context


def _own_context(files: TlsFiles) -> ssl.SSLContext:
    """The server's side, which asks nothing of clients. Python's own choice of ciphers is a good one."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # A client that begins handshakes anew and anew has the server compute.
    context.options |= ssl.OP_NO_RENEGOTIATION
    flags = files.flags
    try:
        context.load_cert_chain(files.certificate, files.key, _no_password)
    except _EncryptedError:
        raise StartupError(
            f"{flags.key}: '{files.key}' is encrypted, and nobody is there to be asked for a password; give a key "
            "that is not, in a file that only the server can read"
        ) from None
    except ssl.SSLError as error:
        if error.reason in _NO_MATCH:
            raise StartupError(
                f"{flags.key}: the key in '{files.key}' is not that of the certificate in {flags.certificate} "
                f"'{files.certificate}', of which the first must be the server's own"
            ) from None
        if error.reason in _TOO_WEAK:
            _refuse_unreadable(f"{flags.certificate}: '{files.certificate}'", error)
        _refuse_unreadable(f"{flags.key}: '{files.key}'", error)
    except OSError as error:  # It was there a moment ago.
        raise StartupError(f"{flags.certificate} or {flags.key}: cannot be read: {error.strerror}") from None
    return context


class _EncryptedError(Exception):
    """A key asks for a password."""


def _no_password() -> NoReturn:
    # Without it OpenSSL would ask on the terminal.
    raise _EncryptedError


def _refuse_unreadable(what: str, error: ssl.SSLError) -> NoReturn:
    reason = (error.reason or "it is not in PEM form").replace("_", " ").lower()
    raise StartupError(f"{what} cannot be used: {reason}") from None


# What a certificate says of itself


def _certificate_expiry(files: TlsFiles, contents: TlsContents, now_s: float) -> Expiry:
    """Raises StartupError for a certificate that clients would refuse at ``now_s``."""
    flag = files.flags.certificate
    found = _seen_by_client(files, contents)
    expiry = Expiry(flag, _ends_s(found))
    if expiry.ends_s <= now_s:
        raise StartupError(f"{flag}: '{files.certificate}' expired on {_date(expiry.ends_s)}; renew it")
    if (begins_s := ssl.cert_time_to_seconds(str(found["notBefore"]))) > now_s:
        raise StartupError(
            f"{flag}: '{files.certificate}' is valid from {_date(begins_s)} on, and it is {_date(now_s)}; wait, or "
            "set the clock"
        )
    return expiry


def _seen_by_client(files: TlsFiles, contents: TlsContents) -> Mapping[str, Any]:
    """What a client sees of the certificate that trusts it, at any time: a handshake in memory."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | _AT_ANY_TIME
    try:
        client.load_verify_locations(cadata=_text(contents.certificate))
        asked, answered = ssl.MemoryBIO(), ssl.MemoryBIO()
        own = _own_context(files).wrap_bio(asked, answered, server_side=True)
        other = client.wrap_bio(answered, asked)
        for side in (other, own, other):
            with suppress(ssl.SSLWantReadError):
                side.do_handshake()
        return cast("Mapping[str, Any]", other.getpeercert())
    except ssl.SSLCertVerificationError as error:
        what = f"{files.flags.certificate}: '{files.certificate}'"
        raise StartupError(f"{what} is refused by clients: {error.verify_message}") from None
    except ssl.SSLError as error:
        _refuse_unreadable(f"{files.flags.certificate}: '{files.certificate}'", error)


def _ends_s(certificate: Mapping[str, Any]) -> float:
    return float(ssl.cert_time_to_seconds(certificate["notAfter"]))


def _text(pem: bytes) -> str:
    """As OpenSSL takes it; people write around certificates what they like."""
    return pem.decode("ascii", "ignore")


def _date(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%d %H:%M UTC")
