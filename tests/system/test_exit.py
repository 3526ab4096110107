"""The end of the process is bounded, whatever clients do, and nobody who has come to the door is turned away."""

import http.client
import json
import queue
import signal
import socket
import subprocess
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any

import grpc
import h2.config
import h2.connection
import onnx_models
import pytest
from callers import ask, metric
from server_process import ServerProcess, command, eventually, finished, running

from ortolan.protocol import protobuf_messages as messages

SOON_S = 15
"""Far less than the 25 s that requests may take, if nothing else is said."""
WIDE = 4 << 20
"""Numbers of an answer that no socket holds."""
INFER = "/inference.GRPCInferenceService/ModelInfer"
STREAM = "/inference.GRPCInferenceService/ModelStreamInfer"


def free_port() -> int:
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def flags_of(doors: str) -> tuple[str, ...]:
    if doors == "one port":
        port = free_port()
        return (f"--http-port={port}", f"--grpc-port={port}")
    return {
        "http2": (),
        "grpcio": ("--grpc-transport=grpcio",),
        "two processes": ("--processes=2",),
    }[doors]


def doubling(number: float = 1) -> bytes:
    return json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [number] * 4}]}).encode()


def posted(model: str, body: bytes, sent_bytes: int | None = None) -> bytes:
    """The bytes of a request, or of what a client sends that stops after ``sent_bytes`` of the body."""
    head = f"POST /v2/models/{model}/infer HTTP/1.1\r\nhost: here\r\ncontent-length: {len(body)}\r\n\r\n".encode()
    return head + body[:sent_bytes]


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("exit")
    onnx_models.save_version(found, "double", onnx_models.doubler())
    onnx_models.save_version(found, "wide", onnx_models.widener(WIDE))
    return found


# Clients that never finish


def stuck_over_http(server: ServerProcess, stack: ExitStack) -> None:
    wide = json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 1], "data": [1]}]}).encode()
    for sent in (b"", b"POST /v2/models/dou", posted("double", doubling(), 20), posted("wide", wide)):
        connection = stack.enter_context(closing(socket.create_connection(("127.0.0.1", server.http_port))))
        connection.sendall(sent)


def stuck_over_grpc(server: ServerProcess, stack: ExitStack) -> None:
    """An idle stream, one whose answers nobody reads, and a message that never ends."""
    channel = stack.enter_context(grpc.insecure_channel(server.grpc))
    stream = channel.stream_stream(STREAM)
    # A call that nobody holds is cancelled.
    stack.callback(stream(iter(queue.Queue[bytes]().get, b"")).cancel)
    request = messages.ModelInferRequest(model_name="wide")
    request.inputs.add(name="x", datatype="FP32", shape=[1, 1]).contents.fp32_contents.append(1)
    unread: queue.Queue[bytes] = queue.Queue()
    for _ in range(4):
        unread.put(request.SerializeToString())
    stack.callback(stream(iter(unread.get, b"")).cancel)

    connection = stack.enter_context(closing(socket.create_connection(("127.0.0.1", server.grpc_port))))
    half = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
    half.initiate_connection()
    fields = {":method": "POST", ":scheme": "http", ":authority": "here", ":path": INFER, "te": "trailers"}
    half.send_headers(1, [*fields.items(), ("content-type", "application/grpc")])
    half.send_data(1, b"\0\0\0\1\0" + bytes(20))
    connection.sendall(half.data_to_send())


@pytest.mark.parametrize("doors", ["http2", "grpcio", "one port"])
def test_clients_that_never_finish_hold_up_the_end_no_longer_than_the_grace_period(
    repository: Path, doors: str
) -> None:
    with running(repository, *flags_of(doors), "--exit-timeout-secs=1") as server, ExitStack() as stack:
        stuck_over_http(server, stack)
        stuck_over_grpc(server, stack)
        # Both of the wide model's answers were made: one for each frontend.
        eventually(lambda: metric(server, "nv_inference_request_success", model="wide") >= 2)
        server.process.send_signal(signal.SIGTERM)
        # Nothing that was asked as a whole goes unanswered, so that this is no failure.
        assert server.process.wait(SOON_S) == 0


# Clients that come again and again


class Reconnecting:
    """A client that opens a connection for each request, until the port is closed."""

    def __init__(self, server: ServerProcess) -> None:
        self._address = ("127.0.0.1", server.http_port)
        self.counts: Counter[str] = Counter()

    def run(self) -> None:
        while not self.counts["refused"]:
            try:
                connection = socket.create_connection(self._address, SOON_S)
            except OSError:
                self.counts["refused"] += 1
            else:
                with connection:
                    self.counts[self._answered(connection)] += 1

    def _answered(self, connection: socket.socket) -> str:
        try:
            connection.sendall(posted("double", doubling()).replace(b"host:", b"connection: close\r\nhost:"))
            with connection.makefile("rb") as answer:
                return "answered" if answer.read().startswith(b"HTTP/1.1 200 ") else "cut"
        except OSError:
            return "reset"


@pytest.mark.parametrize("doors", ["http2", "one port", "two processes"])
def test_no_connection_that_was_made_is_cut_when_the_port_closes(repository: Path, doors: str) -> None:
    with running(repository, *flags_of(doors)) as server:
        clients = [Reconnecting(server) for _ in range(16)]
        threads = [threading.Thread(target=client.run, daemon=True) for client in clients]
        for thread in threads:
            thread.start()
        eventually(lambda: all(client.counts["answered"] for client in clients))
        server.process.send_signal(signal.SIGINT)
        for thread in threads:
            thread.join(SOON_S)
        assert server.process.wait(SOON_S) == 0
        counts = sum((client.counts for client in clients), Counter[str]())
        assert counts.pop("answered") >= 16
        assert counts == {"refused": 16}


