"""Bad requests: each is refused as InvalidArgument with a message that says what is wrong, and nothing else happens."""

import json

import pytest

from ortolan.errors import InvalidArgument
from ortolan.protocol.json_codec import decode_request


def refusal(body: bytes, header: str | None = None) -> str:
    with pytest.raises(InvalidArgument) as raised:
        decode_request("m", "", body, header)
    assert len(raised.value.message) < 600
    return raised.value.message


def with_input(**fields: object) -> bytes:
    """A request whose only input is good but for ``fields``; a field that is ``...`` is left out."""
    entry = {"name": "x", "datatype": "INT32", "shape": [1], "data": [1], **fields}
    return json.dumps({"inputs": [{key: value for key, value in entry.items() if value is not ...}]}).encode()


def with_data(datatype: str, data: str, shape: str = "[1]") -> bytes:
    return f'{{"inputs":[{{"name":"x","datatype":"{datatype}","shape":{shape},"data":{data}}}]}}'.encode()


def with_members(**members: object) -> bytes:
    return json.dumps({"inputs": [], **members}).encode()


NESTED = '{"inputs":[],"more":' + "[" * 119 + "]" * 119 + "}"
DEEP = {"depth 120 of arrays": NESTED, "depth 120 of objects": '{"a":' * 120 + "1" + "}" * 120}
PART = b'{"inputs":[{"name":"x","datatype":"FP32","shape":[2],"parameters":{"binary_data_size":8}}]}'


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "expected an object with 'inputs', got an empty body"),
        (b"  ", "failed to parse the request's JSON"),
        (b'{"inputs":[{"name"', "line 1 column 19 (char 18)"),
        (b"[1]", "must be an object, got an array of 1"),
        (b"null", "must be an object, got null"),
        (b'"x"', "must be an object, got the string 'x'"),
        (b"{}", "has no 'inputs'"),
        (b'{"inputs":[]}x', "failed to parse"),
        (b'{"inputs":[],"id":"\xff"}', "not valid UTF-8 at byte 19"),
        (b'{"inputs":[],"id":"\xed\xa0\x80"}', "not valid UTF-8"),
        (b'{"inputs":[],"id":"\\ud800"}', "failed to parse"),
        (b'{"inputs":[],"id":"\\ud800","a":NaN}', "lone surrogate"),
        (b'{"inputs":[],"a":NaN', "line 1 column 21 (char 20)"),
        (b'{"inputs":[],"a":nan}', "failed to parse"),
        (b'{"inputs":[],"a":+Infinity}', "failed to parse"),
        (b"\xef\xbb\xbf{}", "failed to parse"),
        (b'{"inputs":[],"a":1e999}', "infinity"),
        (b'{"inputs":[],"a":[NaN,1e999]}', "too large for a float: '1e999'"),
        (b'{"inputs":[],"a":' + b"9" * 5000 + b"}", "infinity"),
        (b'{"inputs":[],"a":NaN,"b":' + b"9" * 5000 + b"}", "too large for a float"),
        *((text.encode(), "nested too deep: at most 100") for text in DEEP.values()),
        (b"[" * 250_000, "nested too deep"),
        (b"[" * 250_000 + b"NaN", "nested too deep"),
        (b'"' + b'\\"[' * 100_000, "failed to parse"),
    ],
)
def test_text_that_is_no_json_object_is_refused(body, message):
    assert message in refusal(body)


