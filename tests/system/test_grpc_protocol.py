"""gRPC below tritonclient: health, reflection, and what wrong calls get."""

import contextlib
import queue
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import onnx_models
import pytest
import tritonclient.grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from server_process import ServerProcess, running

from ortolan.protocol import protobuf_messages as messages

SERVICE = "inference.GRPCInferenceService"
HEALTH = messages.HealthCheckResponse


@pytest.fixture(params=["model_repo_server", "grpcio_server"])
def channel(request: pytest.FixtureRequest) -> Iterator[grpc.Channel]:
    server: ServerProcess = request.getfixturevalue(request.param)
    with grpc.insecure_channel(server.grpc) as channel:
        yield channel


def call(channel: grpc.Channel, method: str, data: bytes) -> bytes:
    return bytes(channel.unary_unary(f"/{method}")(data, timeout=10))


def refusal(channel: grpc.Channel, method: str, data: bytes) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as refused:
        call(channel, method, data)
    return refused.value.code(), refused.value.details()


def check(channel: grpc.Channel, service: str) -> int:
    request = messages.HealthCheckRequest(service=service)
    return int(HEALTH.FromString(call(channel, "grpc.health.v1.Health/Check", request.SerializeToString())).status)


@pytest.mark.parametrize("service", ["", SERVICE, "grpc.health.v1.Health"])
def test_health_check_says_serving(channel: grpc.Channel, service: str) -> None:
    assert check(channel, service) == HEALTH.SERVING


def test_health_check_does_not_know_other_services(channel: grpc.Channel) -> None:
    request = messages.HealthCheckRequest(service="other").SerializeToString()
    code, details = refusal(channel, "grpc.health.v1.Health/Check", request)
    assert (code, SERVICE in details) == (grpc.StatusCode.NOT_FOUND, True)


def test_a_watch_of_an_unknown_service_says_so_and_goes_on(channel: grpc.Channel) -> None:
    request = messages.HealthCheckRequest(service="other").SerializeToString()
    stream = channel.unary_stream("/grpc.health.v1.Health/Watch")(request, timeout=10)
    assert HEALTH.FromString(next(stream)).status == HEALTH.SERVICE_UNKNOWN
    assert stream.is_active()
    stream.cancel()


def test_a_watch_follows_readiness_as_models_come_and_go(tmp_path: Path) -> None:
    (tmp_path / "late" / "1").mkdir(parents=True)
    path = tmp_path / "late" / "1" / "model.onnx"
    path.write_bytes(b"not yet a model")
    statuses: queue.Queue[int] = queue.Queue()

    def follow(stream: Any) -> None:
        with contextlib.suppress(grpc.RpcError):  # in the end it is cancelled
            for response in stream:
                statuses.put(HEALTH.FromString(response).status)

    with (
        running(tmp_path, "--model-control-mode=explicit", "--load-model=*", "--exit-on-error=false") as server,
        grpc.insecure_channel(server.grpc) as channel,
        tritonclient.grpc.InferenceServerClient(server.grpc) as client,
    ):
        stream = channel.unary_stream("/grpc.health.v1.Health/Watch")(b"")
        follower = threading.Thread(target=follow, args=(stream,))
        follower.start()
        assert statuses.get(timeout=10) == HEALTH.NOT_SERVING
        assert check(channel, "") == HEALTH.NOT_SERVING
        onnx_models.save(onnx_models.doubler(), path)
        client.load_model("late")
        assert statuses.get(timeout=10) == HEALTH.SERVING
        assert check(channel, SERVICE) == HEALTH.SERVING
        stream.cancel()
        follower.join(10)
    assert statuses.empty()


def test_reflection_lists_the_services_and_describes_their_messages(channel: grpc.Channel) -> None:
    reflection = ProtoReflectionDescriptorDatabase(channel)
    assert {SERVICE, "grpc.health.v1.Health"} <= set(reflection.get_services())
    file = reflection.FindFileContainingSymbol(SERVICE)
    (service,) = (service for service in file.service if service.name == "GRPCInferenceService")
    assert {"ModelInfer", "ServerReady", "RepositoryIndex"} <= {method.name for method in service.method}
    assert "ModelInferRequest" in {message.name for message in file.message_type}


