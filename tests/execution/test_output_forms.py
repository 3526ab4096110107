"""Every kind of value that a graph may put out, through real sessions: what is declared, and which tensor comes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_models
import onnx_outputs
import onnxruntime
import pytest
from onnx import TensorProto, helper
from onnx_outputs import sequence_type, tensor_type

from ortolan.errors import Internal, InvalidArgument
from ortolan.execution.devices import CPU_PROVIDER, Placement, Provider
from ortolan.execution.output_forms import output_form
from ortolan.execution.session import Session
from ortolan.execution.session_settings import SessionSettings
from ortolan.inference.datatypes import BYTES, FP16, FP32, INT64, Array, Datatype
from ortolan.repository.graph_signature import GraphTensor
from ortolan.repository.model_config import InstanceKind

CPU = Placement("m_0", InstanceKind.CPU, 0, (Provider(CPU_PROVIDER),))
FLOATS = np.arange(8, dtype=np.float32).reshape(2, 4)
TEXTS = np.array([[b"a", b"\xff", b"", b"d"]], object)
FLOAT, STRING, HALF = TensorProto.FLOAT, TensorProto.STRING, TensorProto.FLOAT16
YES, NO = np.array(True), np.array(False)


def session_of(proto: onnx.ModelProto) -> Session:
    return Session(proto.SerializeToString(), "m", SessionSettings(), CPU, Path())


def y_of(session: Session, inputs: Mapping[str, Array]) -> Array:
    (output,) = session.run(inputs, ["y"])
    return output


# -- maps --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "columns", "classes"),
    [
        ([5, 2, 9], [1, 0, 2], ("2", "5", "9")),
        ([10, 9, -3], [2, 1, 0], ("-3", "9", "10")),
        (["b", "a", "ç"], [1, 0, 2], ("a", "b", "ç")),
        ([7], [0], ("7",)),
    ],
)
def test_a_sequence_of_maps_is_rows_and_classes(
    labels: list[int] | list[str], columns: list[int], classes: tuple[str, ...]
) -> None:
    session = session_of(onnx_models.zip_map(labels))
    assert session.signature.outputs == (GraphTensor("y", FP32, (-1, -1)),)
    assert session.signature.labels == {"y": classes}
    scores = np.arange(2 * len(labels), dtype=np.float32).reshape(2, len(labels))
    output = y_of(session, {"x": scores})
    assert output.dtype == FP32.numpy
    assert output.tolist() == scores[:, columns].tolist()


def test_no_maps_are_no_rows() -> None:
    output = y_of(session_of(onnx_models.zip_map([1, 2])), {"x": np.empty((0, 2), np.float32)})
    assert (output.dtype, output.ndim, len(output)) == (FP32.numpy, 2, 0)


@pytest.mark.parametrize(
    ("key_type", "given"),
    [(STRING, {"b": 1.5, "a": 2.5, "c": -1.0}), (TensorProto.INT64, {10: 1.5, 9: 2.5, 11: -1.0})],
)
def test_a_map_is_one_row_in_the_order_of_its_keys(key_type: int, given: dict[Any, float]) -> None:
    # Such a map can only come from an operator of one's own; here the runtime's own value goes through by hand.
    content = onnx_outputs.map_through(key_type).SerializeToString()
    runtime = onnxruntime.InferenceSession(content, providers=[CPU_PROVIDER])
    (node,) = (node for node in runtime.get_outputs() if node.name == "m")
    form = output_form("m", node.name, node.type, ())
    assert form.tensor == GraphTensor("m", FP32, (1, -1), batchable=False)
    (value,) = runtime.run(["m"], {"m": given, "x": FLOATS})
    assert form.array(value).tolist() == [[2.5, 1.5, -1.0]]


def test_the_values_of_a_map_may_be_strings() -> None:
    form = output_form("m", "y", "map(int64,tensor(string))", ())
    assert form.array({2: "b", 1: "ä"}).tolist() == [["ä".encode(), b"b"]]


@pytest.mark.parametrize("maps", [[{"a": 1.0}, {"b": 1.0}], [{"a": 1.0}, {"a": 1.0, "b": 2.0}], [{}, {"a": 1.0}]])
def test_maps_of_different_keys_are_no_tensor(maps: list[dict[str, float]]) -> None:
    with pytest.raises(KeyError):
        output_form("m", "y", "seq(map(string,tensor(float)))", ()).array(maps)


# -- sequences ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("proto", "shape", "given", "expected"),
    [
        (onnx_outputs.rows(), (-1, 4), FLOATS, FLOATS),
        (onnx_outputs.rows(["n"]), (-1, -1), FLOATS, FLOATS),
        (onnx_outputs.rows(None), None, FLOATS, FLOATS),
        (onnx_outputs.rows(element_type=STRING), (-1, 4), TEXTS, TEXTS),
        (onnx_outputs.rows(element_type=HALF), (-1, 4), FLOATS.astype(FP16.numpy), FLOATS.astype(FP16.numpy)),
        (onnx_outputs.no_elements([3, "n"]), (-1, 3, -1), FLOATS, np.empty((0, 3, 0), np.float32)),
        (onnx_outputs.no_elements([]), (-1,), FLOATS, np.empty(0, np.float32)),
        (onnx_outputs.no_elements(None), None, FLOATS, np.empty(0, np.float32)),
    ],
    ids=["rows", "open", "any rank", "strings", "FP16", "none", "no scalars", "none of any rank"],
)
def test_a_sequence_of_tensors_is_stacked(
    proto: onnx.ModelProto, shape: tuple[int, ...] | None, given: Array, expected: Array
) -> None:
    session = session_of(proto)
    (tensor,) = session.signature.outputs
    assert (tensor.shape, tensor.batchable) == (shape, False)
    output = y_of(session, {"x": given})
    assert (output.dtype, output.shape) == (expected.dtype, expected.shape)
    assert output.tolist() == expected.tolist()


def test_the_number_of_the_elements_comes_first() -> None:
    session = session_of(onnx_models.sequence())
    output = y_of(session, {"a": np.zeros((3, 2), np.float32), "b": np.ones((3, 2), np.float32)})
    assert output.shape == (2, 3, 2)
    assert output[:, 0, 0].tolist() == [0, 1]


def test_a_sequence_of_different_tensors_is_no_tensor_and_the_session_goes_on() -> None:
    session = session_of(onnx_models.sequence())
    with pytest.raises(Internal, match=r"output 'y' of model 'm' is a sequence whose elements differ in shape.* pad"):
        session.run({"a": np.zeros((3, 2), np.float32), "b": np.ones((1, 2), np.float32)}, ["y"])
    assert y_of(session, {"a": np.zeros((1, 2), np.float32), "b": np.ones((1, 2), np.float32)}).shape == (2, 1, 2)


# -- optionals ---------------------------------------------------------------------------------------------------------

PAIR = [helper.make_node("SequenceConstruct", ["x", "x"], ["v"])]


@pytest.mark.parametrize(
    ("proto", "given", "declared", "present", "absent"),
    [
        (
            onnx_outputs.perhaps(tensor_type(FLOAT, ["n", 4]), ["n", 4]),
            FLOATS,
            GraphTensor("y", FP32, (-1, 4), batchable=False),
            FLOATS,
            np.empty((0, 4), np.float32),
        ),
        (
            onnx_outputs.perhaps(tensor_type(FLOAT, [2, 4]), [2, 4]),
            FLOATS,
            GraphTensor("y", FP32, (-1, 4), batchable=False),
            FLOATS,
            np.empty((0, 4), np.float32),
        ),
        (
            onnx_outputs.perhaps(tensor_type(FLOAT, []), []),
            np.array(5, np.float32),
            GraphTensor("y", FP32, (-1,), batchable=False),
            np.array([5], np.float32),
            np.empty(0, np.float32),
        ),
        (
            onnx_outputs.perhaps(tensor_type(STRING, ["n", 4]), ["n", 4]),
            TEXTS,
            GraphTensor("y", BYTES, (-1, 4), batchable=False),
            TEXTS,
            np.empty((0, 4), object),
        ),
        (
            onnx_outputs.perhaps(sequence_type(tensor_type(FLOAT, ["n", 4])), ["n", 4], PAIR),
            FLOATS,
            GraphTensor("y", FP32, (-1, -1, 4), batchable=False),
            np.stack([FLOATS, FLOATS]),
            np.empty((0, 0, 4), np.float32),
        ),
        (
            onnx_outputs.perhaps(tensor_type(FLOAT, None), ["n", 4]),
            FLOATS,
            GraphTensor("y", FP32, None, batchable=False),
            FLOATS,
            np.empty(0, np.float32),
        ),
    ],
    ids=["tensor", "fixed", "scalar", "strings", "sequence", "any rank"],
)
def test_an_optional_is_its_tensor_or_an_empty_one(
    proto: onnx.ModelProto, given: Array, declared: GraphTensor, present: Array, absent: Array
) -> None:
    session = session_of(proto)
    assert session.signature.outputs == (declared,)
    for wanted, expected in ((YES, present), (NO, absent), (YES, present)):
        output = y_of(session, {"x": given, "wanted": wanted})
        assert (output.dtype, output.shape) == (expected.dtype, expected.shape)
        assert output.tolist() == expected.tolist()


def test_an_optional_input_may_be_left_out() -> None:
    session = session_of(onnx_outputs.x_or_zeros())
    assert session.signature.inputs == (GraphTensor("x", FP32, (-1,), optional=True),)
    assert y_of(session, {"x": np.array([1, 2], np.float32)}).tolist() == [1, 2]
    assert y_of(session, {}).tolist() == [0, 0, 0, 0]


# -- any rank ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", [np.array(1), np.array([1, 2]), np.array([[1], [2]]), np.zeros((0, 3), int)])
def test_a_tensor_of_any_rank_is_told_from_a_scalar(given: Array) -> None:
    session = session_of(onnx_outputs.any_rank(TensorProto.INT64))
    assert session.signature.inputs == (GraphTensor("x", INT64, None),)
    assert session.signature.outputs == (GraphTensor("y", INT64, None),)
    output = y_of(session, {"x": given})
    # A scalar comes as one element, since no declaration can say scalar.
    assert output.shape == (given.shape or (1,))
    assert output.reshape(given.shape).tolist() == (-given).tolist()


def test_what_the_runtime_infers_is_believed_although_the_file_leaves_it_open() -> None:
    node = helper.make_node("Neg", ["x"], ["y"])
    session = session_of(onnx_outputs.with_output([node], [onnx_outputs.X], tensor_type(FLOAT, None)))
    assert session.signature.outputs == (GraphTensor("y", FP32, (-1, 4)),)


# -- what cannot be served ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("proto", "words"),
    [
        (onnx_outputs.vectorised_map(), "map(string,tensor(float))"),
        (onnx_outputs.first_of_sequence(), "seq(tensor(float))"),
    ],
    ids=["map", "sequence"],
)
def test_an_input_that_is_no_tensor_is_refused_by_name(proto: onnx.ModelProto, words: str) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        session_of(proto)
    assert refusal.value.message.startswith(f"input 'x' of model 'm' has type {words}, which cannot be served")
    assert "Export the model so that it takes tensors" in refusal.value.message


@pytest.mark.parametrize(
    "onnx_type",
    [
        "sparse_tensor(float)",
        "seq(tensor(float8e4m3fn))",
        "tensor(complex64)",
        "map(string,tensor(int4))",
        "seq(seq(tensor(float)))",
        "seq(optional(tensor(float)))",
        "",
    ],
)
def test_an_output_of_another_type_is_refused_by_name(onnx_type: str) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        output_form("m", "y", onnx_type, ())
    assert f"tensor 'y' of model 'm' has type {onnx_type}, which cannot be served" in refusal.value.message
    assert "Export the model" in refusal.value.message


def test_bfloat16_beside_an_optional_is_refused() -> None:
    proto = onnx_outputs.perhaps(tensor_type(FLOAT, ["n"]), ["n"])
    proto.graph.node.append(helper.make_node("Cast", ["x"], ["z"], to=TensorProto.BFLOAT16))
    proto.graph.output.append(helper.make_tensor_value_info("z", TensorProto.BFLOAT16, ["n"]))
    with pytest.raises(InvalidArgument, match="bfloat16 tensors beside strings or sequences, or in optionals"):
        session_of(proto)


@pytest.mark.parametrize("datatype", [FP32, INT64, BYTES], ids=lambda datatype: datatype.name)
def test_a_tensor_is_taken_as_it_is(datatype: Datatype) -> None:
    form = output_form("m", "y", datatype.onnx_type, (-1,))
    assert form.by_itself
    assert form.tensor == GraphTensor("y", datatype, (-1,))
    array = np.array(["a"], object) if datatype is BYTES else np.zeros(1, datatype.numpy)
    assert form.array(array) is array or datatype is BYTES
