"""HTTP inference bodies byte for byte: JSON and binary tensors in every mix, raw requests, headers, and the tokens."""

import json
from itertools import product
from typing import Any

import numpy as np
import pytest
from callers import Reply
from conformance.exchange import NUMPY
from conformance.wire import HEADER_LENGTH, Http

NUMBERS = np.array([1.5, -2.0, 0.25], np.float32)
TEXTS = [b"one", b"", "größer".encode()]
TRUTHS = [True, False, True, True]


def framed(texts: list[bytes]) -> bytes:
    """Elements of BYTES as the protocol has them: each after its length in four bytes, little-endian (fact 29)."""
    return b"".join(len(text).to_bytes(4, "little") + text for text in texts)


MIXED: dict[str, tuple[str, list[Any], bytes]] = {
    "numbers": ("FP32", NUMBERS.tolist(), NUMBERS.tobytes()),
    "texts": ("BYTES", [text.decode() for text in TEXTS], framed(TEXTS)),
    "truths": ("BOOL", TRUTHS, bytes([1, 0, 1, 1])),
}
FORMS = list(product([False, True], repeat=3))


def mixed_request(binary: tuple[bool, ...], **members: Any) -> tuple[dict[str, Any], list[bytes]]:
    """The request to ``mixed`` with some of its inputs after the JSON."""
    inputs, parts = [], []
    for (name, (datatype, elements, data)), after in zip(MIXED.items(), binary, strict=True):
        form = {"parameters": {"binary_data_size": len(data)}} if after else {"data": elements}
        inputs.append({"name": name, "datatype": datatype, "shape": [len(elements)], **form})
        parts += [data] if after else []
    return {"inputs": inputs, **members}, parts


def tensors_of(reply: Reply) -> dict[str, tuple[bool, Any]]:
    """For each output in its order: whether it is binary, and its elements or bytes."""
    assert reply.status == 200, reply.body
    size = int(reply.headers.get(HEADER_LENGTH.lower(), len(reply.body)))
    outputs, rest = json.loads(reply.body[:size])["outputs"], reply.body[size:]
    found: dict[str, tuple[bool, Any]] = {}
    for output in outputs:
        if "data" in output:
            assert set(output) == {"name", "datatype", "shape", "data"}
            found[output["name"]] = (False, output["data"])
        else:
            # Fact 4: perf_analyzer fails on parameters of any other kind.
            assert set(output) == {"name", "datatype", "shape", "parameters"}
            assert [*output["parameters"]] == ["binary_data_size"]
            part, rest = (
                rest[: output["parameters"]["binary_data_size"]],
                rest[output["parameters"]["binary_data_size"] :],
            )
            found[output["name"]] = (True, part)
    assert rest == b""
    return found


def has_binary_form(reply: Reply) -> bool:
    """Fact 2: octet-stream with the header, or JSON without it."""
    found = (reply.headers["content-type"], HEADER_LENGTH.lower() in reply.headers)
    assert found in (("application/octet-stream", True), ("application/json", False))
    return found[1]


@pytest.mark.parametrize("given", FORMS)
def test_json_and_binary_tensors_mix_in_every_way(http: Http, given: tuple[bool, ...]) -> None:
    for wanted in FORMS:
        outputs = [
            {"name": f"{name}_out", "parameters": {"binary_data": binary}}
            for name, binary in zip(MIXED, wanted, strict=True)
        ]
        document, parts = mixed_request(given, outputs=outputs)
        reply = http.infer("mixed", document, *parts)
        expected = {
            f"{name}_out": (binary, data if binary else elements)
            for (name, (_, elements, data)), binary in zip(MIXED.items(), wanted, strict=True)
        }
        assert tensors_of(reply) == expected
        assert has_binary_form(reply) == any(wanted)


def test_binary_outputs_come_in_the_order_that_was_asked(http: Http) -> None:
    names = ["truths_out", "numbers_out", "texts_out"]
    outputs = [{"name": name, "parameters": {"binary_data": True}} for name in names]
    document, parts = mixed_request((False, False, False), outputs=outputs)
    assert [*tensors_of(http.infer("mixed", document, *parts))] == names


@pytest.mark.parametrize(
    ("request_level", "output_level", "binary"),
    [
        (None, None, False),
        (True, None, True),
        (False, None, False),
        (None, {}, False),
        # Fact 3: what is listed is JSON unless it says otherwise itself.
        (True, {}, False),
        (True, {"binary_data": False}, False),
        (False, {"binary_data": True}, True),
        (None, {"binary_data": True}, True),
    ],
)
def test_the_form_of_an_output_is_its_own_choice_before_the_requests(
    http: Http, request_level: bool | None, output_level: dict[str, bool] | None, binary: bool
) -> None:
    document, parts = mixed_request((False, False, False))
    if request_level is not None:
        document["parameters"] = {"binary_data_output": request_level}
    if output_level is not None:
        document["outputs"] = [{"name": f"{name}_out", "parameters": output_level} for name in MIXED]
    reply = http.infer("mixed", document, *parts)
    assert {form for form, _ in tensors_of(reply).values()} == {binary}
    assert has_binary_form(reply) == binary


