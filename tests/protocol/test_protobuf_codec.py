from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton  # type: ignore[import-untyped]
from hypothesis import given, settings
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2

from ortolan.errors import InvalidArgument
from ortolan.inference.bytes_elements import decode_elements, encode_elements
from ortolan.inference.datatypes import BY_NAME, BYTES, DATATYPES, FP32, INT64, Array, Datatype
from ortolan.inference.request import InferenceRequest, InferenceResponse, ParameterValue, RequestedOutput, Tensor
from ortolan.protocol.protobuf_codec import (
    MAX_MESSAGE_BYTES,
    decode_request,
    encode_response,
    encode_stream_error,
    encode_stream_response,
)
from ortolan.protocol.protobuf_messages import (
    InferParameter,
    ModelInferRequest,
    ModelInferResponse,
    ModelStreamInferResponse,
    parse,
)

INT64S = st.integers(-(2**63), 2**63 - 1)
PARAMETERS = st.dictionaries(
    st.text(max_size=8).filter(lambda name: not name.startswith("triton_")),
    st.booleans() | INT64S | st.floats(allow_nan=False) | st.text(max_size=8),
    max_size=3,
)


@st.composite
def tensors(draw: st.DrawFn, datatypes: st.SearchStrategy[Datatype] = st.sampled_from(DATATYPES)) -> Tensor:  # noqa: B008
    datatype = draw(datatypes)
    shape = tuple(draw(st.lists(st.integers(0, 3), max_size=3)))
    count = int(np.prod(shape, dtype=int))
    return Tensor(draw(st.text(max_size=5)), datatype, shape, draw(_arrays(datatype, count)).reshape(shape))


def _arrays(datatype: Datatype, count: int) -> st.SearchStrategy[Array]:
    """Arrays of any bits at all: NaNs with a payload, subnormals, BYTES with NUL and without UTF-8."""
    if datatype is BYTES:
        elements = st.lists(st.binary(max_size=5), min_size=count, max_size=count)
        return elements.map(lambda values: np.array([*values, None], dtype=object)[:-1])
    size = count * datatype.size_bytes
    bits = st.binary(min_size=size, max_size=size)
    if datatype.name == "BOOL":
        bits = bits.map(lambda data: bytes(byte & 1 for byte in data))
    return bits.map(lambda data: np.frombuffer(data, datatype.numpy))


def _raw(tensor: Tensor) -> bytes:
    return encode_elements(tensor.array) if tensor.datatype is BYTES else tensor.array.tobytes()


def _parameter(value: ParameterValue) -> Any:
    field = {bool: "bool_param", int: "int64_param", float: "double_param", str: "string_param"}[type(value)]
    return InferParameter(**{field: value})


def _named(parameters: Mapping[str, Any]) -> dict[str, Any]:
    return {name: InferParameter(**fields) for name, fields in parameters.items()}


def _encode_request(request: InferenceRequest) -> bytes:
    data: bytes = ModelInferRequest(
        model_name=request.model_name,
        model_version=request.model_version,
        id=request.id,
        parameters={name: _parameter(value) for name, value in request.parameters.items()},
        inputs=[{"name": t.name, "datatype": t.datatype.name, "shape": t.shape} for t in request.inputs],
        outputs=[
            {"name": output.name, "parameters": {"classification": _parameter(output.class_count)}}
            if output.class_count
            else {"name": output.name}
            for output in request.outputs
        ],
        raw_input_contents=[_raw(tensor) for tensor in request.inputs],
    ).SerializeToString()
    return data


REQUESTS = st.builds(
    InferenceRequest,
    model_name=st.text(max_size=8),
    model_version=st.text(max_size=3),
    id=st.text(max_size=8),
    inputs=st.lists(tensors(), max_size=3).map(tuple),
    outputs=st.lists(
        st.builds(RequestedOutput, st.text(max_size=5), class_count=st.integers(0, 2**63 - 1)), max_size=3
    ).map(tuple),
    parameters=PARAMETERS,
)
RESPONSES = st.builds(
    InferenceResponse,
    model_name=st.text(max_size=8),
    model_version=st.text(max_size=3),
    id=st.text(max_size=8),
    outputs=st.lists(tensors(), max_size=3).map(tuple),
    parameters=PARAMETERS,
)


