import pytest

from ortolan.errors import InvalidArgument
from ortolan.inference import datatypes
from ortolan.inference.tensor_spec import TensorSpec
from ortolan.repository.config_completion import CompletionDefaults, complete, default_config
from ortolan.repository.config_file import parse_text
from ortolan.repository.graph_signature import GraphSignature, GraphTensor
from ortolan.repository.model_config import DynamicBatching, InstanceGroup, InstanceKind, LatestVersions, ModelConfig

FP32, INT64 = datatypes.FP32, datatypes.INT64
NO_GPU = CompletionDefaults(cpu_instances=2)
TWO_GPUS = CompletionDefaults(cpu_instances=2, gpus=(0, 1))


def tensor(name: str, *shape: int, optional: bool = False) -> GraphTensor:
    return GraphTensor(name, FP32, shape, optional)


def graph(*inputs: GraphTensor, outputs: tuple[GraphTensor, ...] = (tensor("y", -1, 2),)) -> GraphSignature:
    return GraphSignature(inputs, outputs)


BATCHABLE = graph(tensor("x", -1, 4))
FIXED = graph(tensor("x", 1, 4), outputs=(tensor("y", 1, 2),))
X = 'input { name: "x" data_type: TYPE_FP32 dims: 4 } '
Y = 'output { name: "y" data_type: TYPE_FP32 dims: 2 } '


def completed(text: str, signature: GraphSignature, defaults: CompletionDefaults = NO_GPU) -> ModelConfig:
    return complete(parse_text(text, "m"), signature, defaults)


def refusal(text: str, signature: GraphSignature, defaults: CompletionDefaults = NO_GPU) -> str:
    with pytest.raises(InvalidArgument) as refused:
        completed(text, signature, defaults)
    return refused.value.message


def test_a_model_without_a_file_is_completed_from_its_graph() -> None:
    signature = GraphSignature(
        inputs=(GraphTensor("b", INT64, (-1, 3, -1)), GraphTensor("a", FP32, (-1,))),
        outputs=(GraphTensor("z", FP32, (-1, 10)), GraphTensor("c", datatypes.BYTES, (-1, 1))),
    )
    config = complete(default_config("m"), signature, NO_GPU)
    assert config == ModelConfig(
        name="m",
        platform="onnxruntime_onnx",
        backend="onnxruntime",
        max_batch_size=4,
        # In the graph's order; what is left of rank 1 is a scalar, which dims cannot say.
        inputs=(TensorSpec("b", INT64, (3, -1)), TensorSpec("a", FP32, (1,), reshape=())),
        outputs=(TensorSpec("z", FP32, (10,)), TensorSpec("c", datatypes.BYTES, (1,))),
        version_policy=LatestVersions(1),
        instance_groups=(InstanceGroup("m", InstanceKind.CPU, 2),),
        dynamic_batching=DynamicBatching(preferred_batch_sizes=(4,), explicit=False),
        default_model_filename="model.onnx",
        completed=True,
    )


@pytest.mark.parametrize(
    ("text", "signature", "max_batch_size", "scheduled"),
    [
        ("", BATCHABLE, 4, True),
        ("max_batch_size: 16", BATCHABLE, 16, True),
        ("max_batch_size: 1", BATCHABLE, 1, False),  # nothing to gather
        ("", FIXED, 0, False),
        ("", graph(tensor("x", -1, 4), outputs=(tensor("y", 2),)), 0, False),  # an output is not batched
        ("", graph(tensor("x", -1, 4), tensor("s"), outputs=(tensor("y", -1),)), 0, False),  # rank 0
        ("", graph(outputs=(tensor("y", -1),)), 0, False),  # without inputs there is nothing to batch
        ("dynamic_batching { }", FIXED, 0, True),  # its queue policies hold without batches, too
        (X, BATCHABLE, 4, True),
        (Y, BATCHABLE, 4, True),
        ('input { name: "x" data_type: TYPE_FP32 dims: [-1, 4] }', BATCHABLE, 0, False),  # whole shapes mean 0
        ('output { name: "y" data_type: TYPE_FP32 dims: [-1, 2] }', BATCHABLE, 0, False),
        (X + Y + "max_batch_size: 8", BATCHABLE, 8, False),  # both given: nothing is filled in
        ("", graph(tensor("x", -1, 4), tensor("w", 4, 4, optional=True)), 4, True),  # defaults do not hinder batching
    ],
)
def test_batch_size_and_scheduler_come_from_the_graph(
    text: str, signature: GraphSignature, max_batch_size: int, scheduled: bool
) -> None:
    config = completed(text, signature)
    assert config.max_batch_size == max_batch_size
    assert (config.dynamic_batching is not None) == scheduled


