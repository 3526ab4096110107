"""REST over HTTP/1 and HTTP/2, and gRPC, on one port: what each client gets, and what becomes of it at the end."""

import asyncio
import json
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import onnx_models
import pytest
import tritonclient.grpc
import tritonclient.grpc.aio
import tritonclient.http
from callers import ask, metric, rest_body
from frontends.test_http2_peers import tool
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from server_process import ServerProcess, eventually, finished, running

from ortolan.http2 import frames
from ortolan.protocol import protobuf_messages as messages

SOON_S = 20
LONG_S = 60
ONE_AT_A_TIME = "max_batch_size: 1\ninstance_group [ { count: 1, kind: KIND_CPU } ]"
LIMIT = 4_000_000
ROW = np.array([[1, 2, 3, 4]], np.float32)
DOUBLED = [2.0, 4.0, 6.0, 8.0]
INFER = "/v2/models/double/infer"
HEALTH = messages.HealthCheckResponse
Curl = Callable[..., Any]


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def one_port() -> tuple[str, str]:
    port = free_port()
    return f"--http-port={port}", f"--grpc-port={port}"


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models")
    onnx_models.save_version(path, "double", onnx_models.doubler())
    onnx_models.save_version(path, "large", onnx_models.identity(shape=("rows", "columns")))
    onnx_models.save_version(path, "slow", onnx_models.slow(200_000), config=ONE_AT_A_TIME)
    onnx_models.save_version(path, "endless", onnx_models.slow(2**40), config=ONE_AT_A_TIME)
    return path


@pytest.fixture(scope="module")
def server(repository: Path) -> Iterator[ServerProcess]:
    with running(repository, *one_port(), f"--http-max-input-size={LIMIT}") as started:
        yield started


@pytest.fixture
def http2(server: ServerProcess) -> Iterator[httpx.Client]:
    """REST with nothing but HTTP/2."""
    with httpx.Client(base_url=f"http://{server.http}", http1=False, http2=True, timeout=SOON_S) as client:
        yield client


def infer(module: Any, address: str, model: str = "double", row: np.ndarray = ROW) -> Any:
    """What Triton's client library gets."""
    with module.InferenceServerClient(address) as client:
        tensor = module.InferInput("x", [*row.shape], "FP32")
        tensor.set_data_from_numpy(row)
        return client.infer(model, [tensor]).as_numpy("y")


def raw_infer(model: str, numbers: np.ndarray) -> tuple[bytes, dict[str, str]]:
    """A request for the same numbers as binary data, and its headers."""
    tensor = {"name": "x", "datatype": "FP32", "shape": [*numbers.shape]}
    tensor["parameters"] = {"binary_data_size": numbers.nbytes}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    return head + numbers.tobytes(), {"inference-header-content-length": str(len(head))}


# Every client on the one port


def test_the_start_tells_both_addresses(server: ServerProcess) -> None:
    assert server.http_port == server.grpc_port
    assert f"gRPC     127.0.0.1:{server.http_port}  (the same port)" in server.summary


def test_tritons_clients_are_answered_over_both(server: ServerProcess) -> None:
    assert infer(tritonclient.http, server.http).tolist() == [DOUBLED]
    assert infer(tritonclient.grpc, server.grpc).tolist() == [DOUBLED]
    with tritonclient.grpc.InferenceServerClient(server.grpc) as client:
        assert client.is_server_ready()
        assert client.get_server_metadata().name == "ortolan"


def test_many_clients_of_both_kinds_at_once(server: ServerProcess) -> None:
    rows = [np.full((1, 4), number, np.float32) for number in range(40)]
    modules = [tritonclient.http, tritonclient.grpc]
    with ThreadPoolExecutor(8) as clients:
        asked = [
            clients.submit(infer, modules[index % 2], server.http, "double", row) for index, row in enumerate(rows)
        ]
        for row, answer in zip(rows, asked, strict=True):
            assert (answer.result(SOON_S) == row * 2).all()


async def test_a_stream_over_grpc(server: ServerProcess) -> None:
    async def requests() -> Any:
        for number in range(5):
            tensor = tritonclient.grpc.aio.InferInput("x", [1, 4], "FP32")
            tensor.set_data_from_numpy(ROW * number)
            yield {"model_name": "double", "inputs": [tensor], "request_id": str(number)}

    async with tritonclient.grpc.aio.InferenceServerClient(server.grpc) as client, asyncio.timeout(SOON_S):
        answers = [result.as_numpy("y").tolist() async for result, _ in client.stream_infer(requests())]
    assert answers == [(ROW * 2 * number).tolist() for number in range(5)]


