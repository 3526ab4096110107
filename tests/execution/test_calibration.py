"""What calibration finds out about real sessions: their cost curve, and whether batching changes their answers."""

from pathlib import Path

import numpy as np
import onnx
import onnx_models
import pytest
from onnx import TensorProto, helper

from ortolan.execution.calibration import (
    BITWISE,
    UNSAFE,
    UNTESTED,
    WITHIN_TOLERANCE,
    Profile,
    calibrate,
    without_noise,
)
from ortolan.execution.cost_curve import CurvePoint
from ortolan.execution.devices import CPU_PROVIDER, Placement, Provider
from ortolan.execution.model_facts import ModelFacts
from ortolan.execution.session import Session
from ortolan.execution.session_settings import SessionSettings
from ortolan.inference.datatypes import BF16, BYTES, FP16, FP32, INT64, Datatype
from ortolan.inference.tensor_spec import TensorSpec
from ortolan.repository.model_config import InstanceKind, ModelConfig

CPU = Placement("m_0", InstanceKind.CPU, 0, (Provider(CPU_PROVIDER),))
PLAIN = ModelFacts("", loops=False, mixes_rows=False)
MIXING = ModelFacts("", loops=False, mixes_rows=True)


def config_of(
    max_batch_size: int = 8, datatype: Datatype = FP32, dims: tuple[int, ...] = (4,), out: Datatype | None = None
) -> ModelConfig:
    inputs = (TensorSpec("x", datatype, dims),)
    return ModelConfig(
        "m", max_batch_size=max_batch_size, inputs=inputs, outputs=(TensorSpec("y", out or datatype, dims),)
    )


def profile_of(proto: onnx.ModelProto, config: ModelConfig | None = None, facts: ModelFacts = PLAIN) -> Profile:
    session = Session(proto.SerializeToString(), "m", SessionSettings(), CPU, Path())
    return calibrate(config or config_of(), session, facts)


def chain(*nodes: onnx.NodeProto, out: int = TensorProto.FLOAT, **constants: np.ndarray) -> onnx.ModelProto:
    """A model from x, of 4 numbers a row, to y."""
    return onnx_models.model(
        nodes, [("x", TensorProto.FLOAT, ["batch", 4])], [("y", out, ["rows", "columns"])], constants
    )


def shapes(*sizes: int) -> np.ndarray:
    return np.array(sizes, np.int64)


def network() -> onnx.ModelProto:
    """Two layers, whose rows come out the same to the last bit or nearly so."""
    weights = np.random.default_rng(0)
    return chain(
        helper.make_node("MatMul", ["x", "a"], ["hidden"]),
        helper.make_node("Tanh", ["hidden"], ["active"]),
        helper.make_node("MatMul", ["active", "b"], ["y"]),
        a=weights.standard_normal((4, 300), np.float32),
        b=weights.standard_normal((300, 7), np.float32),
    )


def dynamically_quantised() -> onnx.ModelProto:
    """y = x, rounded with one scale for the whole batch."""
    return chain(
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "scale", "zero"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["y"]),
    )


def centred() -> onnx.ModelProto:
    """y = x minus the mean over the batch."""
    mean = helper.make_node("ReduceMean", ["x"], ["mean"], axes=[0])
    return chain(mean, helper.make_node("Sub", ["x", "mean"], ["y"]))


def accumulated(reverse: int) -> onnx.ModelProto:
    """Each row with all before it, as a recurrent model does whose first dimension is time."""
    return chain(helper.make_node("CumSum", ["x", "axis"], ["y"], reverse=reverse), axis=np.array(0, np.int64))


def flattened() -> onnx.ModelProto:
    return chain(helper.make_node("Reshape", ["x", "shape"], ["y"]), shape=shapes(-1, 1))


def summed() -> onnx.ModelProto:
    return chain(helper.make_node("ReduceSum", ["x"], ["y"], keepdims=0))


