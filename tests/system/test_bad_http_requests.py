"""What a wrong HTTP request gets: a status, {"error": text} and a connection that goes on."""

import http.client
import json
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import onnx_models
import pytest
from server_process import ServerProcess, running

GOOD: dict[str, Any] = {
    "inputs": [{"name": "features", "datatype": "FP32", "shape": [1, 4], "data": [6.7, 3.1, 4.4, 1.4]}]
}
INFER = "/v2/models/iris/infer"


def changed(**members: Any) -> str:
    """The good request with other members in its only input; None takes one away."""
    fields = {**GOOD["inputs"][0], **members}
    return json.dumps({"inputs": [{key: value for key, value in fields.items() if value is not None}]})


@pytest.fixture
def connection(model_repo_server: ServerProcess) -> Iterator[http.client.HTTPConnection]:
    connection = http.client.HTTPConnection("127.0.0.1", model_repo_server.http_port, timeout=10)
    yield connection
    connection.close()


def ask(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    body: str | bytes | Iterator[bytes] | None = None,
    headers: Mapping[str, str] | None = None,
) -> tuple[int, str]:
    """The status and the error of an answer, which must be a refusal in the form that all refusals have."""
    connection.request(method, path, body, headers or {})
    response = connection.getresponse()
    text = response.read()
    assert response.getheader("content-type") == "application/json", text
    answer = json.loads(text)
    assert [*answer] == ["error"], answer
    return response.status, answer["error"]


def assert_usable(connection: http.client.HTTPConnection) -> None:
    """The same connection, not a new one, gets a good answer."""
    kept = connection.sock
    assert kept is not None
    connection.request("POST", INFER, json.dumps(GOOD))
    response = connection.getresponse()
    assert (response.status, "versicolor" in response.read().decode()) == (200, True)
    assert connection.sock is kept


BODIES = [
    ("", "JSON"),
    ("{", "failed to parse"),
    ("[]", "object"),
    ("null", "object"),
    ("{}", "no 'inputs'"),
    ('{"inputs":{}}', "array"),
    ('{"inputs":[]}', "missing required input(s) ['features']"),
    ('{"inputs":[1]}', "inputs[0] must be an object"),
    (b"\xff\xfe{}", "not valid UTF-8"),
    (json.dumps(GOOD)[:-1], "failed to parse"),
    (json.dumps({**GOOD, "id": 7}), "'id'"),
    (json.dumps({"inputs": GOOD["inputs"] * 2}), "already exists"),
    (json.dumps({**GOOD, "outputs": [{"name": "nope"}]}), "unexpected inference output 'nope'"),
    (changed(name="nope"), "unexpected inference input 'nope' for model 'iris'; its inputs are ['features']"),
    (changed(name=7), "'name'"),
    (changed(name=None), "no 'name'"),
    (changed(datatype="FP64"), "data-type is 'FP64', but model 'iris' expects 'FP32'"),
    (changed(datatype="FLOAT"), "unknown datatype 'FLOAT'"),
    (changed(datatype=None), "no 'datatype'"),
    (changed(shape=[4]), "Expected [-1,4], got [4]"),
    (changed(shape=[1, 2, 2]), "Expected [-1,4], got [1,2,2]"),
    (changed(shape=[2, 4]), "8"),
    (changed(shape=[0, 4], data=[]), "no rows"),
    (changed(shape=[5, 4], data=[0] * 20), "batch-size must be <= 4"),
    (changed(shape=[-1, 4]), "-1"),
    (changed(shape=[1, 2**62]), "shape"),
    (changed(shape="1,4"), "shape"),
    (changed(shape=None), "no 'shape'"),
    (changed(data=[1, 2, 3]), "3"),
    (changed(data=["a", "b", "c", "d"]), "data"),
    (changed(data=None), "only one"),
    (changed(data=None, parameters={"binary_data_size": 16}), "expecting 16 additional bytes"),
    (changed(data=None, parameters={"shared_memory_region": "r"}), "needs 'shared_memory_byte_size' beside it"),
    (json.dumps({**GOOD, "parameters": {"triton_x": 1}}), "reserved"),
]


@pytest.mark.parametrize(("body", "said"), BODIES, ids=[said for _, said in BODIES])
def test_a_body_that_is_no_request_for_the_model_is_refused(
    connection: http.client.HTTPConnection, body: str | bytes, said: str
) -> None:
    status, error = ask(connection, "POST", INFER, body)
    assert (status, said in error) == (400, True), error
    assert_usable(connection)


BINARY = json.dumps(
    {"inputs": [{"name": "features", "datatype": "FP32", "shape": [1, 4], "parameters": {"binary_data_size": 16}}]}
).encode()


