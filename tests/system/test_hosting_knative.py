"""A server as Knative and Cloud Run run it: one port, which PORT names, for HTTP/1, HTTP/2 in the clear, and gRPC."""

import signal
from collections.abc import Iterator
from pathlib import Path

import grpc
import httpx
import numpy as np
import onnx_models
import pytest
from callers import ask, grpc_array, grpc_request, rest_body, row
from read_only import NOWHERE_TO_WRITE, listing, protected
from server_process import ServerProcess, running
from system.test_one_port import free_port

WAIT_S = 20
GRACE_S = 10
"""What Cloud Run leaves a container from SIGTERM on."""
LEAST_DEFAULTS = ("--metrics-port=0", "--compiled-cache-directory=off")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    onnx_models.save_version(root, "double", onnx_models.doubler())
    return protected(root)


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def server(models: Path, port: int) -> Iterator[ServerProcess]:
    before = listing(models)
    environment = {
        "K_SERVICE": "double",
        "K_REVISION": "double-00001",
        "K_CONFIGURATION": "double",
        "PORT": str(port),
        **NOWHERE_TO_WRITE,
    }
    with running(models, environment=environment, defaults=LEAST_DEFAULTS) as started:
        yield started
        # Last of all: as the platform stops an instance, with its time to do so.
        started.process.send_signal(signal.SIGTERM)
        assert started.process.wait(GRACE_S) == 0
    assert listing(models) == before


def test_the_port_is_the_one_that_the_platform_named(server: ServerProcess, port: int) -> None:
    assert (server.http_port, server.grpc_port) == (port, port)
    assert server.summary.startswith("On Knative, by its environment: --http-address=0.0.0.0, ")
    assert f"HTTP     0.0.0.0:{port}" in server.summary


def test_http1(server: ServerProcess) -> None:
    assert ask(server, "GET", "/v2/health/ready").status == 200
    assert ask(server, "POST", "/v2/models/double/infer", rest_body(row(2))).array.tolist() == [[4.0] * 4]


def test_http2_in_the_clear_without_an_upgrade(server: ServerProcess) -> None:
    with httpx.Client(base_url=f"http://{server.http}", http1=False, http2=True, timeout=WAIT_S) as client:
        assert client.get("/v2/health/ready").http_version == "HTTP/2"
        answer = client.post("/v2/models/double/infer", content=rest_body(row(3)))
        assert answer.json()["outputs"][0]["data"] == [6.0] * 4


def test_grpc(server: ServerProcess) -> None:
    with grpc.insecure_channel(server.http) as channel:
        infer = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        assert np.array_equal(grpc_array(infer(grpc_request("double", row(4)), timeout=WAIT_S)), row(8))


def test_a_flag_beats_the_platform(models: Path, port: int) -> None:
    environment = {"K_SERVICE": "double", "PORT": str(port), "ORTOLAN_HTTP_ADDRESS": "127.0.0.1"}
    with running(models, "--hosting=knative", environment=environment) as server:
        assert server.http_port not in (0, port)
        assert "--http-port" not in server.summary.splitlines()[0]
        assert f"HTTP     127.0.0.1:{server.http_port}" in server.summary
