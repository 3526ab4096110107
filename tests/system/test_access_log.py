"""The access log of a real server: a line for each request of every way in, whatever clients send."""

import http.client
import json
import queue
import re
import socket
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import onnx_models
import pytest
import tritonclient.grpc as triton
from callers import rest_body
from server_process import ServerProcess, eventually, running

ONES = np.ones((1, 4), np.float32)
INFER = "/v2/models/m/infer"
RPC = "/inference.GRPCInferenceService/"
KEY = "secret-key-of-ann-0123456789"
TEXT = re.compile(
    r"\d{4}-\d\d-\d\dT[\d:.]{12}Z INFO( \[\d\])? ortolan\.access: .* (?P<code>\S+) [\d.]+ ms (?P<rest>.*)"
)


@dataclass(frozen=True)
class Logged:
    """A server, and the files that it logs to."""

    server: ServerProcess
    log: Path
    access: Path

    def entries(self) -> list[dict[str, Any]]:
        """Of the access log, all of whose lines are JSON objects."""
        return [json.loads(line) for line in self.access.read_text().splitlines()]

    def entry(self, request_id: str) -> dict[str, Any]:
        """The one of the request with this id, once it is written."""
        eventually(lambda: f'"request_id": "{request_id}"' in self.access.read_text())
        (found,) = [entry for entry in self.entries() if entry["request_id"] == request_id]
        return found

    def http(self) -> closing[http.client.HTTPConnection]:
        return closing(http.client.HTTPConnection(self.server.http, timeout=30))

    def infer(self, request_id: str, body: bytes = rest_body(ONES)) -> dict[str, Any]:
        """What is told of an inference on a connection of its own."""
        with self.http() as connection:
            infer(connection, request_id, body)
        return self.entry(request_id)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    onnx_models.save_version(root, "m", onnx_models.doubler())
    return root


@pytest.fixture(scope="module")
def logged(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Logged]:
    """With keys, JSON, and a file of its own for requests."""
    directory = tmp_path_factory.mktemp("log")
    log, access, keys = directory / "log", directory / "access", directory / "keys"
    keys.write_text(f"ann:sha256:{sha256(KEY.encode()).hexdigest()}:infer,read\n")
    keys.chmod(0o600)
    flags = ("--access-log=on", "--log-format=json", f"--access-log-file={access}", "--log-verbose=1")
    with running(repository, *flags, f"--api-keys-file={keys}", log=log) as server:
        yield Logged(server, log, access)


def infer(connection: http.client.HTTPConnection, request_id: str, body: bytes = rest_body(ONES)) -> str | None:
    """The id in the answer."""
    headers = {"x-api-key": KEY, "X-Request-Id": request_id, "user-agent": "u/1"}
    connection.request("POST", f"{INFER}?key=hidden-in-query", body, headers)
    response = connection.getresponse()
    response.read()
    return response.headers["x-request-id"]


def test_each_inference_over_http_is_told_and_named_whichever_way_it_goes(logged: Logged) -> None:
    with logged.http() as connection:
        # The first are parsed, then their head is known, and then all of their form is.
        for number in range(6):
            assert infer(connection, f"h-{number}") == f"h-{number}"
            connection.request("POST", INFER, rest_body(ONES), {"x-api-key": KEY, "X-Request-Id": f"d-{number}"})
            response = connection.getresponse()
            assert response.headers.get_all("x-request-id") == [f"d-{number}"]
            response.read()
    told = {"method": "POST", "path": INFER, "status": 200, "model": "m", "version": "1", "caller": "ann"}
    told |= {"protocol": "HTTP/1.1", "bytes_in": len(rest_body(ONES))}
    for name in ("h-0", "h-5", "d-0", "d-5"):
        entry = logged.entry(name)
        assert entry.items() >= told.items()
        assert entry["client"].startswith("127.0.0.1:")
        assert 0 < entry["duration_ms"] < 30_000
        assert entry["bytes_out"] > 0
    assert logged.entry("h-0")["user_agent"] == "u/1"


def test_who_gives_no_id_is_told_the_one_that_was_made(logged: Logged) -> None:
    names = []
    with logged.http() as connection:
        for sent in ({}, {}, {"X-Request-Id": "x" * 129}, {"X-Request-Id": "gr\xf6\xdfe"}):
            connection.request("GET", "/v2/models/m", headers={"x-api-key": KEY, **sent})
            response = connection.getresponse()
            response.read()
            names.append(response.headers["x-request-id"])
    assert len(set(names)) == 4
    assert [logged.entry(name)["path"] for name in names] == ["/v2/models/m"] * 4


def test_an_inferences_own_id_is_shown_beside(logged: Logged) -> None:
    body = json.dumps(json.loads(rest_body(ONES)) | {"id": "inner"}).encode()
    for name in ("own-1", "own-2", "own-3"):
        assert logged.infer(name, body)["inference_id"] == "inner"


