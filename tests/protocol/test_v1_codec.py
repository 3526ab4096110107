"""KServe's v1 bodies: rows and columns become the same tensors, and outputs rows and columns again."""

import base64
import json

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ortolan.errors import InvalidArgument
from ortolan.inference import datatypes
from ortolan.inference.datatypes import DATATYPES, Array, Datatype
from ortolan.inference.request import InferenceResponse, Tensor
from ortolan.inference.tensor_spec import ModelSignature, TensorSpec
from ortolan.protocol.v1_codec import Columns, Layout, OneInstance, Rows, decode_request, encode_response


def spec(name: str = "x", datatype: str = "FP32", dims: tuple[int, ...] = (2,), optional: bool = False) -> TensorSpec:
    return TensorSpec(name, datatypes.BY_NAME[datatype], dims, optional)


def signature(*inputs: TensorSpec, max_batch_size: int = 0) -> ModelSignature:
    return ModelSignature("m", max_batch_size, inputs, ())


PAIRS = signature(spec(), max_batch_size=8)
NUMBER = signature(spec(dims=(1,)), max_batch_size=8)
WORD = signature(spec(datatype="BYTES", dims=(1,)), max_batch_size=8)
TWO = signature(spec("a", dims=(2,)), spec("b", "INT64", (1,)), max_batch_size=8)
DEFAULTED = signature(spec("a"), spec("b", dims=(1,), optional=True), max_batch_size=8)
TABLE = signature(spec(dims=(-1, 2)))
COLUMN = signature(spec(dims=(-1, 1)))
VECTOR = signature(spec(dims=(-1,)))
THREE = signature(spec(dims=(3,)))
SQUARE = signature(spec(dims=(2, 2)))
SCALAR = signature(spec(dims=()))
TABLE_AND_LIMIT = signature(spec(dims=(-1, 2)), spec("limit", dims=(1,)))
B64_INPUT = signature(spec("b64", "BYTES", (1,)), max_batch_size=8)


def read(body: str | bytes, model: ModelSignature) -> tuple[dict[str, object], Layout]:
    """The values of each input as nested lists, and the layout."""
    request, layout = decode_request("m", "4", body.encode() if isinstance(body, str) else body, model)
    assert (request.model_name, request.model_version, request.id, request.outputs) == ("m", "4", "", ())
    assert request.parameters == {}
    for tensor in request.inputs:
        assert tensor.array.shape == tensor.shape
    return {tensor.name: tensor.array.tolist() for tensor in request.inputs}, layout


def refusal(body: str | bytes, model: ModelSignature) -> str:
    with pytest.raises(InvalidArgument) as raised:
        decode_request("m", "", body.encode() if isinstance(body, str) else body, model)
    assert len(raised.value.message) < 600
    return raised.value.message


