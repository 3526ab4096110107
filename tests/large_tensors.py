"""Requests and answers of 6 MB in every form that goes without a copy, and models that have such tensors."""

import http.client
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np
import onnx_models
from onnx import ModelProto, TensorProto, helper
from server_process import ServerProcess

from ortolan.protocol import protobuf_messages as messages

SHAPE = (1536, 1024)
TENSOR_BYTES = 4 * SHAPE[0] * SHAPE[1]
LONGEST_S = 30.0
# Without an arena a run's memory is given back when its output is, so that what is measured is what is alive.
CONFIG = """
max_batch_size: 0
instance_group [ { count: 1 kind: KIND_CPU } ]
parameters { key: "enable_mem_arena" value { string_value: "0" } }
"""
_CHANNEL = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
_CHUNK_BYTES = 65_536


@dataclass(frozen=True)
class LargeModel:
    """``tensors``: how many of them have 6 MB, of the input and the output."""

    proto: ModelProto
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]

    @property
    def tensors(self) -> int:
        return (self.input_shape == SHAPE) + (self.output_shape == SHAPE)


def _model(kind: str, input_shape: tuple[int, ...], output_shape: tuple[int, ...], **attributes: int) -> LargeModel:
    constants = {"shape": np.array(SHAPE)} if kind == "Expand" else {}
    proto = onnx_models.model(
        [helper.make_node(kind, ["x", *constants], ["y"], **attributes)],
        [("x", TensorProto.FLOAT, input_shape)],
        [("y", TensorProto.FLOAT, output_shape)],
        constants,
    )
    return LargeModel(proto, input_shape, output_shape)


MODELS: Mapping[str, LargeModel] = {
    "takes": _model("ReduceMax", SHAPE, (), keepdims=0),
    "gives": _model("Expand", (1, 1), SHAPE),
    "both": _model("Relu", SHAPE, SHAPE),
}


def save_models(repository: Path, config: str = CONFIG) -> None:
    for name, model in MODELS.items():
        onnx_models.save_version(repository, name, model.proto, config=config)


def send_rest(server: ServerProcess, name: str) -> None:
    _send(server, name, *_binary(name))


def send_rest_in_chunks(server: ServerProcess, name: str) -> None:
    body, header_length = _binary(name)
    _send(server, name, _chunks(body), header_length)


def send_raw(server: ServerProcess, name: str) -> None:
    _send(server, name, _data(name), 0)


def send_raw_in_chunks(server: ServerProcess, name: str) -> None:
    _send(server, name, _chunks(_data(name)), 0)


def send_rest_past_the_fast_door(server: ServerProcess, name: str) -> None:
    """By a path that only ASGI takes, because it is spelt unusually."""
    _send(server, f"%{ord(name[0]):x}{name[1:]}", *_binary(name))


def send_grpc(server: ServerProcess, name: str) -> None:
    with grpc.insecure_channel(server.grpc, _CHANNEL) as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        _check_message(name, messages.ModelInferResponse.FromString(call(_message(name), timeout=LONGEST_S)))


def send_stream(server: ServerProcess, name: str) -> None:
    with grpc.insecure_channel(server.grpc, _CHANNEL) as channel:
        call = channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")
        (answer,) = call(iter([_message(name)]), timeout=LONGEST_S)
        response = messages.ModelStreamInferResponse.FromString(answer)
        assert not response.error_message
        _check_message(name, response.infer_response)


DOORS: Mapping[str, Callable[[ServerProcess, str], None]] = {
    "REST": send_rest,
    "REST, chunked": send_rest_in_chunks,
    "REST, raw": send_raw,
    "REST, raw, chunked": send_raw_in_chunks,
    "REST by ASGI": send_rest_past_the_fast_door,
    "gRPC": send_grpc,
    "gRPC stream": send_stream,
}


def message(name: str) -> bytes:
    """A request to the model over gRPC."""
    return _message(name)


def _data(name: str) -> bytes:
    return np.ones(MODELS[name].input_shape, np.float32).tobytes()


def _binary(name: str) -> tuple[bytes, int]:
    data = _data(name)
    tensor = {"name": "x", "datatype": "FP32", "shape": MODELS[name].input_shape}
    tensor["parameters"] = {"binary_data_size": len(data)}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    return head + data, len(head)


def _message(name: str) -> bytes:
    request = messages.ModelInferRequest(model_name=name, raw_input_contents=[_data(name)])
    request.inputs.add(name="x", datatype="FP32", shape=MODELS[name].input_shape)
    return bytes(request.SerializeToString())


def _chunks(body: bytes) -> Iterator[bytes]:
    return (body[at : at + _CHUNK_BYTES] for at in range(0, len(body), _CHUNK_BYTES))


def _send(server: ServerProcess, name: str, body: bytes | Iterator[bytes], header_length: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.http_port, timeout=LONGEST_S)
    try:
        headers = {"Inference-Header-Content-Length": str(header_length)}
        chunked = not isinstance(body, bytes)
        connection.request("POST", f"/v2/models/{name}/infer", body, headers, encode_chunked=chunked)
        response = connection.getresponse()
        answer = response.read()
        assert response.status == 200, answer[:300]
    finally:
        connection.close()
    data = memoryview(answer)[int(response.headers["Inference-Header-Content-Length"]) :]
    assert np.all(np.frombuffer(data, np.float32) == 1)


def _check_message(name: str, response: object) -> None:
    (data,) = response.raw_output_contents  # type: ignore[attr-defined]
    assert len(data) == 4 * int(np.prod(MODELS[name].output_shape))
    assert np.all(np.frombuffer(data, np.float32) == 1)
