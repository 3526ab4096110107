"""Keys, certificates and signatures as the model_signing tool makes them, for tests of models that are signed."""

import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_DAY = datetime.timedelta(days=1)


def make_key(directory: Path, name: str = "key") -> tuple[Path, Path]:
    """The files of a new private key and its public one."""
    key = ec.generate_private_key(ec.SECP256R1())
    return _write_private(directory / f"{name}.pem", key), _write_public(directory / f"{name}.pub", key)


def make_certificates(directory: Path, name: str = "ca") -> tuple[Path, Path, Path]:
    """The files of a signer's private key, of its certificate and of the certificate of who certifies it."""
    authority, signer = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    root = _certificate(f"{name} root", authority, f"{name} root", authority, may_certify=True)
    leaf = _certificate(f"{name} signer", signer, f"{name} root", authority, may_certify=False)
    files = (directory / f"{name}-signer.crt", directory / f"{name}-root.crt")
    for file, certificate in zip(files, (leaf, root), strict=True):
        file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return _write_private(directory / f"{name}-signer.pem", signer), *files


def sign(model: Path, private_key: Path, signature: Path | None = None) -> Path:
    """Sign ``model``, a directory or a file, as ``model_signing sign key`` does; the signature's file."""
    from model_signing import signing

    return _signed(model, signing.Config().use_elliptic_key_signer(private_key=private_key), signature)


def sign_with_certificate(model: Path, private_key: Path, certificate: Path, root: Path) -> Path:
    from model_signing import signing

    signer = signing.Config().use_certificate_signer(
        private_key=private_key, signing_certificate=certificate, certificate_chain=[root]
    )
    return _signed(model, signer, None)


def _signed(model: Path, signer: object, signature: Path | None) -> Path:
    from model_signing import hashing

    if signature is None:
        signature = model / "model.sig" if model.is_dir() else model.with_name(f"{model.name}.sig")
    left_out = hashing.Config().set_ignored_paths(paths=[signature])
    signer.set_hashing_config(left_out).sign(model, signature)  # type: ignore[attr-defined]
    return signature


def _certificate(
    subject: str, key: ec.EllipticCurvePrivateKey, issuer: str, by: ec.EllipticCurvePrivateKey, may_certify: bool
) -> x509.Certificate:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(_name(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _DAY)
        .not_valid_after(now + _DAY)
        .add_extension(x509.BasicConstraints(may_certify, None), critical=True)
        .add_extension(_usage(signs=not may_certify, certifies=may_certify), critical=True)
        .sign(by, hashes.SHA256())
    )


def _usage(signs: bool, certifies: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=signs,
        key_cert_sign=certifies,
        crl_sign=certifies,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _write_private(path: Path, key: ec.EllipticCurvePrivateKey) -> Path:
    plain = serialization.NoEncryption()
    path.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain))
    return path


def _write_public(path: Path, key: ec.EllipticCurvePrivateKey) -> Path:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    path.write_bytes(key.public_key().public_bytes(serialization.Encoding.PEM, form))
    return path