@pytest.mark.parametrize(
    ("model", "instances", "wanted", "layout"),
    [
        # A model that batches: each instance is a row.
        (PAIRS, "[[1,2]]", {"x": [[1, 2]]}, Rows(1)),
        (PAIRS, "[[1,2],[3,4],[5,6]]", {"x": [[1, 2], [3, 4], [5, 6]]}, Rows(3)),
        (PAIRS, '[{"x":[1,2]},{"x":[3,4]}]', {"x": [[1, 2], [3, 4]]}, Rows(2)),
        (TWO, '[{"a":[1,2],"b":[3]},{"b":[6],"a":[4,5]}]', {"a": [[1, 2], [4, 5]], "b": [[3], [6]]}, Rows(2)),
        # A last dimension of 1 may be left out.
        (NUMBER, "[1,2,3]", {"x": [[1], [2], [3]]}, Rows(3)),
        (NUMBER, "[[1],[2]]", {"x": [[1], [2]]}, Rows(2)),
        (WORD, '["a","é"]', {"x": [[b"a"], ["é".encode()]]}, Rows(2)),
        (WORD, '[["a"],["b"]]', {"x": [[b"a"], [b"b"]]}, Rows(2)),
        (TWO, '[{"a":[1,2],"b":3}]', {"a": [[1, 2]], "b": [[3]]}, Rows(1)),
        # Optional inputs: the required one is meant, if it is alone; all of them may be named.
        (DEFAULTED, "[[1,2]]", {"a": [[1, 2]]}, Rows(1)),
        (DEFAULTED, '[{"a":[1,2],"b":[3]}]', {"a": [[1, 2]], "b": [[3]]}, Rows(1)),
        # A model that does not: stacked along a first dimension that may vary, or that is their number.
        (TABLE, "[[1,2]]", {"x": [[1, 2]]}, Rows(1)),
        (TABLE, "[[1,2],[3,4],[5,6]]", {"x": [[1, 2], [3, 4], [5, 6]]}, Rows(3)),
        (COLUMN, "[1,2]", {"x": [[1], [2]]}, Rows(2)),
        (VECTOR, "[1,2,3]", {"x": [1, 2, 3]}, Rows(3)),
        (THREE, "[1,2,3]", {"x": [1, 2, 3]}, Rows(3)),
        (SQUARE, "[[1,2],[3,4]]", {"x": [[1, 2], [3, 4]]}, Rows(2)),
        (TABLE_AND_LIMIT, '[{"x":[1,2],"limit":5}]', {"x": [[1, 2]], "limit": [5]}, Rows(1)),
        # One instance that does not fit as a row may be the tensor itself.
        (TABLE, "[[[1,2],[3,4]]]", {"x": [[1, 2], [3, 4]]}, OneInstance()),
        (THREE, "[[1,2,3]]", {"x": [1, 2, 3]}, OneInstance()),
        (SCALAR, "[5]", {"x": 5}, OneInstance()),
        (
            TABLE_AND_LIMIT,
            '[{"x":[[1,2],[3,4]],"limit":[5]}]',
            {"x": [[1, 2], [3, 4]], "limit": [5]},
            OneInstance(),
        ),
        # Bytes that are no text.
        (WORD, '[{"b64":"/w=="},"a"]', {"x": [[b"\xff"], [b"a"]]}, Rows(2)),
        (WORD, '[{"x":{"b64":"/w=="}}]', {"x": [[b"\xff"]]}, Rows(1)),
        (B64_INPUT, '[{"b64":"/w=="}]', {"b64": [[b"/w=="]]}, Rows(1)),
    ],
)
def test_instances_become_rows(model, instances, wanted, layout):
    assert read(f'{{"instances":{instances}}}', model) == (wanted, layout)


@pytest.mark.parametrize(
    ("model", "inputs", "wanted", "layout"),
    [
        (PAIRS, "[[1,2],[3,4]]", {"x": [[1, 2], [3, 4]]}, Columns()),
        (PAIRS, '{"x":[[1,2],[3,4]]}', {"x": [[1, 2], [3, 4]]}, Columns()),
        (TWO, '{"a":[[1,2],[3,4]],"b":[[5],[6]]}', {"a": [[1, 2], [3, 4]], "b": [[5], [6]]}, Columns()),
        (TWO, '{"a":[[1,2],[3,4]],"b":[5,6]}', {"a": [[1, 2], [3, 4]], "b": [[5], [6]]}, Columns()),
        (WORD, '["a",{"b64":"/w=="}]', {"x": [[b"a"], [b"\xff"]]}, Columns()),
        (TABLE, "[[1,2]]", {"x": [[1, 2]]}, Columns()),
        (SCALAR, "5", {"x": 5}, Columns()),
        (signature(spec(datatype="BYTES", dims=())), '{"b64":"/w=="}', {"x": b"\xff"}, Columns()),
        (TABLE_AND_LIMIT, '{"x":[[1,2],[3,4]],"limit":[5]}', {"x": [[1, 2], [3, 4]], "limit": [5]}, Columns()),
        # Rows, as KServe's own servers have it.
        (TWO, '[{"a":[1,2],"b":[3]}]', {"a": [[1, 2]], "b": [[3]]}, Rows(1)),
        (B64_INPUT, '[{"b64":"a"},{"b64":"b"}]', {"b64": [[b"a"], [b"b"]]}, Rows(2)),
    ],
)
def test_inputs_are_the_tensors_themselves(model, inputs, wanted, layout):
    assert read(f'{{"inputs":{inputs}}}', model) == (wanted, layout)


