"""Where a model repository or a model is that is not on this machine: its address as text, parsed. Pure.

    s3://bucket/path                     s3://host:port/bucket/path      s3://https://host:port/bucket/path
    gs://bucket/path                     az://container/path             as://account/container/path
    hf://owner/repository[@revision][/path]
    oci://registry/repository[:tag | @sha256:...]
    https://host/path/model.onnx[#sha256=...]                            https://host/path/

The spellings with ``as://``, and with a host after ``s3://``, are Triton's. No address carries credentials.
"""

import re
from dataclasses import dataclass
from typing import Literal, NoReturn
from urllib.parse import unquote, urlsplit

from ortolan.errors import StartupError
from ortolan.repository.file_names import stays_inside

StoreKind = Literal["s3", "gs", "az"]

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
_CONTAINER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}")
_S3_ENDPOINT = re.compile(r"(https?://)?([A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\])(:\d{1,5})?")
_HUB_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
_REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,127}")
_REGISTRY = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]*(:\d{1,5})?|\[[0-9A-Fa-f:]+\](:\d{1,5})?")
_OCI_REPOSITORY = re.compile(r"[a-z0-9]+([._/-]+[a-z0-9]+)*")
_OCI_REFERENCE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}|sha256:[0-9a-f]{64}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class ObjectAddress:
    """A prefix, or one object, in an object store. ``path`` is "" for all of it; ``endpoint`` is "" for the usual."""

    kind: StoreKind
    container: str
    path: str = ""
    account: str = ""
    endpoint: str = ""

    @property
    def shown(self) -> str:
        place = "/".join(part for part in (self.account, self.container, self.path) if part)
        host = f"{self.endpoint}/" if self.endpoint else ""
        return f"{'as' if self.account else self.kind}://{host}{place}"

    @property
    def name(self) -> str:
        return (self.path or self.container).rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class WebAddress:
    """A file on a web server, or, ending in a slash, a directory with a ``SHA256SUMS`` in it.

    ``url`` may have a signature in its query and must not be shown.
    """

    url: str
    sha256: str = ""

    @property
    def is_directory(self) -> bool:
        return urlsplit(self.url).path.endswith("/")

    @property
    def shown(self) -> str:
        return self.url.partition("?")[0]

    @property
    def name(self) -> str:
        parts = urlsplit(self.url)
        return unquote(parts.path.rstrip("/").rpartition("/")[2]) or (parts.hostname or "")


@dataclass(frozen=True, slots=True)
class HubAddress:
    """A repository on the Hugging Face Hub, or a directory or file in it."""

    repository: str
    path: str = ""
    revision: str = "main"

    @property
    def shown(self) -> str:
        revision = "" if self.revision == "main" else f"@{self.revision}"
        return f"hf://{self.repository}{revision}{f'/{self.path}' if self.path else ''}"

    @property
    def name(self) -> str:
        return (self.path or self.repository).rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class OciAddress:
    """An artifact in a container registry; ``reference`` is a tag or a digest."""

    registry: str
    repository: str
    reference: str = "latest"

    @property
    def shown(self) -> str:
        separator = "@" if self.reference.startswith("sha256:") else ":"
        return f"oci://{self.registry}/{self.repository}{separator}{self.reference}"

    @property
    def name(self) -> str:
        return self.repository.rpartition("/")[2]


SourceAddress = ObjectAddress | WebAddress | HubAddress | OciAddress


def parse_address(text: str) -> SourceAddress | None:
    """The address that ``text`` is; None for what is no address but a path on this machine.

    Raises StartupError, which shows nothing that could be a credential.
    """
    found = _SCHEME.match(text)
    if found is None:
        return None
    scheme, rest = found[1].lower(), text[found.end() :]
    if scheme in _SCHEMES and (not rest.isprintable() or "\\" in rest):
        _refuse(scheme, "a backslash or a control character is in it")
    match scheme:
        case "s3":
            return _s3(rest)
        case "gs" | "az":
            container, path = _container_and_path(scheme, rest)
            return ObjectAddress("gs" if scheme == "gs" else "az", container, path)
        case "as":
            return _azure_with_account(rest)
        case "hf":
            return _hub(rest)
        case "oci":
            return _oci(rest)
        case "https" | "http":
            return _web(scheme, rest)
    raise StartupError(f"models cannot be fetched from {scheme}:// addresses; those that can: {', '.join(_SCHEMES)}")


_FORMS = {
    "s3": "s3://bucket/path or s3://host:port/bucket/path",
    "gs": "gs://bucket/path",
    "az": "az://container/path",
    "as": "as://account/container/path",
    "hf": "hf://owner/repository, hf://owner/repository/path or hf://owner/repository@revision/path",
    "oci": "oci://registry/repository:tag or oci://registry/repository@sha256:...",
    "https": "https://host/path/model.onnx, or https://host/path/ for a directory with a SHA256SUMS",
}