@pytest.mark.parametrize(
    ("body", "header", "message"),
    [
        (PART + bytes(8), "0", "in range (0, 99), got: 0"),
        (PART + bytes(8), "100", "in range (0, 99), got: 100"),
        (PART + bytes(8), "99999999999", "in range (0, 99), got: 99999999999"),
        (PART + bytes(8), "9" * 5000, "in range (0, 99), got: 99999"),
        (PART + bytes(8), "-1", "a decimal number, got: '-1'"),
        (PART + bytes(8), "ten", "a decimal number, got: 'ten'"),
        (PART + bytes(8), "", "a decimal number, got: ''"),
        (PART + bytes(8), "+91", "a decimal number"),
        (PART + bytes(8), "9_1", "a decimal number"),
        (PART + bytes(8), "٩١", "a decimal number"),
        (PART + bytes(8), "9\r\n1", "got: '9\\r\\n1'"),
        (PART + bytes(8), "90", "failed to parse"),
        (PART + bytes(8), "99", "failed to parse"),
        (PART + bytes(8), None, "failed to parse"),
        (PART + bytes(7), "91", "unexpected size for input 'x', expecting 1 additional bytes for model 'm'"),
        (PART, None, "unexpected size for input 'x', expecting 8 additional bytes for model 'm'"),
        (PART + bytes(9), "91", "unexpected additional input data for model 'm': 1 bytes are left"),
        (b'{"inputs":[]}..', "13", "unexpected additional input data for model 'm': 2 bytes"),
        (PART.replace(b'":8', b'":9') + bytes(9), "91", "mismatch for input 'x' for model 'm'. Expected 8, got 9"),
        (PART.replace(b'":8', b'":-8') + bytes(8), "92", "Expected 8, got -8"),
        (PART.replace(b'":8', b'":8.0') + bytes(8), "93", "must be an integer, got the number 8.0"),
        (PART.replace(b'":8', b'":true') + bytes(8), "94", "must be an integer, got true"),
    ],
)
def test_sizes_that_do_not_add_up_are_refused(body, header, message):
    assert message in refusal(body, header)


@pytest.mark.parametrize(
    ("elements", "message"),
    [
        (b"\x05\0\0\0abc\0", "incomplete string data for input 'x': element 0 declares 5 bytes, 4 are left"),
        (b"\xff\xff\xff\xffabcd", "declares 4294967295 bytes"),
        (b"\0\0\0\0\0\0\0\0\0\0\0\0", "number of string elements for input 'x', expecting 2: 4 bytes are left"),
        (b"\x04\0\0\0abcd", "unexpected number of string elements 1 for input 'x', expecting 2"),
        (b"\x02\0\0\0ab\0\0", "incomplete string length indicator for input 'x'"),
        (b"\0\0\0\0", "expects 2 string elements, but its 4 bytes hold at most 1"),
    ],
)
def test_bytes_elements_that_do_not_fill_the_shape_are_refused(elements, message):
    fields = {"datatype": "BYTES", "shape": [2], "data": ..., "parameters": {"binary_data_size": len(elements)}}
    text = with_input(**fields)
    assert message in refusal(text + elements, str(len(text)))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (with_input(name=...), "inputs[0] has no 'name'"),
        (with_input(name=1), "'name' of inputs[0] must be a string, got the number 1"),
        (with_input(datatype=...), "input 'x' has no 'datatype'"),
        (with_input(datatype=["FP32"]), "'datatype' of input 'x' must be a string, got an array of 1"),
        (with_input(datatype="FP33"), "unknown datatype 'FP33'; known are BOOL"),
        (with_input(datatype="A" * 5000), "unknown datatype 'AAAA"),
        (with_input(shape=...), "input 'x' has no 'shape'"),
        (with_input(shape=None), "must be an array of integers, got null"),
        (with_input(shape=1), "must be an array of integers, got the number 1"),
        (with_input(shape=[True]), "must be an integer, got true"),
        (with_input(shape=[1.0]), "must be an integer, got the number 1.0"),
        (with_input(shape=["1"]), "must be an integer, got the string '1'"),
        (with_input(shape=[-1]), "must not be negative, got -1"),
        (with_input(shape=[2**64]), "must be an integer, got the number 1.8446744073709552e+19"),
        (with_input(shape=[2**4, 2**60 + 2]), "element count overflow"),
        (with_input(shape=[2**2, 2**60 + 2], datatype="FP32"), "element count overflow"),
        (with_input(shape=[0, 2**62], data=[]), "element count overflow"),
        (with_input(shape=[0, 2**40, 2**40], data=[]), "element count overflow"),
        (with_input(shape=[1] * 33), "has 33 dimensions, at most 32"),
        (with_input(shape=[2**59]), "needs 576460752303423488, got 1"),
        (with_input(shape=[32], data=list(range(40))), "needs 32, got 40"),
        (with_input(shape=[0]), "needs 0, got 1"),
        (with_input(data=...), "Input must set only one of the following fields"),
        (with_input(parameters={"binary_data_size": 4}), "Input must set only one of the following fields"),
        (with_input(parameters={"shared_memory_region": "r"}), "Input 'x' sets 2 of them"),
        (with_input(parameters=[]), "'parameters' of input 'x' must be an object, got an array of 0"),
        (with_input(parameters=None), "'parameters' of input 'x' must be an object, got null"),
        (with_input(data=None), "'data' of input 'x' must be an array, got null"),
        (with_input(data="1"), "'data' of input 'x' must be an array, got the string '1'"),
        (with_input(data={"0": 1}), "'data' of input 'x' must be an array, got an object"),
        (with_input(shape=[3], data=[[1, 2], [3]]), "'data' of input 'x' is ragged"),
        (with_input(shape=[2], data=[[1], 2]), "'data' of input 'x' is ragged"),
        (with_input(shape=[2], data=[1, [2]]), "element 1 of input 'x' must be an integer"),
        (with_input(shape=[2], data=[["1"], "2"]), "'data' of input 'x' is ragged"),
        (with_input(shape=[1], data=[{"a": 1}]), "element 0 of input 'x' must be an integer"),
    ],
)
def test_an_input_that_is_not_well_formed_is_refused(body, message):
    assert message in refusal(body)


