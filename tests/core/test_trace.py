import json
from typing import Any

import numpy as np
import pytest

from ortolan.core.trace import Trace, traced_parameters
from ortolan.execution.model_statistics import ExecutionTimes
from ortolan.inference.datatypes import (
    BF16,
    BOOL,
    BYTES,
    FP16,
    FP32,
    FP64,
    INT8,
    INT64,
    UINT8,
    UINT64,
    Datatype,
    bf16_from_float32,
)
from ortolan.inference.request import Tensor


def trace_of(request_id: str = "", times: bool = True, tensors: bool = True, **parameters: str) -> Trace:
    return Trace(7, "digits", 2, request_id, parameters, times, tensors)


def written(trace: Trace) -> list[dict[str, Any]]:
    objects: list[dict[str, Any]] = json.loads(b"[" + b",".join(trace.to_json()) + b"]")
    return objects


def test_a_trace_begins_with_who_was_asked() -> None:
    assert written(trace_of()) == [{"id": 7, "model_name": "digits", "model_version": 2}]


def test_the_requests_id_and_what_was_forwarded_of_its_headers_are_there_when_it_has_them() -> None:
    (request,) = written(trace_of('or"der\n66', traceparent="00-ab-cd-01"))
    assert request["request_id"] == 'or"der\n66'
    assert request["parameters"] == {"traceparent": "00-ab-cd-01"}


def test_each_time_is_an_object_as_in_tritons_files() -> None:
    trace = trace_of()
    trace.at("REQUEST_START", 100)
    trace.executed(50, ExecutionTimes(200, 210, 290, 300), 8)
    assert written(trace)[1:] == [
        {"id": 7, "timestamps": [{"name": "REQUEST_START", "ns": 100}]},
        {"id": 7, "timestamps": [{"name": "QUEUE_START", "ns": 150}]},
        {"id": 7, "timestamps": [{"name": "COMPUTE_START", "ns": 200}]},
        {"id": 7, "timestamps": [{"name": "COMPUTE_INPUT_END", "ns": 210}]},
        {"id": 7, "timestamps": [{"name": "COMPUTE_OUTPUT_START", "ns": 290}]},
        {"id": 7, "timestamps": [{"name": "COMPUTE_END", "ns": 300}]},
    ]


@pytest.mark.parametrize(
    ("datatype", "array", "data"),
    [
        (FP32, np.array([0.1, -0.0, np.nan, np.inf], np.float32), "0.1,-0.0,nan,inf"),
        (FP64, np.array([0.1, 1e300]), "0.1,1e+300"),
        (FP16, np.array([0.1], np.float16), "0.1"),
        (BF16, bf16_from_float32(np.array([0.5, -2], np.float32)), "0.5,-2.0"),
        (INT8, np.array([-128, 65], np.int8), "-128,65"),
        (UINT8, np.array([0, 65], np.uint8), "0,65"),
        (INT64, np.array([-(2**63)]), "-9223372036854775808"),
        (UINT64, np.array([2**64 - 1], np.uint64), "18446744073709551615"),
        (BOOL, np.array([True, False]), "1,0"),
        (BYTES, np.array([b"a", "ü".encode(), b'q"', b"\xff"], np.object_), '"a","ü","q"","\\xff"'),
        (FP32, np.empty(0, np.float32), ""),
    ],
)
def test_a_tensors_elements_are_text(datatype: Datatype, array: np.ndarray, data: str) -> None:
    trace = trace_of()
    trace.entered([Tensor("x", datatype, array.shape, array)])
    assert written(trace)[1:] == [
        {
            "id": 7,
            "activity": "TENSOR_QUEUE_INPUT",
            "tensor": {"name": "x", "data": data, "shape": str(len(array)), "dtype": datatype.name},
        }
    ]


