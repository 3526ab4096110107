"""Clients that crash with requests under way, and clients that are there and say nothing: nobody else notices."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import crashing_client
import grpc
import onnx_models
import pytest
from callers import LONGEST_S, ask, grpc_array, grpc_request, rest_body, row, waiting
from reload_traffic import descriptors, resident_mib
from server_process import ServerProcess, eventually, running

IDLE = 500
# 10,000 may cost 100 MiB (promise 24; ``make idle-connections`` has that many).
MOST_EACH_KIB = 10
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04" + bytes(5)

pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc as Linux has it")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    root = tmp_path_factory.mktemp("models")
    one = "max_batch_size: 1 instance_group [ { count: 1, kind: KIND_CPU } ]"
    onnx_models.save_version(root, "slow", onnx_models.slow_as_asked(), config=one)
    onnx_models.save_version(root, "wide", onnx_models.widener(1 << 20))
    onnx_models.save_version(root, "quick", onnx_models.doubler())
    log = tmp_path_factory.mktemp("log") / "log"
    with running(root, "--calibration-cache=none", log=log) as server:
        yield server
    assert "Traceback" not in log.read_text(), log.read_text()


def answers(server: ServerProcess, model: str = "quick", expected: float = 2) -> bool:
    """Whether both doors give the right answer."""
    over_rest = ask(server, "POST", f"/v2/models/{model}/infer", rest_body(row(1))).array
    with grpc.insecure_channel(server.grpc) as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        over_grpc = grpc_array(call(grpc_request(model, row(1)), timeout=LONGEST_S))
    return over_rest.tolist() == over_grpc.tolist() == row(expected).tolist()


def test_of_fifty_requests_whose_client_is_killed_nobody_else_notices(server: ServerProcess) -> None:
    assert answers(server)
    before = descriptors(server.process.pid)
    ports = (str(server.http_port), str(server.grpc_port))
    command = [sys.executable, crashing_client.__file__, *ports]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as client:
        try:
            assert client.stdout is not None
            assert client.stdout.readline() == "under way\n"
            # One runs; those that were sent whole, called and streamed wait behind it.
            eventually(lambda: waiting(server, "slow") == 3 * crashing_client.EACH - 1)
            assert all(answers(server) for _ in range(10))
        finally:
            client.kill()
    assert all(answers(server) for _ in range(20))
    eventually(lambda: waiting(server, "slow") == 0)
    eventually(lambda: descriptors(server.process.pid) <= before)
    # Its run was ended, too: the only instance has time for others.
    assert answers(server, "slow", 1)


@pytest.mark.parametrize("door", ["http_port", "grpc_port"])
def test_idle_connections_are_cheap_and_hold_up_nobody(server: ServerProcess, door: str) -> None:
    assert answers(server)
    pid = server.process.pid
    before, resident = descriptors(pid), resident_mib(pid)
    with ExitStack() as connections:
        for _ in range(IDLE):
            connection = socket.create_connection(("127.0.0.1", getattr(server, door)), LONGEST_S)
            connections.enter_context(connection)
            if door == "grpc_port":
                connection.sendall(PREFACE)
        eventually(lambda: descriptors(pid) >= IDLE)
        assert ask(server, "GET", "/v2/health/live").status == 200
        assert answers(server)
        assert (resident_mib(pid) - resident) * 1024 < IDLE * MOST_EACH_KIB + 8 * 1024
    eventually(lambda: descriptors(pid) <= before)
    assert answers(server)