def test_other_members_are_ignored():
    body = '{"signature_name":[1],"parameters":{"triton_x":null},"id":7,"instances":[[1,2]],"explain":true}'
    assert read(body, PAIRS) == ({"x": [[1, 2]]}, Rows(1))


@pytest.mark.parametrize(
    ("model", "body", "message"),
    [
        (PAIRS, "", "expected an object with 'instances', got an empty body"),
        (PAIRS, "{", "failed to parse"),
        (PAIRS, "[[1,2]]", "must be an object, got an array of 1"),
        (PAIRS, "{}", "either 'instances' (a list of rows) or 'inputs' (whole tensors), got neither"),
        (PAIRS, '{"instances":[[1,2]],"inputs":[[1,2]]}', "or 'inputs' (whole tensors), got both"),
        (PAIRS, '{"instances":{"x":[[1,2]]}}', "'instances' of the request must be an array with one value for each"),
        (PAIRS, '{"instances":null}', "got null"),
        (PAIRS, '{"instances":[]}', "'instances' of the request is empty"),
        # Shapes.
        (PAIRS, '{"instances":[[1,2,3]]}', "instances[0]: the value of input 'x' has the shape [3], expected [2]"),
        (PAIRS, '{"instances":[1]}', "instances[0]: the value of input 'x' has the shape [], expected [2]"),
        (PAIRS, '{"instances":[[[1,2]]]}', "instances[0]: the value of input 'x' has the shape [1, 2], expected [2]"),
        (PAIRS, '{"instances":[[1,2],[3]]}', "instances[1]: the value of input 'x' has the shape [1], that of"),
        (PAIRS, '{"instances":[[1,2],[3,4],5]}', "instances[2]: the value of input 'x' has the shape []"),
        (NUMBER, '{"instances":[1,[2]]}', "'x' has the shape [1], that of the first []"),
        (TABLE, '{"instances":[[[1,2],[3,4]],[[1,2],[3,4]]]}', "instances[0]: the value of input 'x' has the"),
        (TABLE, '{"instances":[[[1,2],[3]]]}', "instances[0]: the value of input 'x' is ragged"),
        (THREE, '{"instances":[1,2]}', "input 'x' of model 'm' has the shape [3], which cannot be stacked from 2"),
        (SCALAR, '{"instances":[1,2]}', "cannot be stacked from 2 instance(s): send the whole tensor as 'inputs'"),
        (SCALAR, '{"instances":[[1]]}', "has the shape [], which cannot be stacked from 1"),
        (TABLE_AND_LIMIT, '{"instances":[{"x":[1,2],"limit":5},{"x":[1,2],"limit":5}]}', "input 'limit' of model 'm'"),
        (PAIRS, '{"inputs":[1,2]}', "'inputs': the value of input 'x' has the shape [2], expected [-1, 2]"),
        (PAIRS, '{"inputs":[[1,2],[3]]}', "'inputs': the value of input 'x' is ragged"),
        (PAIRS, '{"inputs":' + "[" * 90 + "]" * 90 + "}", "expected [-1, 2]"),
        # Objects.
        (TWO, '{"instances":[[1,2]]}', "instances[0] must be an object with a value for each input of"),
        (TWO, '{"inputs":[1]}', "'inputs' must be an object with a value for each input of model 'm' ('a', 'b')"),
        (TWO, '{"instances":[{"a":[1,2],"c":3}]}', "which is no input of model 'm'; its inputs are 'a', 'b'"),
        (TWO, '{"inputs":{"c":3}}', "'inputs' names 'c', which is no input"),
        (TWO, '{"instances":[{"a":[1,2],"b":1},{"a":[1,2]}]}', "instances[1] has values for other inputs"),
        (PAIRS, '{"instances":[{"x":[1,2]},[1,2]]}', "instances[1] is an array of 2, instances[0] is an object"),
        (PAIRS, '{"instances":[[1,2],{"x":[1,2]}]}', "instances[1] is an object, instances[0] is an array of 2"),
        (PAIRS, '{"inputs":[[1,2],{"x":[1,2]}]}', "inputs[1] is an object, inputs[0] is an array of 2"),
        (PAIRS, '{"instances":[{"' + "y" * 5000 + '":1}]}', "names 'yyyy"),
        # Elements, counted within their instance.
        (PAIRS, '{"instances":[[1,2],[3,"4"]]}', "instances[1]: element 1 of input 'x' must be a number"),
        (PAIRS, '{"instances":[[1,2],[null,4]]}', "instances[1]: element 0 of input 'x' must be a number"),
        (PAIRS, '{"instances":[[1,[2]]]}', "instances[0]: element 1 of input 'x' must be a number"),
        (PAIRS, '{"instances":[[1,2],[true,4]]}', "instances[1]: element 0 of input 'x' must be a number"),
        (PAIRS, '{"instances":[[1e39,2]]}', "instances[0]: element 0 of input 'x' does not fit"),
        (PAIRS, '{"inputs":[[1,2],[3,{}]]}', "'inputs': element 3 of input 'x' must be a number"),
        (TWO, '{"instances":[{"a":[1,2],"b":1.5}]}', "instances[0]: element 0 of input 'b' must be an integer"),
        (WORD, '{"instances":["a",1]}', "instances[1]: element 0 of input 'x' must be a string or {\"b64\": a string}"),
        (WORD, '{"instances":["a",{"b64":"x"}]}', "instances[1]: 'b64' of element 0 of input 'x' is not base64"),
        (WORD, '{"instances":[{"b64":"é"}]}', "'b64' of element 0 of input 'x' is not base64"),
        (WORD, '{"instances":[{"b64":"YQ=="},{"b64":"Y Q=="}]}', "instances[1]: 'b64' of element 0"),
        (WORD, '{"instances":[{"b64":"YQ"}]}', "is not base64"),
        (WORD, '{"instances":[{"b64":1}]}', "instances[0] names 'b64', which is no input"),
        (PAIRS, '{"instances":[{"b64":"YQ=="}]}', "has the shape [], expected [2]"),
        (NUMBER, '{"instances":[{"b64":"YQ=="}]}', "must be a number, because the datatype is FP32, got an object"),
    ],
)  # fmt: skip
def test_what_is_no_request_is_refused_and_the_instance_named(model, body, message):
    assert message in refusal(body, model)


