"""What is fuzzed: each reader of bytes from outside, and what must hold of it whatever it is given.

A check raises for what must not be. Nothing but InvalidArgument may come out of a reader; what it accepts is sound, has
no more elements than the input has bytes, and reads the same after it was written. Time and memory are libFuzzer's to
watch.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any

import numpy as np
from fuzz import elements, header_blocks, seeds, transport
from fuzz.mutations import altered_json, altered_message
from google.protobuf import text_format
from google.protobuf.message import DecodeError

from ortolan.errors import InvalidArgument
from ortolan.inference import datatypes
from ortolan.inference.request import InferenceRequest, InferenceResponse, Tensor
from ortolan.inference.tensor_spec import ModelSignature
from ortolan.protocol import generate_codec, json_codec, protobuf_codec, v1_codec
from ortolan.protocol.protobuf_messages import ModelConfig as ModelConfigMessage
from ortolan.protocol.protobuf_messages import ModelInferRequest, ModelInferResponse
from ortolan.protocol.serialized import in_one_piece
from ortolan.repository import config_file, config_rendering
from ortolan.repository.model_config import ModelConfig


@dataclass(frozen=True)
class Target:
    """``read`` may raise InvalidArgument and nothing else; ``verify`` looks at what it returned, beside the input.

    ``altered`` makes another input of one, None where it cannot.
    """

    read: Callable[[bytes], Any]
    verify: Callable[[Any, bytes], None]
    seeds: Callable[[], Iterator[bytes]]
    altered: Callable[[bytes, Random], bytes | None]

    def check(self, data: bytes) -> None:
        """Raise for what must not be."""
        try:
            found = self.read(data)
        except InvalidArgument as refusal:
            _check_message(refusal.message, data)
            return
        self.verify(found, data)


def read_json(data: bytes) -> InferenceRequest:
    header, body = _header_and_body(data)
    if json_codec.is_raw_request(header):
        raise InvalidArgument("this is for another target")
    return json_codec.decode_request("m", "", body, header)


def verify_json(request: InferenceRequest, data: bytes) -> None:
    tensors = _sound_tensors(request, data)
    for binary in (True, False):
        try:
            written = json_codec.encode_response(_response(tensors), InferenceRequest("m", binary_by_default=binary))
        except InvalidArgument:
            assert not binary
            assert not all(map(_is_text, tensors))
            return
        _assert_same(_read_again(written), tensors)


def read_raw(data: bytes) -> tuple[ModelSignature, InferenceRequest]:
    signature, body = _signature_and_body(data)
    return signature, json_codec.decode_raw_request("m", "", body, signature)


def verify_raw(found: tuple[ModelSignature, InferenceRequest], data: bytes) -> None:
    signature, request = found
    _sound_tensors(request, data)
    assert signature.check(request) == 1


def verify_protobuf(request: InferenceRequest, data: bytes) -> None:
    tensors = _sound_tensors(request, data)
    response = replace(_response(tensors), id=request.id, parameters=request.parameters)
    written = in_one_piece(protobuf_codec.encode_response(response))
    assert in_one_piece(protobuf_codec.encode_stream_response(response)).endswith(written)
    message = ModelInferResponse.FromString(written)
    echo = ModelInferRequest(model_name="m", id=message.id, raw_input_contents=message.raw_output_contents)
    for output in message.outputs:
        echo.inputs.add(name=output.name, datatype=output.datatype, shape=output.shape)
    again = protobuf_codec.decode_request(echo.SerializeToString())
    assert again.id == request.id
    _assert_same(again.inputs, tensors)


def read_generate(data: bytes) -> tuple[ModelSignature, InferenceRequest]:
    signature, body = _signature_and_body(data)
    request = generate_codec.decode_request("m", "", body, signature)
    signature.check(request)
    return signature, request


def verify_generate(found: tuple[ModelSignature, InferenceRequest], data: bytes) -> None:
    signature, request = found
    tensors = _sound_tensors(request, data)
    answer = json.loads(generate_codec.encode_response(_response(tensors)))
    echo = json.dumps({tensor.name: answer[tensor.name] for tensor in tensors}).encode()
    again = generate_codec.decode_request("m", "", echo, signature)
    _assert_same(again.inputs, tensors)


def read_v1(data: bytes) -> tuple[ModelSignature, InferenceRequest, v1_codec.Layout]:
    signature, body = _signature_and_body(data)
    request, layout = v1_codec.decode_request("m", "", body, signature)
    signature.check(request)
    return signature, request, layout


def verify_v1(found: tuple[ModelSignature, InferenceRequest, v1_codec.Layout], data: bytes) -> None:
    signature, request, layout = found
    tensors = _sound_tensors(request, data)
    try:
        answer = json.loads(v1_codec.encode_response(_response(tensors), layout))
    except InvalidArgument:
        # Only rows can be too many or too few, and inputs as outputs may be.
        assert isinstance(layout, v1_codec.Rows)
        return
    assert answer.keys() == {"predictions"}
    if tensors:
        key = v1_codec.COLUMNS if layout == v1_codec.Columns() else v1_codec.ROWS
        echo = json.dumps({key: answer["predictions"]}).encode()
        _assert_same(v1_codec.decode_request("m", "", echo, signature)[0].inputs, tensors)


def read_configuration_text(data: bytes) -> ModelConfig:
    return config_file.parse_text(data.decode(errors="replace"), "m")


def read_configuration_json(data: bytes) -> ModelConfig:
    return config_file.parse_json(data.decode(errors="replace"), "m")


def verify_configuration(config: ModelConfig, data: bytes) -> None:
    written = config_rendering.to_text(config)
    assert config_rendering.to_text(config_file.parse_text(written, "m")) == written
    json.dumps(config_rendering.to_json(config))


def _check_message(message: str, data: bytes) -> None:
    """It can be sent, and though it may name what came, escaped, it is not much larger than that."""
    assert len(message.encode()) <= 2000 + 12 * len(data)


def _header_and_body(data: bytes) -> tuple[str | None, bytes]:
    """The first line is the header: empty for none, "*" for the length of what comes before the first NUL."""
    line, _, body = data.partition(b"\n")
    if line == b"*":
        text, _, parts = body.partition(b"\0")
        return str(len(text)), text + parts
    return line.decode("latin-1") or None, body


def _signature_and_body(data: bytes) -> tuple[ModelSignature, bytes]:
    return seeds.SIGNATURES[(data[0] if data else 0) % len(seeds.SIGNATURES)], data[1:]


def _sound_tensors(request: InferenceRequest, data: bytes) -> Sequence[Tensor]:
    """The request's tensors that came with it, once they are seen to be what they say."""
    came = [tensor for tensor in request.inputs if tensor.shared_memory is None]
    for tensor in came:
        assert tensor.array.shape == tensor.shape
        assert tensor.array.dtype == tensor.datatype.numpy
        assert tensor.array.size <= max(len(data), 1)
        if tensor.datatype is datatypes.BYTES:
            assert all(type(element) is bytes for element in tensor.array.flat)
    return came