@pytest.mark.parametrize(
    ("method", "path", "headers", "body", "status", "error", "caller"),
    [
        ("POST", INFER, {"x-api-key": "wrong"}, b"{}", 401, "Unauthenticated", None),
        ("POST", INFER, {}, b"{}", 401, "Unauthenticated", None),
        ("POST", "/v2/repository/models/m/unload", {"x-api-key": KEY}, b"{}", 403, "Forbidden", "ann"),
        ("POST", "/v2/models/none/infer", {"x-api-key": KEY}, rest_body(ONES), 404, "NotFound", "ann"),
        ("GET", "/nowhere", {"x-api-key": KEY}, b"", 404, None, "ann"),
        ("DELETE", INFER, {"x-api-key": KEY}, b"", 405, None, "ann"),
        ("POST", INFER, {"x-api-key": KEY, "x": "y" * 100_000}, b"{}", 431, None, None),
    ],
)
def test_refusals_are_told_with_their_kind(
    logged: Logged,
    method: str,
    path: str,
    headers: dict[str, str],
    body: bytes,
    status: int,
    error: str | None,
    caller: str | None,
) -> None:
    name = f"refused-{status}-{len(headers)}-{len(path)}"
    with logged.http() as connection:
        with suppress(BrokenPipeError, ConnectionResetError):
            connection.request(method, path, body, {"X-Request-Id": name, **headers})
        response = connection.getresponse()
        assert (response.status, response.headers["x-request-id"]) == (status, name)
    entry = logged.entry(name)
    assert (entry["method"], entry["path"], entry["status"]) == (method, path, status)
    assert (entry.get("error"), entry.get("caller")) == (error, caller)


def test_no_http_at_all_is_told(logged: Logged) -> None:
    with socket.create_connection(("127.0.0.1", logged.server.http_port)) as client:
        client.sendall(b"\x1b[31mGET / HTTP/1.1\r\n\r\n")
        answer = client.recv(65536).decode()
    name = re.search(r"x-request-id: (\S+)", answer)
    assert name is not None
    entry = logged.entry(name[1])
    assert (entry["status"], entry["path"]) == (400, "")


def test_a_client_that_goes_before_its_answer_is_told(logged: Logged) -> None:
    head = f"POST {INFER} HTTP/1.1\r\nHost: h\r\nx-api-key: {KEY}\r\nX-Request-Id: gone\r\nContent-Length: 9\r\n\r\n"
    with socket.create_connection(("127.0.0.1", logged.server.http_port)) as client:
        client.sendall(head.encode() + b"{")
    assert logged.entry("gone")["status"] == 499


def test_probes_are_left_out(logged: Logged) -> None:
    with logged.http() as connection:
        for path in ("/v2/health/live", "/v2/health/ready", "/v2/models/m/ready", "/metrics"):
            connection.request("GET", path, headers={"X-Request-Id": "probe", "x-api-key": KEY})
            response = connection.getresponse()
            response.read()
            assert response.headers["x-request-id"] == "probe"
        infer(connection, "after-probes")
        logged.entry("after-probes")
    assert '"probe"' not in logged.access.read_text()


def test_calls_over_grpc_are_told_and_named_whichever_way_they_go(logged: Logged) -> None:
    tensor = triton.InferInput("x", [1, 4], "FP32")
    tensor.set_data_from_numpy(ONES)
    answers: queue.Queue[object] = queue.Queue()
    with triton.InferenceServerClient(logged.server.grpc) as client:
        for number in range(4):
            headers = {"x-api-key": KEY, "x-request-id": f"g-{number}"}
            client.infer("m", [tensor], request_id="inner", headers=headers)
        with pytest.raises(triton.InferenceServerException):
            client.infer("none", [tensor], headers={"x-api-key": KEY, "x-request-id": "g-none"})
        with pytest.raises(triton.InferenceServerException):
            client.infer("m", [tensor], headers={"x-api-key": "wrong", "x-request-id": "g-wrong"})
        headers = {"x-api-key": KEY, "x-request-id": "g-s"}
        client.start_stream(lambda result, error: answers.put((result, error)), headers=headers)
        client.async_stream_infer("m", [tensor])
        assert answers.get(timeout=30)[1] is None
        client.stop_stream()
    told = {"grpc_status": "OK", "caller": "ann", "model": "m", "version": "1", "inference_id": "inner"}
    for name in ("g-0", "g-3"):
        entry = logged.entry(name)
        assert entry.items() >= (told | {"path": f"{RPC}ModelInfer", "protocol": "gRPC"}).items()
        assert entry["bytes_in"] > 16 < entry["bytes_out"]
    none, wrong, stream = (logged.entry(name) for name in ("g-none", "g-wrong", "g-s"))
    assert (none["grpc_status"], none["model"], none["error"]) == ("NOT_FOUND", "none", "NotFound")
    assert (wrong["grpc_status"], wrong["error"]) == ("UNAUTHENTICATED", "Unauthenticated")
    assert (stream["path"], stream["grpc_status"], stream["model"]) == (f"{RPC}ModelStreamInfer", "OK", "m")