def test_the_server_is_live_to_its_last_connection_and_not_ready_from_the_first(repository: Path) -> None:
    with running(repository, "--drain-delay-secs=0.5") as server:
        assert ask(server, "GET", "/v2/health/ready").status == 200
        server.process.send_signal(signal.SIGTERM)
        ready: list[int] = []
        live: list[int] = []
        while is_asked := _asked_for_health(server):
            ready.append(is_asked[0])
            live.append(is_asked[1])
        # The first may have been on its way before the signal was.
        assert set(ready[1:]) == {503}
        assert set(live) == {200}
        assert server.process.wait(SOON_S) == 0


def _asked_for_health(server: ServerProcess) -> tuple[int, int] | None:
    """The statuses of readiness and liveness; None once the port is closed."""
    try:
        return ask(server, "GET", "/v2/health/ready").status, ask(server, "GET", "/v2/health/live").status
    except ConnectionRefusedError:
        return None


def test_every_answer_while_draining_closes_its_connection_also_one_that_was_asked_for_before(tmp_path: Path) -> None:
    onnx_models.save_version(tmp_path, "slow", onnx_models.slow(200_000))
    with running(tmp_path, "--drain-delay-secs=60") as server, ThreadPoolExecutor(1) as clients:
        asked = clients.submit(ask, server, "POST", "/v2/models/slow/infer", doubling())
        server.process.send_signal(signal.SIGTERM)
        eventually(lambda: ask(server, "GET", "/v2/health/ready").status == 503)
        for path in ("/v2", "/v2/health/live", "/v2/models/slow", "/nothing", "/v2/models/slow/stats"):
            assert ask(server, "GET", path).headers["connection"] == "close"
        assert asked.result(SOON_S).headers["connection"] == "close"
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(SOON_S) == 0


# Ports that open late


def test_a_port_may_open_only_when_its_models_are_loaded(tmp_path: Path) -> None:
    onnx_models.save_version(tmp_path, "long", onnx_models.chain(20_000))
    port = free_port()
    flags = (f"--http-port={port}", "--grpc-port=0", "--allow-metrics=false", "--listen-when-loaded")
    process = subprocess.Popen(
        command("serve", tmp_path, *flags, "--drain-delay-secs=0"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def first_answer() -> int:
        with suppress(OSError), closing(http.client.HTTPConnection("127.0.0.1", port, timeout=SOON_S)) as connection:
            connection.request("GET", "/v2/health/ready")
            return connection.getresponse().status
        return 0

    try:
        assert eventually(first_answer) == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(SOON_S) == 0
    finally:
        process.kill()
        process.wait(SOON_S)


def test_a_port_that_is_taken_ends_the_start_also_after_the_models_were_loaded(repository: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ended = finished("serve", repository, f"--http-port={taken.getsockname()[1]}", "--listen-when-loaded")
    assert (ended.returncode, "a server that is still stopping" in ended.stderr) == (2, True), ended.stderr


# Models that come and go meanwhile


def test_a_model_that_is_being_unloaded_finishes_what_it_has_and_does_not_hold_up_the_end(tmp_path: Path) -> None:
    onnx_models.save_version(tmp_path, "slow", onnx_models.slow(100_000), config="max_batch_size: 1")
    flags = ("--model-control-mode=explicit", "--load-model=slow")

    def states() -> list[Any]:
        return [entry.get("state") for entry in ask(server, "POST", "/v2/repository/index").json]

    with running(tmp_path, *flags) as server, ThreadPoolExecutor(5) as clients:
        asked = [clients.submit(ask, server, "POST", "/v2/models/slow/infer", doubling(n)) for n in range(4)]
        pending = "nv_inference_pending_request_count"
        eventually(lambda: metric(server, pending, model="slow") + 1 >= 3)
        unloading = clients.submit(ask, server, "POST", "/v2/repository/models/slow/unload")
        eventually(lambda: states() != ["READY"])
        server.process.send_signal(signal.SIGTERM)
        assert [each.result(SOON_S).array.tolist() for each in asked] == [[[n] * 4] for n in range(4)]
        assert unloading.result(SOON_S).status == 200
        assert server.process.wait(SOON_S) == 0


def test_an_unload_that_outlasts_the_grace_period_ends_with_it(tmp_path: Path) -> None:
    onnx_models.save_version(tmp_path, "endless", onnx_models.slow(2**40))
    flags = ("--model-control-mode=explicit", "--load-model=endless", "--exit-timeout-secs=1")
    with running(tmp_path, *flags) as server, ThreadPoolExecutor(2) as clients:
        asked = clients.submit(ask, server, "POST", "/v2/models/endless/infer", doubling())
        eventually(lambda: "endless" in server.summary and not asked.done())
        unloading = clients.submit(ask, server, "POST", "/v2/repository/models/endless/unload")
        eventually(lambda: ask(server, "GET", "/v2/models/endless/ready").status != 200)
        start_s = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        assert asked.result(SOON_S).status == 503
        assert unloading.result(SOON_S).status in (200, 503)
        assert server.process.wait(SOON_S) == 0
        assert time.monotonic() - start_s < SOON_S