def _response(tensors: Sequence[Tensor]) -> InferenceResponse:
    return InferenceResponse("m", "1", "", tuple(tensors))


def _read_again(written: json_codec.EncodedResponse) -> Sequence[Tensor]:
    """The outputs of a response, read as the inputs of a request."""
    size = written.header_length or len(written.body)
    document = json.loads(written.body[:size])
    text = json.dumps({"inputs": document["outputs"]}).encode()
    header = None if written.header_length is None else str(len(text))
    return json_codec.decode_request("m", "", text + written.body[size:], header).inputs


def _is_text(tensor: Tensor) -> bool:
    if tensor.datatype is not datatypes.BYTES:
        return True
    try:
        b"".join(tensor.array.flat).decode()
    except UnicodeDecodeError:
        return False
    return True


def _assert_same(found: Sequence[Tensor], expected: Sequence[Tensor]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert (one.name, one.datatype, one.shape) == (other.name, other.datatype, other.shape)
        if one.datatype is datatypes.BF16:
            # JSON has one NaN only, so that NaNs with other bits are the same.
            values = [datatypes.float32_from_bf16(tensor.array.astype(np.uint16)) for tensor in (one, other)]
            np.testing.assert_array_equal(*values)
        else:
            np.testing.assert_array_equal(one.array, other.array)


def _not_altered(data: bytes, random: Random) -> None:
    return None


def _altered_json_request(data: bytes, random: Random) -> bytes | None:
    line, _, body = data.partition(b"\n")
    text, nul, parts = body.partition(b"\0")
    altered = altered_json(text, random)
    return None if altered is None else line + b"\n" + altered + nul + parts


def _altered_after_index(data: bytes, random: Random) -> bytes | None:
    altered = altered_json(data[1:], random)
    return None if altered is None else data[:1] + altered


def _altered_protobuf(data: bytes, random: Random) -> bytes | None:
    try:
        message = ModelInferRequest.FromString(data)
    except DecodeError:
        return None
    return bytes(altered_message(message, random).SerializeToString())


def _altered_configuration(data: bytes, random: Random) -> bytes | None:
    try:
        message = text_format.Parse(data, ModelConfigMessage())
    except (text_format.ParseError, ValueError, RecursionError):
        return None
    return text_format.MessageToString(altered_message(message, random), as_utf8=True).encode(errors="replace")


TARGETS = {
    "json": Target(read_json, verify_json, seeds.json_requests, _altered_json_request),
    "raw": Target(read_raw, verify_raw, seeds.raw_requests, _not_altered),
    "protobuf": Target(protobuf_codec.decode_request, verify_protobuf, seeds.protobuf_requests, _altered_protobuf),
    "generate": Target(read_generate, verify_generate, seeds.generate_requests, _altered_after_index),
    "v1": Target(read_v1, verify_v1, seeds.v1_requests, _altered_after_index),
    "configuration-text": Target(
        read_configuration_text, verify_configuration, seeds.configuration_texts, _altered_configuration
    ),
    "configuration-json": Target(
        read_configuration_json, verify_configuration, seeds.configuration_jsons, altered_json
    ),
    "http2": Target(transport.read_http2, transport.verify_http2, transport.http2_exchanges, transport.altered_http2),
    "grpc-messages": Target(
        transport.read_messages, transport.verify_messages, transport.message_streams, transport.altered_messages
    ),
    "header-blocks": Target(header_blocks.read, header_blocks.verify, header_blocks.blocks, header_blocks.altered),
    "elements": Target(elements.read, elements.verify, elements.tensors, elements.altered),
}
