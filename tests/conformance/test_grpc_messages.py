"""gRPC inference messages as they are: typed and raw contents, parameters, and what a response is made of."""

import struct
from typing import Any

import grpc
import numpy as np
import pytest
from conformance.exchange import NUMPY
from conformance.wire import Grpc

from ortolan.inference.datatypes import DATATYPES
from ortolan.protocol import protobuf_messages as messages

FLOAT = struct.pack("<4f", 1, 2, 3, 4)

# The field of InferTensorContents for each datatype that has one, and values at the ends of its range.
TYPED: dict[str, tuple[str, list[Any]]] = {
    "BOOL": ("bool_contents", [True, False]),
    "UINT8": ("uint_contents", [0, 2**8 - 1]),
    "UINT16": ("uint_contents", [0, 2**16 - 1]),
    "UINT32": ("uint_contents", [0, 2**32 - 1]),
    "UINT64": ("uint64_contents", [0, 2**64 - 1]),
    "INT8": ("int_contents", [-(2**7), 2**7 - 1]),
    "INT16": ("int_contents", [-(2**15), 2**15 - 1]),
    "INT32": ("int_contents", [-(2**31), 2**31 - 1]),
    "INT64": ("int64_contents", [-(2**63), 2**63 - 1]),
    "FP32": ("fp32_contents", [float("-inf"), float(np.float32(0.1))]),
    "FP64": ("fp64_contents", [float("nan"), 0.1]),
    "BYTES": ("bytes_contents", [b"", b"any \xff\0"]),
}


def request_of(model: str, *inputs: dict[str, Any], raw: tuple[bytes, ...] = (), **fields: Any) -> Any:
    return messages.ModelInferRequest(model_name=model, inputs=inputs, raw_input_contents=raw, **fields)


def batched(**fields: Any) -> Any:
    return request_of("batched", {"name": "x", "datatype": "FP32", "shape": [1, 4]}, raw=(FLOAT,), **fields)


@pytest.mark.parametrize("datatype", TYPED)
def test_typed_contents_are_taken_to_the_ends_of_their_range(grpc_: Grpc, datatype: str) -> None:
    field, values = TYPED[datatype]
    tensor = {"name": "x", "datatype": datatype, "shape": [1, 2], "contents": {field: values}}
    response = grpc_.infer(request_of(f"any_{datatype.lower()}", tensor))
    if datatype == "BYTES":
        expected = b"".join(struct.pack("<I", len(value)) + value for value in values)
    else:
        expected = np.array(values, NUMPY[datatype]).tobytes()
    # What comes back is raw, whatever went in (fact 5).
    assert [*response.raw_output_contents] == [expected]
    (output,) = response.outputs
    assert (output.name, output.datatype, [*output.shape]) == ("y", datatype, [1, 2])
    assert not output.HasField("contents")


def test_every_datatype_but_two_has_typed_contents() -> None:
    assert {datatype.name for datatype in DATATYPES} - set(TYPED) == {"FP16", "BF16"}


@pytest.mark.parametrize(
    ("datatype", "field", "value", "said"),
    [
        ("FP16", "fp32_contents", 1.0, "FP16 data cannot be sent in an input's contents. Use raw_input_contents"),
        ("BF16", "fp32_contents", 1.0, "BF16 data cannot be sent in an input's contents. Use raw_input_contents"),
        ("INT8", "int_contents", 128, "128"),
        ("INT8", "int_contents", -129, "-129"),
        ("INT16", "int_contents", 2**15, "32768"),
        ("UINT8", "uint_contents", 256, "256"),
        ("UINT16", "uint_contents", 2**16, "65536"),
        ("INT64", "int_contents", 1, "unexpected int_contents for input 'x'"),
        ("FP32", "fp64_contents", 1.0, "unexpected fp64_contents for input 'x'"),
    ],
)
def test_typed_contents_that_do_not_fit_are_refused(
    grpc_: Grpc, datatype: str, field: str, value: Any, said: str
) -> None:
    tensor = {"name": "x", "datatype": datatype, "shape": [1, 1], "contents": {field: [value]}}
    request = request_of(f"any_{datatype.lower()}", tensor)
    code, details = grpc_.refusal("ModelInfer", request.SerializeToString())
    assert (code, said in details) == ("INVALID_ARGUMENT", True), details


def test_a_response_has_one_raw_content_for_each_output_in_their_order(grpc_: Grpc) -> None:
    a, b = np.array([1, 2, 3, 4], np.int32), np.array([5, 6, 7, 8], np.int32)
    inputs = [{"name": name, "datatype": "INT32", "shape": [1, 4]} for name in "ab"]
    outputs = [{"name": "difference"}, {"name": "sum"}]
    response = grpc_.infer(request_of("pair", *inputs, raw=(a.tobytes(), b.tobytes()), outputs=outputs, id="7"))
    assert [output.name for output in response.outputs] == ["difference", "sum"]
    assert [*response.raw_output_contents] == [(a - b).tobytes(), (a + b).tobytes()]
    assert (response.model_name, response.model_version, response.id) == ("pair", "1", "7")
    assert len(response.parameters) == 0


