"""Round trips of requests: what a client encodes, as JSON, as binary or both, decodes to the same tensors."""

import json

import numpy as np
import numpy.typing as npt
import pytest
import tritonclient.http as triton
from hypothesis import given
from hypothesis import strategies as st

from ortolan.errors import InvalidArgument
from ortolan.inference import datatypes
from ortolan.inference.bytes_elements import encode_elements
from ortolan.inference.datatypes import DATATYPES, Datatype
from ortolan.inference.request import RequestedOutput, Tensor
from ortolan.inference.tensor_spec import ModelSignature, TensorSpec
from ortolan.protocol.json_codec import decode_raw_request, decode_request, is_raw_request

FLAT, NESTED, BINARY = "flat", "nested", "binary"
SHAPES = st.lists(st.integers(0, 4), max_size=3).map(tuple)


@st.composite
def tensors(draw, datatype: Datatype, text_only: bool = False) -> Tensor:
    """Any tensor of ``datatype``; every pattern of bits occurs, NaN and infinities among them."""
    shape = draw(SHAPES)
    count = int(np.prod(shape, dtype=int))
    if datatype is datatypes.BYTES:
        element = st.text(max_size=6).map(str.encode) if text_only else st.binary(max_size=6)
        elements = draw(st.lists(element, min_size=count, max_size=count))
        return Tensor("x", datatype, shape, np.array(elements, np.object_).reshape(shape))
    bits = draw(st.binary(min_size=count * datatype.size_bytes, max_size=count * datatype.size_bytes))
    array = np.frombuffer(bits, datatype.numpy) if datatype is not datatypes.BOOL else np.frombuffer(bits, "u1") > 127
    return Tensor("x", datatype, shape, array.reshape(shape))


@st.composite
def placed_tensors(draw) -> tuple[Tensor, str]:
    form = draw(st.sampled_from([FLAT, NESTED, BINARY]))
    datatype = draw(st.sampled_from(DATATYPES))
    return draw(tensors(datatype, text_only=form != BINARY)), form


def json_data(tensor: Tensor, nested: bool) -> object:
    array: npt.NDArray[np.generic] = tensor.array if nested and tensor.shape else tensor.array.ravel()
    if tensor.datatype is datatypes.BF16:
        array = datatypes.float32_from_bf16(array)
    if tensor.datatype is datatypes.BYTES:
        array = np.array([word.decode() for word in array.ravel()], np.object_).reshape(array.shape)
    return array.tolist()


def encode(placed: list[tuple[Tensor, str]], **rest: object) -> tuple[bytes, str]:
    """A request with these tensors, named by their position; body and header."""
    inputs, parts = [], []
    for index, (tensor, form) in enumerate(placed):
        entry = {"name": f"x{index}", "datatype": tensor.datatype.name, "shape": list(tensor.shape)}
        if form == BINARY:
            is_bytes = tensor.datatype is datatypes.BYTES
            parts.append(encode_elements(tensor.array) if is_bytes else tensor.array.tobytes())
            entry["parameters"] = {"binary_data_size": len(parts[-1])}
        else:
            entry["data"] = json_data(tensor, nested=form == NESTED)
        inputs.append(entry)
    text = json.dumps({"inputs": inputs, **rest}, ensure_ascii=False).encode()
    return b"".join([text, *parts]), str(len(text))


def assert_same(got: Tensor, wanted: Tensor, any_nan: bool) -> None:
    assert got.datatype is wanted.datatype
    assert got.shape == got.array.shape == wanted.shape
    assert got.array.dtype == wanted.array.dtype
    if wanted.datatype is datatypes.BYTES:
        assert got.array.tolist() == wanted.array.tolist()
        return
    nan = np.zeros(wanted.shape, np.bool_)
    if any_nan and wanted.datatype.is_float:
        is_bf16 = wanted.datatype is datatypes.BF16
        values = (datatypes.float32_from_bf16(t.array) if is_bf16 else t.array for t in (wanted, got))
        nan, got_nan = map(np.isnan, values)
        assert np.array_equal(nan, got_nan)
    assert got.array[~nan].tobytes() == wanted.array[~nan].tobytes()


