"""A web server for tests that serves bytes with ETags and ranges, and can fail in the ways that networks fail."""

import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

_RANGE = re.compile(r"bytes=(\d+)-(\d*)")


@dataclass
class Seen:
    """One request that came."""

    path: str
    headers: dict[str, str]


@dataclass
class FileServer:
    """``files`` by path; what else is set holds for all of them."""

    files: dict[str, bytes] = field(default_factory=dict)
    redirects: dict[str, str] = field(default_factory=dict)
    headers: dict[str, dict[str, str]] = field(default_factory=dict)
    has_ranges: bool = True
    has_etags: bool = True
    cut_after: list[int] = field(default_factory=list)
    """Each of the next answers ends after so many bytes of its body."""
    spoil: list[int] = field(default_factory=list)
    """Each of the next answers has its byte of that index changed, if it has one."""
    failing: list[int] = field(default_factory=list)
    """The statuses of the next answers."""
    wanted: Callable[[Seen], tuple[int, dict[str, str]] | None] = lambda _: None
    """Says what an unauthorised request is answered with: a status and headers."""
    seen: list[Seen] = field(default_factory=list)
    url: str = ""

    def etag(self, path: str) -> str:
        return f'"{hashlib.sha1(self.files[path]).hexdigest()}"'  # noqa: S324 - a name, no protection

    def asked(self, path: str) -> list[Seen]:
        return [seen for seen in self.seen if seen.path == path]

    def put_json(self, path: str, document: object) -> bytes:
        self.files[path] = json.dumps(document).encode()
        return self.files[path]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "_Listening"

    def do_GET(self) -> None:
        told = self.server.told
        path = self.path if self.path in told.files else unquote(urlsplit(self.path).path)
        seen = Seen(path, {name.lower(): value for name, value in self.headers.items()})
        told.seen.append(seen)
        refusal = (told.failing.pop(0), {}) if told.failing else told.wanted(seen)
        if refusal is not None:
            self._answer(*refusal, b"")
        elif path in told.redirects:
            self._answer(302, {"Location": told.redirects[path]}, b"")
        elif path not in told.files:
            self._answer(404, {}, b"")
        else:
            self._send_file(path, told)

    def _send_file(self, path: str, told: FileServer) -> None:
        content, etag = told.files[path], told.etag(path)
        headers = {**told.headers.get(path, {})} | ({"ETag": etag} if told.has_etags else {})
        found = _RANGE.fullmatch(self.headers.get("Range", "")) if told.has_ranges else None
        if found is None or self.headers.get("If-Range", etag) != etag:
            self._answer(200, headers, content)
            return
        first, last = int(found[1]), min(int(found[2] or len(content)), len(content) - 1)
        headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
        self._answer(206 if first <= last else 416, headers, content[first : last + 1])

    def _answer(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        told = self.server.told
        cut = told.cut_after.pop(0) if told.cut_after and len(body) > 1 else None
        spoilt = told.spoil.pop(0) if told.spoil and len(body) > 1 else len(body)
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        body = body[:spoilt] + bytes(byte ^ 1 for byte in body[spoilt : spoilt + 1]) + body[spoilt + 1 :]
        self.wfile.write(body[:cut])
        self.close_connection = cut is not None or self.close_connection

    def log_message(self, *_: object) -> None:
        pass


class _Listening(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, told: FileServer) -> None:
        self.told = told
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, *_: object) -> None:
        """Clients that go early are a part of the tests."""


@contextmanager
def serving(server: FileServer) -> Iterator[FileServer]:
    """``server`` on a free port of this machine; its ``url`` has no slash at its end."""
    listening = _Listening(server)
    thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    server.url = f"http://127.0.0.1:{listening.server_port}"
    try:
        yield server
    finally:
        listening.shutdown()
        listening.server_close()
        thread.join()
