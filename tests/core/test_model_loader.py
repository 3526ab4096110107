"""From a directory of the repository to a loaded version, on a machine that we describe."""

from dataclasses import replace
from pathlib import Path

import onnx
import onnx_models
import pytest
from onnx import TensorProto, helper

from ortolan.core.model_loader import LoadingOptions, load_version, read_config, wanted_versions
from ortolan.core.model_version import LoadedModel
from ortolan.errors import InvalidArgument
from ortolan.execution.devices import DeviceInventory
from ortolan.inference.datatypes import FP32
from ortolan.inference.tensor_spec import TensorSpec
from ortolan.repository.directory import walk
from ortolan.repository.model_directory import ModelEntry

OPTIONS = LoadingOptions(DeviceInventory(cores=2))
IO = 'input [{ name: "x" data_type: TYPE_FP32 dims: [ 4 ] }] output [{ name: "y" data_type: TYPE_FP32 dims: [ 4 ] }]'


def entry_of(tmp_path: Path) -> ModelEntry:
    return walk([tmp_path]).models["m"]


def load(
    tmp_path: Path, config: str = "", proto: onnx.ModelProto | None = None, options: LoadingOptions = OPTIONS
) -> LoadedModel:
    onnx_models.save_version(tmp_path, "m", proto or onnx_models.doubler(), config=config)
    return load_entry(entry_of(tmp_path), options)


def load_entry(entry: ModelEntry, options: LoadingOptions = OPTIONS) -> LoadedModel:
    config = read_config(entry)
    (version,) = wanted_versions(entry, config).values()
    return load_version(entry, config, version, options)


def test_a_bare_model_is_served_with_what_its_graph_says(tmp_path: Path) -> None:
    loaded = load(tmp_path)
    assert (loaded.name, loaded.number) == ("m", 1)
    assert loaded.config.inputs == (TensorSpec("x", FP32, (4,)),)
    assert loaded.config.outputs == (TensorSpec("y", FP32, (4,)),)
    assert loaded.config.max_batch_size == 4
    assert loaded.config.dynamic_batching is not None
    assert (loaded.config.platform, loaded.config.backend) == ("onnxruntime_onnx", "onnxruntime")
    assert loaded.notes == ()
    assert loaded.load_duration_ns > 0


def test_there_are_as_many_instances_as_cores_and_they_share_one_session(tmp_path: Path) -> None:
    loaded = load(tmp_path, options=LoadingOptions(DeviceInventory(cores=3)))
    assert loaded.devices == ("CPU",) * 3
    assert len({name for name, _ in loaded.instances}) == 3
    assert len({id(session) for _, session in loaded.instances}) == 1


@pytest.mark.parametrize(("cores", "threads", "instances"), [(8, 1, 8), (8, 3, 2), (2, 4, 1), (1, 1, 1)])
def test_threads_of_one_request_leave_fewer_instances(tmp_path: Path, cores: int, threads: int, instances: int) -> None:
    loaded = load(tmp_path, options=LoadingOptions(DeviceInventory(cores=cores), intra_op_threads=threads))
    assert (len(loaded.instances), loaded.intra_op_threads) == (instances, threads)


def test_the_file_says_how_many_instances_there_are(tmp_path: Path) -> None:
    loaded = load(tmp_path, 'instance_group [{ name: "a" kind: KIND_CPU count: 3 }, { kind: KIND_CPU }]')
    assert [name for name, _ in loaded.instances] == ["a_0", "a_1", "a_2", "m_1_0", "m_1_1"]


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ('name: "other"', "unexpected directory name 'm' for model 'other'"),
        ("max_batch_sise: 3", "max_batch_sise"),
        ('input [{ name: "z" data_type: TYPE_FP32 dims: [ 4 ] }]', "unexpected inference input 'z'"),
        ("instance_group [{ kind: KIND_GPU }]", "asks for GPUs, but this server has no GPU"),
        ('parameters { key: "intra_op_thread_count" value { string_value: "many" } }', "expects a whole number"),
        ('parameters { key: "session.nonsense" value { string_value: "1" } }', "unknown parameter of model 'm'"),
        ('parameters { key: "execution_provider" value { string_value: "warp" } }', "unknown Execution Accelerator"),
        ('parameters { key: "execution_provider" value { string_value: "xnnpack" } }', "asks for XnnpackExecutionProv"),
        ('default_model_filename: "other.onnx"', "has no file 'other.onnx'; there is 'model.onnx' instead"),
        ('default_model_filename: "../../x.onnx"', "must be a relative name inside the version's directory"),
        ("version_policy { specific { versions: [ 7 ] } }", r"at least one version must be available.*\[1\] are there"),
        ('model_operations { op_library_filename: "/x/libops.so" }', "library of operators 'libops.so' cannot be load"),
        (
            'output [{ name: "y" data_type: TYPE_FP32 dims: [ 4 ] label_filename: "labels.txt" }]',
            "label_filename 'labels.txt' cannot be read",
        ),
    ],
)
def test_a_configuration_that_cannot_be_honoured_is_refused(tmp_path: Path, config: str, text: str) -> None:
    with pytest.raises(InvalidArgument, match=text) as refusal:
        load(tmp_path, config)
    assert str(tmp_path) not in refusal.value.message