def _assert_same_tensors(got: tuple[Tensor, ...], expected: tuple[Tensor, ...]) -> None:
    assert len(got) == len(expected)
    for one, other in zip(got, expected, strict=True):
        assert (one.name, one.datatype, one.shape) == (other.name, other.datatype, other.shape)
        assert one.array.shape == one.shape
        assert one.array.dtype == one.datatype.numpy
        assert _raw(one) == _raw(other)


@settings(max_examples=200, deadline=None)
@given(REQUESTS)
def test_a_request_decodes_to_what_was_encoded(request: InferenceRequest) -> None:
    decoded = decode_request(_encode_request(request))
    _assert_same_tensors(decoded.inputs, request.inputs)
    assert decoded.outputs == request.outputs
    assert decoded.parameters == request.parameters
    assert (decoded.model_name, decoded.model_version, decoded.id) == (
        request.model_name,
        request.model_version,
        request.id,
    )


@pytest.mark.parametrize("datatype", DATATYPES, ids=lambda datatype: datatype.name)
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_each_datatype_comes_back_from_the_wire_bit_by_bit(datatype: Datatype, data: st.DataObject) -> None:
    tensor = data.draw(tensors(st.just(datatype)))
    response = parse(ModelInferResponse, encode_response(InferenceResponse("m", "1", "", (tensor,))))
    request = ModelInferRequest(
        inputs=[{"name": o.name, "datatype": o.datatype, "shape": o.shape} for o in response.outputs],
        raw_input_contents=response.raw_output_contents,
    )
    _assert_same_tensors(decode_request(request.SerializeToString()).inputs, (tensor,))


@pytest.mark.parametrize(
    "fields",
    [
        {"inputs": [{"name": "x", "parameters": {f"p{index}": InferParameter() for index in range(9000)}}]},
        {"outputs": [{"name": "y", "parameters": {f"p{index}": InferParameter() for index in range(9000)}}]},
        {"inputs": [{"name": "x", "shape": [1] * 70_000}]},
    ],
    ids=["an input's parameters", "an output's parameters", "a packed shape"],
)
@pytest.mark.parametrize("raw", [[], [b"abcd"]], ids=["typed", "raw"])
def test_a_crowded_tensor_is_refused_before_protobuf_reads_it(fields: dict[str, Any], raw: list[bytes]) -> None:
    data = ModelInferRequest(model_name="m", raw_input_contents=raw, **fields).SerializeToString()
    with pytest.raises(InvalidArgument, match="an input or output has more than 512 fields"):
        decode_request(data)


def test_the_order_of_fields_in_a_request_does_not_matter() -> None:
    request = InferenceRequest("m", inputs=(Tensor("x", FP32, (1,), np.array([1.5], "<f4")),))
    raw_first = ModelInferRequest(raw_input_contents=[_raw(request.inputs[0])]).SerializeToString()
    head = ModelInferRequest(model_name="m", inputs=[{"name": "x", "datatype": "FP32", "shape": [1]}])
    decoded = decode_request(raw_first + head.SerializeToString())
    _assert_same_tensors(decoded.inputs, request.inputs)


