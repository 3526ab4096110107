"""What a request can ask, the same through every door: outputs, ids, versions, classes and parameters; and refusals."""

from dataclasses import replace

import numpy as np
import pytest
from conformance.exchange import NUMPY, Asked, Named, Parameter, Refused, Wanted
from conformance.transports import Transport, cases

from ortolan.inference.datatypes import BY_NAME, DATATYPES

A = Named("a", "INT32", np.array([[1, 2, 3, 4], [5, 6, 7, 8]], np.int32))
B = Named("b", "INT32", np.array([[10, 20, 30, 40], [50, 60, 70, 80]], np.int32))
PAIR = Asked("pair", (A, B))
X = Named("x", "FP32", np.array([[1, 4, 2, 3], [9, 0, 0, 8]], np.float32))


def asked_for(*names: str) -> Asked:
    return replace(PAIR, outputs=tuple(map(Wanted, names)))


# -- outputs -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "came"),
    [
        ((), ["sum", "difference"]),
        (("sum",), ["sum"]),
        (("difference",), ["difference"]),
        (("sum", "difference"), ["sum", "difference"]),
        (("difference", "sum"), ["difference", "sum"]),
    ],
)
def test_outputs_come_as_they_are_asked_for_and_in_that_order(
    transport: Transport, names: tuple[str, ...], came: list[str]
) -> None:
    answered = transport.ask(asked_for(*names))
    expected = {"sum": A.array + B.array, "difference": A.array - B.array}
    assert [output.name for output in answered.outputs] == came
    assert all(output.array.tolist() == expected[output.name].tolist() for output in answered.outputs)
    assert {output.datatype for output in answered.outputs} == {"INT32"}


def test_the_order_of_inputs_does_not_matter(transport: Transport) -> None:
    turned = transport.ask(replace(PAIR, inputs=(B, A)))
    assert turned.arrays["difference"].tolist() == (A.array - B.array).tolist()


@pytest.mark.parametrize("rows", [1, 2, 3, 4])
def test_a_batch_has_as_many_rows_as_were_sent(transport: Transport, rows: int) -> None:
    sent = Named("x", "FP32", np.arange(rows * 4, dtype=np.float32).reshape(rows, 4))
    assert transport.ask(Asked("batched", (sent,))).only.elements == sent.elements


def test_reshape_parts_what_clients_see_from_what_the_graph_has(transport: Transport) -> None:
    sent = np.arange(18, dtype=np.float32).reshape(3, 6)
    came = transport.ask(Asked("reshaped", (Named("x", "FP32", sent),))).only.array
    assert (came.shape, came.ravel().tolist()) == ((3, 3, 2), sent.ravel().tolist())


@pytest.mark.parametrize("given", [None, 10.0])
def test_an_optional_input_may_be_left_out(transport: Transport, given: float | None) -> None:
    c = () if given is None else (Named("c", "FP32", np.array([given], np.float32)),)
    came = transport.ask(Asked("optional", (X, *c))).only.array
    assert came.tolist() == (X.array + (1.5 if given is None else given)).tolist()


# -- ids, versions, parameters -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("request_id", ["", "order 66", "größer 数", "0", 'a"b\\c', "two\nlines", "x" * 1024])
def test_the_requests_id_comes_back(transport: Transport, request_id: str) -> None:
    assert transport.ask(replace(PAIR, id=request_id)).id == request_id


@pytest.mark.parametrize(("version", "number"), [("", 10), ("2", 2), ("9", 9), ("10", 10)])
def test_a_version_answers_when_asked_and_the_newest_otherwise(transport: Transport, version: str, number: int) -> None:
    answered = transport.ask(Asked("versions", (X,), version=version))
    assert (answered.model, answered.version) == ("versions", str(number))
    assert answered.only.array.tolist() == (X.array + number).tolist()


@pytest.mark.parametrize(
    "parameters",
    [
        {"flag": True, "count": -5, "large": 2**62, "ratio": 0.25, "text": "größer", "empty": ""},
        {"mine": "x" * 5000},
    ],
)
def test_parameters_of_a_clients_own_are_taken_and_not_sent_back(
    transport: Transport, parameters: dict[str, Parameter]
) -> None:
    answered = transport.ask(replace(PAIR, parameters=parameters))
    # Of ours there is only the one that ends a request on a stream (fact 30).
    assert answered.parameters == ({"triton_final_response": True} if transport.final_parameter else {})


# -- classification ----------------------------------------------------------------------------------------------------


def classes(answered: Named) -> list[list[str]]:
    assert answered.datatype == "BYTES"
    return [[element.decode() for element in row] for row in answered.array]


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (1, [["4.000000:1:one"], ["9.000000:0:nought"]]),
        (2, [["4.000000:1:one", "3.000000:3"], ["9.000000:0:nought", "8.000000:3"]]),
        (
            9,
            [
                ["4.000000:1:one", "3.000000:3", "2.000000:2:two", "1.000000:0:nought"],
                ["9.000000:0:nought", "8.000000:3", "0.000000:1:one", "0.000000:2:two"],
            ],
        ),
    ],
)
def test_the_largest_elements_come_as_value_index_and_label(
    transport: Transport, count: int, expected: list[list[str]]
) -> None:
    answered = transport.ask(Asked("labelled_fp32", (X,), (Wanted("y", count),)))
    assert classes(answered.only) == expected


ORDERED = [datatype.name for datatype in DATATYPES if datatype.is_integer or datatype.name in ("FP32", "FP64")]


