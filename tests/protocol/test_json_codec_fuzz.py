"""Whatever a client sends, decoding gives a request with sound tensors or raises InvalidArgument, and nothing else."""

import json

from hypothesis import example, given
from hypothesis import strategies as st

from ortolan.errors import InvalidArgument
from ortolan.inference.datatypes import DATATYPES
from ortolan.inference.tensor_spec import ModelSignature, TensorSpec
from ortolan.protocol.json_codec import decode_raw_request, decode_request

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=5) | st.just("\ud800"),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=12,
)
PATHS = st.sampled_from(
    [
        ("id",),
        ("parameters",),
        ("parameters", "binary_data_output"),
        ("parameters", "mine"),
        ("inputs",),
        ("inputs", 0),
        *((("inputs", 0, key)) for key in ("name", "datatype", "shape", "data", "parameters", "more")),
        ("inputs", 0, "shape", 0),
        ("inputs", 0, "data", 1),
        ("inputs", 0, "parameters", "binary_data_size"),
        ("outputs",),
        ("outputs", 0),
        ("outputs", 0, "name"),
        ("outputs", 0, "parameters"),
        ("outputs", 0, "parameters", "classification"),
        ("outputs", 0, "parameters", "binary_data"),
    ]
)


@given(PATHS, JSON_VALUES, st.sampled_from(DATATYPES), st.none() | st.text(alphabet="0123456789x-", max_size=6))
def test_whatever_value_stands_in_whatever_place_only_invalid_argument_is_raised(path, value, datatype, header):
    document: dict = {
        "id": "1",
        "parameters": {},
        "inputs": [{"name": "x", "datatype": datatype.name, "shape": [2], "data": [1, 0], "parameters": {}}],
        "outputs": [{"name": "y", "parameters": {}}],
    }
    place = document
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    only_invalid_argument(json.dumps(document).encode(), header)


@given(
    st.binary(max_size=60) | JSON_VALUES.map(lambda value: json.dumps(value).encode()), st.none() | st.text(max_size=4)
)
@example(b'{"inputs":[],"a":-', None)
@example(b"NaN", None)
@example(b'{"NaN":"\\', None)
def test_whatever_bytes_come_only_invalid_argument_is_raised(body, header):
    only_invalid_argument(body, header)


@given(st.binary(max_size=40), st.sampled_from(DATATYPES), st.lists(st.integers(-1, 3), max_size=3), st.integers(0, 1))
def test_whatever_bytes_come_raw_only_invalid_argument_is_raised(body, datatype, dims, max_batch_size):
    signature = ModelSignature("m", max_batch_size, (TensorSpec("x", datatype, tuple(dims)),), ())
    try:
        tensor = decode_raw_request("m", "", body, signature).inputs[0]
    except InvalidArgument:
        return
    assert tensor.array.shape == tensor.shape


def only_invalid_argument(body: bytes, header: str | None) -> None:
    try:
        request = decode_request("m", "", body, header)
    except InvalidArgument as error:
        error.message.encode()
        return
    for tensor in request.inputs:
        assert tensor.array.shape == tensor.shape
        assert tensor.array.dtype == tensor.datatype.numpy