def test_grpcs_own_health_and_reflection(server: ServerProcess) -> None:
    with grpc.insecure_channel(server.grpc) as channel:
        check = channel.unary_unary("/grpc.health.v1.Health/Check")
        assert HEALTH.FromString(check(b"", timeout=SOON_S)).status == HEALTH.SERVING
        services = ProtoReflectionDescriptorDatabase(channel).get_services()
        assert {"inference.GRPCInferenceService", "grpc.health.v1.Health"} <= set(services)


@pytest.mark.parametrize("begin", ["http1", "http2"])
def test_bytes_may_come_one_by_one(server: ServerProcess, begin: str) -> None:
    said = {"http1": b"GET /v2 HTTP/1.0\r\n\r\n", "http2": frames.PREFACE + frames.settings({})}[begin]
    with socket.create_connection(("127.0.0.1", server.http_port), SOON_S) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in said:
            client.send(bytes([byte]))
        heard = client.recv(100)
    assert heard.startswith(b"HTTP/1.1 200 OK") if begin == "http1" else heard[3] == frames.SETTINGS


# REST over HTTP/2


@pytest.mark.parametrize(
    ("method", "path", "body", "headers"),
    [
        ("GET", "/v2", None, {}),
        ("GET", "/", None, {}),
        ("HEAD", "/v2/health/ready", None, {}),
        ("GET", "/v2/health/ready", None, {}),
        ("GET", "/v2/models/double/config", None, {}),
        ("GET", "/docs", None, {}),
        ("GET", "/openapi.json", None, {"host": "localhost"}),
        ("GET", "/nowhere?x=1", None, {}),
        ("DELETE", "/v2", None, {}),
        ("GET", INFER, None, {}),
        ("POST", "/v2/repository/index", b"", {}),
        ("POST", INFER, rest_body(ROW), {}),
        ("POST", "/v2/models/d%6Fuble/infer", rest_body(ROW), {}),
        ("POST", "/v2/models/double/versions/1/infer", rest_body(ROW), {"content-type": "application/json"}),
        ("POST", "/v2/models/nope/infer", rest_body(ROW), {}),
        ("POST", INFER, b"{", {}),
        ("POST", INFER, bytes(16), {"inference-header-content-length": "0"}),
        ("POST", "/v2/models/double/generate", json.dumps({"x": [1, 2, 3, 4]}).encode(), {}),
        ("POST", "/v2/models/double/generate_stream", json.dumps({"x": [1, 2, 3, 4]}).encode(), {}),
    ],
)
def test_answers_are_those_of_http1(
    server: ServerProcess, http2: httpx.Client, method: str, path: str, body: bytes | None, headers: dict[str, str]
) -> None:
    expected = ask(server, method, path, body, headers)
    got = http2.request(method, path, content=body, headers=headers)
    varies = {"date", "server-timing", "connection"}
    assert got.http_version == "HTTP/2"
    assert (got.status_code, got.content) == (expected.status, expected.body)
    assert {k: v for k, v in got.headers.items() if k not in varies} == {
        k: v for k, v in expected.headers.items() if k not in varies
    }


@pytest.mark.parametrize("floats", [1, 100_000, 900_000])
def test_large_tensors_go_both_ways_over_http2(http2: httpx.Client, floats: int) -> None:
    numbers = np.random.default_rng(floats).random((1, floats), np.float32)
    body, headers = raw_infer("large", numbers)
    answer = http2.post("/v2/models/large/infer", content=body, headers=headers)
    assert (answer.status_code, answer.content[-numbers.nbytes :]) == (200, numbers.tobytes())


def test_a_body_whose_length_nobody_says_goes_over_http2(http2: httpx.Client) -> None:
    pieces = iter([rest_body(ROW)[:10], rest_body(ROW)[10:]])
    assert http2.post(INFER, content=pieces).json()["outputs"][0]["data"] == DOUBLED


async def test_many_requests_at_once_on_one_connection(server: ServerProcess) -> None:
    async with httpx.AsyncClient(http1=False, http2=True, timeout=SOON_S) as client:
        url = f"http://{server.http}{INFER}"
        answers = await asyncio.gather(*(client.post(url, content=rest_body(ROW * n)) for n in range(100)))
    found = [answer.json()["outputs"][0]["data"] for answer in answers]
    assert found == [(ROW[0] * 2 * number).tolist() for number in range(100)]