@pytest.mark.parametrize(
    ("length", "body", "said"),
    [
        ("abc", BINARY + bytes(16), "decimal number, got: 'abc'"),
        ("-1", BINARY + bytes(16), "decimal number, got: '-1'"),
        ("1.5", BINARY + bytes(16), "decimal number"),
        ("", BINARY + bytes(16), "decimal number"),
        ("9" * 400, BINARY + bytes(16), "in range"),
        (str(len(BINARY) + 17), BINARY + bytes(16), "in range"),
        (str(len(BINARY) - 1), BINARY + bytes(16), f"the JSON is the first {len(BINARY) - 1} bytes of the body"),
        (str(len(BINARY) + 1), BINARY + bytes(16), f"the JSON is the first {len(BINARY) + 1} bytes of the body"),
        (str(len(BINARY)), BINARY + bytes(15), "unexpected size for input 'features', expecting 1 additional bytes"),
        (str(len(BINARY)), BINARY + bytes(17), "unexpected additional input data"),
        (str(len(BINARY)), BINARY.replace(b"16", b"12") + bytes(12), "12"),
        ("0", bytes(15), "Expected 16, got 15"),
    ],
)
def test_binary_data_that_do_not_fit_their_header_are_refused(
    connection: http.client.HTTPConnection, length: str, body: bytes, said: str
) -> None:
    status, error = ask(connection, "POST", INFER, body, {"Inference-Header-Content-Length": length})
    assert (status, said in error) == (400, True), error
    assert_usable(connection)


@pytest.mark.parametrize(
    ("method", "path", "status", "said"),
    [
        ("GET", "/nothing", 404, "Not Found: no route has this path; GET /docs shows those that there are"),
        ("GET", "/v1/models/iris/versions/1", 404, "Not Found"),
        ("GET", "/v2/", 404, "Not Found"),
        ("POST", "/v2/models/iris/infer/", 404, "Not Found"),
        ("POST", "/v2/models//infer", 404, "Not Found"),
        ("GET", "/v2/models/iris/versions/", 404, "Not Found"),
        ("GET", "/docs/nope.js", 404, "Not Found"),
        ("GET", INFER, 405, "Method Not Allowed"),
        ("PUT", INFER, 405, "Method Not Allowed"),
        ("POST", "/v2/health/live", 405, "Method Not Allowed"),
        ("DELETE", "/v2/models/iris", 405, "Method Not Allowed"),
        ("GET", "/v2/repository/index", 405, "Method Not Allowed"),
        ("GET", "/v2/models/nope", 404, "Request for unknown model: 'nope' is not found; the repository index lists"),
        ("GET", "/v2/models/nope/ready", 404, "'nope' is not found"),
        ("GET", "/v2/models/nope/config", 404, "'nope' is not found"),
        ("GET", "/v2/models/nope/stats", 400, "'nope' is not available"),
        ("POST", "/v2/models/nope/infer", 404, "'nope' is not found"),
        ("POST", "/v2/models/iris/versions/7/infer", 404, "'iris' version 7 is not found"),
        ("GET", "/v2/models/iris/versions/7", 404, "'iris' version 7 is not found"),
        ("GET", "/v2/models/iris/versions/7/stats", 400, "version is not available"),
        ("POST", "/v2/models/iris/versions/x/infer", 400, "whole number, got 'x'"),
        ("GET", "/v2/models/iris/versions/+1/ready", 400, "whole number, got '+1'"),
        ("GET", "/v2/models/iris/versions/%EF%BC%91/ready", 400, "whole number"),
        ("GET", f"/v2/models/iris/versions/{'9' * 5000}/ready", 400, "whole number"),
        ("POST", "/v2/repository/models/iris/load", 503, "explicit model load / unload is not allowed"),
    ],
)
def test_what_is_not_there_is_refused(
    connection: http.client.HTTPConnection, method: str, path: str, status: int, said: str
) -> None:
    answered, error = ask(connection, method, path, json.dumps(GOOD) if path.endswith("infer") else None)
    assert (answered, said in error) == (status, True), error
    assert_usable(connection)


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    "name", ["no%00pe", "%ff%fe", "a%2fb", "..%2f..%2fetc%2fpasswd", "%1b%5b31mred", "a%0d%0aX-Evil:%201", "%", "%zz"]
)
@pytest.mark.parametrize("tail", ["", "/ready", "/config", "/infer", "/versions/1/infer", "/versions/1"])
def test_strange_names_are_unknown_models_and_nothing_more(
    connection: http.client.HTTPConnection, method: str, name: str, tail: str
) -> None:
    status, error = ask(connection, method, f"/v2/models/{name}{tail}", json.dumps(GOOD))
    assert status in (404, 405), error
    assert_usable(connection)