def test_binary_outputs_without_a_byte_leave_the_answer_json(http: Http) -> None:
    document = {
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [0, 3], "data": []}],
        "parameters": {"binary_data_output": True},
    }
    reply = http.infer("any_fp32", document)
    assert not has_binary_form(reply)
    assert reply.json["outputs"] == [
        {"name": "y", "datatype": "FP32", "shape": [0, 3], "parameters": {"binary_data_size": 0}}
    ]


# -- the header (fact 1) -----------------------------------------------------------------------------------------------


def test_without_the_header_the_whole_body_is_json(http: Http) -> None:
    document, _ = mixed_request((False, False, False))
    assert tensors_of(http.infer("mixed", document))["numbers_out"] == (False, NUMBERS.tolist())
    reply = http.infer("mixed", json.dumps(document).encode() + b"\0\0\0\0")
    assert (reply.status, "failed to parse" in reply.json["error"]) == (400, True)


@pytest.mark.parametrize("name", [HEADER_LENGTH, HEADER_LENGTH.lower(), HEADER_LENGTH.upper()])
def test_the_header_is_the_length_of_the_json_however_it_is_written(http: Http, name: str) -> None:
    document, parts = mixed_request((True, True, True))
    text = json.dumps(document).encode()
    reply = http.post("/v2/models/mixed/infer", b"".join((text, *parts)), {name: str(len(text))})
    assert tensors_of(reply)["texts_out"] == (False, MIXED["texts"][1])


def test_the_header_may_cover_the_whole_body(http: Http) -> None:
    document, _ = mixed_request((False, False, False))
    text = json.dumps(document).encode()
    reply = http.post("/v2/models/mixed/infer", text, {HEADER_LENGTH: str(len(text))})
    assert tensors_of(reply)["truths_out"] == (False, TRUTHS)


@pytest.mark.parametrize(
    ("model", "body", "shape", "came"),
    [
        ("vector", NUMBERS.tobytes(), [3], NUMBERS.tobytes()),
        ("vector", b"", [0], b""),
        ("batched", bytes(range(16)), [1, 4], bytes(range(16))),
        # The bytes of the one element, without a length before them.
        ("scalar_bytes", b"any bytes \xff\0", [1], framed([b"any bytes \xff\0"])),
        ("scalar_int64", (2**63 - 1).to_bytes(8, "little"), [1], (2**63 - 1).to_bytes(8, "little")),
    ],
)
def test_a_raw_request_is_its_only_input_and_all_outputs_come_binary(
    http: Http, model: str, body: bytes, shape: list[int], came: bytes
) -> None:
    reply = http.post(f"/v2/models/{model}/infer", body, {HEADER_LENGTH: "0"})
    assert tensors_of(reply) == {"y": (True, came)}
    assert has_binary_form(reply) == bool(came)
    size = int(reply.headers.get(HEADER_LENGTH.lower(), len(reply.body)))
    assert json.loads(reply.body[:size])["outputs"][0]["shape"] == shape


# -- JSON tensors ------------------------------------------------------------------------------------------------------


def vector(text: str, datatype: str = "FP32", size: int = 1) -> bytes:
    """A request whose elements are written just so, to ``any_`` of the datatype."""
    return f'{{"inputs":[{{"name":"x","datatype":"{datatype}","shape":[1,{size}],"data":{text}}}]}}'.encode()


@pytest.mark.parametrize("datatype", ["FP16", "BF16", "FP32", "FP64"])
def test_nan_and_infinities_are_tokens_both_ways(http: Http, datatype: str) -> None:
    """Fact 28; for FP16 and BF16 beyond Triton, fact 27."""
    reply = http.infer(f"any_{datatype.lower()}", vector("[NaN,Infinity,-Infinity,0.5,-0.0]", datatype, 5))
    assert b'"data":[NaN,Infinity,-Infinity,0.5,-0.0]' in reply.body


@pytest.mark.parametrize(
    ("datatype", "text", "value"),
    [
        ("FP32", "[7]", 7.0),
        ("FP32", "[-0]", 0.0),
        ("FP32", "[1e2]", 100.0),
        ("FP32", "[0.1]", float(np.float32(0.1))),
        ("FP32", "[16777217]", 16777216.0),
        ("FP32", "[1e-50]", 0.0),
        ("FP64", "[0.1]", 0.1),
        ("FP64", "[1e-400]", 0.0),
        ("FP64", "[18446744073709551615]", 1.8446744073709552e19),
        ("FP16", "[0.1]", float(np.float16(0.1))),
        ("FP16", "[65519]", 65504.0),
        ("BF16", "[0.1]", 0.10009765625),
        ("BF16", "[1.00390625]", 1.0),
        ("UINT64", "[18446744073709551615]", 2**64 - 1),
        ("INT64", "[-9223372036854775808]", -(2**63)),
        ("BOOL", "[true]", True),
        ("BYTES", r'["\u00fc\ud83d\udc26\u0000"]', "ü🐦\0"),
        ("BYTES", '["NaN"]', "NaN"),
        ("BYTES", '["null"]', "null"),
    ],
)
def test_elements_become_the_nearest_of_their_datatype(http: Http, datatype: str, text: str, value: Any) -> None:
    (came,) = http.infer(f"any_{datatype.lower()}", vector(text, datatype)).json["outputs"][0]["data"]
    # Numbers are written in as few digits as tell them apart in their own datatype.
    kind = NUMPY[datatype].type if datatype in ("FP16", "BF16", "FP32") else type(value)
    assert kind(came) == kind(value)
    assert type(came) is type(value)


