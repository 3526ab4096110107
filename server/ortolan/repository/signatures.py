"""Whose signatures count: sigstore's model-signing tells which files a signature vouches for, by their hashes.

The only module that imports model_signing. Of the library only the signature's side is used: which files there are and
what is in them is found out here, on the bytes that are loaded, not on those that were there a moment before.
"""

import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from ortolan.errors import StartupError
from ortolan.inference.printable import printable

SignatureRule = Literal["off", "check", "require"]

WHOLE = "."
"""The name of the file in a signature that is that of a single file."""

_NOT_INSTALLED = (
    'signatures are to be verified, but the package model-signing is not installed: pip install "ortolan[signing]"'
)
_SHOWN = 200
_EXPECTED = {
    "--model-signature-key": "a public key of the curve P-256, P-384 or P-521 in PEM",
    "--model-signature-certificate": "certificates in PEM",
    "--model-signature-trust": "sigstore's ClientTrustConfig in JSON",
}


class NotVerified(Exception):
    """Why a signature does not count, as the end of a sentence that begins with its name."""


@dataclass(frozen=True, slots=True)
class Signers:
    """Those who may sign models. ``trust`` is sigstore's ClientTrustConfig, for an identity of an ``issuer``."""

    keys: Sequence[Path] = ()
    certificates: Sequence[Path] = ()
    identity: str = ""
    issuer: str = ""
    trust: Path | None = None


class Signatures:
    """Verifies signatures against the signers that were named. May be used from several threads."""

    def __init__(self, rule: SignatureRule = "off", signers: Signers | None = None) -> None:
        """Raises StartupError when the library, or a file that ``signers`` name, is not as it should be."""
        self.rule = rule
        self._lock = threading.Lock()
        self._configs: Sequence[Any] = _configs(signers or Signers()) if rule != "off" else ()

    @property
    def required(self) -> bool:
        return self.rule == "require"

    def hashes(self, signature: bytes) -> Mapping[str, str]:
        """SHA-256 by name of the files that ``signature``, the content of a ``model.sig``, vouches for.

        Raises NotVerified when it is nobody's who counts.
        """
        reasons: list[str] = []
        for config in self._configs:
            try:
                # The library's verifiers keep what they work on in themselves.
                with self._lock:
                    return _hashes(_signed(config, signature))
            except NotVerified as reason:
                reasons.append(str(reason))
        raise NotVerified("; ".join(dict.fromkeys(reasons)) or "cannot be verified: no signer is known")


def _configs(signers: Signers) -> Sequence[Any]:
    try:
        from model_signing import verifying
    except ImportError:
        raise StartupError(_NOT_INSTALLED) from None
    new: Any = verifying.Config  # typed, but for its constructor
    configs = [
        _opened("--model-signature-key", key, partial(new().use_elliptic_key_verifier, public_key=key))
        for key in signers.keys
    ]
    if signers.certificates:
        make = partial(new().use_certificate_verifier, certificate_chain=signers.certificates)
        configs.append(_opened("--model-signature-certificate", signers.certificates[0], make))
    if signers.trust is not None:
        make = partial(
            new().use_sigstore_verifier,
            identity=signers.identity,
            oidc_issuer=signers.issuer,
            trust_config=signers.trust,
        )
        configs.append(_opened("--model-signature-trust", signers.trust, make))
    return configs


def _opened(flag: str, path: Path, make: Callable[[], Any]) -> Any:
    """A verifier of the library's. Raises StartupError when a file that it needs is not as it should be."""
    try:
        return make()
    except OSError as error:
        raise StartupError(f"{flag}: '{error.filename or path}' cannot be read: {error.strerror}") from None
    # The library lets through whatever those throw that it is built on. Their texts may show what is in the file,
    # which could be a private key by mistake.
    except Exception:
        raise StartupError(f"{flag}: '{path}' cannot be used: expected {_EXPECTED[flag]}") from None


def _signed(config: Any, signature: bytes) -> "_Signed":
    """What ``signature`` vouches for, once it is known to be right."""
    signed = _Signed()
    # The library takes paths only. What is in the file is public.
    with tempfile.TemporaryDirectory(prefix="ortolan-signature-") as directory:
        copy = Path(directory) / "model.sig"
        copy.write_bytes(signature)
        try:
            config.set_hashing_config(signed).verify(Path(), copy)
        # Whatever goes wrong in there, nothing is verified then.
        except Exception as error:
            why = printable(str(error) or type(error).__name__, _SHOWN)
            raise NotVerified(f"is not by a signer whom this server trusts, or was altered: {why}") from error
    return signed


class _Signed:
    """Takes the place of the library's hashing of files, which would read the repository's: learns what is signed.

    The library verifies the signature, asks its hashing for what the files are, and compares that with what is signed:
    both methods, and the comparison, are only reached by a signature that is right.
    """

    def __init__(self) -> None:
        self.method: Mapping[str, Any] = {}
        self.resources: list[tuple[str, str, str]] = []
        self.was_told = False

    def add_ignored_paths(self, **_: object) -> None:
        """What was left out when the model was signed is not in the signature, and needs no rule here."""

    def hash(self, *_: object, **__: object) -> "_Signed":
        return self

    def __ne__(self, expected: Any) -> bool:
        self.method = dict(expected.serialization_type)
        self.resources = [
            (each.identifier, each.digest.algorithm, each.digest.digest_hex) for each in expected.resource_descriptors()
        ]
        self.was_told = True
        return False

    __hash__ = None  # type: ignore[assignment]


def _hashes(signed: _Signed) -> Mapping[str, str]:
    if not signed.was_told:
        raise NotVerified("cannot be verified: this version of model-signing works in another way; install another")
    if signed.method.get("method") != "files" or any(algorithm != "sha256" for _, algorithm, _ in signed.resources):
        raise NotVerified("does not have a SHA-256 of each file: sign the model with the defaults of model_signing")
    return {name: digest.lower() for name, _, digest in signed.resources}