@given(st.lists(placed_tensors(), max_size=4))
def test_every_mix_of_json_and_binary_inputs_decodes_to_the_same_tensors(placed):
    body, header = encode(placed)
    request = decode_request("m", "", body, header)
    assert [tensor.name for tensor in request.inputs] == [f"x{index}" for index in range(len(placed))]
    for got, (wanted, form) in zip(request.inputs, placed, strict=True):
        assert_same(got, wanted, any_nan=form != BINARY)


@pytest.mark.parametrize("datatype", DATATYPES, ids=lambda datatype: datatype.name)
@given(data=st.data())
def test_every_datatype_survives_json_without_a_header(datatype, data):
    tensor = data.draw(tensors(datatype, text_only=True))
    body, _ = encode([(tensor, FLAT)])
    assert_same(decode_request("m", "", body, None).inputs[0], tensor, any_nan=True)


@pytest.mark.parametrize("datatype", DATATYPES, ids=lambda datatype: datatype.name)
@given(data=st.data())
def test_every_datatype_survives_a_raw_request(datatype, data):
    elements = data.draw(st.lists(st.just(0), max_size=5))
    if datatype is datatypes.BYTES:
        body, dims, shape, array = b"a\0b", (1,), (1,), np.array([b"a\0b"], np.object_)
    else:
        shape = (len(elements), 2)
        body = bytes(len(elements) * 2 * datatype.size_bytes)
        dims, array = (-1, 2), np.zeros(shape, datatype.numpy)
    for max_batch_size, rows in ((0, ()), (4, (1,))):
        signature = ModelSignature("m", max_batch_size, (TensorSpec("x", datatype, dims),), ())
        request = decode_raw_request("m", "3", body, signature)
        wanted = Tensor("x", datatype, rows + shape, array.reshape(rows + shape))
        assert_same(request.inputs[0], wanted, any_nan=False)
        assert request.binary_by_default
        assert (request.model_name, request.model_version, request.inputs[0].name) == ("m", "3", "x")


def test_the_triton_client_is_understood():
    numbers = np.arange(6, dtype=np.float32).reshape(2, 3)
    words = np.array([[b"caf\xc3\xa9", b""]], np.object_)
    inputs = [triton.InferInput("n", [2, 3], "FP32"), triton.InferInput("w", [1, 2], "BYTES")]
    inputs[0].set_data_from_numpy(numpy_array := numbers)
    inputs[1].set_data_from_numpy(words, binary_data=False)
    outputs = [triton.InferRequestedOutput("a"), triton.InferRequestedOutput("b", binary_data=False, class_count=3)]
    body, size = triton.InferenceServerClient.generate_request_body(
        inputs, outputs=outputs, request_id="7", priority=2, timeout=90, parameters={"mine": 1.5}
    )
    request = decode_request("m", "1", body, str(size))
    assert request.id == "7"
    assert np.array_equal(request.inputs[0].array, numpy_array)
    assert request.inputs[1].array.tolist() == words.tolist()
    assert request.outputs == (RequestedOutput("a", binary=True), RequestedOutput("b", class_count=3))
    assert request.parameters == {"priority": 2, "timeout": 90, "mine": 1.5}
    assert not request.binary_by_default


def test_the_triton_client_without_outputs_asks_for_all_of_them_in_binary():
    tensor = triton.InferInput("n", [1], "INT8")
    tensor.set_data_from_numpy(np.array([1], np.int8))
    body, size = triton.InferenceServerClient.generate_request_body([tensor])
    request = decode_request("m", "", body, str(size))
    assert request.binary_by_default
    assert request.outputs == ()
    assert request.parameters == {}


def test_binary_tensors_are_views_of_the_body():
    body, header = encode([(Tensor("x", datatypes.FP32, (3,), np.ones(3, np.float32)), BINARY)])
    array = decode_request("m", "", body, header).inputs[0].array
    assert np.shares_memory(array, np.frombuffer(body, np.uint8))
    assert not array.flags.writeable


def test_any_byte_but_zero_is_true():
    text = b'{"inputs":[{"name":"x","datatype":"BOOL","shape":[4],"parameters":{"binary_data_size":4}}]}'
    array = decode_request("m", "", text + b"\x00\x01\x02\xff", str(len(text))).inputs[0].array
    assert array.tobytes() == b"\x00\x01\x01\x01"


