"""From a directory of the repository to a loaded version, on a machine that we describe."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnx_models
import onnx_outputs
import pytest
from onnx import TensorProto, helper

from ortolan.core.model_loader import LoadingOptions, load_version, read_config, wanted_versions
from ortolan.core.model_version import LoadedModel
from ortolan.errors import InvalidArgument, OrtolanError
from ortolan.execution.calibration_cache import CalibrationCache
from ortolan.execution.cost_curve import CurvePoint
from ortolan.execution.device_share import DeviceShares
from ortolan.execution.devices import DeviceInventory
from ortolan.execution.instance import execute
from ortolan.execution.queued_request import QueuedRequest
from ortolan.execution.running import Running
from ortolan.execution.warm_up import made_up_inputs
from ortolan.inference.datatypes import FP32
from ortolan.inference.tensor_spec import TensorSpec
from ortolan.repository.directory import walk
from ortolan.repository.model_directory import ModelEntry

OPTIONS = LoadingOptions(DeviceInventory(cores=2), DeviceShares(2))
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
    loaded = load(tmp_path, options=replace(OPTIONS, inventory=DeviceInventory(cores=3)))
    assert loaded.devices == ("CPU",) * 3
    assert len({name for name, _, _ in loaded.instances}) == 3
    assert len({id(session) for _, session, _ in loaded.instances}) == 1


@pytest.mark.parametrize(("cores", "threads", "instances"), [(8, 1, 8), (8, 3, 2), (2, 4, 1), (1, 1, 1)])
def test_threads_of_one_request_leave_fewer_instances(tmp_path: Path, cores: int, threads: int, instances: int) -> None:
    loaded = load(tmp_path, options=replace(OPTIONS, inventory=DeviceInventory(cores=cores), intra_op_threads=threads))
    assert (len(loaded.instances), loaded.intra_op_threads) == (instances, threads)


def test_the_file_says_how_many_instances_there_are(tmp_path: Path) -> None:
    loaded = load(tmp_path, 'instance_group [{ name: "a" kind: KIND_CPU count: 3 }, { kind: KIND_CPU }]')
    assert [name for name, _, _ in loaded.instances] == ["a_0", "a_1", "a_2", "m_1_0", "m_1_1"]


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
        ('model_operations { op_library_filename: "/x/libops.so" }', "library of operators 'libops.so' is not there"),
        (
            'output [{ name: "y" data_type: TYPE_FP32 dims: [ 4 ] label_filename: "labels.txt" }]',
            "label_filename 'labels.txt' is not there",
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


def test_a_sequence_of_maps_is_served_as_rows_of_classes_with_their_names(tmp_path: Path) -> None:
    loaded = load(tmp_path, proto=onnx_models.zip_map(["b", "a", "c"]))
    assert loaded.config.outputs == (TensorSpec("y", FP32, (-1,)),)
    assert loaded.labels == {"y": ("a", "b", "c")}


def test_a_label_file_goes_before_the_classes_of_a_map(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "labels.txt").write_text("one\ntwo\n")
    config = 'output [{ name: "y" data_type: TYPE_FP32 dims: [ -1 ] label_filename: "labels.txt" }]'
    assert load(tmp_path, config, onnx_models.zip_map(["b", "a"])).labels == {"y": ("one", "two")}


def test_a_tensor_of_any_rank_needs_a_configuration_and_is_served_with_it(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="number of dimensions of its input 'x' open, so config"):
        load(tmp_path, proto=onnx_outputs.any_rank())
    config = 'input [{ name: "x" data_type: TYPE_FP32 dims: [ 2, -1 ] }]'
    loaded = load(tmp_path, config, onnx_outputs.any_rank())
    assert loaded.config.inputs == (TensorSpec("x", FP32, (2, -1)),)
    assert loaded.config.outputs == (TensorSpec("y", FP32, (-1,)),)
    batching = f"max_batch_size: 8 {IO}"
    assert load(tmp_path, batching, onnx_outputs.any_rank()).config.max_batch_size == 8


def test_an_optional_input_is_one_that_a_request_may_leave_out(tmp_path: Path) -> None:
    loaded = load(tmp_path, proto=onnx_outputs.x_or_zeros())
    assert loaded.config.inputs == (TensorSpec("x", FP32, (-1,), optional=True),)


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
        (["m/1/"], "has no file 'model.onnx'; there is nothing instead. Put the model there."),
        (["m/1/model.pt"], "there is 'model.pt' instead. 'model.pt' is a model of PyTorch, and this server runs ONNX"),
        (["m/1/model.savedmodel/saved_model.pb"], "'model.savedmodel' is a model of TensorFlow"),
        (["m/1/digits.onnx", "m/1/model.pt"], "Rename the file"),
        (["m/1/model.onnx"], "ONNX Runtime cannot load model 'm': its file is empty"),
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


# -- how requests will be scheduled ------------------------------------------------------------------------------------

DYNAMIC = "max_batch_size: 8 dynamic_batching { }"


@pytest.mark.parametrize(
    ("config", "max_rows", "reason"),
    [
        ("", 4, "automatic, by the measured cost curve"),
        (DYNAMIC + IO, 8, "automatic, by the measured cost curve"),  # an empty block
        ("max_batch_size: 8 " + IO, 1, "the configuration has no dynamic_batching: requests run one by one"),
        ("max_batch_size: 8 dynamic_batching { preferred_batch_size: [ 2 ] }", 8, "as the configuration says"),
        ("max_batch_size: 8 dynamic_batching { max_queue_delay_microseconds: 5 }", 8, "as the configuration says"),
    ],
)
def test_the_configuration_decides_how_requests_are_batched(
    tmp_path: Path, config: str, max_rows: int, reason: str
) -> None:
    batching = load(tmp_path, config).plan.batching
    assert (batching.max_rows, batching.reason) == (max_rows, reason)


def test_a_model_without_a_batch_dimension_runs_requests_one_by_one(tmp_path: Path) -> None:
    batching = load(tmp_path, proto=onnx_models.doubler((4,))).plan.batching
    assert (batching.max_rows, batching.reason) == (1, "the model has no batch dimension")


@pytest.mark.parametrize(
    ("proto", "invariance"),
    [(onnx_models.doubler(), "bitwise"), (onnx_models.identity(onnx.TensorProto.STRING), "bitwise")],
)
def test_a_model_whose_rows_keep_to_themselves_is_batched(
    tmp_path: Path, proto: onnx.ModelProto, invariance: str
) -> None:
    loaded = load(tmp_path, proto=proto)
    assert loaded.profile.invariance == invariance
    assert loaded.plan.batching.max_rows == 4


def test_a_model_whose_last_bits_depend_on_the_batch_is_batched(tmp_path: Path) -> None:
    loaded = load(tmp_path, proto=onnx_models.perceptron())
    assert loaded.profile.invariance in ("bitwise", "within tolerance")
    assert loaded.plan.batching.max_rows == 4


UNSAFE = [
    (onnx_models.dynamically_quantised(), "dynamic quantisation takes one scale from the whole batch"),
    (onnx_models.centred(), "its output 'y' depends on the other rows of the batch"),
    (onnx_models.first_row(), "its output 'y' does not keep the batch dimension"),
]


@pytest.mark.parametrize(("proto", "why"), UNSAFE)
def test_a_model_that_mixes_the_rows_of_a_batch_is_not_batched(
    tmp_path: Path, proto: onnx.ModelProto, why: str
) -> None:
    for config in ("", "max_batch_size: 8 dynamic_batching { }"):
        loaded = load(tmp_path, config, proto)
        assert loaded.profile.invariance == "unsafe"
        assert loaded.plan.batching.max_rows == 1
        assert why in loaded.plan.batching.reason


@pytest.mark.parametrize(("proto", "why"), UNSAFE)
def test_a_configuration_may_insist_on_batching_it_all_the_same(
    tmp_path: Path, proto: onnx.ModelProto, why: str
) -> None:
    batching = load(
        tmp_path, "max_batch_size: 8 dynamic_batching { max_queue_delay_microseconds: 5 }", proto
    ).plan.batching
    assert (batching.max_rows, batching.explicit) == (8, True)


def test_the_queue_is_as_the_configuration_has_it(tmp_path: Path) -> None:
    config = (
        "max_batch_size: 8 dynamic_batching { priority_levels: 3 default_priority_level: 2 "
        "default_queue_policy { default_timeout_microseconds: 7 } "
        "priority_queue_policy { key: 1 value { max_queue_size: 5 } } }"
    )
    line = load(tmp_path, config).plan.line
    assert (line.levels, line.default_level, line.declared) == (3, 2, True)
    assert line.policy_of(2).default_timeout_us == 7
    assert line.policy_of(1).max_queue_size == 5
    assert not load(tmp_path, "").plan.preserve_ordering
    ordered = load(tmp_path, "max_batch_size: 8 dynamic_batching { preserve_ordering: true }")
    assert ordered.plan.preserve_ordering


@pytest.mark.parametrize(
    ("parameter", "of_all", "expected"), [("", 0, 0), ("", 7, 7), ("2.5", 7, 2.5), ("0", 7, 0), ("2.5", 0, 2.5)]
)
def test_a_models_own_limit_of_a_run_beats_that_of_all(
    tmp_path: Path, parameter: str, of_all: float, expected: float
) -> None:
    config = f'parameters {{ key: "max_execution_secs" value {{ string_value: "{parameter}" }} }}' if parameter else ""
    loaded = load(tmp_path, config, options=replace(OPTIONS, max_execution_s=of_all))
    assert loaded.plan.max_execution_s == expected


@pytest.mark.parametrize(
    ("proto", "config"),
    [
        (onnx_models.slow_as_asked(), ""),  # how long it takes depends on the request's values
        (onnx_models.doubler(("batch", "n")), ""),  # or on its shapes
        (onnx_models.identity(onnx.TensorProto.STRING), ""),  # or on the length of its texts
        (onnx_models.doubler(), "max_batch_size: 8 dynamic_batching { max_queue_delay_microseconds: 5 }"),  # it waits
    ],
)
def test_what_may_stall_the_loop_or_is_to_wait_is_never_run_in_place(
    tmp_path: Path, proto: onnx.ModelProto, config: str
) -> None:
    assert load(tmp_path, config, proto).plan.inline_gate is None


def test_a_small_model_may_be_run_in_place(tmp_path: Path) -> None:
    assert load(tmp_path).plan.inline_gate is not None


def test_a_model_that_cannot_be_run_on_made_up_inputs_is_served_and_says_so(tmp_path: Path) -> None:
    """Its inputs' second sizes must be 4, which nothing declares."""
    proto = onnx_models.model(
        [helper.make_node("Reshape", ["x", "shape"], ["y"])],
        [("x", TensorProto.FLOAT, ["batch", "n"])],
        [("y", TensorProto.FLOAT, ["batch", 2, 2])],
        {"shape": np.array([0, 2, 2])},
    )
    loaded = load(tmp_path, proto=proto)
    assert loaded.plan.curves is None
    assert any("could not be measured on made-up inputs" in note for note in loaded.notes)