def test_a_missing_input_is_refused_like_everywhere():
    request, _ = decode_request("m", "", b'{"instances":[{"a":[1,2]}]}', TWO)
    with pytest.raises(InvalidArgument, match=r"missing required input\(s\) \['b'\]"):
        TWO.check(request)


# -- answers -----------------------------------------------------------------------------------------------------------


def output(array: Array, name: str = "y", datatype: str = "FP32") -> Tensor:
    return Tensor(name, datatypes.BY_NAME[datatype], array.shape, array)


def predictions(layout: Layout, *tensors: Tensor) -> object:
    document = json.loads(encode_response(InferenceResponse("m", "4", "", tensors), layout))
    assert [*document] == ["predictions"]
    return document["predictions"]


Y = output(np.array([[0.1, 2], [3, 4]], "f4"))
FLAGS = output(np.array([True, False]), "t", "BOOL")
TURNED = output(np.arange(4, dtype="f4").reshape(2, 2).T)


def words(*elements: bytes) -> Tensor:
    return output(np.array(elements, np.object_), "w", "BYTES")


@pytest.mark.parametrize(
    ("layout", "tensors", "wanted"),
    [
        (Rows(2), [Y], [[0.1, 2.0], [3.0, 4.0]]),
        (Columns(), [Y], [[0.1, 2.0], [3.0, 4.0]]),
        (OneInstance(), [Y], [[[0.1, 2.0], [3.0, 4.0]]]),
        # A dimension of 1 stays, and what is a number a row is one.
        (Rows(2), [output(np.array([[1], [2]], "i4"), "y", "INT32")], [[1], [2]]),
        (Rows(2), [output(np.array([1, 2], "i4"), "y", "INT32")], [1, 2]),
        (Rows(2), [Y, words(b"a", b"b")], [{"y": [0.1, 2.0], "w": "a"}, {"y": [3.0, 4.0], "w": "b"}]),
        (Columns(), [Y, words(b"a", b"b")], {"y": [[0.1, 2.0], [3.0, 4.0]], "w": ["a", "b"]}),
        (OneInstance(), [Y, words(b"a")], [{"y": [[0.1, 2.0], [3.0, 4.0]], "w": ["a"]}]),
        (Rows(2), [FLAGS, Y], [{"t": True, "y": [0.1, 2.0]}, {"t": False, "y": [3.0, 4.0]}]),
        # One instance has one prediction, whatever the outputs are.
        (Rows(1), [output(np.array(5, "f4"))], [5.0]),
        (Rows(1), [output(np.array([5, 6], "f4"))], [[5.0, 6.0]]),
        (Rows(1), [output(np.array([[5, 6]], "f4")), words(b"a", b"b")], [{"y": [5.0, 6.0], "w": ["a", "b"]}]),
        (Columns(), [output(np.array(5, "f4"))], 5.0),
        (Columns(), [output(np.array(b"a", np.object_), "w", "BYTES")], "a"),
        (Columns(), [output(np.zeros((2, 0), "f4"))], [[], []]),
        (Rows(2), [output(np.zeros((2, 0), "f4"))], [[], []]),
        # Bytes that are no text.
        (Rows(2), [words(b"caf\xc3\xa9", b"\xff")], ["café", {"b64": "/w=="}]),
        # Memory that does not lie in order.
        (Rows(2), [TURNED], [[0.0, 2.0], [1.0, 3.0]]),
        (Rows(2), [TURNED, words(b"a", b"b")], [{"y": [0.0, 2.0], "w": "a"}, {"y": [1.0, 3.0], "w": "b"}]),
    ],
)  # fmt: skip
def test_predictions_have_the_form_of_the_request(layout, tensors, wanted):
    assert predictions(layout, *tensors) == wanted