async def test_a_client_that_goes_takes_its_run_along(server: ServerProcess) -> None:
    url = f"http://{server.http}/v2/models/endless/infer"
    async with httpx.AsyncClient(http1=False, http2=True, timeout=SOON_S) as client:
        with pytest.raises(httpx.ReadTimeout):
            await client.post(url, content=rest_body(ROW), timeout=0.5)
        # The only instance is free again, so that this one gets as far as the model.
        late = await client.post(url, content=rest_body(ROW), headers={"x-request-timeout": "0.3"})
    assert late.status_code == 504


@pytest.fixture
def curl(server: ServerProcess) -> Curl:
    """curl of a path of the server; it has a client's whole HTTP/2, other than httpx."""
    program = tool("curl")
    if "HTTP2" not in subprocess.run([program, "--version"], capture_output=True, text=True, timeout=SOON_S).stdout:
        pytest.skip("this curl has no HTTP/2")

    def asked(*arguments: str) -> Any:
        *flags, path = arguments
        command = [program, "-sS", "-m", str(SOON_S), *flags, f"http://{server.http}{path}"]
        return json.loads(subprocess.run(command, capture_output=True, check=True, timeout=SOON_S).stdout)

    return asked


@pytest.mark.parametrize("version", ["--http2-prior-knowledge", "--http1.1"])
def test_curl_is_answered(curl: Curl, version: str) -> None:
    assert curl(version, "-d", rest_body(ROW).decode(), INFER)["outputs"][0]["data"] == DOUBLED


def test_a_client_that_offers_http2_on_http1_gets_http1(curl: Curl) -> None:
    assert curl("--http2", "/v2")["name"] == "ortolan"


@pytest.mark.parametrize("path", [INFER, "/v2/repository/index"])
def test_a_body_that_is_too_large_is_refused_over_http2_as_over_http1(
    server: ServerProcess, http2: httpx.Client, path: str
) -> None:
    answer = http2.post(path, content=bytes(LIMIT + 1))
    expected = ask(server, "POST", path, bytes(LIMIT + 1))
    assert (answer.status_code, answer.content) == (expected.status, expected.body)


@pytest.mark.parametrize("path", [INFER, "/v2/repository/index"])
@pytest.mark.parametrize("flags", [[], ["-H", "content-length:"]], ids=["of a length that is said", "as it comes"])
def test_a_body_that_is_too_large_is_refused_over_http2(
    curl: Curl, tmp_path: Path, path: str, flags: list[str]
) -> None:
    body = tmp_path / "body"
    body.write_bytes(bytes(2 * LIMIT))
    answer = curl("--http2-prior-knowledge", *flags, "-T", str(body), "-X", "POST", path)
    assert "Use --http-max-input-size to increase the limit." in answer["error"]


# One of several ports, and what cannot be


def test_a_port_that_is_grpcs_alone_has_no_rest(repository: Path) -> None:
    with running(repository, "--load-model=double", "--model-control-mode=explicit") as two_ports:
        assert two_ports.http_port != two_ports.grpc_port
        with httpx.Client(http1=False, http2=True, timeout=SOON_S) as client:
            refused = client.post(f"http://{two_ports.grpc}{INFER}", content=rest_body(ROW))
        assert (refused.status_code, refused.headers["grpc-status"]) == (415, "2")
        assert infer(tritonclient.grpc, two_ports.grpc).tolist() == [DOUBLED]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--grpc-transport=grpcio"], "which --grpc-transport=grpcio cannot share"),
        (["--grpc-address=0.0.0.0"], "give both the same address, or different ports"),
        (["--metrics-port={port}"], "give metrics another one"),
    ],
)
def test_what_cannot_be_on_one_port_ends_the_start(repository: Path, flags: list[str], said: str) -> None:
    port = free_port()
    numbers = (f"--http-port={port}", f"--grpc-port={port}")
    ended = finished("serve", repository, *numbers, *(flag.format(port=port) for flag in flags))
    assert (ended.returncode, said in ended.stderr) == (2, True), ended.stderr


