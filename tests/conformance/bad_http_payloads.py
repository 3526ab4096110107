"""Bad HTTP payloads and what each is refused with. The rows are numbered as in our list of bad input."""

import gzip
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from conformance.wire import HEADER_LENGTH

MIB = 1 << 20
LIMIT = MIB  # of the server that these are sent to
INFER = "/v2/models/batched/infer"
X: dict[str, Any] = {"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}


@dataclass(frozen=True)
class Case:
    row: int
    what: str
    body: Any
    said: str
    status: int = 400
    path: str = INFER
    headers: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.row}: {self.what}"


def changed(**members: Any) -> bytes:
    """A good request to ``batched`` with other members in its input; None takes one away."""
    fields = {key: value for key, value in {**X, **members}.items() if value is not None}
    return json.dumps({"inputs": [fields]}).encode()


def asking(**members: Any) -> bytes:
    """A good request to ``batched`` with more members beside its input."""
    return json.dumps({"inputs": [X], **members}).encode()


def text(datatype: str, data: str, shape: str = "[1,1]") -> bytes:
    return f'{{"inputs":[{{"name":"x","datatype":"{datatype}","shape":{shape},"data":{data}}}]}}'.encode()


def to(datatype: str) -> str:
    return f"/v2/models/any_{datatype.lower()}/infer"


