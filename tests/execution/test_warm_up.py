"""Warm-up samples of every kind of data through real sessions, and what is said when one fails."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnx_models
import pytest
from onnx import TensorProto, helper

from ortolan.errors import InvalidArgument
from ortolan.execution.devices import CPU_PROVIDER, Placement, Provider
from ortolan.execution.session import Session
from ortolan.execution.session_settings import SessionSettings
from ortolan.execution.warm_up import made_up_inputs, run_samples, sample_inputs
from ortolan.inference.bytes_elements import encode_elements
from ortolan.inference.datatypes import BF16, BOOL, BYTES, DATATYPES, FP16, FP32, INT64, UINT8, Array, Datatype
from ortolan.inference.tensor_spec import TensorSpec
from ortolan.repository.model_config import InstanceKind, ModelConfig, WarmupData, WarmupInput, WarmupSample

CPU = Placement("m_0", InstanceKind.CPU, 0, (Provider(CPU_PROVIDER),))


def session_of(proto: onnx.ModelProto) -> Session:
    return Session(proto.SerializeToString(), "m", SessionSettings(), CPU, Path())


def config_of(datatype: Datatype, dims: tuple[int, ...] = (2, 3), max_batch_size: int = 8) -> ModelConfig:
    inputs, outputs = (TensorSpec("x", datatype, dims),), (TensorSpec("y", datatype, dims),)
    return ModelConfig("m", max_batch_size=max_batch_size, inputs=inputs, outputs=outputs)


def sample_of(
    datatype: Datatype,
    data: WarmupData,
    dims: tuple[int, ...] = (2, 3),
    file: str = "",
    batch_size: int = 4,
    count: int = 1,
) -> WarmupSample:
    given = WarmupInput(TensorSpec("x", datatype, dims), data, file)
    return WarmupSample("first", batch_size, count, (given,))


def warm_up_file(directory: Path, content: bytes) -> None:
    (directory / "warmup").mkdir()
    (directory / "warmup" / "rows").write_bytes(content)


def same(first: Array, second: Array) -> bool:
    return first.shape == second.shape and first.dtype == second.dtype and first.tolist() == second.tolist()


# -- data ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", list(WarmupData))
@pytest.mark.parametrize("datatype", DATATYPES)
def test_every_datatype_can_be_warmed_up_with_every_kind_of_data(
    tmp_path: Path, datatype: Datatype, data: WarmupData
) -> None:
    elements = np.array([b"a", b"", b"\xff"] * 2, object) if datatype is BYTES else np.arange(6).astype(datatype.numpy)
    warm_up_file(tmp_path, encode_elements(elements) if datatype is BYTES else elements.tobytes())
    sample = sample_of(datatype, data, file="rows")
    config = replace(config_of(datatype), warmup=(sample,))
    inputs = sample_inputs(config, sample, tmp_path)
    assert inputs["x"].shape == (4, 2, 3)
    assert inputs["x"].dtype == datatype.numpy
    assert all(same(row, inputs["x"][0]) for row in inputs["x"])
    session = session_of(onnx_models.identity(datatype.onnx_element_type, ("batch", 2, 3)))
    run_samples(config, session, tmp_path)
    if data is WarmupData.FILE:
        assert same(inputs["x"][0], elements.reshape(2, 3))
        (output,) = session.run(inputs, ["y"])
        assert same(output, inputs["x"])


@pytest.mark.parametrize(
    ("datatype", "data", "expected"),
    [
        (FP32, WarmupData.ZERO, [0.0] * 6),
        (INT64, WarmupData.ZERO, [0] * 6),
        (BOOL, WarmupData.ZERO, [False] * 6),
        (BYTES, WarmupData.ZERO, [b""] * 6),
        (BYTES, WarmupData.RANDOM, [b""] * 6),  # as Triton does
    ],
)
def test_zeros_and_random_strings(datatype: Datatype, data: WarmupData, expected: list[object]) -> None:
    sample = sample_of(datatype, data, batch_size=1)
    assert sample_inputs(config_of(datatype), sample, Path())["x"].ravel().tolist() == expected


@pytest.mark.parametrize(("datatype", "values"), [(INT64, {0, 1}), (UINT8, {0, 1}), (BOOL, {False, True})])
def test_random_integers_are_in_range_of_any_table(datatype: Datatype, values: set[object]) -> None:
    sample = sample_of(datatype, WarmupData.RANDOM, dims=(50,))
    assert set(sample_inputs(config_of(datatype, (50,)), sample, Path())["x"].ravel().tolist()) == values


@pytest.mark.parametrize("datatype", [FP32, FP16, BF16])
def test_random_numbers_are_not_all_the_same(datatype: Datatype) -> None:
    sample = sample_of(datatype, WarmupData.RANDOM, dims=(50,))
    assert len(set(sample_inputs(config_of(datatype, (50,)), sample, Path())["x"][0].tolist())) > 10


@pytest.mark.parametrize(
    ("dims", "reshape", "max_batch_size", "shape"),
    [
        ((6,), None, 8, (4, 6)),
        ((6,), None, 0, (6,)),
        ((1,), (), 8, (4,)),
        ((1,), (), 0, ()),
        ((6,), (2, 3), 8, (4, 2, 3)),
        ((6,), (2, -1), 8, (4, 2, 3)),
        ((6,), (-1, -1), 8, (4, 6)),  # it cannot be told how
    ],
)
def test_samples_have_the_shape_of_the_graph(
    dims: tuple[int, ...], reshape: tuple[int, ...] | None, max_batch_size: int, shape: tuple[int, ...]
) -> None:
    config = config_of(FP32, dims, max_batch_size)
    config = replace(config, inputs=(replace(config.inputs[0], reshape=reshape),))
    sample = sample_of(FP32, WarmupData.ZERO, dims)
    assert sample_inputs(config, sample, Path())["x"].shape == shape


@pytest.mark.parametrize(("batch_size", "max_batch_size", "rows"), [(0, 8, 1), (1, 8, 1), (8, 8, 8), (1, 1, 1)])
def test_a_sample_has_as_many_rows_as_it_says_and_one_at_least(batch_size: int, max_batch_size: int, rows: int) -> None:
    sample = sample_of(FP32, WarmupData.ZERO, batch_size=batch_size)
    assert sample_inputs(config_of(FP32, max_batch_size=max_batch_size), sample, Path())["x"].shape[0] == rows


# -- running -------------------------------------------------------------------------------------------------------


class CountingSession(Session):
    """A real session that remembers what it was given."""

    def __init__(self, proto: onnx.ModelProto) -> None:
        super().__init__(proto.SerializeToString(), "m", SessionSettings(), CPU, Path())
        self.runs: list[tuple[int, ...]] = []

    def run(self, inputs, output_names, run=None):  # type: ignore[no-untyped-def]
        self.runs.append(inputs["x"].shape)
        return super().run(inputs, output_names, run)


def test_every_sample_runs_as_often_as_it_says() -> None:
    session = CountingSession(onnx_models.identity(shape=("batch", 2, 3)))
    samples = [
        sample_of(FP32, WarmupData.ZERO, batch_size=rows, count=count) for rows, count in ((1, 0), (4, 3), (2, 1))
    ]
    run_samples(replace(config_of(FP32), warmup=tuple(samples)), session, Path())
    assert [shape[0] for shape in session.runs] == [1, 4, 4, 4, 2]


@pytest.mark.parametrize(
    ("given", "content", "reason"),
    [
        (sample_of(FP32, WarmupData.FILE, file="rows"), b"123", "file 'rows' has 3 bytes, expected 24"),
        (
            sample_of(FP32, WarmupData.FILE, file="other"),
            b"",
            "the file 'other' in the model's warmup directory is not there",
        ),
        (sample_of(FP32, WarmupData.FILE, file="../rows"), b"", "must be a relative name"),
        (sample_of(FP32, WarmupData.FILE, file=""), b"", "must be a relative name"),
        (sample_of(BYTES, WarmupData.FILE, file="rows"), b"\x05\0\0\0ab", "input 'x'"),
        (sample_of(FP32, WarmupData.ZERO, dims=(1 << 40, 1 << 10)), b"", "input 'x' cannot be made with dims"),
        (sample_of(FP32, WarmupData.ZERO, dims=(-1, 3)), b"", "input 'x' cannot be made with dims"),
        (sample_of(FP32, WarmupData.ZERO, dims=(2, 4)), b"", "Got: 4 Expected: 3"),
        (sample_of(INT64, WarmupData.ZERO), b"", "Unexpected input data type"),
        (
            WarmupSample("s", 1, 1, (WarmupInput(TensorSpec("wrong", FP32, (2, 3)), WarmupData.ZERO),)),
            b"",
            "the model has no input 'wrong'; its inputs are 'x'",
        ),
    ],
)
def test_a_sample_that_fails_is_named_with_the_reason(
    tmp_path: Path, given: WarmupSample, content: bytes, reason: str
) -> None:
    warm_up_file(tmp_path, content)
    config = replace(config_of(FP32), warmup=(sample_of(FP32, WarmupData.ZERO), replace(given, name="second")))
    with pytest.raises(InvalidArgument, match="failed to run warmup sample 'second': ") as caught:
        run_samples(config, session_of(onnx_models.identity(shape=("batch", 2, 3))), tmp_path)
    assert reason in str(caught.value)
    assert str(tmp_path) not in str(caught.value)


def test_a_model_that_fails_on_a_sample_is_named_with_it() -> None:
    proto = onnx_models.model(
        [helper.make_node("Reshape", ["x", "shape"], ["y"])],
        [("x", TensorProto.FLOAT, ("batch", 2, 3))],
        [("y", TensorProto.FLOAT, ("batch", "n"))],
        {"shape": np.array([7, 7], np.int64)},
    )
    config = replace(config_of(FP32), warmup=(sample_of(FP32, WarmupData.ZERO),))
    with pytest.raises(InvalidArgument, match="failed to run warmup sample 'first': model 'm' could not run"):
        run_samples(config, session_of(proto), Path())


def test_without_samples_nothing_runs() -> None:
    session = CountingSession(onnx_models.identity(shape=("batch", 2, 3)))
    run_samples(config_of(FP32), session, Path())
    assert session.runs == []


# -- made-up inputs ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("specs", "max_batch_size", "shapes"),
    [
        ([TensorSpec("x", FP32, (3, 4))], 8, {"x": (5, 3, 4)}),
        ([TensorSpec("x", FP32, (3, 4))], 0, {"x": (3, 4)}),
        ([TensorSpec("x", FP32, (-1, 4))], 8, {"x": (5, 1, 4)}),  # a free size is 1
        ([TensorSpec("x", FP32, (1,), reshape=())], 8, {"x": (5,)}),
        ([TensorSpec("x", FP32, (4,), reshape=(2, 2))], 8, {"x": (5, 2, 2)}),
        ([TensorSpec("x", FP32, ()), TensorSpec("s", BYTES, (2,))], 8, {"x": (5,), "s": (5, 2)}),
        ([TensorSpec("x", FP32, (1,)), TensorSpec("c", FP32, (1,), optional=True)], 8, {"x": (5, 1)}),
    ],
)
def test_made_up_inputs_fit_the_declarations(
    specs: Sequence[TensorSpec], max_batch_size: int, shapes: dict[str, tuple[int, ...]]
) -> None:
    config = ModelConfig("m", max_batch_size=max_batch_size, inputs=tuple(specs))
    for generator in (None, np.random.default_rng(0)):
        inputs = made_up_inputs(config, 5, generator)
        assert {name: array.shape for name, array in inputs.items()} == shapes
        assert all(inputs[spec.name].dtype == spec.datatype.numpy for spec in specs if spec.name in inputs)
