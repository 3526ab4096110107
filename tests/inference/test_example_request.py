"""Every example is a request that its model takes as it stands."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ortolan.inference.datatypes import BYTES, DATATYPES, FP32, INT64, Datatype
from ortolan.inference.example_request import (
    example_generate,
    example_predict,
    example_request,
    is_small,
    value_count,
)
from ortolan.inference.tensor_spec import ModelSignature, TensorSpec
from ortolan.protocol import generate_codec, v1_codec
from ortolan.protocol.json_codec import decode_request


def rows_of_example(signature: ModelSignature) -> int:
    """The rows of the example, after it went through JSON and the model's checks."""
    body = orjson.dumps(example_request(signature))
    return signature.check(decode_request(signature.model_name, "", body, None))


def signature_of(*inputs: TensorSpec, max_batch_size: int = 8) -> ModelSignature:
    return ModelSignature("m", max_batch_size, inputs, ())


specs = st.builds(
    TensorSpec,
    st.text(st.characters(codec="utf-8"), min_size=1, max_size=4),
    st.sampled_from(DATATYPES),
    st.lists(st.sampled_from((-1, 1, 2, 3)), min_size=1, max_size=3).map(tuple),
    optional=st.booleans(),
)


@given(st.lists(specs, max_size=4, unique_by=lambda spec: spec.name), st.sampled_from((0, 1, 8)))
def test_every_example_is_a_request_of_one_row(inputs: list[TensorSpec], max_batch_size: int) -> None:
    assert rows_of_example(signature_of(*inputs, max_batch_size=max_batch_size)) == 1


@given(st.lists(specs, min_size=1, max_size=4, unique_by=lambda spec: spec.name), st.sampled_from((0, 1, 8)))
def test_so_are_those_of_the_other_protocols(inputs: list[TensorSpec], max_batch_size: int) -> None:
    signature = signature_of(*inputs, max_batch_size=max_batch_size)
    assert (
        signature.check(generate_codec.decode_request("m", "", orjson.dumps(example_generate(signature)), signature))
        == 1
    )
    request, _ = v1_codec.decode_request("m", "", orjson.dumps(example_predict(signature)), signature)
    assert signature.check(request) == 1


@pytest.mark.parametrize("datatype", DATATYPES, ids=lambda datatype: datatype.name)
def test_every_datatype_has_a_neutral_value(datatype: Datatype) -> None:
    assert rows_of_example(signature_of(TensorSpec("x", datatype, (2, -1)))) == 1


def test_an_example_reads_well() -> None:
    signature = signature_of(
        TensorSpec("x", FP32, (-1, 2)), TensorSpec("s", BYTES, (1,)), TensorSpec("o", INT64, (3,), optional=True)
    )
    assert example_request(signature) == {
        "inputs": [
            {"name": "x", "shape": [1, 1, 2], "datatype": "FP32", "data": [0.0, 0.0]},
            {"name": "s", "shape": [1, 1], "datatype": "BYTES", "data": ["hello"]},
        ]
    }


def test_the_other_examples_read_well() -> None:
    signature = signature_of(TensorSpec("x", FP32, (-1, 2)), TensorSpec("s", BYTES, (1,)))
    assert example_generate(signature) == {"x": [0.0, 0.0], "s": "hello"}
    assert example_predict(signature) == {"instances": [{"x": [[0.0, 0.0]], "s": ["hello"]}]}
    assert example_predict(signature_of(TensorSpec("x", FP32, (2,)))) == {"instances": [[0.0, 0.0]]}
    assert example_predict(signature_of(TensorSpec("x", FP32, (2,)), max_batch_size=0)) == {"inputs": {"x": [0.0, 0.0]}}


@pytest.mark.parametrize(
    ("inputs", "count"),
    [
        ((), 0),
        ((TensorSpec("x", FP32, (3, -1, 4)),), 12),
        ((TensorSpec("x", FP32, (3,)), TensorSpec("z", FP32, (5,))), 8),
        ((TensorSpec("x", FP32, (3,)), TensorSpec("o", FP32, (5,), optional=True)), 3),  # is left out of the example
    ],
)
def test_the_count_is_of_the_values_in_the_example(inputs: tuple[TensorSpec, ...], count: int) -> None:
    signature = signature_of(*inputs)
    assert value_count(signature) == count
    shown = example_request(signature)["inputs"]
    assert isinstance(shown, list)
    assert sum(len(each["data"]) for each in shown) == count


@pytest.mark.parametrize(("dims", "small"), [((4096,), True), ((4097,), False), ((3, 224, 224), False), ((-1,), True)])
def test_an_image_is_too_much_for_an_example(dims: tuple[int, ...], small: bool) -> None:
    assert is_small(signature_of(TensorSpec("x", FP32, dims))) is small


def test_the_example_for_a_model_of_sequences_is_a_whole_one() -> None:
    signature = ModelSignature("m", 4, (TensorSpec("x", FP32, (1,)),), (), sequences=True)
    sequence = {"sequence_id": 1, "sequence_start": True, "sequence_end": True}
    assert example_request(signature)["parameters"] == sequence
    assert example_generate(signature) == {"x": 0.0, **sequence}