@pytest.mark.parametrize(
    ("shape", "data"),
    [
        ([4], "[1,2,3,4]"),
        ([2, 2], "[1,2,3,4]"),
        ([4], "[[1,2],[3,4]]"),
        ([2, 2], "[[[[1,2,3,4]]]]"),
        ([1, 4], "[[1],[2],[3],[4]]"),
    ],
)
def test_the_count_of_json_data_decides_and_not_its_nesting(shape, data):
    body = f'{{"inputs":[{{"name":"x","datatype":"INT16","shape":{shape},"data":{data}}}]}}'.encode()
    assert decode_request("m", "", body, None).inputs[0].array.tolist() == np.arange(1, 5).reshape(shape).tolist()


def test_whole_numbers_are_fine_where_floats_are_expected():
    body = b'{"inputs":[{"name":"x","datatype":"FP32","shape":[3],"data":[1,2.5,18446744073709551615]}]}'
    assert decode_request("m", "", body, None).inputs[0].array.tolist() == [1.0, 2.5, 2.0**64]


@pytest.mark.parametrize("datatype", ["FP16", "BF16", "FP32", "FP64"])
def test_nan_and_infinity_are_accepted_as_triton_accepts_them(datatype):
    body = b'{"inputs":[{"name":"NaN","datatype":"%s","shape":[4],"data":[NaN,Infinity,-Infinity,1]}]}'
    array = decode_request("m", "", body % datatype.encode(), None).inputs[0].array
    values = datatypes.float32_from_bf16(array) if datatype == "BF16" else array
    assert np.array_equal(values, [np.nan, np.inf, -np.inf, 1], equal_nan=True)


def test_unknown_members_are_ignored_and_the_last_of_duplicates_wins():
    body = b"""{"id":"a","id":"b","more":{"x":[null]},"parameters":{"a":true,"b":"c","d":-1,"e":0.5},
        "inputs":[{"name":"x","datatype":"INT8","shape":[],"data":[1],"parameters":{"also":null},"x":1}],
        "outputs":[{"name":"y","parameters":{"binary_data":true,"classification":2,"z":[]}},{"name":"v"}]}"""
    request = decode_request("m", "", body, None)
    assert request.id == "b"
    assert request.parameters == {"a": True, "b": "c", "d": -1, "e": 0.5}
    assert request.outputs == (RequestedOutput("y", binary=True, class_count=2), RequestedOutput("v"))
    assert request.inputs[0].array.shape == ()


@pytest.mark.parametrize(
    ("header", "raw"),
    [
        (None, False),
        ("0", True),
        ("00", True),
        ("", False),
        ("10", False),
        ("ten", False),
        ("-0", False),
        ("0x0", False),
    ],
)
def test_only_a_header_that_says_zero_makes_a_raw_request(header, raw):
    assert is_raw_request(header) is raw


@pytest.mark.parametrize(
    ("datatype", "dims", "size", "message"),
    [
        ("FP32", [(2,), (2,)], 8, "exactly one input, but model 'm' has 2"),
        ("FP32", [], 8, "exactly one input, but model 'm' has 0"),
        ("FP32", [(-1, -1)], 8, "2 of its dimensions are variable"),
        ("FP32", [(2,)], 7, "Expected 8, got 7"),
        ("FP32", [(2,)], 0, "Expected 8, got 0"),
        ("FP32", [(-1, 2)], 12, "Expected a multiple of 8, got 12"),
        ("FP32", [(-1, 0)], 4, "Expected a multiple of 0, got 4"),
        ("BYTES", [(2,)], 8, "must have the shape [1], but it has [2]"),
        ("BYTES", [(-1,)], 8, "must have the shape [1], but it has [-1]"),
    ],
)
def test_a_raw_request_that_the_model_cannot_take_is_refused(datatype, dims, size, message):
    specs = tuple(TensorSpec(f"x{index}", datatypes.BY_NAME[datatype], each) for index, each in enumerate(dims))
    with pytest.raises(InvalidArgument) as raised:
        decode_raw_request("m", "", bytes(size), ModelSignature("m", 0, specs, ()))
    assert message in raised.value.message