def test_an_output_without_elements_has_an_empty_raw_content(grpc_: Grpc) -> None:
    tensor = {"name": "x", "datatype": "FP32", "shape": [0, 3], "contents": {}}
    assert [*grpc_.infer(request_of("any_fp32", tensor)).raw_output_contents] == [b""]


@pytest.mark.parametrize("order", [False, True])
def test_the_parameter_for_binary_data_means_nothing_here(grpc_: Grpc, order: bool) -> None:
    wanted = {"name": "y", "parameters": {"binary_data": {"bool_param": order}}}
    assert [*grpc_.infer(batched(outputs=[wanted])).raw_output_contents] == [FLOAT]


# -- parameters --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("mine", {"bool_param": True}),
        ("mine", {"int64_param": -(2**63)}),
        ("mine", {"uint64_param": 2**64 - 1}),  # Triton has no word for it and refuses it.
        ("mine", {"double_param": 0.5}),
        ("mine", {"string_param": "größer"}),
        ("priority", {"int64_param": 0}),
        ("priority", {"uint64_param": 1}),
        ("timeout", {"int64_param": 10**6}),
        ("sequence_id", {"int64_param": 7}),
        ("sequence_id", {"uint64_param": 2**64 - 1}),
        ("sequence_id", {"string_param": "x" * 128}),
        ("sequence_start", {"bool_param": True}),
        ("sequence_end", {"bool_param": False}),
        # Fact 7: perf_analyzer sends it with every request.
        ("triton_enable_empty_final_response", {"bool_param": True}),
        ("triton_enable_empty_final_response", {"bool_param": False}),
    ],
)
def test_parameters_of_every_type_are_taken(grpc_: Grpc, key: str, value: dict[str, Any]) -> None:
    request = batched(parameters={key: value})
    assert [*grpc_.infer(request).raw_output_contents] == [FLOAT]
    (streamed,) = grpc_.stream(request.SerializeToString())
    assert (streamed.error_message, [*streamed.infer_response.raw_output_contents]) == ("", [FLOAT])
    # There is no empty response after it either: that is for models which answer several times.
    assert [*streamed.infer_response.parameters] == ["triton_final_response"]


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("mine", {}, "has no value"),
        ("priority", {"int64_param": -1}, "request parameter 'priority' must be a whole number"),
        ("priority", {"string_param": "1"}, "request parameter 'priority' must be a whole number"),
        ("timeout", {"double_param": 1.0}, "request parameter 'timeout' must be a whole number"),
        ("timeout", {"bool_param": True}, "request parameter 'timeout' must be a whole number"),
        ("sequence_id", {"int64_param": -1}, "request parameter 'sequence_id' must be a whole number"),
        ("sequence_id", {"string_param": "x" * 129}, "a text of at most 128 characters"),
        ("sequence_id", {"bool_param": True}, "request parameter 'sequence_id' must be"),
        ("sequence_start", {"int64_param": 1}, "request parameter 'sequence_start' must be true or false"),
        ("sequence_end", {"string_param": "true"}, "request parameter 'sequence_end' must be true or false"),
        ("triton_enable_empty_final_response", {"int64_param": 1}, "must be a bool_param"),
        ("triton_final_response", {"bool_param": True}, "'triton_' are reserved"),
        ("triton_x", {"string_param": "1"}, "'triton_' are reserved"),
    ],
)
def test_parameters_with_a_meaning_are_of_their_type(grpc_: Grpc, key: str, value: dict[str, Any], said: str) -> None:
    data = batched(parameters={key: value}).SerializeToString()
    code, details = grpc_.refusal("ModelInfer", data)
    assert (code, said in details) == ("INVALID_ARGUMENT", True), details
    (streamed,) = grpc_.stream(data)
    assert streamed.error_message == details


# -- streams -----------------------------------------------------------------------------------------------------------


def test_answers_and_errors_of_a_stream_come_in_the_order_of_their_requests(grpc_: Grpc) -> None:
    wrong = request_of("nobody", id="wrong").SerializeToString()
    sent = [wrong if index % 7 == 3 else batched(id=str(index)).SerializeToString() for index in range(100)]
    came = grpc_.stream(*sent)
    assert [response.infer_response.id for response in came] == [
        "wrong" if index % 7 == 3 else str(index) for index in range(100)
    ]
    for index, response in enumerate(came):
        # Fact 30: each says that it is the last for its request.
        assert response.infer_response.parameters["triton_final_response"].bool_param is True
        unknown = "Request for unknown model: 'nobody' is not found; the repository index lists the models"
        said = unknown if index % 7 == 3 else ""
        assert response.error_message == said


@pytest.mark.parametrize("value", ["true", "TRUE"])
def test_a_stream_that_asks_for_it_ends_with_the_first_errors_status(grpc_: Grpc, value: str) -> None:
    wrong = request_of("batched", id="7").SerializeToString()
    with pytest.raises(grpc.RpcError) as ended:
        grpc_.stream(wrong, metadata={"triton_grpc_error": value})
    assert ended.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert ended.value.details().startswith("[request id: 7] expected 1 inputs but got 0 inputs")
    (told,) = grpc_.stream(wrong, metadata={"triton_grpc_error": "false"})
    assert told.error_message == ended.value.details()