# -- what was measured is kept -----------------------------------------------------------------------------------------


def test_a_model_is_measured_once(tmp_path: Path) -> None:
    """What lies in the cache is taken for true, which shows that it is read."""
    cached = replace(OPTIONS, cache=CalibrationCache(tmp_path / "cache"))
    repository = tmp_path / "repository"
    first = load(repository, options=cached)
    (file,) = (tmp_path / "cache").iterdir()
    kept = json.loads(file.read_text())
    assert kept["invariance"] == "bitwise"
    kept["points"] = [[1, 123_456, 7]]
    file.write_text(json.dumps(kept))
    second = load(repository, options=cached)
    assert second.profile.points == (CurvePoint(1, 123_456, 7),) != first.profile.points
    assert load(repository).profile.points != second.profile.points  # without the cache
    load(repository, "max_batch_size: 16", options=cached)  # something else to be measured
    assert len(list((tmp_path / "cache").iterdir())) == 2


# -- warm-up -----------------------------------------------------------------------------------------------------------


def warmup(text: str, batch_size: int = 2) -> str:
    return f'max_batch_size: 8 model_warmup [{{ name: "first" batch_size: {batch_size} {text} }}]'


@pytest.mark.parametrize(
    "data", ["zero_data: true", "random_data: true", 'input_data_file: "row"'], ids=["zero", "random", "file"]
)
def test_warm_up_samples_of_every_kind_are_run(tmp_path: Path, data: str) -> None:
    """The first model takes them all; the second has no place for any, which shows that they are run."""
    (tmp_path / "m" / "warmup").mkdir(parents=True)
    (tmp_path / "m" / "warmup" / "row").write_bytes(np.ones(1, np.int64).tobytes())
    config = warmup(f'inputs {{ key: "x" value {{ data_type: TYPE_INT64 dims: [ 1 ] {data} }} }}')
    load(tmp_path, config, onnx_models.gather())
    shifted = onnx_models.model(
        [helper.make_node("Sub", ["x", "nine"], ["index"]), helper.make_node("Gather", ["table", "index"], ["y"])],
        [("x", TensorProto.INT64, ["batch", 1])],
        [("y", TensorProto.FLOAT, ["batch", 1])],
        {"nine": np.array(9), "table": np.arange(4, dtype=np.float32)},
    )
    with pytest.raises(InvalidArgument, match="failed to run warmup sample 'first'"):
        load(tmp_path, config, shifted)


