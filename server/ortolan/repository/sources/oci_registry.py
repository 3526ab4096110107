"""An artifact in a container registry: its files are the layers with a title, as oras and others push them.

The registry protocol is OCI's distribution specification. Credentials are those that docker, podman or oras keep.
"""

import base64
import binascii
import json
import re
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, urlencode, urlsplit

from ortolan.repository.sources.http_client import HttpClient, HttpStatus, parsed, same_origin
from ortolan.repository.sources.remote_file import Body, Digest, Listing, RemoteFile, SourceFailure
from ortolan.repository.sources.source_address import OciAddress
from ortolan.repository.sources.web_file import basic

_MANIFESTS = ("application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json")
_TITLE = "org.opencontainers.image.title"
_UNPACK = "io.deis.oras.content.unpack"
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
_PARAMETER = re.compile(r'(\w+)="([^"]*)"')
_Answer = TypeVar("_Answer")
_LOCAL = ("localhost", "127.0.0.1", "::1")


class OciRegistry:
    """One artifact. Registries on this machine are spoken to over HTTP, as docker does, all others over HTTPS."""

    def __init__(self, address: OciAddress, environment: Mapping[str, str], client: HttpClient) -> None:
        self._address = address
        self._client = client
        host = urlsplit(f"//{address.registry}").hostname
        self._base = f"{'http' if host in _LOCAL else 'https'}://{address.registry}"
        self._basic = registry_credentials(address.registry, environment)
        self._authorization = ""

    def listing(self) -> Listing:
        document = self._document(f"/v2/{self._address.repository}/manifests/{quote(self._address.reference)}")
        layers = document.get("layers") if isinstance(document, dict) else None
        if not isinstance(layers, list):
            raise SourceFailure(
                f"{self._address.shown} is no artifact with files: an index of images, or something older"
            )
        files = [self._file(layer) for layer in layers]
        if not files:
            raise SourceFailure(f"{self._address.shown}: there is nothing in this artifact")
        return Listing(files)

    def read(self, file: RemoteFile, start: int) -> Body:
        url = f"{self._base}/v2/{self._address.repository}/blobs/{file.key}"
        return self._authorized(lambda authorization: self._client.body(url, start, authorization=authorization))

    def _document(self, path: str) -> Any:
        """A manifest, which must have the digest by which it was asked for."""
        url = self._base + path
        headers = {"Accept": ", ".join(_MANIFESTS)}
        answer = self._authorized(lambda authorization: self._client.get(url, headers, authorization))
        document = answer.document()
        reference = self._address.reference
        if reference.startswith("sha256:") and sha256(document).hexdigest() != reference[7:]:
            raise SourceFailure(f"{self._address.shown}: the registry's answer does not have this digest")
        return parsed(document, self._address.shown)

    def _file(self, layer: Any) -> RemoteFile:
        annotations = (layer.get("annotations") or {}) if isinstance(layer, dict) else {}
        title = annotations.get(_TITLE) if isinstance(annotations, dict) else None
        found = _DIGEST.fullmatch(str(layer.get("digest"))) if isinstance(layer, dict) else None
        if found is None or not isinstance(title, str) or annotations.get(_UNPACK) == "true":
            raise SourceFailure(
                f"{self._address.shown} has a layer that is not a file with a title and a SHA-256, but an archive or "
                "an image's: push the files themselves, as in oras push REGISTRY/NAME:TAG model/1/model.onnx"
            )
        size = layer.get("size") if isinstance(layer.get("size"), int) else None
        return RemoteFile(title, found[0], found[0], size, Digest("sha256", found[1]))

    def _authorized(self, ask: Callable[[str], _Answer]) -> _Answer:
        """What ``ask`` returns for an Authorization header, a new one if the registry wants that."""
        try:
            return ask(self._authorization)
        except HttpStatus as error:
            if error.status != 401 or not error.challenge:
                raise
            challenge = error.challenge
        # Several threads may do so at once, each with the same outcome.
        self._authorization = self._answer_to(challenge)
        try:
            return ask(self._authorization)
        except HttpStatus as error:
            if error.status not in (401, 403):
                raise
            raise SourceFailure(
                f"{self._address.shown}: access is denied; log in with docker, podman or oras"
            ) from error

    def _answer_to(self, challenge: str) -> str:
        kind, _, rest = challenge.partition(" ")
        if kind.lower() == "basic":
            return self._basic
        given = dict(_PARAMETER.findall(rest))
        realm = given.get("realm", "")
        if kind.lower() != "bearer" or not _may_have_credentials(realm, self._base):
            raise SourceFailure(f"{self._address.shown}: the registry asks for a login that is not understood")
        scope = given.get("scope") or f"repository:{self._address.repository}:pull"
        query = urlencode({"service": given.get("service", ""), "scope": scope})
        told = self._client.json(f"{realm}{'&' if '?' in realm else '?'}{query}", authorization=self._basic)
        token = (told.get("token") or told.get("access_token")) if isinstance(told, dict) else None
        if not isinstance(token, str):
            raise SourceFailure(f"{self._address.shown}: the registry gives out no token")
        return f"Bearer {token}"


def registry_credentials(registry: str, environment: Mapping[str, str]) -> str:
    """The Authorization header from docker's or podman's file; "" without one. Credential helpers are not run."""
    home = Path(environment.get("HOME") or "~").expanduser()
    files = [
        environment.get("REGISTRY_AUTH_FILE", ""),
        f"{environment.get('DOCKER_CONFIG') or home / '.docker'}/config.json",
        f"{environment['XDG_RUNTIME_DIR']}/containers/auth.json" if environment.get("XDG_RUNTIME_DIR") else "",
    ]
    for path in filter(None, files):
        for name in (registry, f"https://{registry}", f"https://{registry}/v1/"):
            if found := _user_and_password(path, name):
                return basic(found)
    return ""


def _user_and_password(path: str, registry: str) -> str:
    try:
        entry = json.loads(Path(path).read_bytes())["auths"][registry]
        return base64.b64decode(entry["auth"], validate=True).decode()
    except (OSError, ValueError, KeyError, TypeError, binascii.Error, RecursionError):
        return ""


def _may_have_credentials(realm: str, base: str) -> bool:
    return realm.startswith("https://") or same_origin(realm, base)