def test_the_default_batch_size_is_the_servers() -> None:
    assert completed("", BATCHABLE, CompletionDefaults(max_batch_size=32)).max_batch_size == 32
    assert completed("", BATCHABLE, CompletionDefaults(max_batch_size=0)).inputs[0].dims == (-1, 4)


@pytest.mark.parametrize(
    ("text", "from_graph"), [("", True), (X, True), (X + Y + "max_batch_size: 2", False), ("max_batch_size: 2", True)]
)
def test_completed_says_whether_the_graph_was_asked(text: str, from_graph: bool) -> None:
    assert completed(text, BATCHABLE).completed is from_graph


def test_a_given_part_stays_and_the_rest_is_filled() -> None:
    config = completed(Y.replace("dims: 2", 'dims: 2 label_filename: "labels.txt"'), BATCHABLE)
    assert config.outputs == (TensorSpec("y", FP32, (2,), label_filename="labels.txt"),)
    assert config.inputs == (TensorSpec("x", FP32, (4,)),)


def test_scalars_of_a_model_without_batches_are_one_element() -> None:
    config = completed("", graph(tensor("x"), outputs=(tensor("y"),)))
    assert config.inputs == (TensorSpec("x", FP32, (1,), reshape=()),)
    assert config.inputs[0].graph_shape(batching=False) == ()
    assert config.outputs == (TensorSpec("y", FP32, (1,), reshape=()),)


def test_a_size_of_zero_is_declared_as_any_size() -> None:
    assert completed("", graph(tensor("x", 0, 4), outputs=(tensor("y", 0),))).inputs[0].dims == (-1, 4)


def test_optional_inputs_are_offered_without_batches_only() -> None:
    optional = tensor("w", 4, 4, optional=True)
    fixed = completed("", graph(tensor("x", 1, 4), optional, outputs=(tensor("y", 1, 2),)))
    assert [(spec.name, spec.optional) for spec in fixed.inputs] == [("x", False), ("w", True)]
    assert [spec.name for spec in completed("", graph(tensor("x", -1, 4), optional)).inputs] == ["x"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("dynamic_batching { }", DynamicBatching((4,), explicit=False)),
        ("dynamic_batching { preferred_batch_size: 4 }", DynamicBatching((4,), explicit=False)),
        ("dynamic_batching { preferred_batch_size: 2 }", DynamicBatching((2,), explicit=True)),
        ("dynamic_batching { max_queue_delay_microseconds: 9 }", DynamicBatching((4,), 9, explicit=True)),
    ],
)
def test_without_preferred_sizes_the_largest_is_shown(text: str, expected: DynamicBatching) -> None:
    assert completed(text, BATCHABLE).dynamic_batching == expected


ANY_RANK_X, ANY_RANK_Y = GraphTensor("x", FP32, None), GraphTensor("y", FP32, None)
SEQUENCE_Y = GraphTensor("y", FP32, (-1, 2), batchable=False)


