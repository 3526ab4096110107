"""Responses: what the codec writes is what the client reads, as JSON or as binary, whichever it asked for."""

import json

import numpy as np
import pytest
import tritonclient.http as triton
from hypothesis import given
from hypothesis import strategies as st

from ortolan.errors import InvalidArgument
from ortolan.inference import datatypes
from ortolan.inference.datatypes import DATATYPES, Array, Datatype
from ortolan.inference.request import InferenceRequest, InferenceResponse, RequestedOutput, Tensor
from ortolan.protocol.json_codec import EncodedResponse, decode_request, encode_response

SHAPES = st.lists(st.integers(0, 4), max_size=3).map(tuple)


@st.composite
def outputs(draw, datatype: Datatype) -> Tensor:
    shape = draw(SHAPES)
    count = int(np.prod(shape, dtype=int))
    if datatype is datatypes.BYTES:
        elements = draw(st.lists(st.text(max_size=6).map(str.encode), min_size=count, max_size=count))
        return tensor(datatype, np.array(elements, np.object_).reshape(shape))
    bits = draw(st.binary(min_size=count * datatype.size_bytes, max_size=count * datatype.size_bytes))
    flat = np.frombuffer(bits, "u1") > 127 if datatype is datatypes.BOOL else np.frombuffer(bits, datatype.numpy)
    return tensor(datatype, flat.reshape(shape))


def tensor(datatype: Datatype, array: Array, name: str = "y") -> Tensor:
    return Tensor(name, datatype, array.shape, array)


def encode(*tensors: Tensor, request: InferenceRequest | None = None, **fields: object) -> EncodedResponse:
    return encode_response(InferenceResponse("m", "3", "", tensors, **fields), request or InferenceRequest("m"))


def as_request(encoded: EncodedResponse) -> tuple[bytes, str | None]:
    """A response's outputs have the form of a request's inputs, so the decoder can read them back."""
    size = len(encoded.body) if encoded.header_length is None else encoded.header_length
    text = encoded.body[:size].replace(b'"outputs":', b'"inputs":', 1)
    return text + encoded.body[size:], str(len(text))


@pytest.mark.parametrize("binary", [False, True], ids=["json", "binary"])
@pytest.mark.parametrize("datatype", DATATYPES, ids=lambda datatype: datatype.name)
@given(data=st.data())
def test_every_output_is_read_back_exactly(datatype, binary, data):
    wanted = data.draw(outputs(datatype))
    encoded = encode(wanted, request=InferenceRequest("m", binary_by_default=binary))
    got = decode_request("m", "", *as_request(encoded)).inputs[0]
    assert (got.name, got.datatype, got.shape) == ("y", datatype, wanted.shape)
    if datatype is datatypes.BYTES:
        assert got.array.tolist() == wanted.array.tolist()
    elif datatype.is_float and not binary:
        ours, theirs = (
            datatypes.float32_from_bf16(t.array) if datatype is datatypes.BF16 else t.array for t in (got, wanted)
        )
        assert np.array_equal(ours, theirs, equal_nan=True)
    else:
        assert got.array.tobytes() == wanted.array.tobytes()


@pytest.mark.parametrize("binary", [False, True], ids=["json", "binary"])
@pytest.mark.parametrize("name", ["BOOL", "INT8", "UINT64", "FP16", "FP32", "FP64", "BYTES"])
@given(data=st.data())
def test_the_triton_client_reads_what_was_answered(name, binary, data):
    wanted = data.draw(outputs(datatypes.BY_NAME[name]).filter(lambda drawn: drawn.array.size > 0))
    encoded = encode(wanted, request=InferenceRequest("m", binary_by_default=binary))
    result = triton.InferResult.from_response_body(encoded.body, header_length=encoded.header_length)
    got = result.as_numpy("y")
    if name == "BYTES" and not binary:
        got = np.array([word.encode() for word in got.ravel()], np.object_).reshape(got.shape)
    assert got.shape == wanted.shape
    assert got.tolist() == wanted.array.tolist() or np.array_equal(got, wanted.array, equal_nan=True)


