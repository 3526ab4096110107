"""Golden requests: what is close enough, and what a load says when an answer is not."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnx_models
import pytest
from onnx import TensorProto, helper, numpy_helper

from ortolan.core.golden_answers import Tolerance, tolerance_of, worst_difference
from ortolan.core.model_loader import LoadingOptions, load_version, read_config, wanted_versions
from ortolan.core.model_version import LoadedModel
from ortolan.errors import InvalidArgument
from ortolan.execution.device_share import DeviceShares
from ortolan.execution.devices import DeviceInventory
from ortolan.inference.datatypes import BF16, BOOL, BYTES, FP16, FP32, FP64, INT64, UINT8, Datatype
from ortolan.repository.directory import walk

OPTIONS = LoadingOptions(DeviceInventory(cores=1), DeviceShares(1))
NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    ("datatype", "got", "expected", "worst"),
    [
        (FP32, [1, 2], [1, 2], None),
        (FP32, [1.0009, 2], [1, 2], None),
        (FP32, [1.1, 2], [1, 2], (0,)),
        (FP32, [1.1, 3], [1, 2], (1,)),
        (FP32, [1e-6], [0], None),
        (FP32, [NAN, INF, -INF], [NAN, INF, -INF], None),
        (FP32, [NAN], [1], (0,)),
        (FP32, [1], [NAN], (0,)),
        (FP32, [1, INF], [1, -INF], (1,)),
        (FP32, [5, INF], [1, 1], (1,)),
        (FP32, [1], [INF], (0,)),
        (FP32, [], [], None),
        (FP32, 1.0, 1.0, None),
        (FP32, 1.0, 2.0, ()),
        (FP64, [1 + 1e-6], [1], None),
        (FP64, [1.001], [1], (0,)),
        (FP16, [1.005], [1], None),
        (INT64, [1, 2**62], [1, 2**62], None),
        (INT64, [1, 2**62], [1, 2**62 + 1], (1,)),
        (INT64, [2, 9], [1, 1], (1,)),
        (UINT8, [0], [255], (0,)),
        (BOOL, [True, False], [True, True], (1,)),
    ],
)
def test_elements_are_compared_by_their_datatype(
    datatype: Datatype, got: object, expected: object, worst: tuple[int, ...] | None
) -> None:
    found = worst_difference(
        np.array(got, datatype.numpy), np.array(expected, datatype.numpy), datatype, tolerance_of(datatype, {})
    )
    assert (found.index if found else None) == worst


def test_texts_are_compared_exactly() -> None:
    found = worst_difference(
        np.array([[b"a", b"b\n"]], object), np.array([[b"a", b"\xff"]], object), BYTES, tolerance_of(BYTES, {})
    )
    assert found
    assert (found.index, found.expected, found.got, found.count, found.of) == ((0, 1), "'\\\\xff'", "'b\\\\n'", 1, 2)


def test_bfloat16_is_compared_as_the_numbers_that_it_is() -> None:
    one, nearly, two = 0x3F80, 0x3F81, 0x4000
    tolerance = tolerance_of(BF16, {})
    assert worst_difference(np.array([nearly], "<u2"), np.array([one], "<u2"), BF16, tolerance) is None
    found = worst_difference(np.array([two], "<u2"), np.array([one], "<u2"), BF16, tolerance)
    assert found
    assert (found.expected, found.got) == ("1.0", "2.0")


def test_models_say_their_own_tolerance() -> None:
    assert tolerance_of(FP32, {"golden_rtol": "0.5"}) == Tolerance(0.5, 1e-5)
    assert tolerance_of(INT64, {"golden_atol": "1"}) == Tolerance(0, 1)
    assert tolerance_of(BYTES, {"golden_atol": "1"}).exact
    assert worst_difference(np.array([2, 5]), np.array([1, 5]), INT64, Tolerance(0, 1)) is None
    assert worst_difference(np.array([3, 5]), np.array([1, 5]), INT64, Tolerance(0, 1))


# -- loads -------------------------------------------------------------------------------------------------------------


def save_set(directory: Path, inputs: Sequence[TensorProto | bytes], outputs: Sequence[TensorProto | bytes]) -> Path:
    directory.mkdir(parents=True)
    for kind, tensors in (("input", inputs), ("output", outputs)):
        for number, tensor in enumerate(tensors):
            content = tensor if isinstance(tensor, bytes) else tensor.SerializeToString()
            (directory / f"{kind}_{number}.pb").write_bytes(content)
    return directory


def tensor(value: float, name: str = "", rows: int = 1, dtype: type = np.float32) -> TensorProto:
    return numpy_helper.from_array(np.full((rows, 4), value, dtype), name)


def load(root: Path, options: LoadingOptions = OPTIONS, name: str = "m") -> LoadedModel:
    entry = walk([root]).models[name]
    config = read_config(entry)
    (version,) = wanted_versions(entry, config).values()
    return load_version(entry, config, version, options)


def saved(root: Path, config: str = "", proto: onnx.ModelProto | None = None) -> Path:
    onnx_models.save_version(root, "m", proto or onnx_models.doubler(), config=config)
    return root / "m"


@pytest.mark.parametrize("place", ["test_data_set_0", "1/test_data_set_0"])
@pytest.mark.parametrize("names", [("", ""), ("x", "y")])
def test_a_model_that_answers_as_it_should_is_loaded(tmp_path: Path, place: str, names: tuple[str, str]) -> None:
    save_set(saved(tmp_path) / place, [tensor(1, names[0], 2)], [tensor(2, names[1], 2)])
    assert load(tmp_path).notes == ()
    assert not walk([tmp_path]).warnings


def test_one_that_does_not_is_refused_with_the_worst_element(tmp_path: Path) -> None:
    model = saved(tmp_path)
    save_set(model / "test_data_set_0", [tensor(1)], [tensor(2)])
    wrong = np.array([[2, 2, 7, 2.5]], np.float32)
    save_set(model / "test_data_set_1", [tensor(1)], [numpy_helper.from_array(wrong)])
    with pytest.raises(InvalidArgument) as refusal:
        load(tmp_path)
    assert refusal.value.message == (
        "the golden requests of model 'm' refuse it: test_data_set_1: output 'y' at [0, 2]: expected 7.0, got 2.0, "
        "which may differ by 1e-05 + 0.001 * expected; the worst of 2 elements of 4 that are wrong"
    )


def test_a_versions_own_requests_take_the_place_of_its_models(tmp_path: Path) -> None:
    model = saved(tmp_path)
    save_set(model / "test_data_set_0", [tensor(1)], [tensor(3)])
    with pytest.raises(InvalidArgument, match=r"expected 3\.0, got 2\.0"):
        load(tmp_path)
    save_set(model / "1" / "test_data_set_0", [tensor(1)], [tensor(2)])
    load(tmp_path)


def test_a_model_of_the_zoo_is_tried_as_it_comes(tmp_path: Path) -> None:
    onnx_models.save(onnx_models.doubler(), tmp_path / "zoo" / "model.onnx")
    save_set(tmp_path / "zoo" / "test_data_set_0", [tensor(1)], [tensor(3)])
    with pytest.raises(InvalidArgument, match="test_data_set_0"):
        load(tmp_path, name="zoo")


def test_requests_beside_several_models_belong_to_none(tmp_path: Path) -> None:
    onnx_models.save(onnx_models.doubler(), tmp_path / "a.onnx")
    save_set(tmp_path / "test_data_set_0", [tensor(1)], [tensor(3)])
    load(tmp_path, name="a")


def test_tolerances_of_the_model_count(tmp_path: Path) -> None:
    parameter = 'parameters { key: "golden_%s" value { string_value: "%s" } }'
    save_set(saved(tmp_path, parameter % ("rtol", "0.6")) / "test_data_set_0", [tensor(1)], [tensor(3)])
    load(tmp_path)
    (tmp_path / "m" / "config.pbtxt").write_text(parameter % ("rtol", "-1"))
    with pytest.raises(InvalidArgument, match="'golden_rtol' expects a number, 0 or more, got '-1'"):
        load(tmp_path)


def test_they_may_be_required_or_left_alone(tmp_path: Path) -> None:
    model = saved(tmp_path)
    with pytest.raises(InvalidArgument, match="--golden-requests=require wants one"):
        load(tmp_path, replace(OPTIONS, golden="require"))
    save_set(model / "test_data_set_0", [b"nonsense"], [b"nonsense"])
    load(tmp_path, replace(OPTIONS, golden="off"))


def test_the_graph_is_asked_in_its_own_shapes(tmp_path: Path) -> None:
    config = (
        'max_batch_size: 2 input [{ name: "x" data_type: TYPE_FP32 dims: [ 2, 2 ] reshape { shape: [ 4 ] } }] '
        'output [{ name: "y" data_type: TYPE_FP32 dims: [ 4 ] }]'
    )
    save_set(saved(tmp_path, config) / "test_data_set_0", [tensor(1, rows=3)], [tensor(2, rows=3)])
    load(tmp_path)


def test_texts_go_in_and_come_out(tmp_path: Path) -> None:
    texts = helper.make_tensor("x", TensorProto.STRING, [1, 2], ["süß".encode(), b"b"])
    model = saved(tmp_path, proto=onnx_models.identity(TensorProto.STRING, ("batch", 2)))
    save_set(model / "test_data_set_0", [texts], [helper.make_tensor("", TensorProto.STRING, [1, 2], [b"a", b"b"])])
    with pytest.raises(InvalidArgument, match=r"output 'y' at \[0, 0\]: expected 'a', got 'süß'; the worst of 1"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("inputs", "outputs", "reason"),
    [
        ([b"\xff\xff"], [tensor(2)], "test_data_set_0/input_0.pb cannot be used: it is no serialized TensorProto"),
        ([b""], [tensor(2)], "test_data_set_0/input_0.pb cannot be used: it has no data_type"),
        ([tensor(1)], [b"<html>"], "test_data_set_0/output_0.pb cannot be used"),
        ([tensor(1, "z")], [tensor(2)], r"input_0.pb is called 'z', but the model's inputs are 'x'"),
        ([tensor(1)], [tensor(2, "z")], r"output_0.pb is called 'z', but the model's outputs are 'y'"),
        ([], [tensor(2)], "test_data_set_0 has no tensor for input 'x'"),
        ([tensor(1), tensor(1)], [tensor(2)], "has 2 inputs, but the model has 1"),
        ([tensor(1)], [tensor(2), tensor(2)], "has 2 outputs, but the model has 1"),
        ([tensor(1)], [], "has no output_0.pb, so that there is nothing to compare with"),
        ([tensor(1, dtype=np.float64)], [tensor(2)], "input_0.pb is of FP64, but input 'x' is of FP32"),
        ([tensor(1)], [tensor(2, dtype=np.int64)], "output_0.pb is of INT64, but output 'y' is of FP32"),
        ([tensor(1)], [tensor(2, rows=2)], r"output 'y' has shape \[1, 4\], expected \[2, 4\]"),
        ([numpy_helper.from_array(np.ones((1, 5), np.float32))], [tensor(2)], "test_data_set_0 fails: .*x"),
    ],
)
def test_a_data_set_that_makes_no_sense_refuses_the_model(
    tmp_path: Path, inputs: list[TensorProto], outputs: list[TensorProto], reason: str
) -> None:
    save_set(saved(tmp_path) / "test_data_set_0", inputs, outputs)
    with pytest.raises(InvalidArgument, match=reason) as refusal:
        load(tmp_path)
    assert str(tmp_path) not in refusal.value.message


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda folder: (folder / "input_0.pb").rename(folder / "input_1.pb"), "has no input_0.pb, but has input_1.pb"),
        (lambda folder: (folder / "input_0.pb").unlink(), "no tensor for input 'x'"),
        (lambda folder: _replace(folder / "input_0.pb").mkdir(), "input_0.pb cannot be read: not a regular file"),
        (
            lambda folder: _replace(folder / "input_0.pb").symlink_to("/etc/hostname"),
            "input_0.pb cannot be used; its text is not",
        ),
        (lambda folder: _replace(folder / "input_0.pb").symlink_to("nowhere"), "input_0.pb is not there"),
    ],
)
def test_files_that_cannot_be_used_refuse_the_model(
    tmp_path: Path, change: Callable[[Path], None], reason: str
) -> None:
    change(save_set(saved(tmp_path) / "test_data_set_0", [tensor(1)], [tensor(2)]))
    with pytest.raises(InvalidArgument, match=reason):
        load(tmp_path)


def test_what_lies_outside_counts_and_is_not_quoted(tmp_path: Path) -> None:
    secret = save_set(tmp_path / "elsewhere", [tensor(1)], [tensor(7)])
    model = saved(tmp_path / "repository")
    (model / "test_data_set_0").symlink_to(secret)
    with pytest.raises(InvalidArgument, match=r"test_data_set_0 does not fit, or has other answers; its text is") as it:
        load(tmp_path / "repository")
    assert "7" not in it.value.message
    (secret / "output_0.pb").write_bytes(tensor(2, "hunter2").SerializeToString())
    with pytest.raises(InvalidArgument, match="its text is not shown") as it:
        load(tmp_path / "repository")
    assert "hunter2" not in it.value.message
    (secret / "output_0.pb").write_bytes(tensor(2).SerializeToString())
    assert load(tmp_path / "repository").notes == ()


def test_what_a_version_links_to_is_its_own(tmp_path: Path) -> None:
    """As where versions are links into a store of artifacts, or the whole model is one."""
    store = saved(tmp_path / "store")
    save_set(store / "1" / "test_data_set_0", [tensor(1)], [tensor(7)])
    (tmp_path / "repository" / "m").mkdir(parents=True)
    (tmp_path / "repository" / "m" / "1").symlink_to(store / "1")
    with pytest.raises(InvalidArgument, match=r"expected 7\.0, got 2\.0"):
        load(tmp_path / "repository")


def _replace(path: Path) -> Path:
    path.unlink()
    return path


def test_some_outputs_are_enough_when_they_are_named(tmp_path: Path) -> None:
    proto = onnx_models.doubler()
    proto.graph.node.append(helper.make_node("Neg", ["x"], ["z"]))
    proto.graph.output.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, ("batch", 4)))
    folder = save_set(saved(tmp_path, proto=proto) / "test_data_set_0", [tensor(1)], [tensor(-1, "z")])
    load(tmp_path)
    (folder / "output_0.pb").write_bytes(tensor(-1).SerializeToString())
    with pytest.raises(InvalidArgument, match="has 1 outputs, but the model has 2: give all of them, or give those"):
        load(tmp_path)
    (folder / "output_0.pb").write_bytes(tensor(-1, "z").SerializeToString())
    (folder / "output_1.pb").write_bytes(tensor(-1, "z").SerializeToString())
    with pytest.raises(InvalidArgument, match=r"output_1.pb is a second tensor for output 'z'"):
        load(tmp_path)