@pytest.mark.parametrize("datatype", ORDERED)
def test_every_datatype_with_an_order_has_classes(transport: Transport, datatype: str) -> None:
    sent = Named("x", datatype, np.array([[7, 100, 3, 1]], NUMPY[datatype]))
    answered = transport.ask(Asked(f"labelled_{datatype.lower()}", (sent,), (Wanted("y", 2),)))
    fraction = "" if BY_NAME[datatype].is_integer else ".000000"
    assert classes(answered.only) == [[f"100{fraction}:1:one", f"7{fraction}:0:nought"]]


@pytest.mark.parametrize(("transport", "datatype"), cases(["BOOL", "BYTES", "FP16", "BF16"]), indirect=["transport"])
def test_a_datatype_without_an_order_has_no_classes(transport: Transport, datatype: str) -> None:
    sent = Named("x", datatype, np.array([[b"1"]] if datatype == "BYTES" else [[1]], NUMPY[datatype]))
    said = f"class result not available for output 'y' due to unsupported type '{datatype}'"
    with pytest.raises(Refused, match=said):
        transport.ask(Asked(f"any_{datatype.lower()}", (sent,), (Wanted("y", 1),)))


def test_classes_and_plain_outputs_come_side_by_side(transport: Transport) -> None:
    answered = transport.ask(replace(PAIR, outputs=(Wanted("difference"), Wanted("sum", 1))))
    assert [output.name for output in answered.outputs] == ["difference", "sum"]
    assert answered.arrays["difference"].tolist() == (A.array - B.array).tolist()
    assert classes(answered.outputs[1]) == [["44:3"], ["88:3"]]


# -- refusals ----------------------------------------------------------------------------------------------------------

WRONG = {
    "an unknown model": (Asked("nobody", (X,)), "unknown", "Request for unknown model: 'nobody' is not found"),
    "an unknown version": (
        Asked("versions", (X,), version="3"),
        "unknown",
        "Request for unknown model: 'versions' version 3 is not found",
    ),
    "a missing input": (
        replace(PAIR, inputs=(A,)),
        "wrong",
        "[request id: <id_unknown>] expected 2 inputs but got 1 inputs for model 'pair'. Got input(s) ['a'], but "
        "missing required input(s) ['b']. Please provide all required input(s).",
    ),
    "an unknown input": (
        replace(PAIR, inputs=(A, B, replace(B, name="c")), id="7"),
        "wrong",
        "[request id: 7] unexpected inference input 'c' for model 'pair'; its inputs are ['a', 'b']",
    ),
    "an input twice": (
        replace(PAIR, inputs=(A, B, A)),
        "wrong",
        "[request id: <id_unknown>] input 'a' already exists in request for model 'pair'",
    ),
    "an unknown output": (
        asked_for("sum", "product"),
        "wrong",
        "[request id: <id_unknown>] unexpected inference output 'product' for model 'pair'; its outputs are "
        "['difference', 'sum']",
    ),
    "an output twice": (
        asked_for("sum", "sum"),
        "wrong",
        "[request id: <id_unknown>] output 'sum' already exists in request for model 'pair'",
    ),
    "another datatype": (
        replace(PAIR, inputs=(A, Named("b", "FP32", X.array))),
        "wrong",
        "[request id: <id_unknown>] inference input 'b' data-type is 'FP32', but model 'pair' expects 'INT32'",
    ),
    "another shape": (
        replace(PAIR, inputs=(A, Named("b", "INT32", B.array[:, :3])), id="a\nb"),
        "wrong",
        "[request id: a\\nb] unexpected shape for input 'b' for model 'pair'. Expected [-1,4], got [2,3]. NOTE: "
        "Setting a non-zero max_batch_size in the model config requires a batch dimension to be prepended to",
    ),
    "another rank": (
        replace(PAIR, inputs=(A, Named("b", "INT32", B.array[0]))),
        "wrong",
        "[request id: <id_unknown>] unexpected shape for input 'b' for model 'pair'. Expected [-1,4], got [4].",
    ),
    "too many rows": (
        Asked("batched", (Named("x", "FP32", np.zeros((5, 4), np.float32)),)),
        "wrong",
        "[request id: <id_unknown>] inference request batch-size must be <= 4 for 'batched', got 5.",
    ),
    "no rows": (
        Asked("batched", (Named("x", "FP32", np.zeros((0, 4), np.float32)),)),
        "wrong",
        "[request id: <id_unknown>] input 'x' has no rows",
    ),
    "rows that differ": (
        replace(PAIR, inputs=(A, Named("b", "INT32", B.array[:1]))),
        "wrong",
        "[request id: <id_unknown>] input 'b' batch size does not match other inputs for 'pair': expected 2, got 1",
    ),
    "an index past the end": (
        Asked("gather", (Named("x", "INT64", np.array([[99]])),)),
        "wrong",
        "model 'gather' could not run this request",
    ),
    "a long id": (replace(PAIR, id="x" * 1025), "wrong", "the request's id has 1025 characters, at most 1024"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_request_is_refused_alike_everywhere(transport: Transport, case: str) -> None:
    asked, kind, said = WRONG[case]
    with pytest.raises(Refused) as refused:
        transport.ask(asked)
    assert (refused.value.status, refused.value.message[: len(said)]) == (transport.statuses[kind], said)
    assert transport.ask(PAIR).arrays["sum"].tolist() == (A.array + B.array).tolist()