def test_a_warm_up_sample_that_fails_fails_the_load_and_is_named(tmp_path: Path) -> None:
    """A file of indices is given as it is: 9 is none of the model's table."""
    (tmp_path / "m" / "warmup").mkdir(parents=True)
    (tmp_path / "m" / "warmup" / "indices").write_bytes(np.array([9]).tobytes())
    sample = 'inputs { key: "x" value { data_type: TYPE_INT64 dims: [ 1 ] input_data_file: "indices" } }'
    with pytest.raises(InvalidArgument, match=r"failed to run warmup sample 'first': .*idx=9"):
        load(tmp_path, warmup(sample), onnx_models.gather())
    (tmp_path / "m" / "warmup" / "indices").write_bytes(np.array([3]).tobytes())
    load_entry(entry_of(tmp_path))


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ('input_data_file: "missing"', "the file 'missing' in the model's warmup directory is not there"),
        ('input_data_file: "short"', "file 'short' has 3 bytes, expected 16"),
        ('input_data_file: "../../secret"', "must be a relative name inside the model's warmup directory"),
    ],
)
def test_a_warm_up_file_that_cannot_be_used_fails_the_load(tmp_path: Path, given: str, text: str) -> None:
    (tmp_path / "m" / "warmup").mkdir(parents=True)
    (tmp_path / "m" / "warmup" / "short").write_bytes(b"abc")
    with pytest.raises(InvalidArgument, match=text) as refusal:
        load(tmp_path, warmup(f'inputs {{ key: "x" value {{ data_type: TYPE_FP32 dims: [ 4 ] {given} }} }}'))
    assert "'first'" in refusal.value.message
    assert str(tmp_path) not in refusal.value.message