@pytest.mark.parametrize(
    ("body", "said"), [("[]", "object"), ("{", "failed to parse"), ('{"ready":1}', "true or false")]
)
def test_a_wrong_body_for_the_index_is_refused(connection: http.client.HTTPConnection, body: str, said: str) -> None:
    status, error = ask(connection, "POST", "/v2/repository/index", body)
    assert (status, said in error) == (400, True), error
    assert_usable(connection)


def test_a_compressed_body_is_refused_and_says_so(connection: http.client.HTTPConnection) -> None:
    status, error = ask(connection, "POST", INFER, b"\x1f\x8b", {"Content-Encoding": "gzip"})
    assert (status, "gzip" in error) == (400, True)
    assert_usable(connection)


@pytest.fixture(scope="module")
def narrow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server that takes 1000 bytes at most, and loads by the API."""
    repository: Path = tmp_path_factory.mktemp("narrow")
    onnx_models.save_version(repository, "double", onnx_models.doubler())
    with running(repository, "--http-max-input-size=1000", "--model-control-mode=explicit") as server:
        yield server


@pytest.mark.parametrize("path", ["/v2/models/double/infer", "/v2/repository/index", "/v2/repository/models/x/load"])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_over_the_limit_is_refused_and_names_the_flag(
    narrow_server: ServerProcess, path: str, chunked: bool
) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", narrow_server.http_port, timeout=10)
    status, error = ask(connection, "POST", path, iter([b" " * 600] * 3) if chunked else b" " * 1800)
    refused = 400 if path.endswith("infer") else 413
    assert (status, "--http-max-input-size" in error, "1000" in error) == (refused, True, True), error
    kept = connection.sock
    connection.request("GET", "/v2/health/live")
    assert connection.getresponse().status == 200
    assert connection.sock is kept
    connection.close()


@pytest.mark.parametrize("name", ["no%00pe", "%ff", "..", "%2e%2e", "..%2f..", "a%5cb", "%20", "nope", "%1b%0d%0a"])
@pytest.mark.parametrize("change", ["load", "unload"])
def test_only_names_of_the_repository_can_be_loaded(narrow_server: ServerProcess, name: str, change: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", narrow_server.http_port, timeout=10)
    connection.request("POST", f"/v2/repository/models/{name}/{change}")
    response = connection.getresponse()
    text = response.read()
    # To unload what is not loaded is fine, as in Triton.
    assert response.status in ((400, 404) if change == "load" else (200, 400, 404)), text
    assert response.status == 200 or [*json.loads(text)] == ["error"]
    connection.close()


@pytest.mark.parametrize(
    "sent",
    [
        b"not http at all\r\n\r\n",
        b"GET /v2/models/\xff\xfe HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET /v2/models/a\x1b[31m HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET /v2/models/a\0b HTTP/1.1\r\nhost: x\r\n\r\n",
        b"POST " + INFER.encode() + b" HTTP/1.1\r\nhost: x\r\ncontent-length: four\r\n\r\n",
        b"POST " + INFER.encode() + b" HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\ncontent-length: 5\r\n\r\nabcd",
        b"POST " + INFER.encode() + b" HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n",
        b"POST " + INFER.encode() + b" HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"GET /v2 HTTP/1.1\r\nhost: x\r\nbad header\r\n\r\n",
    ],
)
def test_what_is_not_http_gets_a_400_and_its_connection_is_closed(
    model_repo_server: ServerProcess, sent: bytes
) -> None:
    with socket.create_connection(("127.0.0.1", model_repo_server.http_port), timeout=10) as raw:
        raw.sendall(sent)
        answer = b"".join(iter(lambda: raw.recv(4096), b""))
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert model_repo_server.process.poll() is None


def test_a_client_that_hangs_up_in_the_middle_harms_nobody(
    model_repo_server: ServerProcess, connection: http.client.HTTPConnection
) -> None:
    for part in (b"POST /v2", f"POST {INFER} HTTP/1.1\r\nhost: x\r\ncontent-length: 99\r\n\r\nhalf".encode()):
        with socket.create_connection(("127.0.0.1", model_repo_server.http_port), timeout=10) as raw:
            raw.sendall(part)
    connection.connect()
    assert_usable(connection)


def test_requests_sent_ahead_on_one_connection_are_answered_in_their_order(model_repo_server: ServerProcess) -> None:
    head = f"POST {INFER} HTTP/1.1\r\nhost: x\r\ncontent-length: ".encode()
    good = json.dumps(GOOD).encode()
    ahead = b"".join(head + b"%d\r\n\r\n" % len(body) + body for body in (good, b"{", good))
    with socket.create_connection(("127.0.0.1", model_repo_server.http_port), timeout=10) as raw:
        raw.sendall(ahead + b"GET /v2/nope HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        answers = b"".join(iter(lambda: raw.recv(4096), b""))
    assert [int(part[:3]) for part in answers.split(b"HTTP/1.1 ")[1:]] == [200, 400, 200, 404]
