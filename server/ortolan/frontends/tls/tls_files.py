"""The files that TLS needs: a certificate, its key, and who certifies clients."""

from dataclasses import dataclass, field
from pathlib import Path

from ortolan.errors import StartupError


@dataclass(frozen=True, slots=True)
class TlsFlags:
    """The flags by which the operator named the files, for messages."""

    certificate: str
    key: str
    client_ca: str


TLS_FLAGS = TlsFlags("--tls-certificate", "--tls-key", "--tls-client-ca")
GRPC_TLS_FLAGS = TlsFlags("--grpc-server-cert", "--grpc-server-key", "--grpc-root-cert")


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files. ``certificate`` may go on with those that lead to an authority.

    With ``client_ca`` clients show a certificate of one of its authorities, or ``client_optional`` none.
    """

    certificate: Path
    key: Path
    client_ca: Path | None = None
    client_optional: bool = False
    flags: TlsFlags = TLS_FLAGS


@dataclass(frozen=True, slots=True)
class TlsContents:
    """What the files hold."""

    certificate: bytes
    key: bytes = field(repr=False)
    client_ca: bytes | None


def read_contents(files: TlsFiles) -> TlsContents:
    """Raises StartupError, which names the flag, for a file that cannot be read."""
    flags = files.flags
    return TlsContents(
        certificate=_read(files.certificate, flags.certificate),
        key=_read(files.key, flags.key),
        client_ca=None if files.client_ca is None else _read(files.client_ca, flags.client_ca),
    )


def _read(file: Path, flag: str) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise StartupError(f"{flag}: cannot read '{file}': {error.strerror}; give a file in PEM form") from None
