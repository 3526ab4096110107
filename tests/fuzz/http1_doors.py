"""What is fuzzed of the REST port: the same bytes to both of its doors, each twice, so that what is remembered is used.

The first byte says how the rest is cut. Plain ASGI and the connections that answer inferences themselves must answer
alike, the second time as the first, and neither with a fault of ours. There are no models.
"""

import json
import re
from collections.abc import Iterator
from functools import cache

from fuzz.http1 import exchanges as framed
from fuzz.http1 import lines, pieces
from uvicorn.config import Config
from uvicorn.server import ServerState

from ortolan.errors import InvalidArgument
from ortolan.frontends.held_bytes import HeldBytes
from ortolan.frontends.rest.app import RestApp
from ortolan.frontends.rest.bounded_connection import BoundedConnection
from ortolan.frontends.rest.http_bounds import HttpBounds
from ortolan.frontends.rest.http_connection import HttpConnection, HttpService
from ortolan.frontends.rest.http_limits import HttpLimits
from ortolan.frontends.rest.inference_exchange import RestOptions
from ortolan.managed_models import model_manager
from ortolan.server import Server
from ortolan.settings import Settings

_DOCUMENTED = {501, 503, 504, 505}
_PASSING = re.compile(rb"\r\ndate: [^\r]*|dur=[0-9.]+")
_TIMES = 2


class Doors:
    """Both doors of a server without models."""

    def __init__(self) -> None:
        settings = Settings(model_repository=("nowhere",), calibration_cache="none")
        core = Server(settings, model_manager(settings, None), lambda _: None, lambda _: None).core
        core.set_started()
        app = RestApp(core, RestOptions(1 << 20))
        service = HttpService(app, HttpLimits())
        bounds = HttpBounds(HttpLimits(), HeldBytes(1 << 30))
        self._state = ServerState()
        self._config = Config(app, http=BoundedConnection, ws="none", lifespan="off", access_log=False, log_config=None)
        self._connects = (
            lambda loop: BoundedConnection(bounds, self._config, self._state, {}, loop),
            lambda loop: HttpConnection(service, self._config, self._state, {}, loop),
        )

    def answers(self, data: bytes) -> list[bytes]:
        """All that comes back, of each door as often as it is tried, without what differs from time to time."""
        found = []
        for connect in self._connects:
            for _ in range(_TIMES):
                line = lines().exchange(connect, pieces(data))
                assert not self._state.tasks
                assert not self._state.connections
                found.append(_PASSING.sub(b"", bytes(line.sent)))
        return found


@cache
def doors() -> Doors:
    return Doors()


def read(data: bytes) -> bytes:
    """What came back. Raises InvalidArgument where nothing did, or a refusal."""
    first, *others = doors().answers(data)
    for other in others:
        assert other == first, (first, other)
    if not first.startswith(b"HTTP/1.1 2"):
        _check(first)
        raise InvalidArgument("refused")
    return first


def verify(sent: bytes, data: bytes) -> None:
    _check(sent)


def _check(sent: bytes) -> None:
    for status in re.findall(rb"^HTTP/1\.1 (\d{3}) ", sent, re.MULTILINE):
        assert int(status) < 500 or int(status) in _DOCUMENTED, sent


_TENSOR = {"name": "x", "datatype": "FP32", "shape": [2]}
_JSON = json.dumps({"inputs": [{**_TENSOR, "data": [1.5, 2]}]}).encode()
_HEAD = json.dumps({"inputs": [{**_TENSOR, "parameters": {"binary_data_size": 8}}]}).encode()


def _request(path: str, body: bytes, *headers: str) -> bytes:
    first = [f"POST {path} HTTP/1.1", "Host: x", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*first, "", ""]).encode() + body


def exchanges() -> Iterator[bytes]:
    """Inferences in every form, and what is around them."""
    live = b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n"
    plain = _request("/v2/models/m/infer", _JSON)
    sized = _request(
        "/v2/models/m/versions/1/infer", _HEAD + bytes(8), f"Inference-Header-Content-Length: {len(_HEAD)}"
    )
    raw = _request("/v2/models/m/infer", bytes(8), "Inference-Header-Content-Length: 0")
    chunks = plain.replace(b"Content-Length: %d" % len(_JSON), b"Transfer-Encoding: chunked")
    chunked = chunks.replace(_JSON, b"%x\r\n%b\r\n0\r\n\r\n" % (len(_JSON), _JSON))
    others = [
        _request(path, _JSON) for path in ("/v2/models/m/generate", "/v1/models/m:predict", "/v2/models/%6d/infer")
    ]
    for cut in (0, 1, 3):
        for one in (live, plain, sized, raw, chunked, *others, plain.replace(b"POST", b"PUT")):
            yield bytes([cut]) + live + one + live
        yield bytes([cut]) + live + plain * 3 + sized + chunked + plain.replace(b"Host", b"Connection: close\r\nHost")
    for exchange in framed():
        yield exchange[:1] + live + exchange[1:]