@pytest.mark.parametrize("method", ["ModelMetadata", "NoSuchMethod"])
def test_calls_that_fail_are_told_their_name_too(logged: Logged, method: str) -> None:
    with grpc.insecure_channel(logged.server.grpc) as channel:
        call = channel.unary_unary(f"{RPC}{method}").future(
            b"", metadata=[("x-api-key", KEY), ("x-request-id", method)]
        )
        code = call.code().name
        assert ("x-request-id", method) in [(key, value) for key, value in call.trailing_metadata()]
    assert logged.entry(method)["grpc_status"] == code != "OK"


NASTY = ['a"b', "a\tb", "a\x1b[2Jb", "a\x9bb", "a\\nb", "gr\xf6\xdfe", '","level":"error', "x" * 3000]


@pytest.mark.parametrize("nasty", NASTY)
def test_nothing_that_is_sent_forges_a_line(logged: Logged, nasty: str) -> None:
    raw = nasty.encode("latin-1")
    logged.infer(f"before-{NASTY.index(nasty)}")
    before = len(logged.access.read_bytes())
    heads = (
        b"POST " + INFER.encode() + b" HTTP/1.1\r\nHost: h\r\nUser-Agent: " + raw,
        b"GET /" + raw.replace(b"\t", b"%0a") + b" HTTP/1.1\r\nHost: h",
        b"GET /v2 HTTP/1.1\r\nHost: h\r\nX-Request-Id: " + raw,
        b"GET /v2 HTTP/1.1\r\nHost: " + raw,
    )
    for head in heads:
        with socket.create_connection(("127.0.0.1", logged.server.http_port)) as client:
            client.sendall(head + b"\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
            while client.recv(65536):
                pass
    logged.infer(f"after-{NASTY.index(nasty)}")
    new = logged.access.read_bytes()[before:]
    assert re.fullmatch(rb"(?:[ -~]+\n)+", new)
    assert len(new.splitlines()) == len(heads) + 1
    assert {entry["level"] for entry in logged.entries()} == {"info"}


def test_keys_and_queries_are_nowhere(logged: Logged) -> None:
    logged.infer("last")
    told = logged.access.read_text() + logged.log.read_text()
    assert KEY not in told
    assert "hidden-in-query" not in told


def test_a_file_that_is_moved_away_is_begun_anew(logged: Logged) -> None:
    logged.access.rename(logged.access.with_name("access.1"))
    with logged.http() as connection:
        infer(connection, "anew")
    eventually(logged.access.exists)
    assert logged.entry("anew")["status"] == 200
    assert len(logged.entries()) == 1


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def test_http2_on_one_port_is_told_as_well_in_text_with_the_number_of_the_replica(
    repository: Path, tmp_path: Path
) -> None:
    log, port = tmp_path / "log", free_port()
    flags = ("--access-log=all", f"--http-port={port}", f"--grpc-port={port}", "--processes=2")
    with running(repository, *flags, log=log) as server, httpx.Client(http1=False, http2=True, timeout=30) as client:
        url = f"http://{server.http}"
        for number in range(3):
            answer = client.post(f"{url}{INFER}", content=rest_body(ONES), headers={"X-Request-Id": f"two {number}"})
            assert (answer.status_code, answer.headers["x-request-id"]) == (200, f"two {number}")
        assert client.get(f"{url}/v2/health/live", headers={"X-Request-Id": "live"}).status_code == 200
        assert client.get(f"{url}/v2/nowhere", headers={"X-Request-Id": "none"}).status_code == 404
    lines = [found for line in log.read_text().splitlines() if (found := TEXT.fullmatch(line))]
    assert [line["code"] for line in lines] == ["200", "200", "200", "200", "404"]
    assert all(line[1] for line in lines)
    assert 'protocol=HTTP/2 model=m version=1 request_id="two 0"' in lines[0]["rest"]


def test_without_it_ids_are_given_back_and_none_is_made(repository: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with running(repository, log=log) as server, Logged(server, log, log).http() as connection:
        for sent in ("a", None, "b", None):
            connection.request("POST", INFER, rest_body(ONES), {"X-Request-Id": sent} if sent else {})
            response = connection.getresponse()
            response.read()
            assert response.headers["x-request-id"] == sent
        with grpc.insecure_channel(server.grpc) as channel:
            call = channel.unary_unary(f"{RPC}ServerLive")
            _, named = call.with_call(b"", metadata=[("x-request-id", "c")])
            _, unnamed = call.with_call(b"")
            assert [*named.trailing_metadata()] == [("x-request-id", "c")]
            assert [*unnamed.trailing_metadata()] == []
    assert "ortolan.access" not in log.read_text()
