"""A model's file on a web server, or a directory there with a list of its files, ``SHA256SUMS``.

Web servers list no directories in a way that one could rely on; ``sha256sum`` writes such a list, and it brings a hash
for each file. Credentials come from ``~/.netrc``, or ``NETRC``.
"""

import base64
import hashlib
import netrc
import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

from ortolan.repository.sources.http_client import HttpAnswer, HttpClient, HttpStatus
from ortolan.repository.sources.remote_file import Body, Digest, Listing, RemoteFile, SourceFailure
from ortolan.repository.sources.source_address import WebAddress

SUMS = "SHA256SUMS"
_SUM = re.compile(r"([0-9a-fA-F]{64}) [ *](?:\./)?(.+)")
_REPRESENTATION = re.compile(r"sha-256=:([A-Za-z0-9+/]{43}=):")


class WebFile:
    """One file, whose size, ETag and date are asked for with its first byte: signed URLs allow no HEAD."""

    def __init__(self, address: WebAddress, environment: Mapping[str, str], client: HttpClient) -> None:
        self._address = address
        self._client = client
        self._authorization = basic_from_netrc(urlsplit(address.url).hostname or "", environment)

    def listing(self) -> Listing:
        address = self._address
        answer = self._client.get(address.url, {"Range": "bytes=0-0"}, self._authorization)
        answer.close()
        etag, date = answer.headers.get("ETag", ""), answer.headers.get("Last-Modified", "")
        found = _REPRESENTATION.search(answer.headers.get("Repr-Digest", ""))
        sha256 = address.sha256 or (base64.b64decode(found[1]).hex() if found else "")
        tag = address.sha256 or etag or date
        digest = Digest("sha256", sha256) if sha256 else None
        return Listing([RemoteFile(address.name, address.url, tag, answer.total_bytes(), digest)], is_single=True)

    def read(self, file: RemoteFile, start: int) -> Body:
        etag = file.tag if file.tag.startswith(('"', "W/")) else ""
        date = file.tag if file.tag.endswith("GMT") else ""
        return self._client.body(file.key, start, etag, self._authorization, date)


class WebDirectory:
    """The files that ``SHA256SUMS`` names."""

    def __init__(self, address: WebAddress, environment: Mapping[str, str], client: HttpClient) -> None:
        self._address = address
        self._client = client
        self._authorization = basic_from_netrc(urlsplit(address.url).hostname or "", environment)

    def listing(self) -> Listing:
        content = self._sums().document()
        try:
            sums = read_sums(content.decode())
        except ValueError as error:
            raise SourceFailure(f"{self._address.shown}{SUMS}: {error}") from error
        # The list itself is fetched too: models are checked against it again when they are loaded.
        sums[SUMS] = hashlib.sha256(content).hexdigest()
        return Listing(
            [RemoteFile(path, path, sha256, None, Digest("sha256", sha256)) for path, sha256 in sums.items()]
        )

    def read(self, file: RemoteFile, start: int) -> Body:
        return self._client.body(self._below(file.key), start, authorization=self._authorization)

    def _sums(self) -> HttpAnswer:
        try:
            return self._client.get(self._below(SUMS), authorization=self._authorization)
        except HttpStatus as refusal:
            if refusal.status not in (404, 410):
                raise
            shown = self._address.shown
            raise SourceFailure(
                f"{shown}: a directory on a web server needs a {SUMS} that says what is in it, as sha256sum writes it, "
                f"and there is none (HTTP status {refusal.status}): put one there, or name a file, such as "
                f"{shown}model.onnx"
            ) from refusal

    def _below(self, path: str) -> str:
        parts = urlsplit(self._address.url)
        return urlunsplit(parts._replace(path=parts.path + quote(path)))


def read_sums(text: str) -> dict[str, str]:
    """Path → SHA-256 for each line as ``sha256sum`` writes them. Raises ValueError for lines that are otherwise."""
    sums: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        found = _SUM.fullmatch(line)
        if found is None:
            raise ValueError(f"line {number} is not a SHA-256 and a path, as sha256sum writes it")
        sums[found[2]] = found[1].lower()
    if not sums:
        raise ValueError("it is empty")
    return sums


def basic_from_netrc(host: str, environment: Mapping[str, str]) -> str:
    """The Authorization header for ``host``; "" where the file has nothing for it."""
    path = environment.get("NETRC") or str(Path(environment.get("HOME") or "~").expanduser() / ".netrc")
    try:
        found = netrc.netrc(path).authenticators(host)
    except (OSError, netrc.NetrcParseError, UnicodeDecodeError):
        return ""
    return basic(f"{found[0]}:{found[2]}") if found else ""


def basic(user_and_password: str) -> str:
    return "Basic " + base64.b64encode(user_and_password.encode()).decode()