@pytest.mark.parametrize(
    ("text", "signature", "max_batch_size", "x", "y"),
    [
        # What such an output has is seen when it comes; a batch dimension is nothing to guess.
        ("", graph(tensor("x", -1, 4), outputs=(ANY_RANK_Y,)), 0, (-1, 4), (-1,)),
        (X, graph(ANY_RANK_X, outputs=(ANY_RANK_Y,)), 0, (4,), (-1,)),
        (X + Y, graph(ANY_RANK_X, outputs=(ANY_RANK_Y,)), 0, (4,), (2,)),
        (X + Y + "max_batch_size: 8", graph(ANY_RANK_X, outputs=(ANY_RANK_Y,)), 8, (4,), (2,)),
        (X + "max_batch_size: 8", graph(ANY_RANK_X), 8, (4,), (2,)),
        (Y + "max_batch_size: 8", graph(tensor("x", -1, 4), outputs=(ANY_RANK_Y,)), 8, (4,), (2,)),
        # The first size of a sequence is the number of its elements, unless the configuration knows better.
        ("", graph(tensor("x", -1, 4), outputs=(SEQUENCE_Y,)), 0, (-1, 4), (-1, 2)),
        (Y + "max_batch_size: 8", graph(tensor("x", -1, 4), outputs=(SEQUENCE_Y,)), 8, (4,), (2,)),
    ],
)
def test_what_the_graph_cannot_know_is_the_configurations(
    text: str, signature: GraphSignature, max_batch_size: int, x: tuple[int, ...], y: tuple[int, ...]
) -> None:
    config = completed(text, signature)
    assert (config.max_batch_size, config.inputs[0].dims, config.outputs[0].dims) == (max_batch_size, x, y)


@pytest.mark.parametrize(
    ("text", "signature", "words"),
    [
        (
            "",
            graph(tensor("a", -1), ANY_RANK_X),
            "leaves the number of dimensions of its input 'x' open, so config.pbtxt must declare its inputs (a, x); "
            'for this one write input [ { name: "x" data_type: TYPE_FP32 dims: [ -1 ] } ]',
        ),
        (
            "max_batch_size: 8",
            graph(tensor("x", -1, 4), outputs=(ANY_RANK_Y,)),
            "does not support batching while non-zero max_batch_size is specified: the model leaves the number of "
            "dimensions of 'y' open, so declare it",
        ),
        (
            "max_batch_size: 8",
            graph(tensor("x", -1, 4), outputs=(SEQUENCE_Y,)),
            "does not support batching while non-zero max_batch_size is specified: 'y' is a sequence or optional",
        ),
        (X.replace("FP32", "INT64"), graph(ANY_RANK_X), "expects datatype TYPE_INT64 for input 'x', model provides"),
        (X + Y.replace("FP32", "FP64"), graph(tensor("x", 4), outputs=(ANY_RANK_Y,)), "for output 'y', model provides"),
    ],
)
def test_what_only_the_configuration_can_know_is_asked_for(text: str, signature: GraphSignature, words: str) -> None:
    assert words in refusal(text, signature)


CPU, GPU = InstanceKind.CPU, InstanceKind.GPU


@pytest.mark.parametrize(
    ("text", "defaults", "expected"),
    [
        ("", NO_GPU, [("m", CPU, 2, ())]),
        ("", TWO_GPUS, [("m", GPU, 1, (0, 1))]),
        ("instance_group { }", NO_GPU, [("m_0", CPU, 2, ())]),
        ("instance_group { count: 3 }", TWO_GPUS, [("m_0", GPU, 3, (0, 1))]),
        ("instance_group { gpus: 1 }", TWO_GPUS, [("m_0", GPU, 1, (1,))]),
        ("instance_group { gpus: 1 }", NO_GPU, [("m_0", CPU, 2, ())]),  # AUTO falls back
        ("instance_group { kind: KIND_CPU }", TWO_GPUS, [("m_0", CPU, 2, ())]),
        ("instance_group { kind: KIND_MODEL }", NO_GPU, [("m_0", CPU, 2, ())]),
        (
            'instance_group [ { name: "a" kind: KIND_CPU count: 1 }, { kind: KIND_GPU gpus: 0 count: 2 } ]',
            TWO_GPUS,
            [("a", CPU, 1, ()), ("m_1", GPU, 2, (0,))],
        ),
    ],
)
def test_instance_groups_are_placed(
    text: str, defaults: CompletionDefaults, expected: list[tuple[str, InstanceKind, int, tuple[int, ...]]]
) -> None:
    groups = completed(text, BATCHABLE, defaults).instance_groups
    assert [(group.name, group.kind, group.count, group.gpus) for group in groups] == expected


