"""GET over HTTP and HTTPS with the standard library: bounded in time, and careful with credentials.

Credentials go to the host that they are for and to no other: a redirect to somewhere else leaves them out, and none
leads from HTTPS to HTTP. Proxies are those of the environment.
"""

import http.client
import json
import re
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Generator, Mapping
from typing import Any
from urllib.parse import urljoin, urlsplit

from ortolan.repository.sources.remote_file import Body, SourceChanged, SourceFailure, SourceUnreachable, Stopped

TIMEOUT_S = 20.0
"""How long a connection, and each read from it, may take."""

_ATTEMPTS = 4
FIRST_DELAY_S = 0.3
_CHUNK_BYTES = 1 << 20
# Each read has its own limit; bytes that come singly could go on for ever.
_DOCUMENT_S = 300.0
_LARGEST_DOCUMENT_BYTES = 64 << 20
_RETRIED = frozenset({408, 425, 429, 500, 502, 503, 504})
_TOTAL = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")


class HttpStatus(SourceFailure):
    """The server refused, for good: with which status, and which authentication it asks for."""

    def __init__(self, message: str, status: int, challenge: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.challenge = challenge


class HttpAnswer:
    """A successful answer whose body has not been read yet."""

    def __init__(self, response: Any, shown: str, stopping: threading.Event) -> None:
        self._response = response
        self._shown = shown
        self._stopping = stopping
        self.status: int = response.status
        self.headers: Mapping[str, str] = response.headers

    def total_bytes(self) -> int | None:
        """The whole file's size, also where this is a part of it; None where the server does not say."""
        if self.status == http.HTTPStatus.PARTIAL_CONTENT:
            found = _TOTAL.match(self.headers.get("Content-Range", ""))
            return int(found[2]) if found and found[2].isdecimal() else None
        return self._length()

    def start(self) -> int:
        """Which byte of the file is the body's first."""
        found = _TOTAL.match(self.headers.get("Content-Range", ""))
        return int(found[1]) if found and self.status == http.HTTPStatus.PARTIAL_CONTENT else 0

    def document(self) -> bytes:
        """The whole body, which must be of the size that listings have."""
        parts: list[bytes] = []
        size, end_s = 0, time.monotonic() + _DOCUMENT_S
        for chunk in self.chunks():
            parts.append(chunk)
            size += len(chunk)
            if time.monotonic() > end_s:
                raise SourceUnreachable(f"{self._shown} did not end within {_DOCUMENT_S:.0f} s")
            if size > _LARGEST_DOCUMENT_BYTES:
                raise SourceFailure(f"{self._shown} answered with more than {_LARGEST_DOCUMENT_BYTES >> 20} MiB")
        return b"".join(parts)

    def chunks(self) -> Generator[bytes, None, None]:
        """The body in pieces. Raises SourceUnreachable when it ends too early."""
        try:
            left = self._length()
            while chunk := self._response.read1(_CHUNK_BYTES):
                if self._stopping.is_set():
                    raise Stopped("the server is stopping")
                left = None if left is None else left - len(chunk)
                yield chunk
            if left:
                raise SourceUnreachable(f"{self._shown} ended {left} bytes too early")
        except (OSError, http.client.HTTPException) as error:
            raise SourceUnreachable(f"{self._shown} broke off: {why_unreachable(error)}") from error
        finally:
            self.close()

    def close(self) -> None:
        self._response.close()

    def _length(self) -> int | None:
        length = self.headers.get("Content-Length", "")
        return int(length) if length.isdecimal() else None


class HttpClient:
    """GET with a few retries. May be used from several threads at once."""

    def __init__(
        self, stopping: threading.Event, timeout_s: float = TIMEOUT_S, first_delay_s: float = FIRST_DELAY_S
    ) -> None:
        """``first_delay_s`` is how long to wait before a second attempt; before later ones it is longer."""
        self._stopping = stopping
        self._first_delay_s = first_delay_s
        self._timeout_s = timeout_s
        https = urllib.request.HTTPSHandler(context=ssl.create_default_context())
        self._opener = urllib.request.build_opener(https, _Redirects())

    def get(self, url: str, headers: Mapping[str, str] | None = None, authorization: str = "") -> HttpAnswer:
        """The answer to a GET. Raises HttpStatus when it is refused, SourceUnreachable when there is none."""
        shown = url.partition("?")[0]
        delay_s = self._first_delay_s
        for left in reversed(range(_ATTEMPTS)):
            try:
                return HttpAnswer(self._opened(url, headers or {}, authorization), shown, self._stopping)
            except urllib.error.HTTPError as error:
                failure = _refusal(error, url)
            except (OSError, http.client.HTTPException) as error:
                failure = SourceUnreachable(f"{shown} cannot be reached: {why_unreachable(error)}")
            if not left or not isinstance(failure, SourceUnreachable):
                raise failure
            if self._stopping.wait(delay_s):
                raise Stopped("the server is stopping")
            delay_s *= 3
        raise AssertionError("unreachable")

    def json(self, url: str, headers: Mapping[str, str] | None = None, authorization: str = "") -> Any:
        """The document of a GET, parsed. Raises as ``get``, and SourceFailure when it is no JSON."""
        document, _ = self.json_and_headers(url, headers, authorization)
        return document

    def json_and_headers(
        self, url: str, headers: Mapping[str, str] | None = None, authorization: str = ""
    ) -> tuple[Any, Mapping[str, str]]:
        answer = self.get(url, headers, authorization)
        return parsed(answer.document(), url.partition("?")[0]), answer.headers

    def body(self, url: str, start: int, etag: str = "", authorization: str = "", date: str = "") -> Body:
        """A file's bytes from ``start`` on where the server can do that, else from its first.

        Raises SourceChanged when the file has another ETag now than ``etag``, or another date of its last change than
        ``date``; both may be "" for unknown.
        """
        headers = {"Range": f"bytes={start}-"} if start else {}
        if start and etag.startswith('"'):  # A weak one cannot vouch for single bytes.
            headers["If-Range"] = etag
        try:
            answer = self.get(url, headers, authorization)
        except HttpStatus as error:
            if error.status == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                raise SourceChanged(f"{url.partition('?')[0]} is shorter than it was") from error
            raise
        changed = answer.headers.get("Last-Modified", date) != date if date else False
        if changed or (etag and answer.headers.get("ETag", etag) != etag):
            answer.close()
            raise SourceChanged(f"{url.partition('?')[0]} changed while it was fetched")
        return Body(answer.start(), answer.chunks())

    def _opened(self, url: str, headers: Mapping[str, str], authorization: str) -> Any:
        request = urllib.request.Request(url, headers={"Accept-Encoding": "identity", **headers})  # noqa: S310
        request.add_header("User-Agent", "ortolan")
        if authorization:
            # Such headers do not follow a redirect.
            request.add_unredirected_header("Authorization", authorization)
        return self._opener.open(request, timeout=self._timeout_s)


def parsed(document: bytes, shown: str) -> Any:
    """JSON from a server. Raises SourceFailure when it is none."""
    try:
        return json.loads(document)
    except (ValueError, RecursionError) as error:
        raise SourceFailure(f"{shown} answered with something that is no JSON") from error


def same_origin(one: str, other: str) -> bool:
    """Whether two URLs have the same scheme, host and port."""
    return _origin(one) == _origin(other)


class _Redirects(urllib.request.HTTPRedirectHandler):
    max_redirections = 5

    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        target = urljoin(req.full_url, newurl)
        scheme = urlsplit(target).scheme
        if scheme not in ("http", "https") or (scheme == "http" and urlsplit(req.full_url).scheme == "https"):
            raise urllib.error.URLError("it redirects to where no encrypted connection leads")
        new = super().redirect_request(req, fp, code, msg, headers, newurl)
        authorization = req.unredirected_hdrs.get("Authorization")
        if new is not None and authorization and same_origin(req.full_url, target):
            new.add_unredirected_header("Authorization", authorization)
        return new


def _origin(url: str) -> tuple[str, str, int]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


def _refusal(error: urllib.error.HTTPError, url: str) -> SourceFailure:
    error.close()
    shown = url.partition("?")[0]
    if error.code in _RETRIED:
        return SourceUnreachable(f"{shown} answers with HTTP status {error.code}")
    if error.code == http.HTTPStatus.PRECONDITION_FAILED:
        return SourceChanged(f"{shown} changed while it was fetched")
    words = {401: "access is denied", 403: "access is denied", 404: "there is no such thing", 410: "it is gone"}
    said = f"{words.get(error.code, 'the server refuses')} (HTTP status {error.code})"
    # Who was redirected to has no say in where credentials are to be sent.
    challenge = error.headers.get("WWW-Authenticate", "") if same_origin(error.url or url, url) else ""
    return HttpStatus(f"{shown}: {said}", error.code, challenge)


def why_unreachable(error: Exception) -> str:
    """Why nothing came of a request, in a word, without anything of it."""
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(reason, TimeoutError):
        return "it does not answer in time"
    if isinstance(reason, ssl.SSLCertVerificationError):
        return f"its certificate is not valid: {reason.verify_message}"
    if isinstance(reason, OSError) and reason.strerror:
        return reason.strerror
    return reason if isinstance(reason, str) else type(reason).__name__