INTEGERS = {
    "INT8": (-(2**7), 2**7 - 1),
    "INT16": (-(2**15), 2**15 - 1),
    "INT32": (-(2**31), 2**31 - 1),
    "INT64": (-(2**63), 2**63 - 1),
    "UINT8": (0, 2**8 - 1),
    "UINT16": (0, 2**16 - 1),
    "UINT32": (0, 2**32 - 1),
    "UINT64": (0, 2**64 - 1),
}


@pytest.mark.parametrize(("datatype", "limits"), INTEGERS.items())
def test_integers_are_taken_to_the_last_one_and_no_further(datatype, limits):
    low, high = limits
    request = decode_request("m", "", with_data(datatype, f"[{low},{high}]", "[2]"), None)
    assert request.inputs[0].array.tolist() == [low, high]
    for beyond in (low - 1, high + 1):
        message = refusal(with_data(datatype, f"[{low},{beyond}]", "[2]"))
        assert f"element 1 of input 'x' must be an integer from {low} to {high}" in message
        assert datatype in message


@pytest.mark.parametrize(
    ("datatypes", "data", "message"),
    [
        (INTEGERS, "[1.5]", "got the number 1.5"),
        (INTEGERS, "[1.0]", "got the number 1.0"),
        (INTEGERS, "[NaN]", "got the number nan"),
        (INTEGERS, "[18446744073709551616]", "got the number 1.8446744073709552e+19"),
        (INTEGERS, '["1"]', "got the string '1'"),
        (INTEGERS, "[null]", "got null"),
        (INTEGERS, "[true]", "got true"),
        (INTEGERS, "[false]", "got false"),
        (["FP16", "BF16", "FP32", "FP64"], "[true]", "must be a number, because the datatype is"),
        (["FP16", "BF16", "FP32", "FP64"], '["1.5"]', "must be a number, because the datatype is"),
        (["FP16", "BF16", "FP32", "FP64"], '["NaN"]', "must be a number, because the datatype is"),
        (["FP16", "BF16", "FP32", "FP64"], "[null]", "got null"),
        (["FP16", "BF16", "FP32", "FP64"], "[{}]", "got an object"),
        (["FP16"], "[65520]", "the number 65520 is too large for FP16"),
        (["FP32", "FP16", "BF16"], "[-1e39]", "element 0 of input 'x' does not fit: the number -1e+39 is too large"),
        (["BF16"], "[3.4e38]", "the number 3.4e+38 is too large for BF16"),
        (["BOOL"], "[1]", "must be true or false, because the datatype is BOOL, got the number 1"),
        (["BOOL"], '["true"]', "must be true or false"),
        (["BOOL"], "[null]", "must be true or false"),
        (["BYTES"], "[1]", "must be a string, because the datatype is BYTES, got the number 1"),
        (["BYTES"], "[null]", "must be a string"),
        (["BYTES"], "[true]", "must be a string"),
    ],
)
def test_json_elements_of_another_type_are_refused(datatypes, data, message):
    for datatype in datatypes:
        assert message in refusal(with_data(datatype, data))


