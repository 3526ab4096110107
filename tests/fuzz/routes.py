"""Random requests to every route and every method of a server that runs: request lines, headers, bodies and messages.

Whatever is sent, the answer is no fault of the server's: of statuses from 500 on only those that are documented, of
gRPC's codes neither INTERNAL nor UNKNOWN, no traceback in the log, and a server that goes on.
"""

import contextlib
import json
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from random import Random

import grpc
import onnx_models
from conformance.served import Served
from conformance.wire import HEADER_LENGTH, SERVICE, Grpc
from fuzz import http1, seeds
from fuzz.mutations import TEXTS, altered_json, altered_message, filled
from onnx import TensorProto
from server_process import running

from ortolan.protocol import protobuf_messages as messages

_DOCUMENTED = {501, 503, 504, 505}
_FAULTS = {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN}
_STATUS = re.compile(rb"^HTTP/1\.1 (\d{3}) ", re.MULTILINE)
_LAST = b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
# For what is not whole, and therefore is not answered.
_PATIENCE_S = 0.2
_HTTP_SHARE = 0.7

_METHODS = ("GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "TRACE", "get", "BREW")
_MODELS = (
    "double",
    "text",
    "nope",
    "..",
    "%2e%2e",
    "a%2fb",
    "%00",
    "%ff",
    "",
    "double%0d%0a",
    "x" * 300,
    "größe",
    "double?a=b",
)
_ROUTES = (
    "/", "/v2", "/v2/health/live", "/v2/health/ready", "/v2/models", "/v2/models/stats", "/v1/models", "/v2/logging",
    "/v2/trace/setting", "/v2/repository/index", "/docs", "/docs/{}", "/openapi.json", "/metrics", "/ping",
    "/v2/models/{}", "/v2/models/{}/ready", "/v2/models/{}/config", "/v2/models/{}/stats", "/v2/models/{}/infer",
    "/v2/models/{}/generate", "/v2/models/{}/generate_stream", "/v2/models/{}/trace/setting",
    "/v2/models/{}/versions/{}", "/v2/models/{}/versions/1/infer", "/v2/models/{}/versions/{}/ready",
    "/v1/models/{}", "/v1/models/{}:predict", "/v1/models/{}:explain", "/v2/repository/models/{}/load",
    "/v2/repository/models/{}/unload", "/v2/repository/{}/index", "/v2/systemsharedmemory/status",
    "/v2/systemsharedmemory/region/{}/register", "/v2/systemsharedmemory/unregister", "/v2/cudasharedmemory/status",
    "/v2/cudasharedmemory/region/{}/register", "/v2/cudasharedmemory/region/{}/unregister", "/nothing/{}",
)  # fmt: skip
_HEADERS = (
    f"{HEADER_LENGTH}: 0", f"{HEADER_LENGTH}: 5", f"{HEADER_LENGTH}: -1", f"{HEADER_LENGTH}: {'9' * 40}",
    "Content-Encoding: gzip", "Content-Encoding: deflate", "Content-Encoding: br", "Accept-Encoding: gzip;q=0, *",
    "Accept-Encoding: \x80", "X-Request-Timeout: 1e400", "X-Request-Timeout: 0.001", "Content-Type: text/plain",
    "Expect: 100-continue", "Expect: banana", "Range: bytes=0-1,2-3", "If-None-Match: *", "Authorization: Bearer x",
    "X-API-Key: é", "Host: y", "Cookie: a=b", "traceparent: 00-0-0-0", "Accept: text/event-stream", "Origin: null",
    "X-Forwarded-For: ::1", "X-HTTP-Method-Override: DELETE", "X: " + "y" * 5000,
)  # fmt: skip
_SETTINGS = (
    {"log_verbose_level": 1},
    {"trace_level": ["TIMESTAMPS"], "trace_rate": "1"},
    {"ready": True},
    {"parameters": {"config": "{}", "unload_dependents": False}},
    {"key": "/k", "offset": 0, "byte_size": 8},
    {"raw_handle": {"b64": "AAAA"}, "device_id": 0, "byte_size": 8},
)


@contextmanager
def served(directory: Path) -> Iterator[Served]:
    """A server with two small models, everything that it may do allowed, and its log."""
    onnx_models.save_version(directory / "models", "double", onnx_models.doubler())
    onnx_models.save_version(directory / "models", "text", onnx_models.identity(TensorProto.STRING))
    flags = ("--model-control-mode=explicit", "--load-model=double", "--load-model=text", "--allow-client-shm")
    log = directory / "log"
    with running(directory / "models", "--http-max-input-size=65536", *flags, log=log) as server:
        yield Served(server, log)


def faults(served: Served, seed: int, goes_on: Callable[[], bool]) -> list[str]:
    """What went wrong while ``goes_on``."""
    random, found = Random(seed), []
    bodies = _bodies()
    with closing(Grpc(served.server)) as door:
        while goes_on() and not found:
            if random.random() < _HTTP_SHARE:
                found += _ask_http(served, request(random, bodies))
            else:
                found += _ask_grpc(door, random)
    if served.server.process.poll() is not None:
        found.append(f"the server ended with {served.server.process.returncode}")
    elif b" 200 " not in _sent(served, _LAST):
        found.append("the server does not answer any more")
    log = served.log.read_text(errors="replace")
    if "Traceback" in log:
        found.append(log[log.index("Traceback") - 300 :][:4000])
    return found


def request(random: Random, bodies: list[bytes]) -> bytes:
    """One request, which may be none."""
    path = random.choice(_ROUTES).format(*random.choices(_MODELS, k=2))
    body = random.choice(bodies) if random.random() < 0.8 else random.randbytes(random.randrange(200))
    if random.random() < 0.7:
        body = altered_json(body, random) or body
    lines = [f"{random.choice(_METHODS[: random.choice((2, 10))])} {path} HTTP/1.1", "Host: x"]
    lines += random.sample(_HEADERS, random.choice((0, 0, 1, 3)))
    head = "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode(errors="replace")
    whole = head + body
    return (http1.altered(b"\0" + whole, random) or whole)[1:] if random.random() < 0.2 else whole


def _bodies() -> list[bytes]:
    requests = [each.partition(b"\n")[2] for each in seeds.json_requests()]
    flat = [each[1:] for each in (*seeds.generate_requests(), *seeds.v1_requests())]
    configs = [json.dumps({"parameters": {"config": each.decode()}}).encode() for each in seeds.configuration_jsons()]
    return [b"", *requests, *flat, *configs, *(json.dumps(each).encode() for each in _SETTINGS)]


def _ask_http(served: Served, data: bytes) -> list[str]:
    answer = _sent(served, data + _LAST)
    faults = [status for status in map(int, _STATUS.findall(answer)) if status >= 500 and status not in _DOCUMENTED]
    return [f"{status} for {data[:3000]!r}" for status in faults]


def _sent(served: Served, data: bytes) -> bytes:
    """What comes back, until the server closes or says nothing for a while."""
    answer = b""
    with socket.create_connection(("127.0.0.1", served.server.http_port), timeout=30) as client:
        with contextlib.suppress(ConnectionError):
            client.sendall(data)
        with contextlib.suppress(TimeoutError, ConnectionError):
            while piece := client.recv(65_536):
                answer += piece
                client.settimeout(_PATIENCE_S)
    return answer


def _ask_grpc(door: Grpc, random: Random) -> list[str]:
    method = random.choice(messages.service_methods(SERVICE))
    message = messages.message_class(method.input_type.full_name)()
    altered = altered_message(filled(message, 2) if random.random() < 0.5 else message, random)
    for field in ("name", "model_name"):
        if field in altered.DESCRIPTOR.fields_by_name and random.random() < 0.5:
            setattr(altered, field, random.choice(("double", "text", *TEXTS)))
    try:
        door.stream(altered.SerializeToString()) if method.server_streaming else door.send(
            method.name, altered.SerializeToString()
        )
    except grpc.RpcError as error:
        if error.code() in _FAULTS:
            return [f"{error.code()} {error.details()} for {method.name} {altered}"[:4000]]
    return []