def test_without_completion_inputs_and_outputs_must_be_declared(tmp_path: Path) -> None:
    strict = replace(OPTIONS, complete_configs=False)
    with pytest.raises(InvalidArgument, match=r"model 'm' must specify its inputs and outputs in config\.pbtxt"):
        load(tmp_path, "max_batch_size: 8", options=strict)
    loaded = load(tmp_path, "max_batch_size: 8 " + IO, options=strict)
    assert loaded.config.max_batch_size == 8
    assert loaded.config.dynamic_batching is None


def test_unknown_parameters_and_mendings_are_told_to_the_operator(tmp_path: Path) -> None:
    proto = onnx_models.doubler()
    proto.ir_version = 14
    loaded = load(tmp_path, 'parameters { key: "colour" value { string_value: "red" } }', proto)
    assert any(
        "its IR version 14 was lowered to" in note and "so that ONNX Runtime can load it" in note
        for note in loaded.notes
    )
    assert "its parameter 'colour' is not known and has no effect" in loaded.notes


def test_an_operator_may_allow_every_model_to_fall_back(tmp_path: Path) -> None:
    config = 'parameters { key: "execution_provider" value { string_value: "xnnpack" } }'
    loaded = load(tmp_path, config, options=replace(OPTIONS, allow_fallback=True))
    assert loaded.instances[0][1].providers == ("CPUExecutionProvider",)


def test_labels_are_read_with_the_model(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "labels.txt").write_text("zéro\none\n\nthree\n", encoding="utf-8")
    config = 'output [{ name: "y" data_type: TYPE_FP32 dims: [ 4 ] label_filename: "labels.txt" }]'
    assert load(tmp_path, config).labels == {"y": ("zéro", "one", "", "three")}


def test_a_scalar_is_served_as_one_element(tmp_path: Path) -> None:
    proto = onnx_models.model(
        [helper.make_node("Neg", ["x"], ["y"])], [("x", TensorProto.FLOAT, [])], [("y", TensorProto.FLOAT, [])]
    )
    loaded = load(tmp_path, proto=proto)
    assert loaded.config.max_batch_size == 0
    assert loaded.config.inputs == (TensorSpec("x", FP32, (1,), reshape=()),)


def test_a_sequence_of_maps_is_served_as_rows_of_classes(tmp_path: Path) -> None:
    loaded = load(tmp_path, proto=onnx_models.zip_map([0, 1, 2]))
    assert loaded.config.outputs == (TensorSpec("y", FP32, (-1,)),)


def test_an_input_with_a_default_is_optional_where_there_is_no_batch_dimension(tmp_path: Path) -> None:
    loaded = load(tmp_path, proto=onnx_models.with_default(1, (4,)))
    assert [(spec.name, spec.optional) for spec in loaded.config.inputs] == [("x", False), ("c", True)]


def test_weights_beside_the_model_are_loaded_with_it(tmp_path: Path) -> None:
    onnx_models.save_externally(onnx_models.with_external_data(4), tmp_path / "m" / "1" / "model.onnx")
    assert load_entry(entry_of(tmp_path)).config.inputs[0].dims == (4,)


@pytest.mark.parametrize(
    ("names", "text"),
    [
        (["m/config.pbtxt"], "no version found: expected a directory with a positive number"),
        (["m/config.pbtxt", "m/01/model.onnx"], "'01' has a leading zero"),
        (["m/1/"], "has no file 'model.onnx'; there is nothing instead"),
        (["m/1/model.onnx"], "ONNX Runtime cannot load model 'm': No graph was found"),
        (["m/1/model.onnx/"], "has no file 'model.onnx/model.onnx'; there is nothing instead"),
    ],
)
def test_a_directory_without_a_model_is_refused_with_what_is_there(tmp_path: Path, names: list[str], text: str) -> None:
    for name in names:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir() if name.endswith("/") else path.touch()
    with pytest.raises(InvalidArgument, match=text) as refusal:
        load_entry(entry_of(tmp_path))
    assert str(tmp_path) not in refusal.value.message


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("", [10]),
        ("version_policy { latest { num_versions: 2 } }", [3, 10]),
        ("version_policy { all {} }", [1, 3, 10]),
        ("version_policy { specific { versions: [ 3, 4 ] } }", [3]),
    ],
)
def test_the_policy_chooses_the_versions(tmp_path: Path, policy: str, expected: list[int]) -> None:
    for number in (1, 3, 10):
        onnx_models.save_version(tmp_path, "m", onnx_models.doubler(), number, policy)
    entry = entry_of(tmp_path)
    assert list(wanted_versions(entry, read_config(entry))) == expected