def test_a_boolean_is_found_among_many_numbers():
    for word in ("true", "false"):
        for extra in ("", '"a":"uuuuulllll' + "ul" * 100 + '",'):
            body = with_data("FP32", "[" + "1," * 1000 + word + "]", "[1001]").replace(
                b'"data"', extra.encode() + b'"data"'
            )
            assert f"element 1000 of input 'x' must be a number, because the datatype is FP32, got {word}" in refusal(
                body
            )


def test_infinity_beside_a_number_that_overflows_does_not_hide_it():
    assert "element 1 of input 'x' does not fit" in refusal(with_data("FP16", "[Infinity,1e9]", "[2]"))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (with_members(inputs={}), "'inputs' of the request must be an array of objects, got an object"),
        (with_members(inputs=[1]), "inputs[0] must be an object, got the number 1"),
        (with_members(inputs=[{}] * 4097), "lists 4097 inputs, at most 4096"),
        (with_members(outputs=None), "'outputs' of the request must be an array of objects, got null"),
        (with_members(outputs=["y"]), "outputs[0] must be an object, got the string 'y'"),
        (with_members(outputs=[{"name": "y"}] * 4097), "lists 4097 outputs, at most 4096"),
        (with_members(outputs=[{}]), "outputs[0] has no 'name'"),
        (with_members(outputs=[{"name": None}]), "'name' of outputs[0] must be a string, got null"),
        (with_members(outputs=[{"name": "y", "parameters": 1}]), "'parameters' of output 'y' must be an object"),
        (
            with_members(outputs=[{"name": "y", "parameters": {"binary_data": 1}}]),
            "must be true or false, got the number",
        ),
        (with_members(outputs=[{"name": "y", "parameters": {"classification": 0}}]), "at least 1, got the number 0"),
        (with_members(outputs=[{"name": "y", "parameters": {"classification": True}}]), "at least 1, got true"),
        (
            with_members(outputs=[{"name": "y", "parameters": {"classification": 2.0}}]),
            "at least 1, got the number 2.0",
        ),
        (with_members(id=7), "'id' of the request must be a string, got the number 7"),
        (with_members(id=None), "'id' of the request must be a string, got null"),
        (with_members(parameters=[]), "'parameters' of the request must be an object, got an array of 0"),
        (
            with_members(parameters={"binary_data_output": 1}),
            "'binary_data_output' of the request must be true or false",
        ),
        (
            with_members(parameters={"triton_x": 1}),
            "starting with 'triton_' are reserved and cannot be sent: got 'triton_x'",
        ),
        (with_members(parameters={"a": [1]}), "parameter 'a' of the request must be a string, a number or a boolean"),
        (with_members(parameters={"a": None}), "got null"),
        (with_members(parameters={"a\n": {}}), "parameter 'a\\n' of the request"),
    ],
)
def test_a_request_with_members_of_another_type_is_refused(body, message):
    assert message in refusal(body)