def test_binary_parts_follow_in_the_order_of_the_outputs():
    a, b, c = (tensor(datatypes.INT8, np.array([n, n], np.int8), name) for n, name in ((1, "a"), (2, "b"), (3, "c")))
    request = InferenceRequest(
        "m", outputs=(RequestedOutput("a", True), RequestedOutput("b"), RequestedOutput("c", True))
    )
    encoded = encode(a, b, c, request=request)
    text = (
        b'{"model_name":"m","model_version":"3","outputs":['
        b'{"name":"a","datatype":"INT8","shape":[2],"parameters":{"binary_data_size":2}},'
        b'{"name":"b","datatype":"INT8","shape":[2],"data":[2,2]},'
        b'{"name":"c","datatype":"INT8","shape":[2],"parameters":{"binary_data_size":2}}]}'
    )
    assert encoded == EncodedResponse((text, b"\1\1", b"\3\3"), len(text))
    assert encoded.body == text + b"\1\1\3\3"


def test_listed_outputs_ignore_the_default_of_the_request():
    request = InferenceRequest("m", outputs=(RequestedOutput("y"),), binary_by_default=True)
    assert encode(tensor(datatypes.INT8, np.array([1], np.int8)), request=request).header_length is None


def test_a_response_without_a_binary_byte_is_all_json():
    encoded = encode(
        tensor(datatypes.FP32, np.zeros((0, 2), "<f4")), request=InferenceRequest("m", binary_by_default=True)
    )
    assert encoded.header_length is None
    entry = json.loads(encoded.body)["outputs"][0]
    assert entry == {"name": "y", "datatype": "FP32", "shape": [0, 2], "parameters": {"binary_data_size": 0}}


def test_id_and_parameters_are_written_where_there_are_any():
    response = InferenceResponse("m", "3", "seven", (), {"final": True, "n": 1})
    document = json.loads(encode_response(response, InferenceRequest("m")).body)
    assert document == {
        "id": "seven", "model_name": "m", "model_version": "3", "parameters": {"final": True, "n": 1}, "outputs": []
    }  # fmt: skip
    assert set(json.loads(encode().body)) == {"model_name", "model_version", "outputs"}


@pytest.mark.parametrize("name", ["FP16", "BF16", "FP32", "FP64"])
def test_nan_and_infinities_are_written_as_triton_writes_them(name):
    values = np.array([np.nan, np.inf, -np.inf, 0.5])
    datatype = datatypes.BY_NAME[name]
    array = datatypes.bf16_from_float32(values.astype("f4")) if name == "BF16" else values.astype(datatype.numpy)
    assert b'"data":[NaN,Infinity,-Infinity,0.5]' in encode(tensor(datatype, array)).body


def test_the_word_null_in_an_answer_changes_nothing():
    words = tensor(datatypes.BYTES, np.array([b"null"], np.object_), "null")
    numbers = tensor(datatypes.FP32, np.array([0.1], "<f4"))
    assert [entry["data"] for entry in json.loads(encode(words, numbers).body)["outputs"]] == [["null"], [0.1]]


def test_arrays_that_do_not_lie_in_order_are_written_in_order():
    base = np.arange(12, dtype="<f4").reshape(3, 4)
    unaligned = np.ndarray((2,), "<f4", b"\0" + np.array([1, 2], "<f4").tobytes(), 1)
    for array in (base.T, base[:, 1], base[::-1, ::2], unaligned):
        assert json.loads(encode(tensor(datatypes.FP32, array)).body)["outputs"][0]["data"] == array.ravel().tolist()
        encoded = encode(tensor(datatypes.FP32, array), request=InferenceRequest("m", binary_by_default=True))
        assert encoded.body[encoded.header_length :] == array.tobytes()


def test_bytes_that_are_no_text_cannot_be_json_and_the_client_learns_what_to_do():
    words = tensor(datatypes.BYTES, np.array([b"\xff"], np.object_))
    with pytest.raises(InvalidArgument, match=r"output 'y' has bytes that are not UTF-8.*'binary_data': true"):
        encode(words)
    assert encode(words, request=InferenceRequest("m", binary_by_default=True)).body.endswith(b"\1\0\0\0\xff")
