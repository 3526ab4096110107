"""Issuers of tokens: real keys, signed tokens, and a server that publishes the keys."""

import base64
import http.server
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import jwt
import orjson
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

AUDIENCE = "ortolan"
NOW_S = 1_800_000_000.0


@dataclass(frozen=True)
class SigningKey:
    kid: str | None
    algorithm: str
    private: Any

    def jwk(self, **members: object) -> dict[str, Any]:
        """The public key as issuers publish it."""
        algorithm = jwt.get_algorithm_by_name(self.algorithm)
        public = dict(algorithm.to_jwk(self.private.public_key(), as_dict=True))
        public.pop("key_ops", None)
        kid = {"kid": self.kid} if self.kid is not None else {}
        return {**public, **kid, "use": "sig", **members}

    def token(self, claims: Mapping[str, object] | bytes, **header: object) -> str:
        """``claims`` signed; of ``header`` what is None is left out."""
        named = {"alg": self.algorithm, "typ": "JWT", "kid": self.kid, **header}
        algorithm = jwt.get_algorithm_by_name(self.algorithm)
        return compact(named, claims, lambda signed: algorithm.sign(signed, self.private))


def rsa_key(kid: str | None = "r", algorithm: str = "RS256", bits: int = 2048) -> SigningKey:
    return SigningKey(kid, algorithm, rsa.generate_private_key(65537, bits))


def ec_key(kid: str | None = "e", algorithm: str = "ES256") -> SigningKey:
    curve = {"ES256": ec.SECP256R1, "ES384": ec.SECP384R1, "ES512": ec.SECP521R1}[algorithm]
    return SigningKey(kid, algorithm, ec.generate_private_key(curve()))


def ed_key(kid: str | None = "d") -> SigningKey:
    return SigningKey(kid, "EdDSA", ed25519.Ed25519PrivateKey.generate())


def compact(header: Mapping[str, object], claims: Mapping[str, object] | bytes, sign: Callable[[bytes], bytes]) -> str:
    """A token as RFC 7515 writes it, with whatever header and signature."""
    named = {name: value for name, value in header.items() if value is not None}
    payload = claims if isinstance(claims, bytes) else orjson.dumps(claims)
    signed = f"{base64url(orjson.dumps(named))}.{base64url(payload)}"
    return f"{signed}.{base64url(sign(signed.encode()))}"


def base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def claims(issuer: str, **others: object) -> dict[str, object]:
    """Those of a good token; of ``others`` what is None is left out."""
    good = {"iss": issuer, "aud": AUDIENCE, "sub": "alice", "iat": NOW_S, "exp": NOW_S + 600}
    return {name: value for name, value in {**good, **others}.items() if value is not None}


def key_set(*keys: SigningKey) -> bytes:
    return orjson.dumps({"keys": [key.jwk() for key in keys]})


@dataclass
class Issuer:
    """``documents`` by path: a status, headers and a body each. ``asked``: the paths that were, in their order."""

    address: str
    documents: dict[str, tuple[int, dict[str, str], bytes]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def publish(self, *keys: SigningKey) -> None:
        self.put("/keys", key_set(*keys))
        self.configure(issuer=self.address, jwks_uri=f"{self.address}/keys")

    def configure(self, **configuration: object) -> None:
        self.put("/.well-known/openid-configuration", orjson.dumps(configuration))

    def put(self, path: str, body: bytes, status: int = 200, **headers: str) -> None:
        self.documents[path] = (status, headers, body)

    def token(self, key: SigningKey, **others: object) -> str:
        """One that is good at NOW_S."""
        return key.token(claims(self.address, **others))


@contextmanager
def issuer() -> Iterator[Issuer]:
    """An issuer on a port of this machine."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    found = Issuer(f"http://127.0.0.1:{server.server_port}")
    server.issuer = found  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        known: Issuer = self.server.issuer  # type: ignore[attr-defined]
        known.asked.append(self.path)
        status, headers, body = known.documents.get(self.path, (404, {}, b"{}"))
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Nobody reads it."""
