"""Authorities, certificates and keys in files, for tests of TLS."""

import datetime
import ipaddress
import os
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

PEM = serialization.Encoding.PEM
_DAY = datetime.timedelta(days=1)
_LOOPBACK: tuple[x509.GeneralName, ...] = (
    x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
    x509.DNSName("localhost"),
)


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, as files and as bytes."""

    certificate: Path
    key: Path

    @property
    def pem(self) -> bytes:
        return self.certificate.read_bytes()

    @property
    def key_pem(self) -> bytes:
        return self.key.read_bytes()

    def replace_by(self, other: "Pair") -> None:
        """Have the files hold ``other``; each at once, but one after the other."""
        for own, others in ((self.certificate, other.certificate), (self.key, other.key)):
            written = own.with_suffix(".written")
            written.write_bytes(others.read_bytes())
            os.replace(written, own)


class Authority:
    """Who certifies; its own certificate is in ``file``."""

    def __init__(self, directory: Path, name: str = "authority", to_days: float = 365) -> None:
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _named(name)
        builder = _builder(self._name, self._name, self._key.public_key(), -1, to_days)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        self.file = directory / f"{name}.pem"
        self.file.write_bytes(builder.sign(self._key, hashes.SHA256()).public_bytes(PEM))

    @property
    def pem(self) -> bytes:
        return self.file.read_bytes()

    def server(self, name: str = "server", from_days: float = -1, to_days: float = 100) -> Pair:
        """For this machine's loopback address."""
        return self._pair(name, _LOOPBACK, ExtendedKeyUsageOID.SERVER_AUTH, from_days, to_days)

    def client(self, name: str = "client", alternatives: tuple[x509.GeneralName, ...] = ()) -> Pair:
        return self._pair(name, alternatives, ExtendedKeyUsageOID.CLIENT_AUTH, -1, 100)

    def _pair(
        self,
        name: str,
        alternatives: tuple[x509.GeneralName, ...],
        usage: x509.ObjectIdentifier,
        from_days: float,
        to_days: float,
    ) -> Pair:
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(_named(name), self._name, key.public_key(), from_days, to_days)
        if alternatives:
            builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        pair = Pair(self._directory / f"{name}.pem", self._directory / f"{name}.key")
        pair.certificate.write_bytes(builder.sign(self._key, hashes.SHA256()).public_bytes(PEM))
        pair.key.write_bytes(key_bytes(key))
        return pair


def key_bytes(key: ec.EllipticCurvePrivateKey, password: bytes | None = None) -> bytes:
    """``key`` in PEM form, encrypted with ``password`` if there is one."""
    encryption = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, encryption)


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, from_days: float, to_days: float
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + from_days * _DAY)
        .not_valid_after(now + to_days * _DAY)
    )