def test_unknown_fields_are_tolerated_and_tensors_still_found() -> None:
    request = InferenceRequest("m", inputs=(Tensor("x", FP32, (1,), np.array([1.5], "<f4")),))
    for unknown in (b"\x42\x01x", b"\x78\x01", b"\x82\x7d\x01x"):
        _assert_same_tensors(decode_request(unknown + _encode_request(request)).inputs, request.inputs)
        _assert_same_tensors(decode_request(_encode_request(request) + unknown).inputs, request.inputs)


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({"sequence_id": {"int64_param": 7}}, {"sequence_id": 7}),
        ({"sequence_id": {"string_param": "s"}}, {"sequence_id": "s"}),
        ({"sequence_start": {"bool_param": False}}, {"sequence_start": False}),
        ({"priority": {"uint64_param": 2**64 - 1}}, {"priority": 2**64 - 1}),
        ({"mine": {"uint64_param": 1}}, {"mine": 1}),
        ({"mine": {"double_param": 0.5}}, {"mine": 0.5}),
        ({"": {"string_param": ""}}, {"": ""}),
        ({"triton_enable_empty_final_response": {"bool_param": True}}, {"triton_enable_empty_final_response": True}),
    ],
)
def test_a_parameter_keeps_its_value_and_kind(
    parameters: Mapping[str, Any], expected: Mapping[str, ParameterValue]
) -> None:
    decoded = decode_request(ModelInferRequest(parameters=_named(parameters)).SerializeToString()).parameters
    assert decoded == expected
    assert [type(value) for value in decoded.values()] == [type(value) for value in expected.values()]


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"triton_final_response": {"bool_param": True}}, "names that begin with 'triton_' are reserved"),
        ({"triton_": {"int64_param": 1}}, "parameter 'triton_' is refused"),
        ({"triton_enable_empty_final_response": {"int64_param": 1}}, "must be a bool_param, got int64_param 1"),
        ({"triton_enable_empty_final_response": {}}, "must be a bool_param, got no value"),
        ({"mine": {}}, "parameter 'mine' has no value: expected one of bool_param, int64_param"),
    ],
)
def test_a_parameter_that_the_protocol_forbids_is_refused(parameters: Mapping[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgument) as raised:
        decode_request(ModelInferRequest(parameters=_named(parameters)).SerializeToString())
    assert message in raised.value.message


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"classification": {"int64_param": 0}}, "must be an int64_param of at least 1, got int64_param 0"),
        ({"classification": {"int64_param": -1}}, "got int64_param -1"),
        ({"classification": {"bool_param": True}}, "got bool_param True"),
        ({"classification": {"string_param": "3" * 10_000}}, "of at least 1, got string_param"),
        ({"classification": {}}, "got no value"),
    ],
)
def test_a_requested_output_that_cannot_be_given_is_refused(parameters: Mapping[str, Any], message: str) -> None:
    request = ModelInferRequest(outputs=[{"name": "y", "parameters": _named(parameters)}])
    with pytest.raises(InvalidArgument) as raised:
        decode_request(request.SerializeToString())
    assert message in raised.value.message
    assert len(raised.value.message) < 200


def test_other_parameters_of_an_output_are_ignored() -> None:
    request = ModelInferRequest(outputs=[{"name": "y", "parameters": {"binary_data": _parameter(True)}}])
    assert decode_request(request.SerializeToString()).outputs == (RequestedOutput("y"),)


def _decodes_or_is_refused(data: bytes) -> None:
    try:
        request = decode_request(data)
    except InvalidArgument:
        return
    for tensor in request.inputs:
        assert tensor.array.shape == tensor.shape


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_no_bytes_whatever_raise_anything_but_an_invalid_argument(data: bytes) -> None:
    _decodes_or_is_refused(data)


@settings(max_examples=300, deadline=None)
@given(REQUESTS.map(_encode_request), st.data())
def test_no_mutated_request_raises_anything_but_an_invalid_argument(valid: bytes, data: st.DataObject) -> None:
    mutated = bytearray(valid)
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(mutated)))
        end = data.draw(st.integers(start, min(start + 4, len(mutated))))
        mutated[start:end] = data.draw(st.binary(max_size=4))
    _decodes_or_is_refused(bytes(mutated))


_SIZES = st.integers(0, 4) | INT64S | st.sampled_from([-1, 2**31, 2**62, 2**63 - 1])
_HOSTILE_CONTENTS = st.fixed_dictionaries(
    {},
    optional={
        "bool_contents": st.lists(st.booleans(), max_size=3),
        "int_contents": st.lists(st.integers(-(2**31), 2**31 - 1), max_size=3),
        "int64_contents": st.lists(INT64S, max_size=3),
        "uint_contents": st.lists(st.integers(0, 2**32 - 1), max_size=3),
        "uint64_contents": st.lists(st.integers(0, 2**64 - 1), max_size=3),
        "fp32_contents": st.lists(st.floats(width=32), max_size=3),
        "fp64_contents": st.lists(st.floats(), max_size=3),
        "bytes_contents": st.lists(st.binary(max_size=3), max_size=3),
    },
)
_HOSTILE_INPUT = st.fixed_dictionaries(
    {"datatype": st.sampled_from([*BY_NAME, "", "FP8"]), "shape": st.lists(_SIZES, max_size=4)},
    optional={"contents": _HOSTILE_CONTENTS},
)


@settings(max_examples=300, deadline=None)
@given(st.lists(_HOSTILE_INPUT, max_size=2), st.lists(st.binary(max_size=12), max_size=3))
def test_no_well_formed_nonsense_raises_anything_but_an_invalid_argument(
    inputs: list[dict[str, Any]], raw: list[bytes]
) -> None:
    _decodes_or_is_refused(ModelInferRequest(inputs=inputs, raw_input_contents=raw).SerializeToString())