def test_a_tensors_elements_are_row_major_whatever_its_array_looks_like() -> None:
    array = np.arange(6, dtype=np.float32).reshape(3, 2).T
    trace = trace_of()
    trace.left([Tensor("y", FP32, (2, 3), array)])
    (found,) = (each for each in written(trace) if "activity" in each)
    assert found["activity"] == "TENSOR_BACKEND_OUTPUT"
    assert found["tensor"] == {"name": "y", "data": "0.0,2.0,4.0,1.0,3.0,5.0", "shape": "2,3", "dtype": "FP32"}


def test_a_scalar_has_no_sizes() -> None:
    trace = trace_of()
    trace.left([Tensor("y", FP32, (), np.array(1, np.float32))])
    assert written(trace)[-1]["tensor"] == {"name": "y", "data": "1.0", "shape": "", "dtype": "FP32"}


def test_a_tensor_is_kept_as_it_was() -> None:
    array = np.zeros(2, np.float32)
    trace = trace_of()
    trace.entered([Tensor("x", FP32, (2,), array)])
    array[:] = 5
    assert written(trace)[-1]["tensor"]["data"] == "0.0,0.0"


def test_only_what_the_levels_ask_for_is_kept() -> None:
    tensor = Tensor("x", FP32, (1000,), np.zeros(1000, np.float32))
    times, tensors = trace_of(tensors=False), trace_of(times=False)
    for trace in (times, tensors):
        trace.at("REQUEST_START", 1)
        trace.entered([tensor])
    assert [sorted(each) for each in written(times)[1:]] == [["id", "timestamps"]]
    assert [sorted(each) for each in written(tensors)[1:]] == [["activity", "id", "tensor"]]
    assert tensors.size_bytes == times.size_bytes + 4000


def test_the_size_of_bytes_is_that_of_their_elements() -> None:
    before, trace = trace_of().size_bytes, trace_of()
    trace.entered([Tensor("x", BYTES, (2,), np.array([b"ab", b"c" * 1000], np.object_))])
    assert trace.size_bytes == before + 1002


def test_of_a_large_tensor_the_beginning_is_kept_and_how_many_elements_it_has() -> None:
    array = np.arange(3_000_000, dtype=np.int64).reshape(3, 1_000_000).T
    trace = trace_of()
    trace.left([Tensor("y", INT64, array.shape, array)])
    tensor = written(trace)[-1]["tensor"]
    assert tensor["data"].startswith("0,1000000,2000000,1,")
    assert tensor["data"].count(",") == 999
    assert (tensor["shape"], tensor["elements"]) == ("1000000,3", 3_000_000)
    assert trace.size_bytes == trace_of().size_bytes + 8000
    assert not any(np.shares_memory(array, kept.elements) for kept in trace.tensors), "it would stay in memory"


def test_of_long_text_the_beginning_is_kept() -> None:
    trace = trace_of()
    array = np.array([b"a" * 5000, b"b"], np.object_)
    trace.entered([Tensor("x", BYTES, (2,), array)])
    assert written(trace)[-1]["tensor"]["data"] == '"' + "a" * 1024 + '","b"'
    assert len(array[0]) == 5000


def test_many_tensors_share_what_may_be_kept_of_one_trace() -> None:
    trace = trace_of()
    tensors = [Tensor("x", INT8, (1000,), np.zeros(1000, np.int8))] * 40
    trace.entered(tensors)
    trace.left(tensors)
    assert sum(len(kept.elements) for kept in trace.tensors) == 50_000
    assert written(trace)[-1]["tensor"] == {"name": "x", "data": "", "shape": "1000", "dtype": "INT8", "elements": 1000}


def test_of_a_requests_parameters_the_beginning_of_each_text_is_kept() -> None:
    given = {f"{number:03}": "x" for number in range(100)} | {"a" * 5000: "y"}
    assert list(traced_parameters({"number": 1, **given})) == [f"{number:03}" for number in range(64)]
    assert traced_parameters({"a" * 5000: "b" * 5000, "n": 7}) == {"a" * 1024: "b" * 1024}


def test_parameters_count_for_the_size_of_a_trace() -> None:
    assert trace_of(name="x" * 1000).size_bytes == trace_of().size_bytes + 1004
