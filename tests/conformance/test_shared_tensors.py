"""How tensors in shared memory stand in requests and answers beside others: what clients count on byte for byte."""

import json
import struct
from collections.abc import Iterator
from typing import Any

import pytest
from conformance.wire import Grpc, Http
from shared_objects import SharedObject, needs_linux, shared_object

from ortolan.protocol import protobuf_messages as messages

pytestmark = needs_linux

A, B = struct.pack("<4i", 1, 2, 3, 4), struct.pack("<4i", 10, 20, 30, 40)
SUM, DIFFERENCE = struct.pack("<4i", 11, 22, 33, 44), struct.pack("<4i", -9, -18, -27, -36)
INT32 = {"datatype": "INT32", "shape": [1, 4]}


@pytest.fixture
def region(http: Http) -> Iterator[SharedObject]:
    """An object of 64 bytes, registered as ``mine``."""
    with shared_object(64) as shared:
        body = json.dumps({"key": shared.key, "byte_size": 64})
        assert http.post("/v2/systemsharedmemory/region/mine/register", body).status == 200
        yield shared
        assert http.post("/v2/systemsharedmemory/region/mine/unregister").status == 200


def place(offset: int) -> dict[str, Any]:
    return {"shared_memory_region": "mine", "shared_memory_offset": offset, "shared_memory_byte_size": 16}


def typed_place(offset: int) -> dict[str, Any]:
    return {
        "shared_memory_region": {"string_param": "mine"},
        "shared_memory_offset": {"int64_param": offset},
        "shared_memory_byte_size": {"int64_param": 16},
    }


@pytest.mark.parametrize("shared", ["a", "b"])
def test_raw_contents_are_those_of_the_other_inputs(grpc_: Grpc, region: SharedObject, shared: str) -> None:
    region.write(A if shared == "a" else B, offset=16)
    inputs = [{"name": name, **INT32, "parameters": typed_place(16) if name == shared else {}} for name in "ab"]
    raw = [B if shared == "a" else A]
    response = grpc_.infer(messages.ModelInferRequest(model_name="pair", inputs=inputs, raw_input_contents=raw))
    assert [*response.raw_output_contents] == [SUM, DIFFERENCE]


@pytest.mark.parametrize("shared", ["sum", "difference"])
def test_an_output_in_shared_memory_has_an_empty_raw_content(grpc_: Grpc, region: SharedObject, shared: str) -> None:
    inputs = [{"name": name, **INT32} for name in "ab"]
    names = ["sum", "difference"]
    outputs = [{"name": name, "parameters": typed_place(48) if name == shared else {}} for name in names]
    request = messages.ModelInferRequest(model_name="pair", inputs=inputs, raw_input_contents=[A, B], outputs=outputs)
    response = grpc_.infer(request)
    expected = {"sum": SUM, "difference": DIFFERENCE}
    assert region.read(16, 48) == expected[shared]
    assert [*response.raw_output_contents] == [b"" if name == shared else expected[name] for name in names]
    assert [(output.name, output.datatype, [*output.shape]) for output in response.outputs] == [
        (name, "INT32", [1, 4]) for name in names
    ]


def test_over_http_an_output_in_shared_memory_has_neither_data_nor_parameters(http: Http, region: SharedObject) -> None:
    inputs = [{"name": "a", **INT32, "parameters": place(0)}, {"name": "b", **INT32, "data": [10, 20, 30, 40]}]
    region.write(A)
    outputs = [{"name": "sum", "parameters": place(32)}, {"name": "difference"}]
    answer = http.infer("pair", {"inputs": inputs, "outputs": outputs}).json
    assert answer["outputs"] == [
        {"name": "sum", **INT32},
        {"name": "difference", **INT32, "data": [-9, -18, -27, -36]},
    ]
    assert region.read(16, 32) == SUM
