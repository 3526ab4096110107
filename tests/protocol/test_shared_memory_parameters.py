"""Tensors in shared memory, as both codecs find them in requests and leave them out of responses."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ortolan.errors import InvalidArgument
from ortolan.inference.datatypes import BYTES, FP32, Datatype
from ortolan.inference.request import (
    MAX_PARAMETERS,
    MAX_TENSOR_PARAMETERS,
    UNREAD,
    InferenceRequest,
    InferenceResponse,
    RequestedOutput,
    Tensor,
)
from ortolan.inference.shared_memory import SharedMemorySlice
from ortolan.protocol import json_codec, protobuf_codec
from ortolan.protocol.protobuf_messages import ModelInferRequest, ModelInferResponse
from ortolan.protocol.shared_memory_parameters import shared_memory_slice

LARGEST = 2**64 - 1
PLACES = st.builds(SharedMemorySlice, st.text(max_size=8), st.integers(0, LARGEST), st.integers(0, LARGEST))
DATA = np.array([1.5], np.float32)


def parameters_of(place: SharedMemorySlice) -> dict[str, Any]:
    return {
        "shared_memory_region": place.region,
        "shared_memory_offset": place.offset,
        "shared_memory_byte_size": place.size_bytes,
    }


def json_request(inputs: list[dict[str, Any]], outputs: list[dict[str, Any]], parts: bytes = b"") -> InferenceRequest:
    text = json.dumps({"inputs": inputs, "outputs": outputs}).encode()
    return json_codec.decode_request("m", "", text + parts, str(len(text)))


def grpc_request(inputs: list[dict[str, Any]], outputs: list[dict[str, Any]], raw: list[bytes]) -> InferenceRequest:
    message = ModelInferRequest(model_name="m", raw_input_contents=raw)
    for listed, entries in ((message.inputs, inputs), (message.outputs, outputs)):
        for entry in entries:
            tensor = listed.add(**{key: value for key, value in entry.items() if key != "parameters"})
            for name, value in entry.get("parameters", {}).items():
                set_parameter(tensor.parameters[name], value)
    return protobuf_codec.decode_request(message.SerializeToString())


def set_parameter(parameter: Any, value: object) -> None:
    if isinstance(value, bool):
        parameter.bool_param = value
    elif isinstance(value, int):
        setattr(parameter, "int64_param" if value < 2**63 else "uint64_param", value)
    elif isinstance(value, float):
        parameter.double_param = value
    elif isinstance(value, str):
        parameter.string_param = value


def json_input(index: int, place: SharedMemorySlice | None) -> dict[str, Any]:
    parameters = {"binary_data_size": DATA.nbytes} if place is None else parameters_of(place)
    return {"name": f"x{index}", "datatype": "FP32", "shape": [1], "parameters": parameters}


def grpc_input(index: int, place: SharedMemorySlice | None) -> dict[str, Any]:
    parameters = {} if place is None else parameters_of(place)
    return {"name": f"x{index}", "datatype": "FP32", "shape": [1], "parameters": parameters}


@given(st.lists(st.none() | PLACES, max_size=6))
def test_what_is_sent_belongs_to_the_inputs_that_are_not_in_shared_memory(
    places: list[SharedMemorySlice | None],
) -> None:
    sent = [np.float32(index).tobytes() for index, place in enumerate(places) if place is None]
    over_json = json_request([json_input(*pair) for pair in enumerate(places)], [], b"".join(sent))
    over_grpc = grpc_request([grpc_input(*pair) for pair in enumerate(places)], [], sent)
    for request in (over_json, over_grpc):
        assert [tensor.name for tensor in request.inputs] == [f"x{index}" for index in range(len(places))]
        assert [tensor.shared_memory for tensor in request.inputs] == places
        assert request.uses_shared_memory == any(places)
        for index, tensor in enumerate(request.inputs):
            assert (tensor.datatype, tensor.shape) == (FP32, (1,))
            assert tensor.array is UNREAD if tensor.shared_memory else tensor.array.tolist() == [index]


@given(PLACES)
def test_an_output_in_shared_memory_is_asked_for_alike_over_json_and_grpc(place: SharedMemorySlice) -> None:
    wanted = [{"name": "y", "parameters": parameters_of(place)}, {"name": "z"}]
    for request in (json_request([], wanted), grpc_request([], wanted, [])):
        assert request.outputs == (RequestedOutput("y", shared_memory=place), RequestedOutput("z"))
        assert request.uses_shared_memory


def test_the_offset_is_0_unless_it_is_given() -> None:
    parameters = {"shared_memory_region": "r", "shared_memory_byte_size": 4}
    assert shared_memory_slice(parameters, "input 'x'") == SharedMemorySlice("r", 0, 4)


def test_tensors_that_name_no_region_are_in_none() -> None:
    assert shared_memory_slice({"binary_data": True}, "output 'y'") is None
    assert not json_request([json_input(0, None)], [{"name": "y"}], DATA.tobytes()).uses_shared_memory


WRONG = [
    ({"shared_memory_byte_size": ...}, "'shared_memory_region', which needs 'shared_memory_byte_size' beside it"),
    ({"shared_memory_region": ...}, "'shared_memory_offset', but no 'shared_memory_region' that it belongs to"),
    ({"shared_memory_region": 7}, "'shared_memory_region' of {} must be a string, got the number 7"),
    ({"shared_memory_region": True}, "'shared_memory_region' of {} must be a string, got true"),
    ({"shared_memory_offset": -1}, "'shared_memory_offset' of {} must be an integer from 0 to 18446744073709551615"),
    ({"shared_memory_offset": -(2**63)}, "got the number -9223372036854775808"),
    ({"shared_memory_offset": 0.0}, "must be an integer from 0 to 18446744073709551615, got the number 0.0"),
    ({"shared_memory_offset": "0"}, "must be an integer from 0 to 18446744073709551615, got the string '0'"),
    ({"shared_memory_offset": False}, "must be an integer from 0 to 18446744073709551615, got false"),
    ({"shared_memory_offset": None}, "must be an integer from 0 to 18446744073709551615, got null"),
    ({"shared_memory_byte_size": -1}, "'shared_memory_byte_size' of {} must be an integer from 0"),
    ({"shared_memory_byte_size": 4.0}, "'shared_memory_byte_size' of {} must be an integer from 0"),
    ({"shared_memory_byte_size": True}, "'shared_memory_byte_size' of {} must be an integer from 0"),
]
RIGHT = {"shared_memory_region": "r", "shared_memory_offset": 0, "shared_memory_byte_size": 4}


@pytest.mark.parametrize(("change", "message"), WRONG)
def test_a_place_that_is_none_is_refused_of_inputs_and_outputs_over_json_and_grpc(
    change: Mapping[str, Any], message: str
) -> None:
    parameters = {key: value for key, value in {**RIGHT, **change}.items() if value is not ...}
    tensor = {"name": "x", "datatype": "FP32", "shape": [1], "parameters": parameters}
    output = {"name": "y", "parameters": parameters}
    data = {} if "shared_memory_region" in parameters else {"data": [1]}
    for owner, decode in (
        ("input 'x'", lambda: json_request([tensor | data], [])),
        ("output 'y'", lambda: json_request([], [output])),
        ("input 'x'", lambda: grpc_request([tensor], [], [])),
        ("output 'y'", lambda: grpc_request([], [output], [])),
    ):
        with pytest.raises(InvalidArgument) as raised:
            decode()
        assert message.format(owner) in raised.value.message


@pytest.mark.parametrize("number", [str(2**64), "1" + "0" * 400, "1e400", "NaN"])
def test_numbers_that_no_region_has_are_refused_over_json(number: str) -> None:
    parameters = f'{{"shared_memory_region":"r","shared_memory_byte_size":{number}}}'
    body = f'{{"inputs":[{{"name":"x","datatype":"FP32","shape":[1],"parameters":{parameters}}}]}}'.encode()
    with pytest.raises(InvalidArgument):
        json_codec.decode_request("m", "", body, None)


def test_a_tensor_has_so_many_parameters_at_most() -> None:
    most = {f"p{index}": "mine" for index in range(MAX_TENSOR_PARAMETERS)}
    tensor = {"name": "x", "datatype": "FP32", "shape": [1]}
    for parameters in (most, most | {"one more": 1}):
        for owner, decode in (
            ("input 'x'", lambda: json_request([{**tensor, "parameters": parameters, "data": [1]}], [])),  # noqa: B023
            ("output 'y'", lambda: json_request([], [{"name": "y", "parameters": parameters}])),  # noqa: B023
            ("input 'x'", lambda: grpc_request([{**tensor, "parameters": parameters}], [], [bytes(4)])),  # noqa: B023
            ("output 'y'", lambda: grpc_request([], [{"name": "y", "parameters": parameters}], [])),  # noqa: B023
        ):
            if parameters is most:
                assert decode()
                continue
            with pytest.raises(InvalidArgument, match=f"{owner} has 65 parameters, at most 64 are accepted"):
                decode()


def test_a_request_has_so_many_parameters_at_most() -> None:
    for count, refused in ((MAX_PARAMETERS, False), (MAX_PARAMETERS + 1, True)):
        names = [f"p{index}" for index in range(count)]
        message = ModelInferRequest(parameters={name: {"bool_param": True} for name in names}).SerializeToString()
        body = json.dumps({"inputs": [], "parameters": dict.fromkeys(names, 1)}).encode()
        for decode in (protobuf_codec.decode_request, lambda body: json_codec.decode_request("m", "", body, None)):
            data = message if decode is protobuf_codec.decode_request else body
            if refused:
                with pytest.raises(InvalidArgument, match="the request has 257 parameters, at most 256 are accepted"):
                    decode(data)
            else:
                assert len(decode(data).parameters) == count


def test_classes_and_shared_memory_exclude_each_other() -> None:
    wanted = [{"name": "y", "parameters": {**RIGHT, "classification": 2}}]
    for decode in (lambda: json_request([], wanted), lambda: grpc_request([], wanted, [])):
        with pytest.raises(InvalidArgument, match="can't set both 'shared_memory_region' and 'classification'"):
            decode()


def test_an_input_has_one_source_only() -> None:
    place = SharedMemorySlice("r", 0, 4)
    for more in ({"data": [1]}, {"parameters": {**parameters_of(place), "binary_data_size": 4}}):
        with pytest.raises(InvalidArgument, match="Input 'x0' sets 2 of them"):
            json_request([json_input(0, place) | more], [], b"abcd" * ("parameters" in more))
    typed = grpc_input(0, place) | {"contents": {"fp32_contents": [1]}}
    with pytest.raises(InvalidArgument, match="contents field must not be specified when using shared memory for 'x0'"):
        grpc_request([typed], [], [])


def test_raw_contents_without_an_input_to_belong_to_are_refused() -> None:
    place = SharedMemorySlice("r", 0, 4)
    with pytest.raises(InvalidArgument, match="Expected 0 raw_input_contents"):
        grpc_request([grpc_input(0, place)], [], [b"abcd"])
    with pytest.raises(InvalidArgument, match="unable to find data for input tensor 'x1'"):
        grpc_request([grpc_input(0, place), grpc_input(1, None)], [], [])
    with pytest.raises(InvalidArgument, match="unexpected additional input data"):
        json_request([json_input(0, place)], [], b"abcd")


OUTPUTS = [(FP32, DATA), (BYTES, np.array([b"word"], np.object_))]


@pytest.mark.parametrize(("datatype", "array"), OUTPUTS)
def test_a_response_does_not_carry_what_is_in_shared_memory(datatype: Datatype, array: np.ndarray) -> None:
    shared = Tensor("a", datatype, (1,), array, SharedMemorySlice("r", 0, 100))
    response = InferenceResponse("m", "1", "", (shared, Tensor("b", FP32, (1,), DATA)))
    request = InferenceRequest("m", outputs=(RequestedOutput("a", binary=True), RequestedOutput("b", binary=True)))
    encoded = json_codec.encode_response(response, request)
    assert encoded.header_length is not None
    assert encoded.body[encoded.header_length :] == DATA.tobytes()
    listed = json.loads(encoded.body[: encoded.header_length])["outputs"]
    # Clients of Triton fail on parameters without a size in them.
    assert listed[0] == {"name": "a", "datatype": datatype.name, "shape": [1]}
    # They look an output up by its place among the raw ones.
    message = ModelInferResponse.FromString(protobuf_codec.encode_response(response))
    assert [output.name for output in message.outputs] == ["a", "b"]
    assert list(message.raw_output_contents) == [b"", DATA.tobytes()]
    assert not message.outputs[0].parameters


def test_a_response_all_of_whose_outputs_are_in_shared_memory_is_plain_json() -> None:
    shared = Tensor("a", FP32, (1,), DATA, SharedMemorySlice("r", 0, 100))
    encoded = json_codec.encode_response(InferenceResponse("m", "1", "", (shared,)), InferenceRequest("m"))
    assert encoded.header_length is None
    assert json.loads(encoded.body)["outputs"] == [{"name": "a", "datatype": "FP32", "shape": [1]}]
