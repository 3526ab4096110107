"""Clients that stock tooling makes of ``protos/``, or of what reflection tells, in processes without code of ours."""

import json
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import Any

import onnx_models
import pytest
from callers import get
from server_process import ServerProcess, running

HERE = Path(__file__).parent
PROTOS = HERE.parents[1] / "protos"
DATA = "AACAPwAAAEAAAEBAAACAQA=="
"""The floats 1, 2, 3, 4 in base64."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    repository = tmp_path_factory.mktemp("models")
    for name in ("m", "other"):
        onnx_models.save_version(repository, name, onnx_models.identity())
    with running(repository, "--model-control-mode=explicit", "--load-model=m", "--allow-client-shm") as server:
        yield server


@pytest.fixture(scope="module")
def answers(server: ServerProcess, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    """For each method what the generated client was answered, in the order of its calls."""
    if find_spec("grpc_tools") is None:
        pytest.skip("grpcio-tools is not installed")
    generated = tmp_path_factory.mktemp("generated")
    outputs = [f"--python_out={generated}", f"--grpc_python_out={generated}"]
    sources = sorted(path.name for path in PROTOS.glob("*.proto"))
    printed(sys.executable, "-m", "grpc_tools.protoc", f"--proto_path={PROTOS}", *outputs, *sources)
    region = SharedMemory(create=True, size=64)
    try:
        told = printed(sys.executable, "-I", HERE / "stock_client.py", generated, server.grpc, f"/{region.name}")
    finally:
        region.close()
        region.unlink()
    found: dict[str, list[Any]] = {}
    for method, answer in json.loads(told):
        found.setdefault(method, []).append(answer)
    return found


def printed(*command: str | Path) -> str:
    done = subprocess.run(list(command), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_method_of_the_definitions_is_there(answers: dict[str, list[Any]]) -> None:
    assert answers.keys() - {"methods"} == {*answers["methods"][0], "Check", "Watch"}
    refused = {method: answer for method, found in answers.items() for answer in found if "code" in answer}
    assert {method: answer["code"] for method, answer in refused.items()} == {
        "ModelInfer": "NOT_FOUND",
        "CudaSharedMemoryRegister": "INVALID_ARGUMENT",
    }


def test_health_is_told(answers: dict[str, list[Any]]) -> None:
    assert answers["ServerLive"] == [{"live": True}]
    assert answers["ServerReady"] == [{"ready": True}]
    assert answers["ModelReady"] == [{"ready": True}, {"ready": False}]
    assert answers["Check"] == answers["Watch"] == [{"status": "SERVING"}]


def test_metadata_and_configuration_are_those_of_http(answers: dict[str, list[Any]], server: ServerProcess) -> None:
    assert answers["ServerMetadata"] == [get(server, "/v2")]
    [metadata], over_http = answers["ModelMetadata"], get(server, "/v2/models/m")
    for tensor in metadata["inputs"] + metadata["outputs"]:
        tensor["shape"] = [int(size) for size in tensor["shape"]]
    assert over_http | metadata == over_http
    [found], config = answers["ModelConfig"], get(server, "/v2/models/m/config")
    for key in ("name", "platform", "max_batch_size", "default_model_filename"):
        assert found["config"][key] == config[key]
    assert [tensor["name"] for tensor in found["config"]["input"]] == ["x"]


def test_inference_is_answered_raw_and_typed_and_in_a_stream(answers: dict[str, list[Any]]) -> None:
    raw, typed, wrong = answers["ModelInfer"]
    output = {"name": "y", "datatype": "FP32", "shape": ["1", "4"], "parameters": {}}
    answer = {"model_name": "m", "model_version": "1", "parameters": {}, "outputs": [output]}
    assert raw == {**answer, "id": "", "raw_output_contents": [DATA]}
    assert typed == {**raw, "id": "typed"}
    assert "'absent' is not found" in wrong["details"]
    streamed = [response["infer_response"] for response in answers["ModelStreamInfer"]]
    assert [response["id"] for response in streamed] == ["", "wrong", "typed"]
    assert [response["raw_output_contents"] for response in streamed] == [[DATA], [], [DATA]]
    errors = [response["error_message"] for response in answers["ModelStreamInfer"]]
    assert errors == ["", wrong["details"], ""]


def test_statistics_count_what_was_sent(answers: dict[str, list[Any]]) -> None:
    [statistics] = answers["ModelStatistics"][0]["model_stats"]
    assert (statistics["name"], statistics["version"], statistics["inference_count"]) == ("m", "1", "2")


def test_models_are_loaded_and_unloaded(answers: dict[str, list[Any]]) -> None:
    assert answers["RepositoryModelLoad"] == answers["RepositoryModelUnload"] == [{}]
    states = {model["name"]: model["state"] for model in answers["RepositoryIndex"][0]["models"]}
    assert states == {"m": "READY", "other": "READY"}


def test_shared_memory_is_registered_and_let_go(answers: dict[str, list[Any]]) -> None:
    assert answers["SystemSharedMemoryRegister"] == answers["SystemSharedMemoryUnregister"] == [{}]
    registered, after = answers["SystemSharedMemoryStatus"]
    assert registered["regions"]["region"]["byte_size"] == "16"
    assert after == answers["CudaSharedMemoryStatus"][0] == {"regions": {}}


def test_settings_are_changed_and_told(answers: dict[str, list[Any]]) -> None:
    assert answers["TraceSetting"][0]["settings"]["trace_rate"] == {"value": ["7"]}
    assert answers["LogSettings"][0]["settings"]["log_verbose_level"] == {"uint32_param": 1}


def test_reflection_describes_every_service_and_all_its_methods_can_be_called(server: ServerProcess) -> None:
    found = json.loads(printed(sys.executable, "-I", HERE / "reflecting_client.py", server.grpc))
    assert {service: len(methods) for service, methods in found.items()} == {
        "inference.GRPCInferenceService": 20,
        "grpc.health.v1.Health": 2,
        "grpc.reflection.v1alpha.ServerReflection": 1,
    }
    ends = {end for methods in found.values() for end in methods.values()}
    assert ends <= {"OK", "NOT_FOUND", "INVALID_ARGUMENT"}