def nested(depth: int) -> bytes:
    """A JSON object with arrays and objects ``depth`` deep."""
    return b'{"a":' * (depth // 2) + b"[" * (depth - depth // 2) + b"]" * (depth - depth // 2) + b"}" * (depth // 2)


SIZED = json.dumps({"inputs": [{**X, "data": None, "parameters": {"binary_data_size": 16}}]}).replace(
    '"data": null, ', ""
)
HEAD = SIZED.encode()


def sized(row: int, what: str, length: str, rest: bytes, said: str) -> Case:
    """A binary request whose header says ``length``, with ``rest`` after its JSON."""
    return Case(row, what, HEAD + rest, said, headers={HEADER_LENGTH: length})


def framed(row: int, what: str, part: bytes, shape: list[int], said: str) -> Case:
    """A binary request with BYTES."""
    fields = {"name": "x", "datatype": "BYTES", "shape": shape, "parameters": {"binary_data_size": len(part)}}
    head = json.dumps({"inputs": [fields]}).encode()
    return Case(row, what, head + part, said, path=to("BYTES"), headers={HEADER_LENGTH: str(len(head))})


OVER = f"exceeds the maximum allowed input size of {LIMIT} bytes. Use --http-max-input-size"
TOO_DEEP = "nested too deep: at most 100 levels are accepted"
JSON_ROUTES = [
    INFER,
    "/v2/repository/index",
    "/v2/repository/models/batched/load",
    "/v2/repository/models/batched/unload",
    "/v2/models/batched/generate",
    "/v2/models/batched/generate_stream",
    "/v1/models/batched:predict",
    "/v2/logging",
    "/v2/trace/setting",
    "/v2/models/batched/trace/setting",
]

MISTYPED: list[tuple[str, Any]] = [
    ("priority", -1),
    ("priority", "1"),
    ("priority", True),
    ("timeout", 1.5),
    ("timeout", 2**64),
    ("sequence_id", -1),
    ("sequence_id", "x" * 129),
    ("sequence_id", 2**64),
    ("sequence_start", 1),
    ("sequence_end", "true"),
]

CASES = [
    Case(25, "a body over the limit", b" " * (LIMIT + 1), OVER),
    Case(25, "declared far over the limit", b" " * (LIMIT * 2), OVER),
    Case(26, "a gzip bomb", gzip.compress(bytes(64 * MIB)), OVER, headers={"Content-Encoding": "gzip"}),
    Case(26, "a deflate bomb", zlib.compress(bytes(64 * MIB)), OVER, headers={"Content-Encoding": "deflate"}),
    Case(
        26,
        "a bomb of many members",
        gzip.compress(bytes(LIMIT // 4)) * 64,
        OVER,
        headers={"Content-Encoding": "gzip"},
    ),
    *(
        Case(27, name, asking(), "Unsupported compression type", 415, headers={"Content-Encoding": name})
        for name in ("br", "zstd", "banana", "gzip, gzip")
    ),
    sized(28, "a header length past the body", str(len(HEAD) + 17), bytes(16), f"in range (0, {len(HEAD) + 16})"),
    sized(28, "a negative header length", "-1", bytes(16), "decimal number, got: '-1'"),
    sized(28, "a header length in words", "ten", bytes(16), "decimal number, got: 'ten'"),
    sized(28, "a header length that is no integer", "1e2", bytes(16), "decimal number, got: '1e2'"),
    sized(28, "a header length in other digits", "¹²", bytes(16), "decimal number"),
    sized(29, "a header length of eleven digits", "99999999999", bytes(16), "in range (0, "),
    sized(29, "a header length past 64 bits", "9" * 30, bytes(16), "in range (0, "),
    sized(30, "fewer bytes than announced", str(len(HEAD)), bytes(15), "expecting 1 additional bytes"),
    sized(30, "more bytes than announced", str(len(HEAD)), bytes(17), "unexpected additional input data"),
    Case(30, "bytes announced and none sent", SIZED.encode(), "expecting 16 additional bytes"),
    Case(30, "a size that is not the tensor's", HEAD.replace(b"16", b"12"), "Expected 16, got 12"),
    Case(30, "a negative size", HEAD.replace(b"16", b"-16"), "Expected 16, got -16"),
    Case(30, "a size past 64 bits", HEAD.replace(b"16", b"18446744073709551632"), "binary_data_size"),
    Case(31, "an empty body", b"", "got an empty body"),
    Case(31, "blanks", b" \n", "failed to parse"),
    Case(31, "JSON that is cut off", asking()[:-1], "failed to parse"),
    Case(31, "two documents", asking() + asking(), "failed to parse"),
    Case(31, "an array", b"[]", "must be an object, got an array"),
    Case(31, "no inputs", b"{}", "no 'inputs'"),
    Case(32, "a number past a double", text("FP64", "[1e999]"), "", path=to("FP64")),
    Case(32, "a number past a float", text("FP32", "[1e39]"), "too large for FP32", path=to("FP32")),
    Case(32, "a number past a half", text("FP16", "[65520]"), "too large for FP16", path=to("FP16")),
    Case(32, "a number past a bfloat", text("BF16", "[3.4e38]"), "too large for BF16", path=to("BF16")),
    Case(32, "a large number beside a NaN", text("FP64", "[NaN,-1e999]", "[1,2]"), "1e999", path=to("FP64")),
    Case(32, "NaN for an integer", text("INT32", "[NaN]"), "an integer from", path=to("INT32")),
    Case(32, "another spelling of infinity", text("FP32", "[inf]"), "failed to parse", path=to("FP32")),
    Case(34, "nesting of 101", b'{"inputs":' + nested(100) + b"}", TOO_DEEP),
    Case(34, "nesting of 120", b'{"inputs":' + nested(119) + b"}", TOO_DEEP),
    *(Case(35, f"nesting of 250,000 to {path}", nested(250_000), TOO_DEEP, path=path) for path in JSON_ROUTES),
    Case(35, "brackets that never close", b"[" * 250_000, TOO_DEEP),
    Case(36, "an integer of 5,000 digits", text("INT64", f"[{'9' * 5000}]"), "", path=to("INT64")),
    Case(
        36, "an integer of 5,000 digits beside a NaN", text("FP64", f"[NaN,{'9' * 5000}]", "[1,2]"), "", path=to("FP64")
    ),
    Case(36, "a shape of 5,000 digits", text("FP32", "[1]", f"[{'9' * 5000}]"), "", path=to("FP32")),
    Case(37, "2^64 for INT64", text("INT64", "[18446744073709551616]"), "an integer from -", path=to("INT64")),
    Case(37, "2^63 for INT64", text("INT64", "[9223372036854775808]"), "an integer from -", path=to("INT64")),
    Case(37, "2^64 for UINT64", text("UINT64", "[18446744073709551616]"), "an integer from 0", path=to("UINT64")),
    Case(37, "-1 for UINT8", text("UINT8", "[-1]"), "an integer from 0 to 255", path=to("UINT8")),
    Case(37, "300 for INT8", text("INT8", "[300]"), "an integer from -128 to 127", path=to("INT8")),
    Case(37, "1.5 for INT32", text("INT32", "[1.5]"), "an integer from -", path=to("INT32")),
    Case(37, "1.0 for INT32", text("INT32", "[1.0]"), "an integer from -", path=to("INT32")),
    *(
        Case(39, f"true for {datatype}", text(datatype, "[true]"), "element 0 of input 'x' must be", path=to(datatype))
        for datatype in ("INT64", "UINT8", "FP16", "BF16", "FP32", "FP64", "BYTES")
    ),
    Case(39, "1 for BOOL", text("BOOL", "[1]"), "must be true or false", path=to("BOOL")),
    Case(39, "null for a number", text("FP32", "[null]"), "must be a number", path=to("FP32")),
    Case(39, "a string for a number", text("FP32", '["1"]'), "must be a number", path=to("FP32")),
    Case(39, "true among numbers", text("FP32", "[1,2,true]", "[1,3]"), "element 2 of input 'x'", path=to("FP32")),
    Case(40, "a lone surrogate", text("BYTES", r'["\ud800"]'), "", path=to("BYTES")),
    Case(40, "a lone surrogate beside a NaN", text("BYTES", r'["\udc00", "NaN"]', "[1,2]"), "", path=to("BYTES")),
    Case(
        40,
        "a string that is not UTF-8",
        text("BYTES", '["?"]').replace(b"?", b"\xff"),
        "not valid UTF-8",
        path=to("BYTES"),
    ),
    Case(40, "a key that is not UTF-8", b'{"\xed\xa0\x80":1}', "not valid UTF-8"),
    Case(
        42,
        "2^64 elements and more",
        text("FP32", "[1]", f"[{2**4},{2**60 + 2}]"),
        "element count overflow",
        path=to("FP32"),
    ),
    Case(
        43,
        "2^64 bytes and more",
        text("FP32", "[1]", f"[{2**2},{2**60 + 2}]"),
        "element count overflow",
        path=to("FP32"),
    ),
    Case(
        43,
        "no elements, but an overflow",
        text("FP32", "[]", f"[0,{2**62}]"),
        "element count overflow",
        path=to("FP32"),
    ),
    Case(44, "a negative dimension", changed(shape=[-1, 4]), "must not be negative, got -1"),
    Case(44, "two negative dimensions", changed(shape=[-1, -4]), "must not be negative, got -1"),
    Case(44, "a dimension that is no integer", changed(shape=[1.0, 4]), "must be an integer"),
    Case(44, "a dimension that is true", changed(shape=[True, 4]), "must be an integer, got true"),
    Case(44, "1,000 dimensions", changed(shape=[1] * 1000), "has 1000 dimensions, at most 32"),
    Case(45, "fewer elements than the shape has", changed(data=[1, 2, 3]), "needs 4, got 3"),
    Case(45, "more elements than the shape has", changed(data=[1] * 40), "needs 4, got 40"),
    Case(45, "ragged elements", changed(data=[[1, 2], [3]]), "ragged"),
    Case(45, "elements that are no array", changed(data=7), "must be an array, got the number 7"),
    framed(46, "a length past the end", b"\x05\0\0\0abcd", [1, 1], "incomplete string"),
    framed(46, "a length of 4 GiB", b"\xff\xff\xff\xffabcd", [1, 1], "incomplete string"),
    framed(46, "half a length", b"\x01\0\0\0a\x01\0", [1, 1], "incomplete string length indicator"),
    framed(47, "too few elements", b"\0\0\0\0", [1, 2], "expects 2 string elements, but its 4 bytes hold at most 1"),
    framed(47, "too many elements", b"\0\0\0\0" * 3, [1, 2], "unexpected number of string elements"),
    Case(49, "an unknown input", changed(name="nope"), "unexpected inference input 'nope' for model 'batched'"),
    Case(49, "no input", asking(inputs=[]), "missing required input(s) ['x']"),
    Case(49, "an input twice", asking(inputs=[X, X]), "input 'x' already exists in request"),
    Case(49, "an input without a name", changed(name=None), "inputs[0] has no 'name'"),
    Case(49, "a name that is no string", changed(name=7), "'name' of inputs[0] must be a string"),
    Case(50, "an output twice", asking(outputs=[{"name": "y"}] * 2), "output 'y' already exists in request"),
    Case(51, "many outputs", asking(outputs=[{"name": "y"}] * 5000), "lists 5000 outputs, at most 4096 are accepted"),
    Case(51, "many inputs", asking(inputs=[X] * 5000), "lists 5000 inputs, at most 4096 are accepted"),
    Case(52, "another datatype", changed(datatype="FP64"), "data-type is 'FP64', but model 'batched' expects 'FP32'"),
    Case(52, "a datatype that there is not", changed(datatype="FLOAT"), "unknown datatype 'FLOAT'"),
    Case(52, "another rank", changed(shape=[4]), "Expected [-1,4], got [4]"),
    Case(52, "another dimension", changed(shape=[1, 2], data=[1, 2]), "Expected [-1,4], got [1,2]"),
    Case(53, "five rows of four", changed(shape=[5, 4], data=[0] * 20), "batch-size must be <= 4"),
    Case(53, "no rows", changed(shape=[0, 4], data=[]), "has no rows"),
    *(
        Case(
            54,
            f"{count!r} classes",
            asking(outputs=[{"name": "y", "parameters": {"classification": count}}]),
            "classif",
        )
        for count in (0, -1, 1.5, "2", True, None)
    ),
    Case(55, "a reserved parameter", asking(parameters={"triton_x": 1}), "starting with 'triton_' are reserved"),
    Case(55, "a stream's parameter", asking(parameters={"triton_final_response": True}), "'triton_' are reserved"),
    Case(
        55, "a reserved header", asking(), "the header 'triton_x' cannot become a parameter", headers={"triton_x": "1"}
    ),
    Case(55, "a sequence in a header", asking(), "the header 'sequence_id' cannot", headers={"sequence_id": "7"}),
    *(
        Case(55, f"{key} {value!r}", asking(parameters={key: value}), f"request parameter '{key}' must be")
        for key, value in MISTYPED
    ),
    *(
        Case(
            55, f"a parameter that is {value!r}", asking(parameters={"mine": value}), "parameter 'mine' of the request"
        )
        for value in (None, [], {})
    ),
    Case(55, "parameters that are no object", asking(parameters=[]), "'parameters' of the request must be an object"),
    Case(55, "a form that is no boolean", asking(parameters={"binary_data_output": 1}), "must be true or false"),
    Case(57, "an id of a million characters", asking(id="x" * 1_000_000), "id has 1000000 characters, at most 1024"),
    Case(57, "an id that is no string", asking(id=7), "'id' of the request must be a string"),
]