def of_four_rows_always() -> onnx.ModelProto:
    """Four rows, however many come; that is how many the test sends."""
    return chain(
        helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=1),
        helper.make_node("Add", ["sum", "c"], ["y"]),
        c=np.zeros((4, 4), np.float32),
    )


def as_wide_as_the_batch() -> onnx.ModelProto:
    return chain(
        helper.make_node("Transpose", ["x"], ["t"], perm=[1, 0]), helper.make_node("MatMul", ["x", "t"], ["y"])
    )


def one_row_only() -> onnx.ModelProto:
    return chain(helper.make_node("Reshape", ["x", "shape"], ["y"]), shape=shapes(1, 4))


@pytest.mark.parametrize(
    ("proto", "reason"),
    [
        (dynamically_quantised(), "its output 'y' depends on the other rows of the batch"),
        (centred(), "its output 'y' depends on the other rows of the batch"),
        (accumulated(reverse=0), "its output 'y' depends on the other rows of the batch"),
        (accumulated(reverse=1), "its output 'y' depends on the other rows of the batch"),
        (flattened(), "its output 'y' does not keep the batch dimension"),
        (summed(), "its output 'y' does not keep the batch dimension"),
        (of_four_rows_always(), "its output 'y' does not keep the batch dimension"),
        (as_wide_as_the_batch(), "the shape of its output 'y' depends on the other rows of the batch"),
        (one_row_only(), "it takes single rows, but fails for 4 at once"),
    ],
)
def test_a_model_whose_rows_do_not_keep_to_themselves_is_unsafe(proto: onnx.ModelProto, reason: str) -> None:
    profile = profile_of(proto)
    assert (profile.invariance, profile.unsafe_because, profile.note) == (UNSAFE, reason, "")
    assert profile.points[0].rows == 1


def test_a_quantisation_over_the_whole_batch_is_known_from_the_file() -> None:
    profile = profile_of(dynamically_quantised(), facts=MIXING)
    assert profile.invariance == UNSAFE
    assert "takes one scale from the whole batch" in profile.unsafe_because


@pytest.mark.parametrize("max_batch_size", [2, 3, 64])
def test_two_rows_are_enough_to_find_out(max_batch_size: int) -> None:
    for proto in (centred(), accumulated(0), accumulated(1), dynamically_quantised()):
        assert profile_of(proto, config_of(max_batch_size)).invariance == UNSAFE


@pytest.mark.parametrize(
    ("proto", "config"),
    [
        (onnx_models.doubler(), config_of()),
        (onnx_models.identity(TensorProto.FLOAT16), config_of(datatype=FP16)),
        (onnx_models.identity(TensorProto.BFLOAT16), config_of(datatype=BF16)),
        (onnx_models.identity(TensorProto.STRING), config_of(datatype=BYTES)),
        (onnx_models.identity(TensorProto.INT64), config_of(datatype=INT64)),
        (onnx_models.with_default(1.0), config_of()),
        (chain(helper.make_node("ArgMax", ["x"], ["y"], axis=1), out=TensorProto.INT64), config_of(out=INT64)),
        (onnx_models.identity(TensorProto.FLOAT, ("batch", "n")), config_of(dims=(-1,))),
    ],
)
def test_a_model_whose_rows_are_computed_one_by_one_is_bitwise_the_same(
    proto: onnx.ModelProto, config: ModelConfig
) -> None:
    profile = profile_of(proto, config)
    assert (profile.invariance, profile.unsafe_because, profile.note) == (BITWISE, "", "")


def test_a_network_is_the_same_within_tolerance() -> None:
    assert profile_of(network()).invariance in (BITWISE, WITHIN_TOLERANCE)


def test_last_bits_that_differ_are_within_tolerance() -> None:
    tiny = np.array(3e-7, np.float32)
    proto = chain(
        helper.make_node("ReduceMax", ["x"], ["most"], axes=[0, 1], keepdims=0),
        helper.make_node("Mul", ["most", "tiny"], ["noise"]),
        helper.make_node("Add", ["x", "noise"], ["y"]),
        tiny=tiny,
    )
    assert profile_of(proto).invariance == WITHIN_TOLERANCE