_SCHEMES = (*_FORMS, "http")


def _refuse(scheme: str, why: str) -> NoReturn:
    form = _FORMS["https" if scheme == "http" else scheme]
    raise StartupError(f"a {scheme}:// address cannot be used: {why}; write {form}")


def _s3(rest: str) -> ObjectAddress:
    start = len("https://") if rest.startswith("https://") else len("http://") if rest.startswith("http://") else 0
    host, _, inside = rest[start:].partition("/")
    if not start and ":" not in host:
        container, path = _container_and_path("s3", rest)
        return ObjectAddress("s3", container, path)
    # Triton speaks plain HTTP to such a host unless told otherwise.
    endpoint = (rest[:start] or "http://") + host
    if "@" in host:
        _refuse("s3", "credentials are in it; they belong into the environment")
    if _S3_ENDPOINT.fullmatch(endpoint) is None:
        _refuse("s3", "its host or port is wrong")
    container, path = _container_and_path("s3", inside)
    return ObjectAddress("s3", container, path, endpoint=endpoint)


def _azure_with_account(rest: str) -> ObjectAddress:
    account, _, inside = rest.partition("/")
    if _CONTAINER.fullmatch(account) is None:
        _refuse("as", "the name of the storage account is missing or wrong")
    container, path = _container_and_path("as", inside)
    return ObjectAddress("az", container, path, account=account)


def _container_and_path(scheme: str, rest: str) -> tuple[str, str]:
    container, _, path = rest.partition("/")
    if "@" in container:
        _refuse(scheme, "credentials are in it; they belong into the environment")
    if _CONTAINER.fullmatch(container) is None:
        _refuse(scheme, "the bucket's or container's name is missing or wrong")
    if "?" in path:
        _refuse(scheme, "a query is in it; signatures belong into the environment")
    return container, _plain_path(scheme, path)


def _plain_path(scheme: str, path: str) -> str:
    """``path`` without slashes at its ends."""
    path = path.strip("/")
    if path and not (stays_inside(path) and all(part not in ("", ".") for part in path.split("/"))):
        _refuse(scheme, "its path has a part that is empty, '.' or '..'")
    return path


def _hub(rest: str) -> HubAddress:
    owner, _, rest = rest.partition("/")
    name, _, path = rest.partition("/")
    name, at, revision = name.partition("@")
    if not (_HUB_PART.fullmatch(owner) and _HUB_PART.fullmatch(name)):
        _refuse("hf", "its owner or repository is missing or wrong")
    # A revision such as refs/pr/1 has its slashes written as %2F, because a path follows.
    revision = unquote(revision)
    if at and (_REVISION.fullmatch(revision) is None or ".." in revision):
        _refuse("hf", "its revision is missing or wrong")
    return HubAddress(f"{owner}/{name}", _plain_path("hf", path), revision or "main")


def _oci(rest: str) -> OciAddress:
    registry, _, rest = rest.partition("/")
    if "@" in registry:
        _refuse("oci", "credentials are in it; they belong into the configuration of docker or podman")
    repository, at, reference = rest.partition("@")
    if not at:
        repository, at, reference = rest.partition(":")
    if _REGISTRY.fullmatch(registry) is None or _OCI_REPOSITORY.fullmatch(repository) is None:
        _refuse("oci", "its registry or repository is missing or wrong")
    if at and _OCI_REFERENCE.fullmatch(reference) is None:
        _refuse("oci", "its tag or digest is missing or wrong")
    return OciAddress(registry, repository, reference or "latest")


def _web(scheme: str, rest: str) -> WebAddress:
    url, _, fragment = f"{scheme}://{rest}".partition("#")
    if "@" in rest.partition("/")[0]:
        _refuse(scheme, "credentials are in it; they belong into ~/.netrc")
    try:
        host, path, _ = urlsplit(url).hostname, urlsplit(url).path, urlsplit(url).port
    except ValueError:
        _refuse(scheme, "its host or port is wrong")
    if not host or " " in url:
        _refuse(scheme, "it has no host, or a space in it; write %20 for a space")
    sha256 = fragment.removeprefix("sha256=").lower()
    if fragment and not _SHA256.fullmatch(sha256):
        _refuse(scheme, "what follows its # is no sha256= with 64 hexadecimal digits")
    address = WebAddress(url, sha256)
    if not path.endswith("/") and not (address.name.endswith(".onnx") and stays_inside(address.name)):
        _refuse(scheme, "it names neither an .onnx file nor, ending in a slash, a directory")
    if not _plain_web_name(address.name):
        _refuse(scheme, "its last part can be no file's name")
    if sha256 and address.is_directory:
        _refuse(scheme, "a directory's hashes are in its SHA256SUMS, not behind a #")
    return address


def _plain_web_name(name: str) -> bool:
    return stays_inside(name) and "/" not in name and name != "."
