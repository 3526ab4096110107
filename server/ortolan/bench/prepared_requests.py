"""Tensors → whole requests as bytes, in each form that the protocol has."""

import struct
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import quote

import orjson

from ortolan.bench.load import Address, Form, PreparedRequest
from ortolan.http2 import header_blocks
from ortolan.inference.request import Tensor
from ortolan.inference.tensor_bytes import element_bytes
from ortolan.protocol import protobuf_messages as messages
from ortolan.protocol.json_tensors import json_elements, with_non_finite_tokens

INFER_METHOD = f"/{messages.INFERENCE_SERVICE}/ModelInfer"

# Servers that make up an id where none is sent make up another one each time, and answers would not be comparable.
_ID = "bench"


def prepared(form: Form, address: Address, model: str, inputs: Sequence[Tensor]) -> PreparedRequest:
    """One request to ``model`` as bytes, to be sent to ``address``."""
    return _PREPARE[form](address, model, inputs)


def _binary(address: Address, model: str, inputs: Sequence[Tensor]) -> PreparedRequest:
    parts = [bytes(element_bytes(tensor)) for tensor in inputs]
    documents = [
        _document(tensor) | {"parameters": {"binary_data_size": len(part)}}
        for tensor, part in zip(inputs, parts, strict=True)
    ]
    text = orjson.dumps({"id": _ID, "inputs": documents, "parameters": {"binary_data_output": True}})
    kind = f"application/octet-stream\r\nInference-Header-Content-Length: {len(text)}"
    return _http(Form.BINARY, address, model, kind, b"".join([text, *parts]))


def _json(address: Address, model: str, inputs: Sequence[Tensor]) -> PreparedRequest:
    documents = [_document(tensor) | {"data": with_non_finite_tokens(json_elements(tensor))} for tensor in inputs]
    body = orjson.dumps({"id": _ID, "inputs": documents}, option=orjson.OPT_SERIALIZE_NUMPY)
    return _http(Form.JSON, address, model, "application/json", body)


def _document(tensor: Tensor) -> dict[str, object]:
    return {"name": tensor.name, "shape": tensor.shape, "datatype": tensor.datatype.name}


def _http(form: Form, address: Address, model: str, kind: str, body: bytes) -> PreparedRequest:
    head = (
        f"POST /v2/models/{quote(model, safe='')}/infer HTTP/1.1\r\nHost: {address}\r\n"
        f"Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return PreparedRequest(form, head.encode(), body)


def _grpc(address: Address, model: str, inputs: Sequence[Tensor]) -> PreparedRequest:
    request: Any = messages.ModelInferRequest(model_name=model, id=_ID)
    for tensor in inputs:
        request.inputs.add(name=tensor.name, datatype=tensor.datatype.name, shape=tensor.shape)
        request.raw_input_contents.append(bytes(element_bytes(tensor)))
    message = request.SerializeToString()
    fields = (
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", INFER_METHOD.encode()),
        (b":authority", str(address).encode()),
        (b"te", b"trailers"),
        (b"content-type", b"application/grpc"),
    )
    return PreparedRequest(Form.GRPC, header_blocks.encode(fields), struct.pack(">BL", 0, len(message)) + message)


_PREPARE: dict[Form, Callable[[Address, str, Sequence[Tensor]], PreparedRequest]] = {
    Form.BINARY: _binary,
    Form.JSON: _json,
    Form.GRPC: _grpc,
}