# -- the example models ------------------------------------------------------------------------------------------------

EXAMPLES = Path(__file__).parents[2] / "model_repo"


@pytest.mark.parametrize("name", sorted(path.name for path in EXAMPLES.iterdir() if (path / "1").is_dir()))
def test_an_example_model_answers_in_a_batch_as_it_does_alone(name: str) -> None:
    entry = walk([EXAMPLES]).models[name]
    config = read_config(entry)
    loaded = load_version(entry, config, wanted_versions(entry, config)[1], OPTIONS)
    assert loaded.profile.invariance in ("bitwise", "within tolerance")
    session, outputs = loaded.instances[0][1], tuple(output.name for output in loaded.config.outputs)
    inputs = made_up_inputs(loaded.config, 4, np.random.default_rng(0))
    rows = [{key: array[row : row + 1] for key, array in inputs.items()} for row in range(4)]
    requests = [QueuedRequest(each, outputs, 1, None, 0, None) for each in rows]
    (together,) = execute(session, Running(requests, 4))
    for request, batched in zip(requests, together.answers, strict=True):
        alone = execute(session, Running([request], 1))[0].answers[0]
        assert not isinstance(batched, OrtolanError)
        assert not isinstance(alone, OrtolanError)
        for found, expected in zip(batched, alone, strict=True):
            if found.dtype.kind == "f" and loaded.profile.invariance != "bitwise":
                np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
            else:
                assert np.array_equal(found, expected)
