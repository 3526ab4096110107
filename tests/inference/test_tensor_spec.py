"""Checking a request's tensors and the outputs it asks for against what a model declares."""

import dataclasses

import numpy as np
import pytest

from ortolan.errors import InvalidArgument
from ortolan.inference.datatypes import BF16, BOOL, BYTES, FP16, FP32, INT64, Datatype
from ortolan.inference.request import InferenceRequest, RequestedOutput, Tensor
from ortolan.inference.tensor_spec import ModelSignature, TensorSpec

BATCHING = ModelSignature(
    "m",
    8,
    (TensorSpec("a", FP32, (3,)), TensorSpec("b", FP32, (-1, 2)), TensorSpec("o", INT64, (1,), optional=True)),
    (TensorSpec("y", FP32, (2,)), TensorSpec("z", FP32, (-1,))),
)
UNBATCHED = ModelSignature("m", 0, (TensorSpec("a", FP32, (-1, 3)),), (TensorSpec("y", FP32, (2,)),))
ALL_OPTIONAL = ModelSignature("m", 8, (TensorSpec("a", FP32, (3,), optional=True),), ())


def tensor(name: str, *shape: int, datatype: Datatype = FP32) -> Tensor:
    return Tensor(name, datatype, shape, np.zeros(shape, datatype.numpy))


def request(*tensors: Tensor, outputs: tuple[str, ...] = ()) -> InferenceRequest:
    return InferenceRequest("m", inputs=tensors, outputs=tuple(RequestedOutput(name) for name in outputs))


@pytest.mark.parametrize(
    ("signature", "tensors", "rows"),
    [
        (BATCHING, (tensor("a", 1, 3), tensor("b", 1, 5, 2)), 1),
        (BATCHING, (tensor("b", 8, 0, 2), tensor("a", 8, 3)), 8),  # in any order, and a variable size may be zero
        (BATCHING, (tensor("a", 2, 3), tensor("b", 2, 5, 2), tensor("o", 2, 1, datatype=INT64)), 2),
        (UNBATCHED, (tensor("a", 100, 3),), 1),  # without a batch dimension a request is one row
        (UNBATCHED, (tensor("a", 0, 3),), 1),
        (ALL_OPTIONAL, (), 1),
        (ALL_OPTIONAL, (tensor("a", 5, 3),), 5),
    ],
)
def test_a_request_that_fits_adds_its_rows_to_the_batch(signature, tensors, rows):
    assert signature.check(request(*tensors)) == rows


def test_any_of_the_declared_outputs_may_be_asked_for():
    good = (tensor("a", 1, 3), tensor("b", 1, 5, 2))
    for outputs in ((), ("y",), ("z", "y")):
        assert BATCHING.check(request(*good, outputs=outputs)) == 1


@pytest.mark.parametrize("datatype", [BOOL, BYTES, FP16, BF16])
def test_classes_of_an_output_without_an_order_are_refused_before_it_is_computed(datatype):
    signature = ModelSignature("m", 8, (TensorSpec("a", FP32, (3,)),), (TensorSpec("y", datatype, (2,)),))
    asked = InferenceRequest("m", inputs=(tensor("a", 1, 3),), outputs=(RequestedOutput("y", class_count=1),))
    with pytest.raises(InvalidArgument, match=f"class result not available for output 'y'.*'{datatype.name}'"):
        signature.check(asked)


A, B = tensor("a", 2, 3), tensor("b", 2, 4, 2)
INT_A = tensor("a", 2, 3, datatype=INT64)


@pytest.mark.parametrize(
    ("signature", "tensors", "outputs", "message"),
    [
        (
            BATCHING,
            (A, B, tensor("c", 2, 3)),
            (),
            "unexpected inference input 'c' for model 'm'; its inputs are ['a', 'b'",
        ),
        (BATCHING, (tensor("c", 2, 3),), (), "unexpected inference input 'c' for model 'm'"),
        (BATCHING, (A, B, A), (), "input 'a' already exists in request for model 'm'"),
        (BATCHING, (A, A), (), "input 'a' already exists in request for model 'm'"),
        (BATCHING, (A,), (), "expected 3 inputs but got 1 inputs for model 'm'. Got input(s) ['a'], but missing"),
        (BATCHING, (A,), (), "missing required input(s) ['b']. Please provide all required input(s)."),
        (BATCHING, (), (), "Got input(s) [], but missing required input(s) ['a', 'b']."),
        (BATCHING, (INT_A, B), (), "inference input 'a' data-type is 'INT64', but model 'm' expects 'FP32'"),
        (
            BATCHING,
            (tensor("a", 2, 4), B),
            (),
            "unexpected shape for input 'a' for model 'm'. Expected [-1,3], got [2,4].",
        ),
        (BATCHING, (tensor("a", 3), B), (), "Expected [-1,3], got [3]. NOTE: Setting a non-zero max_batch_size"),
        (BATCHING, (tensor("a"), B), (), "Expected [-1,3], got []. NOTE"),
        (BATCHING, (A, tensor("b", 2, 4, 3)), (), "Expected [-1,-1,2], got [2,4,3]. NOTE"),
        (BATCHING, (tensor("a", 9, 3), B), (), "inference request batch-size must be <= 8 for 'm', got 9"),
        (BATCHING, (tensor("a", 0, 3), B), (), "input 'a' has no rows: the batch dimension must be between 1 and 8"),
        (BATCHING, (A, tensor("b", 3, 4, 2)), (), "input 'b' batch size does not match other inputs for 'm'"),
        (BATCHING, (A, B), ("q",), "unexpected inference output 'q' for model 'm'; its outputs are ['y', 'z']"),
        (BATCHING, (A, B), ("y", "z", "y"), "output 'y' already exists in request for model 'm'"),
        (UNBATCHED, (tensor("a", 1, 1, 3),), (), "Expected [-1,3], got [1,1,3]."),
        (UNBATCHED, (tensor("a", 3),), (), "Expected [-1,3], got [3]."),
    ],
)
def test_a_request_that_does_not_fit_is_refused(signature, tensors, outputs, message):
    with pytest.raises(InvalidArgument) as raised:
        signature.check(request(*tensors, outputs=outputs))
    assert message in raised.value.message


def test_the_note_on_batch_dimensions_is_for_batching_models_only():
    with pytest.raises(InvalidArgument) as raised:
        UNBATCHED.check(request(tensor("a", 3)))
    assert "NOTE" not in raised.value.message


def test_shapes_have_the_batch_dimension_where_the_model_batches():
    spec = TensorSpec("a", FP32, (4,), reshape=(2, 2))
    assert (spec.wire_shape(batching=True), spec.wire_shape(batching=False)) == ((-1, 4), (4,))
    assert (spec.graph_shape(batching=True), spec.graph_shape(batching=False)) == ((-1, 2, 2), (2, 2))
    assert TensorSpec("a", FP32, (4,)).graph_shape(batching=True) == (-1, 4)
    assert TensorSpec("a", FP32, (1,), reshape=()).graph_shape(batching=True) == (-1,)


def test_signatures_with_the_same_tensors_are_equal_and_can_be_changed_by_copy():
    assert ModelSignature("m", 0, UNBATCHED.inputs, UNBATCHED.outputs) == UNBATCHED
    assert hash(ModelSignature("m", 0, UNBATCHED.inputs, UNBATCHED.outputs)) == hash(UNBATCHED)
    renamed = dataclasses.replace(UNBATCHED, inputs=(TensorSpec("n", FP32, (3,)),))
    assert renamed.check(request(tensor("n", 3))) == 1