def test_gpus_that_a_machine_without_any_leaves_out_are_named() -> None:
    text = "instance_group { } instance_group { gpus: 1 } instance_group { kind: KIND_MODEL gpus: 0 }"
    first, second = completed(text, BATCHABLE).warnings
    assert first.startswith("instance_group[1].gpus [1] is ignored: this server has no GPU")
    assert second.startswith("instance_group[2].gpus [0] is ignored: this server has no GPU")
    assert completed("instance_group { gpus: 1 }", BATCHABLE, CompletionDefaults(gpus=(0, 1))).warnings == ()


@pytest.mark.parametrize(
    ("text", "defaults", "said"),
    [
        ("instance_group { kind: KIND_GPU }", NO_GPU, "asks for GPUs, but this server has no GPU"),
        ("instance_group { kind: KIND_GPU gpus: [0, 7] }", TWO_GPUS, "asks for GPU 7, but available are GPUs [0,1]"),
        ("instance_group { gpus: 7 }", TWO_GPUS, "GPU 7"),
    ],
)
def test_gpus_that_are_not_there_are_refused(text: str, defaults: CompletionDefaults, said: str) -> None:
    assert said in refusal(text, BATCHABLE, defaults)


def spec(kind: str, name: str, dims: str, data_type: str = "TYPE_FP32") -> str:
    return f'{kind} {{ name: "{name}" data_type: {data_type} dims: {dims} }} '


WHOLE_X, WHOLE_Y = spec("input", "x", "[-1, 4]"), spec("output", "y", "[-1, 2]")


@pytest.mark.parametrize(
    ("text", "signature", "said"),
    [
        (
            "max_batch_size: 8",
            FIXED,
            "autofill failed for model 'm': model does not support batching while non-zero max_batch_size is "
            "specified: 'x' has the shape [1,4], whose first dimension is not dynamic. Set max_batch_size: 0",
        ),
        ("max_batch_size: 8", graph(outputs=(tensor("y", -1),)), "it has no inputs"),
        (
            spec("input", "x", "4") + spec("input", "z", "4") + Y + "max_batch_size: 8",
            BATCHABLE,
            "unable to load model 'm', configuration expects 2 inputs, model provides 1: x; the configuration has",
        ),
        (
            X + Y + "max_batch_size: 8",
            graph(tensor("x", -1, 4), tensor("z", -1, 4)),
            "configuration expects 1 inputs, model provides 2: x, z",
        ),
        (
            spec("input", "q", "4") + Y + "max_batch_size: 8",
            BATCHABLE,
            "unexpected inference input 'q', allowed inputs are: x; write one of these",
        ),
        (X + spec("output", "q", "2") + "max_batch_size: 8", BATCHABLE, "unexpected inference output 'q', allowed"),
        (
            X + Y + spec("output", "z", "2") + "max_batch_size: 8",
            BATCHABLE,
            "configuration expects 2 outputs, model provides 1: y",
        ),
        (
            spec("input", "x", "4", "TYPE_INT64") + Y + "max_batch_size: 8",
            BATCHABLE,
            "configuration expects datatype TYPE_INT64 for input 'x', model provides TYPE_FP32; write data_type: "
            "TYPE_FP32",
        ),
        (X + spec("output", "y", "2", "TYPE_FP16") + "max_batch_size: 8", BATCHABLE, "for output 'y', model provides"),
        (
            X + Y + "max_batch_size: 8",
            FIXED,
            "model 'm', tensor 'x': for the model to support batching the shape should have at least 1 dimension and "
            "the first dimension must be -1; but shape expected by the model is [1,4], and max_batch_size is 8.",
        ),
        (
            X + Y,
            BATCHABLE,
            "model 'm', tensor 'x': the model expects 2 dimensions (shape [-1,4]) but the model configuration "
            "specifies 1 dimensions (shape [4]). Write dims: [ -1, 4 ], or max_batch_size: 1 or more",
        ),
        (
            spec("input", "x", "[-1, 4]") + Y + "max_batch_size: 8",
            BATCHABLE,
            "specifies 3 dimensions (shape [-1,-1,4], the batch dimension for max_batch_size > 0 counted). "
            "Write dims: [ 4 ].",
        ),
        (spec("input", "x", "5") + Y + "max_batch_size: 8", BATCHABLE, "(shape [-1,5], the batch"),
        (spec("input", "x", "-1") + Y + "max_batch_size: 8", BATCHABLE, "(shape [-1,-1], the batch"),
        (X + spec("output", "y", "-1") + "max_batch_size: 8", BATCHABLE, "tensor 'y'"),
        (WHOLE_X + spec("output", "y", "[8, 2]"), BATCHABLE, "tensor 'y'"),  # an output is not narrowed
        (
            X + spec("output", "y", "1") + "max_batch_size: 8",
            graph(tensor("x", -1, 4), outputs=(tensor("y", -1),)),
            "Write dims: [ 1 ] reshape { shape: [ ] }.",
        ),
        (X.replace("dims: 4", "dims: 4 optional: true") + Y + "max_batch_size: 8", BATCHABLE, "leave 'optional' out"),
        (
            X + spec("input", "w", "4") + Y + "max_batch_size: 8",
            graph(tensor("x", -1, 4), tensor("w", 4, optional=True)),
            "the model has a default for 'w', one for all rows of a batch, and max_batch_size is 8: leave",
        ),
        ("dynamic_batching { preferred_batch_size: 2 }", FIXED, "needs a batch dimension: set max_batch_size"),
        ("dynamic_batching { preferred_batch_size: 6 }", BATCHABLE, "at most max_batch_size 4, got 6"),
    ],
)
def test_a_configuration_that_disagrees_with_the_graph_is_explained(
    text: str, signature: GraphSignature, said: str
) -> None:
    assert said in refusal(text, signature), refusal(text, signature)


