"""A server as KServe runs it: each layout of models, each protocol, its runtimes' flags, models that come late."""

import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import grpc
import numpy as np
import onnx_models
import pytest
from callers import ask, grpc_array, grpc_request, row
from read_only import NOWHERE_TO_WRITE, listing, protected
from server_process import STOP_TIMEOUT_S, ServerProcess, command, eventually, running
from system.test_one_port import free_port

from ortolan.cli import main
from ortolan.protocol import protobuf_messages as messages

NAME = "iris"
RUNTIME = (f"--model_name={NAME}", "--http_port=0", "--grpc_port=0", "--metrics_port=0", "--drain_delay_secs=0")
ENVIRONMENT = {"MODEL_INIT_MODE": "async", "KUBERNETES_SERVICE_HOST": "10.0.0.1", **NOWHERE_TO_WRITE}
HEADERS = {"KServe-Isvc-Name": NAME, "KServe-Isvc-Namespace": "default", "X-Request-Id": "7"}
WAIT_S = 20
ROWS = [[1.0, 2.0, 3.0, 4.0]]
DOUBLED = [[2.0, 4.0, 6.0, 8.0]]
INFER = {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": ROWS}]}


@contextmanager
def late_server(arguments: Sequence[str], log: Path) -> Iterator[subprocess.Popen[str]]:
    """A server that has not begun to serve."""
    environment = {**os.environ, **ENVIRONMENT}
    with log.open("w") as errors:
        process = subprocess.Popen(
            command("serve", *arguments), stdout=subprocess.DEVNULL, stderr=errors, text=True, env=environment
        )
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(STOP_TIMEOUT_S)
            finally:
                process.kill()


def status(server: ServerProcess, path: str) -> int:
    """0 where nobody listens."""
    try:
        return ask(server, "GET", path).status
    except ConnectionError:
        return 0


def _flat(root: Path) -> None:
    onnx_models.save(onnx_models.doubler(), root / "weights.onnx")


def _versions(root: Path) -> None:
    onnx_models.save(onnx_models.doubler(), root / "1" / "model.onnx")


def _repository(root: Path) -> None:
    onnx_models.save_version(root, "double", onnx_models.doubler(), config="max_batch_size: 8")


LAYOUTS = {"flat": _flat, "versions": _versions, "repository": _repository}


@pytest.fixture(scope="module", params=[*LAYOUTS])
def models(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("mnt") / "models"
    LAYOUTS[request.param](root)
    return protected(root)


@pytest.fixture(scope="module")
def server(models: Path) -> Iterator[ServerProcess]:
    before = listing(models)
    with running(*RUNTIME, f"--model_dir={models}", environment=ENVIRONMENT, defaults=()) as started:
        yield started
    assert listing(models) == before


def test_the_start_tells_of_the_platform(server: ServerProcess) -> None:
    told = server.summary.splitlines()[0]
    assert told.startswith("On KServe, by its environment: --http-address=0.0.0.0, --grpc-address=0.0.0.0, ")
    assert "--http-port" not in told  # a flag said it
    assert "/mnt/models" not in told


def test_v1(server: ServerProcess) -> None:
    assert ask(server, "GET", "/v1/models").status == 200
    assert ask(server, "GET", f"/v1/models/{NAME}").json == {"name": NAME, "ready": True}
    reply = ask(server, "POST", f"/v1/models/{NAME}:predict", {"instances": ROWS}, HEADERS)
    assert (reply.status, reply.json) == (200, {"predictions": DOUBLED})
    assert ask(server, "GET", "/v1/models/other").status == 404


def test_v2(server: ServerProcess) -> None:
    for path in ("/v2", "/v2/health/live", "/v2/health/ready", "/v2/models", f"/v2/models/{NAME}/ready"):
        assert ask(server, "GET", path).status == 200, path
    metadata = ask(server, "GET", f"/v2/models/{NAME}").json
    assert (metadata["name"], metadata["versions"]) == (NAME, ["1"])
    for path in (f"/v2/models/{NAME}/infer", f"/v2/models/{NAME}/versions/1/infer"):
        reply = ask(server, "POST", path, INFER, HEADERS)
        assert reply.array.tolist() == DOUBLED
    assert ask(server, "GET", f"/v2/models/{NAME}/stats").json["model_stats"][0]["inference_count"] >= 3


def test_v2_again_and_again_as_requests_become_known(server: ServerProcess) -> None:
    for number in range(20):
        body = {"inputs": [{**INFER["inputs"][0], "data": [[float(number)] * 4]}]}
        assert ask(server, "POST", f"/v2/models/{NAME}/infer", body).array.tolist() == [[2.0 * number] * 4]


def test_grpc_v2(server: ServerProcess) -> None:
    with grpc.insecure_channel(server.grpc) as channel:

        def call(method: str, request: bytes = b"") -> bytes:
            return bytes(channel.unary_unary(f"/{method}")(request, timeout=WAIT_S))

        service = "inference.GRPCInferenceService"
        assert messages.ServerLiveResponse.FromString(call(f"{service}/ServerLive")).live
        assert messages.ServerReadyResponse.FromString(call(f"{service}/ServerReady")).ready
        named = messages.ModelReadyRequest(name=NAME).SerializeToString()
        assert messages.ModelReadyResponse.FromString(call(f"{service}/ModelReady", named)).ready
        assert messages.ModelMetadataResponse.FromString(call(f"{service}/ModelMetadata", named)).name == NAME
        for number in range(3):
            answer = call(f"{service}/ModelInfer", grpc_request(NAME, row(number)))
            assert np.array_equal(grpc_array(answer), row(2 * number))
        assert messages.HealthCheckResponse.FromString(call("grpc.health.v1.Health/Check")).status == 1


def test_nobody_from_outside_loads_models(server: ServerProcess) -> None:
    assert ask(server, "POST", f"/v2/repository/models/{NAME}/unload").status in (401, 403)


# Models that are brought by an agent beside the server


def test_an_agent_loads_and_unloads_models(tmp_path: Path) -> None:
    environment = {**ENVIRONMENT, "MULTI_MODEL_SERVER": "true"}
    (tmp_path / "models").mkdir()
    arguments = (*RUNTIME, "--admin-operations=open", f"--model_dir={tmp_path / 'models'}")
    with running(*arguments, environment=environment, defaults=()) as server:
        assert "--model-control-mode=explicit" in server.summary
        assert ask(server, "GET", "/v2/health/ready").status == 200
        for name in ("first", "second"):
            onnx_models.save(onnx_models.doubler(), tmp_path / "models" / name / "1" / "model.onnx")
            assert ask(server, "POST", f"/v2/repository/models/{name}/load").status == 200
            assert ask(server, "POST", f"/v2/models/{name}/infer", INFER).array.tolist() == DOUBLED
        assert ask(server, "POST", "/v2/repository/models/first/unload").status == 200
        eventually(lambda: ask(server, "POST", "/v2/models/first/infer", INFER).status != 200)
        assert ask(server, "POST", "/v1/models/second:predict", {"instances": ROWS}).status == 200


# Models in an image of their own, which come late


def test_models_may_come_late(tmp_path: Path) -> None:
    _flat(tmp_path / "image")
    port = free_port()
    arguments = (*RUNTIME, f"--http_port={port}", f"--model_dir={tmp_path / 'models'}", "--listen_when_loaded=false")
    with late_server(arguments, tmp_path / "log") as process:
        server = ServerProcess(process, port, 0, 0, "")
        eventually(lambda: status(server, "/v2/health/live") == 200)
        assert status(server, "/v2/health/ready") == 400
        eventually(lambda: "waiting for the model repository" in (tmp_path / "log").read_text())
        (tmp_path / "models").symlink_to(tmp_path / "image")
        eventually(lambda: status(server, "/v2/health/ready") == 200)
        assert ask(server, "POST", f"/v1/models/{NAME}:predict", {"instances": ROWS}).json == {"predictions": DOUBLED}
    assert (tmp_path / "log").read_text().count("waiting for the model repository") == 1


def test_nobody_is_let_in_before_and_a_signal_ends_the_waiting(tmp_path: Path) -> None:
    port = free_port()
    arguments = (*RUNTIME, f"--http_port={port}", f"--model_dir={tmp_path / 'models'}")
    with late_server(arguments, tmp_path / "log") as process:
        eventually(lambda: "waiting for the model repository" in (tmp_path / "log").read_text())
        assert status(ServerProcess(process, port, 0, 0, ""), "/v2/health/live") == 0
        process.send_signal(signal.SIGTERM)
        assert process.wait(STOP_TIMEOUT_S) == 0


def test_models_that_never_come_are_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "models").symlink_to(tmp_path / "models")
    assert main(["models", "--model_dir", str(tmp_path / "models"), "--model_repository_wait_secs=0.2"]) == 2
    assert "its symbolic links lead in a circle" in capsys.readouterr().err
