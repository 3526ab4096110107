"""The generate extension's flat objects: what becomes a tensor, of which shape, and what is written back."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ortolan.errors import InvalidArgument
from ortolan.inference import datatypes
from ortolan.inference.datatypes import DATATYPES, Array
from ortolan.inference.request import InferenceResponse, Tensor
from ortolan.inference.tensor_spec import ModelSignature, TensorSpec
from ortolan.protocol.generate_codec import decode_request, encode_response, event, shape_for

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=5) | st.just("\ud800"),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=12,
)


def signature(*inputs: TensorSpec, max_batch_size: int = 0) -> ModelSignature:
    return ModelSignature("m", max_batch_size, inputs, ())


def spec(name: str = "x", datatype: str = "FP32", dims: tuple[int, ...] = (-1,), optional: bool = False) -> TensorSpec:
    return TensorSpec(name, datatypes.BY_NAME[datatype], dims, optional)


TEXT = signature(spec("text", "BYTES", (1,)), spec("n", "INT32", (1,), optional=True), max_batch_size=8)


def refusal(body: bytes, model: ModelSignature) -> str:
    with pytest.raises(InvalidArgument) as raised:
        decode_request("m", "", body, model)
    assert len(raised.value.message) < 600
    return raised.value.message


def answer(*tensors: Tensor, request_id: str = "", **parameters: bool | int | float | str) -> bytes:
    return encode_response(InferenceResponse("m", "3", request_id, tensors, parameters))


def output(datatype: str, array: Array, name: str = "y") -> Tensor:
    return Tensor(name, datatypes.BY_NAME[datatype], array.shape, array)


def test_members_called_as_inputs_are_tensors_and_the_others_parameters():
    body = (
        b'{"text":"caf\xc3\xa9","id":"7","n":[3],"temperature":0.5,"parameters":{"priority":1,"stop":true},"who":"me"}'
    )
    request = decode_request("m", "2", body, TEXT)
    assert (request.model_name, request.model_version, request.id) == ("m", "2", "7")
    text, n = request.inputs
    assert (text.name, text.shape, text.array.tolist()) == ("text", (1, 1), [["café".encode()]])
    assert (n.name, n.shape, n.array.tolist(), n.array.dtype) == ("n", (1, 1), [[3]], np.int32)
    assert request.parameters == {"temperature": 0.5, "who": "me", "priority": 1, "stop": True}
    assert (request.outputs, request.binary_by_default) == ((), False)


def test_parameters_may_hold_inputs_as_triton_has_it():
    request = decode_request("m", "", b'{"text":"a","parameters":{"n":4,"id":"of the model","top":2}}', TEXT)
    assert [(tensor.name, tensor.array.tolist()) for tensor in request.inputs] == [("text", [[b"a"]]), ("n", [[4]])]
    assert (request.id, request.parameters) == ("", {"id": "of the model", "top": 2})


def test_of_two_parameters_with_one_name_the_nested_one_counts():
    assert decode_request("m", "", b'{"text":"a","top":1,"parameters":{"top":2}}', TEXT).parameters == {"top": 2}


def test_an_input_given_twice_is_refused_like_everywhere():
    request = decode_request("m", "", b'{"text":"a","parameters":{"text":"b"}}', TEXT)
    with pytest.raises(InvalidArgument, match="input 'text' already exists in request"):
        TEXT.check(request)


def test_an_input_may_be_called_id_or_parameters():
    model = signature(spec("id", "INT64", (1,)), spec("parameters", "FP64", (2,)))
    request = decode_request("m", "", b'{"id":9,"parameters":[1,2]}', model)
    assert [tensor.array.tolist() for tensor in request.inputs] == [[9], [1.0, 2.0]]
    assert (request.id, request.parameters) == ("", {})


@pytest.mark.parametrize(
    ("count", "declared", "shape"),
    [
        (1, (), ()),
        (2, (), None),
        (1, (1,), (1,)),
        (6, (2, 3), (2, 3)),
        (3, (2, 3), None),
        (6, (-1,), (6,)),
        (0, (-1,), (0,)),
        (6, (-1, 3), (2, 3)),
        (7, (-1, 3), None),
        # The last of several takes the rest: a batching model's row of any length.
        (6, (-1, -1), (1, 6)),
        (6, (-1, -1, 3), (1, 2, 3)),
        (6, (-1, 2, -1), (1, 2, 3)),
        (1, (-1, -1, -1), (1, 1, 1)),
        (0, (-1, -1), (1, 0)),
        # Nothing fills nothing.
        (0, (0,), (0,)),
        (0, (-1, 0), (1, 0)),
        (1, (-1, 0), None),
        (1, (0, 2), None),
    ],
)
def test_the_last_variable_dimension_takes_what_the_fixed_ones_leave(count, declared, shape):
    assert shape_for(count, declared) == shape


def test_twice_the_values_of_a_row_are_two_rows():
    request = decode_request("m", "", b'{"x":[1,2,3,4]}', signature(spec(dims=(2,)), max_batch_size=8))
    assert request.inputs[0].array.tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize("value", ["[1,2,3,4]", "[[1,2],[3,4]]", "[[[1],[2],[3],[4]]]"])
def test_nested_values_count_in_their_order(value):
    request = decode_request("m", "", f'{{"x":{value}}}'.encode(), signature(spec(dims=(2, -1))))
    assert request.inputs[0].array.tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize("datatype", ["FP16", "BF16", "FP32", "FP64"])
def test_nan_and_infinities_are_taken_and_given_as_tokens(datatype):
    request = decode_request("m", "", b'{"x":[NaN,-Infinity,0.5]}', signature(spec(datatype=datatype)))
    (tensor,) = request.inputs
    assert answer(tensor) == b'{"model_name":"m","model_version":"3","x":[NaN,-Infinity,0.5]}'
    one = decode_request("m", "", b'{"x":NaN}', signature(spec(datatype=datatype))).inputs[0]
    assert answer(one).endswith(b'"x":NaN}')


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "expected an object with a value for each input of model 'm', got an empty body"),
        (b"{", "failed to parse"),
        (b"[]", "must be an object, got an array of 0"),
        (b'{"id":7}', "'id' of the request must be a string, got the number 7"),
        (b'{"parameters":[]}', "'parameters' of the request must be an object"),
        (b'{"parameters":null}', "'parameters' of the request must be an object, got null"),
        (b'{"parameters":{"a":{}}}', "'a' is no input of model 'm' (its inputs are ['text', 'n'])"),
        (b'{"a":[1]}', "parameter it must be a string, a number or a boolean, got an array of 1"),
        (b'{"a":null}', "'a' is no input of model 'm'"),
        (b'{"triton_x":1}', "parameter keys starting with 'triton_' are reserved"),
        (b'{"parameters":{"triton_x":1}}', "reserved and cannot be sent: got 'triton_x'"),
        (b'{"text":1}', "element 0 of input 'text' must be a string, because the datatype is BYTES, got the number 1"),
        (b'{"text":{"b64":""}}', "must be a string, because the datatype is BYTES, got an object"),
        (b'{"text":null}', "got null"),
        (b'{"text":["a",["b"]]}', "element 1 of input 'text' must be a string"),
        (b'{"text":[["a","b"],["c"]]}', "the value of input 'text' is ragged"),
        (b'{"n":"1"}', "element 0 of input 'n' must be an integer"),
        (b'{"n":1.0}', "got the number 1.0"),
        (b'{"n":true}', "got true"),
        (b'{"n":2147483648}', "an integer from -2147483648 to 2147483647"),
    ],
)
def test_what_is_no_request_is_refused(body, message):
    assert message in refusal(body, TEXT)


def test_a_count_that_no_shape_has_is_refused_in_tritons_words():
    message = refusal(b'{"x":[1,2,3]}', signature(spec(dims=(2, -1))))
    assert "The schema can not convert input 'x' to tensor with proper shape" in message
    assert "takes [2, -1], which 3 values do not fill" in message


def test_the_answer_is_flat_and_single_elements_are_unwrapped():
    text = answer(
        output("BYTES", np.array([["caf\u00e9".encode()]], np.object_), "text"),
        output("FP32", np.array([[0.1, 2]], "f4"), "scores"),
        output("FP32", np.array([[0.1]], "f4"), "score"),
        output("INT64", np.array(7), "n"),
        output("BOOL", np.zeros((0, 2), np.bool_), "none"),
        request_id="42",
    )
    assert text.decode() == (
        '{"id":"42","model_name":"m","model_version":"3","text":"café","scores":[0.1,2.0],"score":0.1,"n":7,"none":[]}'
    )


def test_parameters_of_the_answer_stand_beside_its_outputs_which_count_more():
    document = json.loads(
        answer(output("INT8", np.array([1], "i1"), "a"), output("INT8", np.array([2], "i1"), "id"), a=5, b="c")
    )
    assert document == {"id": 2, "model_name": "m", "model_version": "3", "a": 1, "b": "c"}


def test_bytes_that_are_no_text_cannot_be_answered_and_the_client_learns_what_to_do():
    with pytest.raises(InvalidArgument, match=r"output 'y' has bytes that are not UTF-8.*'infer'.*'binary_data': true"):
        answer(output("BYTES", np.array([b"\xff"], np.object_)))


def test_an_event_is_one_line_whatever_the_text():
    words = output("BYTES", np.array([b"a\n\r\ndata: b\xe2\x80\xa8"], np.object_))
    sent = event(answer(words))
    assert sent.startswith(b"data: {")
    assert sent.endswith(b"}\n\n")
    assert not {10, 13} & set(sent[:-2])
    assert json.loads(sent[6:])["y"] == "a\n\r\ndata: b\u2028"


@pytest.mark.parametrize("datatype", DATATYPES, ids=lambda datatype: datatype.name)
@given(data=st.data())
def test_what_is_answered_can_be_asked_again(datatype, data):
    count = data.draw(st.integers(0, 5))
    if datatype is datatypes.BYTES:
        elements = data.draw(st.lists(st.text(max_size=6).map(str.encode), min_size=count, max_size=count))
        array: Array = np.array(elements, np.object_)
    else:
        bits = data.draw(st.binary(min_size=count * datatype.size_bytes, max_size=count * datatype.size_bytes))
        array = np.frombuffer(bits, "u1") > 127 if datatype is datatypes.BOOL else np.frombuffer(bits, datatype.numpy)
    text = encode_response(InferenceResponse("m", "3", "", (Tensor("x", datatype, array.shape, array),)))
    request = decode_request("m", "", text, signature(spec(datatype=datatype.name)))
    assert request.parameters == {"model_name": "m", "model_version": "3"}
    got = request.inputs[0].array
    if datatype.is_float:
        is_bf16 = datatype is datatypes.BF16
        ours, theirs = (datatypes.float32_from_bf16(a) if is_bf16 else a for a in (got, array))
        assert np.array_equal(ours, theirs, equal_nan=True)
    else:
        assert got.tolist() == array.tolist()


@given(
    st.binary(max_size=60)
    | st.dictionaries(
        st.sampled_from(["x", "id", "parameters", "a"]) | st.text(max_size=5), JSON_VALUES, max_size=4
    ).map(lambda members: json.dumps(members).encode()),
    st.sampled_from(DATATYPES),
    st.lists(st.integers(-1, 3), max_size=3),
    st.integers(0, 1),
)
def test_whatever_bytes_come_only_invalid_argument_is_raised(body, datatype, dims, max_batch_size):
    model = ModelSignature("m", max_batch_size, (TensorSpec("x", datatype, tuple(dims)),), ())
    try:
        request = decode_request("m", "", body, model)
    except InvalidArgument as error:
        error.message.encode()
        return
    for tensor in request.inputs:
        assert tensor.array.shape == tensor.shape
        assert tensor.array.dtype == tensor.datatype.numpy


IRIS = ModelSignature("iris", 8, (spec("features", "FP32", (4,)),), ())


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            b'{"feature":[1,2,3,4]}',
            "'feature' is no input of model 'iris' (its inputs are ['features']), and as a parameter it must be a "
            "string, a number or a boolean, got an array of 4",
        ),
        (
            b'{"feature":1,"parameters":{"k":2}}',
            "the required input(s) ['features'] of model 'iris' are missing, and it has no input called 'feature', "
            "'k', which became parameters; its inputs are ['features']",
        ),
        (
            b'{"a":1,"b":1,"c":1,"d":1,"e":1,"f":1}',
            "the required input(s) ['features'] of model 'iris' are missing, and it has no input called 'a', 'b', 'c', "
            "'d', 'e' or 1 others, which became parameters; its inputs are ['features']",
        ),
    ],
)
def test_a_member_that_was_to_be_an_input_is_named(body, message):
    assert refusal(body, IRIS) == message