@pytest.mark.parametrize(
    ("text", "signature"),
    [
        (WHOLE_X + WHOLE_Y, BATCHABLE),
        (spec("input", "x", "[8, 4]") + WHOLE_Y, BATCHABLE),  # an input may be narrowed
        (X + Y + "max_batch_size: 8", BATCHABLE),
        (X + spec("output", "z", "[ 1 ]") + "max_batch_size: 8",
         graph(tensor("x", -1, 4), outputs=(tensor("y", -1), tensor("z", -1, 1)))),  # a subset of the outputs
        (X.replace("dims: 4", "dims: [2, 2] reshape { shape: 4 }") + Y + "max_batch_size: 8", BATCHABLE),
        (X + Y + spec("input", "w", "4").replace("dims", "optional: true dims"),
         graph(tensor("x", 4), tensor("w", 4, optional=True), outputs=(tensor("y", 2),))),
        (X + Y, graph(tensor("x", 4), tensor("w", 4, optional=True), outputs=(tensor("y", 2),))),
    ],
)  # fmt: skip
def test_a_configuration_that_agrees_is_kept(text: str, signature: GraphSignature) -> None:
    given = parse_text(text, "m")
    config = complete(given, signature, NO_GPU)
    assert (config.inputs, config.outputs) == (given.inputs, given.outputs)
    assert not config.completed


def warmup(name: str = "x", data_type: str = "TYPE_FP32", dims: str = "4", more: str = "") -> str:
    data = f"data_type: {data_type} dims: {dims} zero_data: true"
    return f'model_warmup {{ name: "w" {more} inputs {{ key: "{name}" value {{ {data} }} }} }}'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (warmup("q"), "must give every input; missing are x"),
        (warmup(data_type="TYPE_INT64"), "expected data_type TYPE_FP32, got TYPE_INT64"),
        (warmup(dims="[1, 4]"), "expected dims [4], got [1,4]"),
        (warmup(more="batch_size: 5"), "batch_size must be at most max_batch_size 4, got 5"),
    ],
)
def test_warmup_samples_must_fit_the_inputs(text: str, said: str) -> None:
    assert completed(warmup(more="batch_size: 4"), BATCHABLE).warmup
    assert said in refusal(text, BATCHABLE), refusal(text, BATCHABLE)


def test_a_warmup_input_that_the_model_has_not_is_refused() -> None:
    extra = warmup().replace("inputs {", 'inputs { key: "q" value { data_type: 11 dims: 1 zero_data: true } } inputs {')
    assert "input 'q': the model has no such input" in refusal(extra, BATCHABLE)


def test_a_warmup_batch_needs_a_batch_dimension() -> None:
    assert "at most 1, got 2" in refusal(warmup(dims="[1, 4]", more="batch_size: 2"), FIXED)