def test_an_output_without_rows_cannot_be_told_apart_by_instance():
    with pytest.raises(
        InvalidArgument, match=r"output 'y' has the shape \[3\], which is not one row for each of the 2"
    ):
        predictions(Rows(2), output(np.zeros(3, "f4")))


@pytest.mark.parametrize("layout", [Rows(2), Columns()])
@pytest.mark.parametrize("datatype", ["FP16", "BF16", "FP32", "FP64"])
def test_nan_and_infinities_are_tokens_and_leave_their_neighbours_as_they_are(layout, datatype):
    numbers = np.array([np.nan, -np.inf], "f4")
    array = datatypes.bf16_from_float32(numbers) if datatype == "BF16" else numbers.astype(f"f{int(datatype[2:]) // 8}")
    tensors = (output(array, "y", datatype), words(b"null", b""), output(np.array([0.1, 0.2], "f4"), "z"))
    text = encode_response(InferenceResponse("m", "4", "", tensors), layout)
    if layout == Columns():
        assert text == b'{"predictions":{"y":[NaN,-Infinity],"w":["null",""],"z":[0.1,0.2]}}'
    else:
        assert text == b'{"predictions":[{"y":NaN,"w":"null","z":0.1},{"y":-Infinity,"w":"","z":0.2}]}'


# -- properties --------------------------------------------------------------------------------------------------------


