"""Stopping: not ready at once, alive to the end of the delay, and no request that was let in goes unanswered."""

import contextlib
import http.client
import json
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import onnx_models
import pytest
import tritonclient.grpc
from callers import ask
from server_process import ServerProcess, command, eventually, running

from ortolan.protocol import protobuf_messages as messages

LONG_S = 60
"""Of a delay or a grace period that a test must not wait for."""
SOON_S = 15

HEALTH = messages.HealthCheckResponse


def body(number: float) -> bytes:
    return json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [number] * 4}]}).encode()


def post(address: str, path: str, data: bytes) -> tuple[int, Any]:
    try:
        with urllib.request.urlopen(f"http://{address}{path}", data, timeout=60) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def status(address: str, path: str) -> int:
    try:
        with urllib.request.urlopen(f"http://{address}{path}", timeout=10) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def counted(server: ServerProcess, metric: str) -> int:
    """The value of a metric of the only model."""
    with urllib.request.urlopen(f"http://{server.metrics}/metrics", timeout=10) as response:
        (value,) = re.findall(rf"^{metric}{{.*}} (\d+)$", response.read().decode(), re.MULTILINE)
        return int(value)


def waiting(server: ServerProcess) -> int:
    return counted(server, "nv_inference_pending_request_count")


ONE_AT_A_TIME = "max_batch_size: 1\ninstance_group [ { count: 1, kind: KIND_CPU } ]"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_requests_in_flight_are_all_answered(tmp_path: Path, number: signal.Signals) -> None:
    onnx_models.save_version(tmp_path, "slow", onnx_models.slow(200_000), config=ONE_AT_A_TIME)

    def over_http(value: int) -> Any:
        code, answer = post(server.http, "/v2/models/slow/infer", body(value))
        assert code == 200, answer
        return answer["outputs"][0]["data"]

    def over_grpc(value: int) -> Any:
        with tritonclient.grpc.InferenceServerClient(server.grpc) as client:
            tensor = tritonclient.grpc.InferInput("x", [1, 4], "FP32")
            tensor.set_data_from_numpy(np.full((1, 4), value, np.float32))
            return client.infer("slow", [tensor]).as_numpy("y")[0].tolist()

    with running(tmp_path) as server, ThreadPoolExecutor(8) as clients:
        answers = {value: clients.submit(over_http if value % 2 else over_grpc, value) for value in range(8)}
        # All are inside: one runs, the others wait or are answered already.
        eventually(lambda: waiting(server) + counted(server, "nv_inference_request_success") >= len(answers) - 1)
        server.process.send_signal(number)
        for value, answer in answers.items():
            assert answer.result(SOON_S) == [value] * 4
        assert server.process.wait(SOON_S) == 0


@pytest.fixture
def draining(tmp_path: Path) -> Iterator[ServerProcess]:
    """A server that would stay in its drain delay for long after SIGTERM."""
    onnx_models.save_version(tmp_path, "double", onnx_models.doubler())
    with running(tmp_path, f"--drain-delay-secs={LONG_S}") as server:
        yield server


def test_after_sigterm_the_server_is_unready_at_once_answers_on_and_a_second_signal_ends_it(
    draining: ServerProcess,
) -> None:
    kept = http.client.HTTPConnection("127.0.0.1", draining.http_port, timeout=10)
    kept.request("GET", "/v2/health/ready")
    assert kept.getresponse().read() == b'{"ready":true}'
    with grpc.insecure_channel(draining.grpc) as channel:
        check = channel.unary_unary("/grpc.health.v1.Health/Check")
        watch = channel.unary_stream("/grpc.health.v1.Health/Watch")(b"")
        assert HEALTH.FromString(next(watch)).status == HEALTH.SERVING
        draining.process.send_signal(signal.SIGTERM)
        eventually(lambda: status(draining.http, "/v2/health/ready") == 503)
        assert HEALTH.FromString(check(b"", timeout=10)).status == HEALTH.NOT_SERVING
        assert HEALTH.FromString(next(watch)).status == HEALTH.NOT_SERVING
        assert status(draining.http, "/v2/health/live") == 200
        assert post(draining.http, "/v2/models/double/infer", body(2))[0] == 200
        with tritonclient.grpc.InferenceServerClient(draining.grpc) as client:
            assert client.is_server_live()
            assert not client.is_server_ready()
        assert draining.process.poll() is None
        draining.process.send_signal(signal.SIGTERM)
        # Neither the watch nor the idle connection holds it up.
        assert draining.process.wait(SOON_S) == 0
    kept.close()