def test_numbers_that_are_none_do_not_hide_a_difference() -> None:
    """Infinities and NaN in an answer are equal to themselves, and no excuse for what stands beside them."""
    bad = chain(
        helper.make_node("ReduceMean", ["x"], ["mean"], axes=[0]),
        helper.make_node("Sub", ["x", "mean"], ["centred"]),
        helper.make_node("Mul", ["centred", "factors"], ["y"]),
        factors=np.array([1, 1, 0, 1], np.float32),
    )
    odd = chain(helper.make_node("Div", ["x", "c"], ["y"]), c=np.array([1, 0, np.nan, np.inf], np.float32))
    assert profile_of(bad).invariance == UNSAFE
    assert profile_of(odd).invariance == BITWISE


def test_a_model_that_throws_dice_cannot_be_tested() -> None:
    profile = profile_of(chain(helper.make_node("RandomNormalLike", ["x"], ["y"], dtype=TensorProto.FLOAT)))
    assert profile.invariance == UNTESTED
    assert "they differ from run to run" in profile.note
    assert profile.points


@pytest.mark.parametrize("max_batch_size", [0, 1])
def test_a_model_that_is_not_batched_has_one_point_and_no_class(max_batch_size: int) -> None:
    shape = (4,) if max_batch_size == 0 else ("batch", 4)
    profile = profile_of(onnx_models.doubler(shape), config_of(max_batch_size))
    assert [point.rows for point in profile.points] == [1]
    assert (profile.invariance, profile.note, profile.batching_gain) == (UNTESTED, "", 1.0)


def test_a_model_that_rejects_made_up_inputs_is_not_measured() -> None:
    proto = chain(helper.make_node("Reshape", ["x", "shape"], ["y"]), shape=shapes(5, 5))
    profile = profile_of(proto)
    assert (profile.points, profile.invariance, profile.batching_gain) == ((), UNTESTED, 1.0)
    assert profile.note.startswith("it could not be measured on made-up inputs: model 'm' could not run this request")


def test_a_model_that_rejects_random_inputs_is_measured_but_not_tested() -> None:
    proto = onnx_models.model(
        [helper.make_node("Gather", ["table", "x"], ["y"])],
        [("x", TensorProto.INT64, ["batch", 4])],
        [("y", TensorProto.FLOAT, ["batch", 4])],
        {"table": np.zeros(1, np.float32)},
    )
    profile = profile_of(proto, config_of(datatype=INT64, out=FP32))
    assert profile.points
    assert profile.invariance == UNTESTED
    assert profile.note.startswith("whether batching changes its answers could not be tested: ")


@pytest.mark.parametrize("size", [1 << 44, 1 << 62])
def test_inputs_too_large_to_be_made_up_are_no_error(size: int) -> None:
    profile = profile_of(onnx_models.identity(shape=("batch", "n")), config_of(dims=(size,)))
    assert profile.note.startswith("it could not be measured")


def test_a_model_whose_cost_is_fixed_gains_by_batches() -> None:
    profile = profile_of(onnx_models.slow(2000), config_of(8))
    assert [point.rows for point in profile.points] == [1, 2, 4, 8]
    assert profile.batching_gain > 4


@pytest.mark.parametrize(
    ("durations", "expected"),
    [
        ([100, 200, 400], [100, 200, 400]),
        ([100, 196, 389], [100, 200, 400]),  # 2 or 3 % are noise, not gain
        ([100, 210, 430], [100, 210, 430]),  # worse is worse
        ([100, 150, 299], [100, 150, 300]),
        ([100, 150, 280], [100, 150, 280]),
        ([100, 300, 340], [100, 300, 340]),
        ([100], [100]),
    ],
)
def test_a_gain_that_may_be_noise_is_none(durations: list[int], expected: list[int]) -> None:
    points = [CurvePoint(1 << power, duration, 5) for power, duration in enumerate(durations)]
    assert [point.duration_ns for point in without_noise(points)] == expected
