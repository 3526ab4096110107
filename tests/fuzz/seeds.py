"""Valid inputs to start from: requests with every datatype in every form, and configurations with every field."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from fuzz.mutations import filled
from google.protobuf import text_format

from ortolan.inference import datatypes
from ortolan.inference.bytes_elements import encode_elements
from ortolan.inference.datatypes import BY_NAME, DATATYPES, Datatype
from ortolan.inference.tensor_spec import ModelSignature, TensorSpec
from ortolan.protocol.protobuf_messages import ModelConfig, ModelInferRequest
from ortolan.repository.config_rendering import message_to_json


def _signature(max_batch_size: int, *inputs: TensorSpec) -> ModelSignature:
    return ModelSignature("m", max_batch_size, inputs, ())


SIGNATURES = (
    *(_signature(4, TensorSpec("x", datatype, (2,))) for datatype in DATATYPES),
    *(_signature(0, TensorSpec("x", datatype, dims)) for datatype in DATATYPES for dims in ((), (-1, 2))),
    _signature(4, TensorSpec("x", datatypes.FP32, (1,)), TensorSpec("y", datatypes.BYTES, (-1,))),
    _signature(0, TensorSpec("x", datatypes.INT64, (2, -1)), TensorSpec("b64", datatypes.BOOL, ())),
    _signature(8, TensorSpec("x", datatypes.FP32, (0,)), TensorSpec("y", datatypes.FP32, (1,), optional=True)),
    _signature(0),
)
"""Models of one input of each datatype, of several inputs, of an optional one and of none."""

_TYPED = {
    "bool_contents": "BOOL", "int_contents": "INT8", "int64_contents": "INT64", "uint_contents": "UINT16",
    "uint64_contents": "UINT64", "fp32_contents": "FP32", "fp64_contents": "FP64", "bytes_contents": "BYTES",
}  # fmt: skip
_OUTPUTS = [{"name": "y", "parameters": {"binary_data": True}}, {"name": "z", "parameters": {"classification": 3}}]
_REGION = {"shared_memory_region": "r", "shared_memory_offset": 0, "shared_memory_byte_size": 8}
_USUAL = """
name: "m" platform: "onnxruntime_onnx" max_batch_size: 8
input [ { name: "x" data_type: TYPE_FP32 dims: [ -1, 4 ] } ]
output [ { name: "y" data_type: TYPE_STRING dims: [ 1 ] reshape { shape: [ ] } label_filename: "labels.txt" } ]
instance_group [ { count: 2 kind: KIND_CPU } ]
dynamic_batching { preferred_batch_size: [ 4, 8 ] max_queue_delay_microseconds: 100 }
version_policy: { latest { num_versions: 2 } }
optimization { graph { level: 1 } execution_accelerators { cpu_execution_accelerator : [ { name: "openvino" } ] } }
parameters { key: "intra_op_thread_count" value: { string_value: "2" } }
model_warmup { name: "w" batch_size: 1 inputs { key: "x" value: { data_type: TYPE_FP32 dims: 4 zero_data: true } } }
"""


def json_requests() -> Iterator[bytes]:
    """As the target takes them: a line for the header, the JSON, and after a NUL the binary parts."""
    for datatype in DATATYPES:
        tensor = {"name": "x", "datatype": datatype.name, "shape": [2]}
        plain = {"id": "1", "parameters": {"mine": 1.5}, "outputs": _OUTPUTS}
        yield b"\n" + _text({**plain, "inputs": [{**tensor, "data": _values(datatype)}]})
        part = _wire_bytes(datatype)
        binary = {**tensor, "parameters": {"binary_data_size": len(part)}}
        yield b"*\n" + _text({"parameters": {"binary_data_output": True}, "inputs": [binary]}) + b"\0" + part
    shared = {"name": "x", "datatype": "FP32", "shape": [2], "parameters": _REGION}
    yield b"\n" + _text({"inputs": [shared], "outputs": [{"name": "y", "parameters": _REGION}]})
    yield b'\n{"inputs":[{"name":"x","datatype":"FP32","shape":[3],"data":[NaN,Infinity,-Infinity]}]}'


def raw_requests() -> Iterator[bytes]:
    """As the targets with a signature take them: its index, and the body."""
    for index, signature in enumerate(SIGNATURES):
        yield bytes([index]) + b"".join(_wire_bytes(spec.datatype) for spec in signature.inputs[:1])


def generate_requests() -> Iterator[bytes]:
    for index, signature in enumerate(SIGNATURES):
        yield bytes([index]) + _text({**_columns(signature), "id": "1", "mine": 1.5, "parameters": {"other": "a"}})


def v1_requests() -> Iterator[bytes]:
    for index, signature in enumerate(SIGNATURES):
        columns = _columns(signature)
        row = columns["x"] if len(columns) == 1 else columns
        for body in ({"instances": [row, row]}, {"instances": [row]}, {"inputs": [row]}, {"inputs": columns}):
            yield bytes([index]) + _text(body)


def protobuf_requests() -> Iterator[bytes]:
    for datatype in DATATYPES:
        raw = ModelInferRequest(model_name="m", id="1", raw_input_contents=[_wire_bytes(datatype)])
        raw.inputs.add(name="x", datatype=datatype.name, shape=[2])
        raw.outputs.add(name="y").parameters["classification"].int64_param = 3
        yield raw.SerializeToString()
    for field, datatype_name in _TYPED.items():
        typed = ModelInferRequest(model_name="m")
        contents = typed.inputs.add(name="x", datatype=datatype_name, shape=[2]).contents
        getattr(contents, field).extend(_array(BY_NAME[datatype_name]).tolist())
        typed.parameters["priority"].uint64_param = 1
        yield typed.SerializeToString()
    yield filled(ModelInferRequest()).SerializeToString()


def configuration_texts() -> Iterator[bytes]:
    for message in _configurations():
        yield text_format.MessageToString(message, as_utf8=True).encode()


def configuration_jsons() -> Iterator[bytes]:
    for message in _configurations():
        yield _text(message_to_json(message))


def _configurations() -> Iterator[Any]:
    """What most models say, and for each field a configuration that sets it, however deep, and nothing else."""
    yield text_format.Parse(_USUAL, ModelConfig())
    for field in ModelConfig.DESCRIPTOR.fields:
        message = filled(ModelConfig())
        for other in ModelConfig.DESCRIPTOR.fields:
            if other is not field:
                message.ClearField(other.name)
        yield message


def _columns(signature: ModelSignature) -> Mapping[str, Any]:
    return {spec.name: _values(spec.datatype) for spec in signature.inputs}


def _values(datatype: Datatype) -> list[Any]:
    """Two elements as JSON spells them."""
    return ["a", "é"] if datatype is datatypes.BYTES else _array(datatype).tolist()


def _wire_bytes(datatype: Datatype) -> bytes:
    array = _array(datatype)
    return encode_elements(array) if datatype is datatypes.BYTES else array.tobytes()


def _array(datatype: Datatype) -> datatypes.Array:
    """Two elements, BYTES that are not UTF-8 among them."""
    return np.array([b"a", b"\xff"], np.object_) if datatype is datatypes.BYTES else np.array([1, 0], datatype.numpy)


def _text(document: object) -> bytes:
    return json.dumps(document).encode()