@pytest.mark.parametrize(
    "method", ["ModelInfer", "ModelReady", "ModelMetadata", "ModelConfig", "ModelStatistics", "RepositoryIndex"]
)
@pytest.mark.parametrize("data", [b"\xff\xff", b"\x0a\x7fshort", b"\x0a\x02\xff\xfe"])
def test_bytes_that_are_no_message_are_an_invalid_argument(channel: grpc.Channel, method: str, data: bytes) -> None:
    code, details = refusal(channel, f"{SERVICE}/{method}", data)
    assert (code, "not a valid inference." in details) == (grpc.StatusCode.INVALID_ARGUMENT, True)


@pytest.mark.parametrize(
    "method",
    [f"{SERVICE}/Nope", "inference.Other/ModelInfer", "grpc.health.v1.Health/No"],
)
def test_methods_that_are_not_there_are_unimplemented(channel: grpc.Channel, method: str) -> None:
    assert refusal(channel, method, b"")[0] is grpc.StatusCode.UNIMPLEMENTED


def infer_request(**fields: Any) -> bytes:
    return bytes(messages.ModelInferRequest(**fields).SerializeToString())


def tensor(**changes: Any) -> dict[str, Any]:
    return {"name": "features", "datatype": "FP32", "shape": [1, 4], **changes}


RAW = np.zeros(4, np.float32).tobytes()


@pytest.mark.parametrize(
    ("request_", "code", "said"),
    [
        (infer_request(), "NOT_FOUND", "'' is not found"),
        (infer_request(model_name="nope"), "NOT_FOUND", "'nope' is not found"),
        (infer_request(model_name="a/../b\x1b\r\n"), "NOT_FOUND", "is not found"),
        (infer_request(model_name="iris", model_version="9"), "NOT_FOUND", "version 9 is not found"),
        (infer_request(model_name="iris", model_version="x"), "INVALID_ARGUMENT", "whole number"),
        (infer_request(model_name="iris"), "INVALID_ARGUMENT", "missing required input(s) ['features']"),
        (
            infer_request(model_name="iris", inputs=[tensor(name="nope")], raw_input_contents=[RAW]),
            "INVALID_ARGUMENT",
            "unexpected inference input 'nope'",
        ),
        (
            infer_request(model_name="iris", inputs=[tensor(datatype="INT32")], raw_input_contents=[RAW]),
            "INVALID_ARGUMENT",
            "data-type is 'INT32'",
        ),
        (
            infer_request(model_name="iris", inputs=[tensor(shape=[4])], raw_input_contents=[RAW]),
            "INVALID_ARGUMENT",
            "Expected [-1,4], got [4]",
        ),
        (
            infer_request(model_name="iris", inputs=[tensor()], raw_input_contents=[RAW[:-1]]),
            "INVALID_ARGUMENT",
            "16",
        ),
        (
            infer_request(model_name="iris", inputs=[tensor()], raw_input_contents=[RAW, RAW]),
            "INVALID_ARGUMENT",
            "raw_input_contents",
        ),
        (
            infer_request(model_name="iris", inputs=[tensor()], raw_input_contents=[RAW], outputs=[{"name": "nope"}]),
            "INVALID_ARGUMENT",
            "unexpected inference output 'nope'",
        ),
    ],
)
def test_wrong_inferences_are_refused_with_their_code(
    channel: grpc.Channel, request_: bytes, code: str, said: str
) -> None:
    got, details = refusal(channel, f"{SERVICE}/ModelInfer", request_)
    assert (got.name, said in details) == (code, True), details
    assert not any(hint in details for hint in ("Traceback", ".py", "model_repo", ".onnx"))


def test_a_message_over_the_limit_is_refused(tmp_path: Path) -> None:
    onnx_models.save_version(tmp_path, "double", onnx_models.doubler())
    with (
        running(tmp_path, "--http-max-input-size=1000") as server,
        grpc.insecure_channel(server.grpc) as channel,
    ):
        code, details = refusal(channel, f"{SERVICE}/ModelInfer", infer_request(model_name="x" * 1001))
        assert (code, "1000" in details) == (grpc.StatusCode.RESOURCE_EXHAUSTED, True)
        assert check(channel, "") == HEALTH.SERVING


def test_a_long_message_in_any_script_arrives_with_its_status(channel: grpc.Channel) -> None:
    data = messages.ModelInferRequest(model_name="日本" * 20_000).SerializeToString()
    code, message = refusal(channel, f"{SERVICE}/ModelInfer", data)
    assert code is grpc.StatusCode.NOT_FOUND
    assert "unknown model: '日本" in message
    (answer,) = channel.stream_stream(f"/{SERVICE}/ModelStreamInfer")(iter([data]), timeout=10)
    assert messages.ModelStreamInferResponse.FromString(answer).error_message == message