@st.composite
def arrays(draw, datatype: Datatype) -> Array:
    """One to three rows of one or two dimensions; every pattern of bits occurs."""
    shape = (draw(st.integers(1, 3)), *draw(st.lists(st.integers(1, 3), min_size=1, max_size=2)))
    count = int(np.prod(shape))
    if datatype is datatypes.BYTES:
        elements = draw(st.lists(st.binary(max_size=6), min_size=count, max_size=count))
        return np.array(elements, np.object_).reshape(shape)
    bits = draw(st.binary(min_size=count * datatype.size_bytes, max_size=count * datatype.size_bytes))
    flat = np.frombuffer(bits, "u1") > 127 if datatype is datatypes.BOOL else np.frombuffer(bits, datatype.numpy)
    return flat.reshape(shape)


def same(got: Array, wanted: Array, datatype: Datatype) -> bool:
    if not datatype.is_float:
        return bool(got.tolist() == wanted.tolist())
    if datatype is datatypes.BF16:
        got, wanted = datatypes.float32_from_bf16(got), datatypes.float32_from_bf16(wanted)
    return np.array_equal(got, wanted, equal_nan=True)


@pytest.mark.parametrize("datatype", DATATYPES, ids=lambda datatype: datatype.name)
@given(data=st.data())
def test_what_is_predicted_can_be_asked_again(datatype, data):
    """An answer's ``predictions`` are valid ``instances`` or ``inputs`` for the same shapes."""
    array = data.draw(arrays(datatype))
    names = data.draw(st.sampled_from([("x",), ("x", "z")]))
    layout = data.draw(st.sampled_from([Rows(len(array)), Columns()]))
    batching = data.draw(st.booleans())
    dims = array.shape[1:] if batching else (-1, *array.shape[1:])
    model = signature(*(TensorSpec(name, datatype, dims) for name in names), max_batch_size=8 if batching else 0)
    tensors = tuple(Tensor(name, datatype, array.shape, array) for name in names)
    text = encode_response(InferenceResponse("m", "4", "", tensors), layout)
    key = b'"inputs"' if layout == Columns() else b'"instances"'
    request, got_layout = decode_request("m", "4", text.replace(b'"predictions"', key, 1), model)
    assert got_layout == layout
    assert [tensor.name for tensor in request.inputs] == [*names]
    assert all(same(tensor.array, array, datatype) for tensor in request.inputs)
    assert model.check(request) == (len(array) if batching else 1)


@given(st.lists(st.lists(st.binary(max_size=8), min_size=2, max_size=2), min_size=1, max_size=4))
def test_base64_carries_any_bytes(rows):
    instances = [[{"b64": base64.b64encode(element).decode()} for element in row] for row in rows]
    model = signature(spec(datatype="BYTES"), max_batch_size=8)
    assert read(json.dumps({"instances": instances}), model) == ({"x": rows}, Rows(len(rows)))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=5) | st.just("\ud800"),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["x", "z", "b64"]) | st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(
    st.binary(max_size=60)
    | st.dictionaries(st.sampled_from(["instances", "inputs"]) | st.text(max_size=3), VALUES, max_size=2).map(
        lambda members: json.dumps(members).encode()
    ),
    st.lists(
        st.tuples(st.sampled_from(DATATYPES), st.lists(st.integers(-1, 3), max_size=3), st.booleans()),
        min_size=0,
        max_size=2,
    ),
    st.integers(0, 1),
)
@example(b'{"instances":[[]]}', [(datatypes.BYTES, [-1], False)], 0)
@example(b'{"inputs":{}}', [(datatypes.BYTES, [-1], False)], 0)
@example(b'{"instances":[{}]}', [(datatypes.FP32, [-1], False)], 0)
def test_whatever_bytes_come_only_invalid_argument_is_raised(body, inputs, max_batch_size):
    specs = tuple(
        TensorSpec(name, datatype, tuple(dims), optional)
        for name, (datatype, dims, optional) in zip("xz", inputs, strict=False)
    )
    try:
        request, _ = decode_request("m", "", body, ModelSignature("m", max_batch_size, specs, ()))
    except InvalidArgument as error:
        error.message.encode()
        return
    for tensor in request.inputs:
        assert tensor.array.shape == tensor.shape
        assert tensor.array.dtype == tensor.datatype.numpy