def test_while_draining_every_answer_closes_its_connection(draining: ServerProcess) -> None:
    with closing(http.client.HTTPConnection("127.0.0.1", draining.http_port, timeout=10)) as kept:
        kept.request("POST", "/v2/models/double/infer", body(1))
        first = kept.getresponse()
        assert (first.status, first.getheader("connection")) == (200, None)
        first.read()
        draining.process.send_signal(signal.SIGTERM)
        eventually(lambda: status(draining.http, "/v2/health/ready") == 503)
        kept.request("POST", "/v2/models/double/infer", body(1))
        last = kept.getresponse()
        assert (last.status, last.getheader("connection")) == (200, "close")
    draining.process.send_signal(signal.SIGINT)


def test_sigint_does_not_wait_for_balancers(draining: ServerProcess) -> None:
    draining.process.send_signal(signal.SIGINT)
    assert draining.process.wait(SOON_S) == 0


def test_the_delay_ends_by_itself(tmp_path: Path) -> None:
    onnx_models.save_version(tmp_path, "double", onnx_models.doubler())
    with running(tmp_path, "--drain-delay-secs=0.5") as server:
        start = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(SOON_S) == 0
        assert time.monotonic() - start >= 0.5


def test_a_request_that_outlasts_the_grace_period_is_told_so_and_its_run_is_ended(tmp_path: Path) -> None:
    onnx_models.save_version(tmp_path / "repository", "endless", onnx_models.slow(2**40), config=ONE_AT_A_TIME)
    with (
        running(tmp_path / "repository", "--exit-timeout-secs=1") as server,
        ThreadPoolExecutor(2) as clients,
    ):
        answers = [clients.submit(post, server.http, "/v2/models/endless/infer", body(1)) for _ in range(2)]
        eventually(lambda: waiting(server) == 1)  # so the other one runs
        server.process.send_signal(signal.SIGTERM)
        for answer in answers:
            code, error = answer.result(SOON_S)
            assert (code, "stopped before" in str(error["error"])) == (503, True)
        assert server.process.wait(SOON_S) == 0


def test_requests_of_a_known_form_that_outlast_the_grace_period_are_all_told_so(tmp_path: Path) -> None:
    onnx_models.save_version(tmp_path, "as_asked", onnx_models.slow_as_asked(), config=ONE_AT_A_TIME)
    form = '{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [%s, 1, 1, 1]}]}'
    quick, endless = ((form % number).encode() for number in ("1e00", "1e09"))
    path = "/v2/models/as_asked/infer"
    with running(tmp_path, "--exit-timeout-secs=1") as server, ThreadPoolExecutor(4) as clients:
        for _ in range(4):
            assert ask(server, "POST", path, quick).status == 200
        answers = [clients.submit(ask, server, "POST", path, endless) for _ in range(4)]
        eventually(lambda: waiting(server) == 3)
        server.process.send_signal(signal.SIGTERM)
        for answer in answers:
            reply = answer.result(SOON_S)
            assert (reply.status, b"stopped before" in reply.body) == (503, True)
        assert server.process.wait(SOON_S) == 0


def test_a_signal_while_models_load_ends_the_process_without_waiting_for_them(tmp_path: Path) -> None:
    onnx_models.save_version(tmp_path, "long", onnx_models.chain(40_000))
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    flags = (f"--http-port={port}", "--grpc-port=0", "--metrics-port=0", f"--drain-delay-secs={LONG_S}")
    process = subprocess.Popen(
        command("serve", tmp_path, *flags), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )

    def unready() -> bool:
        with contextlib.suppress(OSError):
            return status(f"127.0.0.1:{port}", "/v2/health/ready") == 400
        return False

    try:
        eventually(unready)
        process.send_signal(signal.SIGTERM)
        printed, _ = process.communicate(timeout=SOON_S)
        assert (process.returncode, printed) == (0, "")
    finally:
        process.kill()


_WITH_A_STUCK_WORKER = """
import asyncio, logging, os, signal, sys, threading
from pathlib import Path
import uvloop
from ortolan.managed_models import model_manager
from ortolan.server import Server
from ortolan.settings import Settings

def jam(server):
    loop = asyncio.get_running_loop()
    for _ in range(64):
        loop.run_in_executor(None, threading.Event().wait)
    os.kill(os.getpid(), signal.SIGTERM)

ports = dict.fromkeys(("http_port", "grpc_port", "metrics_port"), 0)
settings = Settings(model_repository=(sys.argv[1],), exit_timeout_secs=1, drain_delay_secs=0, **ports)
server = Server(settings, model_manager(settings, None), jam, lambda settings: None)
with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
    sys.exit(runner.run(server.run()))
"""


def test_work_that_is_stuck_in_threads_does_not_keep_the_process_from_ending(tmp_path: Path) -> None:
    onnx_models.save_version(tmp_path, "double", onnx_models.doubler())
    ended = subprocess.run(
        [sys.executable, "-c", _WITH_A_STUCK_WORKER, str(tmp_path)], capture_output=True, text=True, timeout=SOON_S
    )
    assert (ended.returncode, "after --exit-timeout-secs" in ended.stderr) == (1, True), ended.stderr