@pytest.mark.parametrize(
    "data", ["[1,2,3,4,5,6]", "[[1,2,3],[4,5,6]]", "[[[1,2],[3,4],[5,6]]]", "[[1],[2],[3],[4],[5],[6]]"]
)
def test_elements_may_be_nested_or_flat_and_come_back_flat(http: Http, data: str) -> None:
    text = f'{{"inputs":[{{"name":"x","datatype":"INT32","shape":[2,3],"data":{data}}}]}}'.encode()
    assert http.infer("any_int32", text).json["outputs"][0] == {
        "name": "y", "datatype": "INT32", "shape": [2, 3], "data": [1, 2, 3, 4, 5, 6]
    }  # fmt: skip


@pytest.mark.parametrize("listed", [False, True])
def test_bytes_that_are_no_text_have_to_be_asked_for_as_binary(http: Http, listed: bool) -> None:
    part = framed([b"\xff\xfe"])
    inputs = [{"name": "x", "datatype": "BYTES", "shape": [1, 1], "parameters": {"binary_data_size": len(part)}}]
    document: dict[str, Any] = {"inputs": inputs} | ({"outputs": [{"name": "y"}]} if listed else {})
    reply = http.infer("any_bytes", document, part)
    assert reply.status == 400
    assert "output 'y' has bytes that are not UTF-8" in reply.json["error"]
    assert "'binary_data': true" in reply.json["error"]
    reply = http.infer("any_bytes", {**document, "outputs": [{"name": "y", "parameters": {"binary_data": True}}]}, part)
    assert tensors_of(reply) == {"y": (True, part)}


# -- the answer as a whole ---------------------------------------------------------------------------------------------


def test_an_answer_has_these_members_and_no_others(http: Http) -> None:
    reply = http.infer(
        "batched", {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}]}
    )
    output = {"name": "y", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}
    assert reply.json == {"model_name": "batched", "model_version": "1", "outputs": [output]}
    assert (reply.headers["content-type"], reply.headers["content-length"]) == (
        "application/json",
        str(len(reply.body)),
    )
    assert HEADER_LENGTH.lower() not in reply.headers


def test_the_id_comes_first_and_only_when_there_is_one(http: Http) -> None:
    document, _ = mixed_request((False, False, False))
    assert [*http.infer("mixed", document | {"id": "7"}).json] == ["id", "model_name", "model_version", "outputs"]
    assert "id" not in http.infer("mixed", document | {"id": ""}).json


def test_classes_come_as_json_or_as_bytes(http: Http) -> None:
    inputs = [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 4, 2, 3]}]
    for binary in (False, True):
        wanted = {"name": "y", "parameters": {"classification": 2, "binary_data": binary}}
        reply = http.infer("labelled_fp32", {"inputs": inputs, "outputs": [wanted]})
        texts = ["4.000000:1:one", "3.000000:3"]
        expected = framed([text.encode() for text in texts]) if binary else texts
        assert tensors_of(reply) == {"y": (binary, expected)}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("text", "größer"), ("number", 7), ("negative", -7), ("large", 2**64 - 1), ("ratio", 0.5), ("truth", True),
        ("priority", 1), ("timeout", 10**6), ("sequence_id", 7), ("sequence_id", "a"), ("sequence_start", True),
        ("sequence_end", False),
    ],
)  # fmt: skip
def test_parameters_of_every_type_are_taken(http: Http, key: str, value: Any) -> None:
    document, _ = mixed_request((False, False, False), parameters={key: value})
    assert http.infer("mixed", document).status == 200


@pytest.mark.parametrize(
    ("body", "headers", "hint"),
    [
        (b'{"inputs":[]}\0\0\0\0', {"content-type": "application/octet-stream"}, "Inference-Header-Content-Length"),
        (b"\xff\xfe", {"content-type": "application/octet-stream"}, "Inference-Header-Content-Length"),
        (b"\xff\xfe", {}, "Inference-Header-Content-Length"),
        (b"\x1f\x8b\x08\0", {}, "Content-Encoding: gzip"),
    ],
)
def test_a_body_that_is_no_json_is_told_which_header_may_be_missing(
    http: Http, body: bytes, headers: dict[str, str], hint: str
) -> None:
    reply = http.post("/v2/models/mixed/infer", body, headers)
    assert (reply.status, hint in reply.json["error"]) == (400, True), reply.json