@settings(max_examples=200, deadline=None)
@given(RESPONSES)
def test_a_response_is_the_bytes_that_protobuf_would_write(response: InferenceResponse) -> None:
    message = ModelInferResponse(
        model_name=response.model_name,
        model_version=response.model_version,
        id=response.id,
        parameters={name: _parameter(value) for name, value in response.parameters.items()},
        outputs=[{"name": t.name, "datatype": t.datatype.name, "shape": t.shape} for t in response.outputs],
        raw_output_contents=[_raw(tensor) for tensor in response.outputs],
    )
    assert parse(ModelInferResponse, encode_response(response)) == message
    streamed = parse(ModelStreamInferResponse, encode_stream_response(response))
    assert streamed == ModelStreamInferResponse(infer_response=message)
    if len(response.parameters) < 2:  # protobuf writes a map in any order
        assert encode_response(response) == message.SerializeToString()


@pytest.mark.parametrize(
    ("value", "field"),
    [
        (True, "bool_param"),
        (1, "int64_param"),
        (-(2**63), "int64_param"),
        (2**63, "uint64_param"),
        (1.0, "double_param"),
        ("", "string_param"),
    ],
)
def test_a_response_parameter_goes_into_the_field_of_its_kind(value: ParameterValue, field: str) -> None:
    response = parse(ModelInferResponse, encode_response(InferenceResponse("m", "1", "", (), {"p": value})))
    assert response.parameters["p"].WhichOneof("parameter_choice") == field
    assert getattr(response.parameters["p"], field) == value


def test_an_output_that_is_not_contiguous_is_written_row_by_row() -> None:
    array = np.arange(6, dtype="<i8").reshape(2, 3).T
    response = parse(ModelInferResponse, encode_response(InferenceResponse("m", "1", "", (_int64("y", array),))))
    assert response.raw_output_contents[0] == np.ascontiguousarray(array).tobytes()


def test_a_response_that_no_message_can_hold_is_refused_before_it_is_built() -> None:
    array = np.zeros(MAX_MESSAGE_BYTES // 8 + 1, "<i8")  # never written to, so it takes no memory
    response = InferenceResponse("m", "1", "", (_int64("y", array),))
    with pytest.raises(InvalidArgument, match=f"more than the {MAX_MESSAGE_BYTES} that one gRPC message can hold"):
        encode_response(response)


def test_a_streamed_error_carries_its_text_and_the_requests_id() -> None:
    message = parse(ModelStreamInferResponse, encode_stream_error("no such model", "7"))
    assert (message.error_message, message.infer_response.id) == ("no such model", "7")


def _int64(name: str, array: Array) -> Tensor:
    return Tensor(name, INT64, array.shape, array)


def test_tritonclient_reads_our_response() -> None:
    text = np.array([b"a\x00b", b"\xff"], dtype=object)
    response = InferenceResponse(
        "m", "1", "7", (_int64("y", np.array([[1, -2]], "<i8")), Tensor("s", BYTES, (2,), text)), {"final": True}
    )
    result = triton.InferResult(service_pb2.ModelInferResponse.FromString(encode_response(response)))
    assert result.as_numpy("y").tolist() == [[1, -2]]
    assert result.as_numpy("s").tolist() == [b"a\x00b", b"\xff"]
    assert result.get_response().parameters["final"].bool_param


def test_a_request_of_tritonclients_messages_is_decoded() -> None:
    raw = encode_elements(np.array([b"x", b"yz"], dtype=object))
    request = service_pb2.ModelInferRequest(model_name="m", id="7", raw_input_contents=[b"\0\0\x80\x3f", raw])
    request.inputs.add(name="a", datatype="FP32", shape=[1])
    request.inputs.add(name="b", datatype="BYTES", shape=[2])
    request.outputs.add(name="y").parameters["classification"].int64_param = 3
    decoded = decode_request(request.SerializeToString())
    assert decoded.outputs == (RequestedOutput("y", class_count=3),)
    assert decoded.inputs[0].array.tolist() == [1.0]
    assert decoded.inputs[1].array.tolist() == decode_elements(raw, 2, "b").tolist() == [b"x", b"yz"]
