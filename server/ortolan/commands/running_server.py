"""A server as anybody sees it from outside: Triton's protocol over HTTP, and its page of metrics."""

import http.client
import json
import time
from collections.abc import Mapping
from contextlib import closing
from typing import Any

from ortolan.commands.address import METRICS_PORT, Address
from ortolan.commands.connection import TlsFiles, explained, tls_context
from ortolan.commands.metrics_text import Page, samples
from ortolan.commands.status_figures import METRICS, Counts, Entry, Key, Look

_REFUSED = (401, 403)
_LONGEST_ANSWER = 1 << 27


class Unanswered(Exception):
    """The server gives no answer that is of use; the text says why, in one line, and what to do."""


class RunningServer:
    """Asked by one connection for each look. ``metrics`` is where its metrics are, if that is said."""

    def __init__(self, address: Address, metrics: Address | None, key: str, files: TlsFiles, timeout_s: float) -> None:
        self._address = address
        self._metrics = metrics
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._files = files
        self._timeout_s = timeout_s

    def look(self) -> Look:
        """What it tells now. Raises Unanswered when it tells nothing."""
        with closing(self._connection(self._address)) as connection:
            try:
                return self._look(connection)
            except (OSError, http.client.HTTPException, UnicodeError) as error:
                raise Unanswered(self._why(error)) from None

    def _look(self, connection: http.client.HTTPConnection) -> Look:
        metadata = self._json(connection, "GET", "/v2")
        if not isinstance(metadata, dict):
            raise Unanswered(f"{self._address.place} does not speak Triton's protocol: give the address of HTTP")
        status, _ = self._ask(connection, "GET", "/v2/health/ready")
        index = self._json(connection, "POST", "/v2/repository/index")
        statistics = self._json(connection, "GET", "/v2/models/stats")
        at_s, counts = time.monotonic(), _counts(statistics)
        server = f"{metadata.get('name', '')} {metadata.get('version', '')}".strip()
        return Look(at_s, server, status == 200, _entries(index, counts), counts, self._page(connection))

    def _page(self, connection: http.client.HTTPConnection) -> Page:
        """Its metrics, where they are said to be, or beside the rest, or where Triton has them; none is no fault."""
        if self._metrics is None:
            status, text = self._ask(connection, "GET", "/metrics")
            if status == 200:
                return samples(text, METRICS)
            self._metrics = Address(self._address.host, METRICS_PORT)
        try:
            with closing(self._connection(self._metrics)) as other:
                other.request("GET", self._metrics.path + "/metrics")
                answer = other.getresponse()
                return samples(answer.read(_LONGEST_ANSWER).decode(), METRICS) if answer.status == 200 else {}
        except (OSError, http.client.HTTPException, UnicodeError):
            return {}

    def _json(self, connection: http.client.HTTPConnection, method: str, path: str) -> Any:
        """What the answer says; None where the server has no such thing. Raises Unanswered where a key is wanted."""
        status, text = self._ask(connection, method, path)
        if status in _REFUSED:
            raise Unanswered(
                f"{self._address.place} wants a key, or another one (HTTP {status}): --api-key-file, or ORTOLAN_API_KEY"
            )
        try:
            return json.loads(text) if status == 200 else None
        except ValueError:
            return None

    def _ask(self, connection: http.client.HTTPConnection, method: str, path: str) -> tuple[int, str]:
        body = b"{}" if method == "POST" else None
        connection.request(method, self._address.path + path, body, self._headers)
        answer = connection.getresponse()
        return answer.status, answer.read(_LONGEST_ANSWER).decode(errors="replace")

    def _connection(self, address: Address) -> http.client.HTTPConnection:
        if not address.tls:
            return http.client.HTTPConnection(address.host, address.port, timeout=self._timeout_s)
        try:
            context = tls_context(address, self._files)
        except OSError as error:
            raise Unanswered(explained(error, address, self._timeout_s)) from None
        return http.client.HTTPSConnection(address.host, address.port, timeout=self._timeout_s, context=context)

    def _why(self, error: Exception) -> str:
        if isinstance(error, OSError):
            return explained(error, self._address, self._timeout_s)
        return f"{self._address.place} does not speak HTTP/1.1"


def _entries(index: Any, counts: Mapping[Key, Counts]) -> tuple[Entry, ...]:
    """The index; where there is none, the versions that have statistics."""
    if not isinstance(index, list):
        return tuple(Entry(model, version, "READY", "") for model, version in counts)
    return tuple(
        Entry(
            str(each.get("name", "")),
            str(each.get("version", "")),
            str(each.get("state", "")),
            str(each.get("reason", "")),
        )
        for each in index
        if isinstance(each, dict)
    )


def _counts(statistics: Any) -> dict[Key, Counts]:
    told = statistics.get("model_stats") if isinstance(statistics, dict) else None
    entries = told if isinstance(told, list) else []
    return {
        (str(each.get("name")), str(each.get("version"))): _count(each) for each in entries if isinstance(each, dict)
    }


def _count(told: Mapping[str, Any]) -> Counts:
    times = told.get("inference_stats", {})
    success, fail = times.get("success", {}), times.get("fail", {})
    return Counts(
        int(success.get("count", 0)),
        int(success.get("ns", 0)) / 1e9,
        int(fail.get("count", 0)),
        int(told.get("inference_count", 0)),
        int(told.get("execution_count", 0)),
    )