def test_a_port_that_somebody_has_ends_the_start(repository: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = finished("serve", repository, f"--http-port={port}", f"--grpc-port={port}")
    assert ended.returncode == 2
    assert "Choose another port with --http-port" in ended.stderr


def test_several_processes_share_the_one_port(repository: Path) -> None:
    flags = ("--processes=2", "--load-model=double", "--model-control-mode=explicit")
    with running(repository, *one_port(), *flags) as several:
        assert several.http_port == several.grpc_port
        for _ in range(8):
            assert infer(tritonclient.http, several.http).tolist() == [DOUBLED]
            assert infer(tritonclient.grpc, several.grpc).tolist() == [DOUBLED]
        with httpx.Client(http1=False, http2=True, timeout=SOON_S) as client:
            answer = client.post(f"http://{several.http}{INFER}", content=rest_body(ROW))
        assert answer.json()["outputs"][0]["data"] == DOUBLED
        several.process.send_signal(signal.SIGTERM)
        assert several.process.wait(SOON_S) == 0


# The end


def test_requests_in_flight_of_every_kind_are_answered(repository: Path) -> None:
    def over_http2(address: str, row: np.ndarray) -> Any:
        with httpx.Client(http1=False, http2=True, timeout=SOON_S) as client:
            answer = client.post(f"http://{address}/v2/models/slow/infer", content=rest_body(row))
            return [answer.json()["outputs"][0]["data"]]

    kinds = [
        lambda address, row: infer(tritonclient.http, address, "slow", row).tolist(),
        lambda address, row: infer(tritonclient.grpc, address, "slow", row).tolist(),
        over_http2,
    ]
    with running(repository, *one_port()) as started, ThreadPoolExecutor(9) as clients:
        rows = [np.full((1, 4), number, np.float32) for number in range(9)]
        asked = [clients.submit(kinds[number % 3], started.http, row) for number, row in enumerate(rows)]
        waits, done = "nv_inference_pending_request_count", "nv_inference_request_success"
        eventually(lambda: sum(metric(started, name, model="slow") for name in (waits, done)) >= len(asked) - 1)
        started.process.send_signal(signal.SIGTERM)
        for row, answer in zip(rows, asked, strict=True):
            assert answer.result(SOON_S) == row.tolist()
        assert started.process.wait(SOON_S) == 0


def test_while_draining_every_kind_is_told_that_the_server_is_not_ready_and_is_answered(repository: Path) -> None:
    with running(repository, *one_port(), f"--drain-delay-secs={LONG_S}") as started:
        with httpx.Client(base_url=f"http://{started.http}", http1=False, http2=True, timeout=SOON_S) as client:
            assert client.get("/v2/health/ready").status_code == 200
            started.process.send_signal(signal.SIGTERM)
            eventually(lambda: client.get("/v2/health/ready").status_code == 503)
            assert client.post(INFER, content=rest_body(ROW)).status_code == 200
        assert infer(tritonclient.http, started.http).tolist() == [DOUBLED]
        assert infer(tritonclient.grpc, started.grpc).tolist() == [DOUBLED]
        with tritonclient.grpc.InferenceServerClient(started.grpc) as grpc_client:
            assert not grpc_client.is_server_ready()
        started.process.send_signal(signal.SIGTERM)
        assert started.process.wait(SOON_S) == 0


def test_clients_that_are_idle_or_silent_hold_up_no_end(repository: Path) -> None:
    with running(repository, *one_port()) as started:
        silent = socket.create_connection(("127.0.0.1", started.http_port))
        half = socket.create_connection(("127.0.0.1", started.http_port))
        half.send(frames.PREFACE[:7])
        client = httpx.Client(http1=False, http2=True)
        channel = grpc.insecure_channel(started.grpc)
        watch = channel.unary_stream("/grpc.health.v1.Health/Watch")(b"")
        assert HEALTH.FromString(next(watch)).status == HEALTH.SERVING
        assert client.get(f"http://{started.http}/v2").status_code == 200
        started.process.send_signal(signal.SIGTERM)
        # Far less than the 25 s that requests may take.
        assert started.process.wait(SOON_S) == 0
        for thing in (silent, half, client, channel):
            thing.close()


def test_what_outlasts_the_grace_period_is_told(repository: Path) -> None:
    with running(repository, *one_port(), "--exit-timeout-secs=1") as started, ThreadPoolExecutor(2) as clients:

        def over_http2() -> int:
            with httpx.Client(http1=False, http2=True, timeout=SOON_S) as client:
                url = f"http://{started.http}/v2/models/endless/infer"
                return client.post(url, content=rest_body(ROW)).status_code

        def over_grpc() -> str:
            with pytest.raises(tritonclient.grpc.InferenceServerException) as raised:
                infer(tritonclient.grpc, started.grpc, "endless")
            return str(raised.value.status())

        asked = [clients.submit(over_http2), clients.submit(over_grpc)]
        # One of them waits for long, so the other one runs.
        pending = partial(metric, started, "nv_inference_pending_request_count", model="endless")
        eventually(lambda: all(pending() >= 1 for _ in range(3)))
        started.process.send_signal(signal.SIGTERM)
        assert [each.result(SOON_S) for each in asked] == [503, "StatusCode.UNAVAILABLE"]
        assert started.process.wait(SOON_S) == 0
