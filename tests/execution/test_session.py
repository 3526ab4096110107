"""Tensors of every datatype through real sessions, and what models do that cannot be loaded or run."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnx_models
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as numpy_strategies
from onnx import TensorProto, helper

from ortolan.errors import Internal, InvalidArgument
from ortolan.execution.devices import CPU_PROVIDER, Placement, Provider
from ortolan.execution.load_refusals import ModelNotLoadable
from ortolan.execution.session import Session, available_providers
from ortolan.execution.session_settings import SessionSettings
from ortolan.inference.datatypes import BF16, BYTES, DATATYPES, FP32, FP64, INT64, UINT16, Array, Datatype
from ortolan.repository.graph_signature import GraphTensor
from ortolan.repository.model_config import InstanceKind

CPU = Placement("m_0", InstanceKind.CPU, 0, (Provider(CPU_PROVIDER),))
SETTINGS = SessionSettings()


def session_of(proto: onnx.ModelProto, settings: SessionSettings = SETTINGS) -> Session:
    return Session(proto.SerializeToString(), "m", settings, CPU, Path())


# The graph fixes the rank and leaves the sizes open.
IDENTITIES = {
    (datatype.name, rank): session_of(onnx_models.identity(datatype.onnx_element_type, [None] * rank))  # type: ignore[list-item]
    for datatype in DATATYPES
    for rank in range(3)
}


def through_identity(array: Array, datatype: Datatype) -> Array:
    (output,) = IDENTITIES[datatype.name, array.ndim].run({"x": array}, ["y"])
    return output


def objects(elements: Sequence[bytes], shape: tuple[int, ...]) -> Array:
    array = np.empty(len(elements), object)
    array[:] = elements
    return array.reshape(shape)


def same_bits(first: Array, second: Array) -> bool:
    return first.dtype == second.dtype and first.shape == second.shape and first.tobytes() == second.tobytes()


small_shapes = numpy_strategies.array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=4)
fixed_datatypes = [datatype for datatype in DATATYPES if datatype is not BYTES]


@pytest.mark.parametrize("datatype", fixed_datatypes, ids=lambda datatype: datatype.name)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_a_tensor_comes_back_to_the_last_bit(datatype: Datatype, data: st.DataObject) -> None:
    array = data.draw(numpy_strategies.arrays(datatype.numpy, small_shapes))
    assert same_bits(through_identity(array, datatype), array)


private_characters = st.integers(0x10FF00, 0x10FFFF).map(lambda number: chr(number).encode())
any_bytes = st.one_of(
    st.binary(max_size=12),
    st.text(max_size=6).map(str.encode),
    private_characters,
    st.tuples(st.binary(max_size=3), private_characters, st.binary(max_size=3)).map(b"".join),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(any_bytes, max_size=6))
def test_any_bytes_come_back(elements: list[bytes]) -> None:
    array = objects(elements, (len(elements),))
    assert through_identity(array, BYTES).tolist() == elements


@pytest.mark.parametrize(
    "element",
    [
        b"",
        b"\0",
        b"a\0b\0",
        b"\xff\xfe",
        b"\xed\xa0\x80",  # a surrogate, which UTF-8 does not have
        b"\xf4\x8f\xbc\x80",  # the private characters that stand for other bytes inside
        b"\xf4\x8f\xbf\xbf",
        b"\xf4\x8f\xbe",  # one of them cut short
        b"\xc3\xf4\x8f\xbe\x80\xa9",
        "αβγ 🦤".encode(),
        bytes(range(256)),
        b"x" * 1_000_000,
    ],
)
def test_a_difficult_element_comes_back(element: bytes) -> None:
    assert through_identity(objects([element], ()), BYTES).item() == element
    assert through_identity(objects([element, b"-"], (1, 2)), BYTES).tolist() == [[element, b"-"]]


@pytest.mark.parametrize("shape", [(), (0,), (0, 3), (2, 0)])
def test_scalars_and_empty_tensors_of_bytes_keep_their_shape(shape: tuple[int, ...]) -> None:
    array = objects([b"a"] * int(np.prod(shape)), shape)
    assert through_identity(array, BYTES).shape == shape


def test_a_big_tensor_comes_back() -> None:
    array = np.arange(4_000_000, dtype=np.float32)
    output = through_identity(array, FP32)
    assert same_bits(output, array)


def test_a_read_only_unaligned_view_of_a_body_is_taken_as_it_is() -> None:
    body = b"x" + np.arange(6, dtype=np.float64).tobytes()
    array = np.frombuffer(body, np.float64, offset=1)
    assert not array.flags.writeable
    assert not array.flags.aligned
    assert through_identity(array, FP64).tolist() == [0, 1, 2, 3, 4, 5]


def test_a_part_of_a_larger_tensor_is_taken_by_its_values() -> None:
    whole = np.arange(12, dtype=np.uint16).reshape(3, 4)
    for datatype in (BF16, UINT16):
        assert through_identity(whole[:, ::2], datatype).tolist() == [[0, 2], [4, 6], [8, 10]]


def test_a_bf16_answer_outlives_its_session() -> None:
    session = session_of(onnx_models.identity(TensorProto.BFLOAT16, [None]))  # type: ignore[list-item]
    (output,) = session.run({"x": np.arange(1000, dtype=np.uint16)}, ["y"])
    del session
    assert output.tolist() == list(range(1000))


def test_bf16_beside_float32_passes() -> None:
    proto = onnx_models.model(
        [helper.make_node("Cast", ["x"], ["y"], to=TensorProto.BFLOAT16), helper.make_node("Identity", ["x"], ["z"])],
        [("x", TensorProto.FLOAT, ["batch"])],
        [("y", TensorProto.BFLOAT16, ["batch"]), ("z", TensorProto.FLOAT, ["batch"])],
    )
    y, z = session_of(proto).run({"x": np.array([1, -2], np.float32)}, ["y", "z"])
    assert y.tolist() == [0x3F80, 0xC000]
    assert z.tolist() == [1, -2]


def test_bf16_beside_strings_is_refused_at_load() -> None:
    proto = onnx_models.model(
        [helper.make_node("Identity", ["x"], ["y"]), helper.make_node("Identity", ["s"], ["t"])],
        [("x", TensorProto.BFLOAT16, ["n"]), ("s", TensorProto.STRING, ["n"])],
        [("y", TensorProto.BFLOAT16, ["n"]), ("t", TensorProto.STRING, ["n"])],
    )
    with pytest.raises(InvalidArgument, match="model 'm' has bfloat16 tensors beside strings or sequences"):
        session_of(proto)


def test_an_input_with_a_default_may_be_given_or_left_out() -> None:
    session = session_of(onnx_models.with_default(1))
    assert session.signature.inputs == (
        GraphTensor("x", FP32, (-1, 4)),
        GraphTensor("c", FP32, (1,), optional=True),
    )
    x = np.zeros((1, 4), np.float32)
    assert session.run({"x": x}, ["y"])[0].tolist() == [[1, 1, 1, 1]]
    assert session.run({"x": x, "c": np.array([7], np.float32)}, ["y"])[0].tolist() == [[7, 7, 7, 7]]


def test_the_signature_says_which_sizes_are_open() -> None:
    proto = onnx_models.model(
        [helper.make_node("Identity", ["x"], ["y"]), helper.make_node("Identity", ["s"], ["t"])],
        [("x", TensorProto.INT64, ["batch", 3, None]), ("s", TensorProto.STRING, [])],  # type: ignore[list-item]
        [("y", TensorProto.INT64, ["batch", 3, None]), ("t", TensorProto.STRING, [])],  # type: ignore[list-item]
    )
    signature = session_of(proto).signature
    assert signature.inputs == (GraphTensor("x", INT64, (-1, 3, -1)), GraphTensor("s", BYTES, ()))
    assert [output.name for output in signature.outputs] == ["y", "t"]


def test_only_the_outputs_that_are_asked_for_come_in_their_order() -> None:
    proto = onnx_models.model(
        [helper.make_node(op, ["x"], [op]) for op in ("Neg", "Abs", "Identity")],
        [("x", TensorProto.FLOAT, [1])],
        [(name, TensorProto.FLOAT, [1]) for name in ("Neg", "Abs", "Identity")],
    )
    outputs = session_of(proto).run({"x": np.array([3], np.float32)}, ["Identity", "Neg"])
    assert [output.tolist() for output in outputs] == [[3], [-3]]


X = np.zeros((1, 4), np.float32)


@pytest.mark.parametrize(
    ("inputs", "outputs", "text"),
    [
        ({"x": X.astype(np.float64)}, ["y"], r"Unexpected input data type. Actual: \(tensor\(double\)\)"),
        ({"x": X[0]}, ["y"], "Invalid rank for input: x Got: 1 Expected: 2"),
        ({"x": X[:, :3]}, ["y"], "Got: 3 Expected: 4"),
        ({}, ["y"], r"Required inputs \(\['x'\]\) are missing"),
        ({"x": X, "q": X}, ["y"], "Invalid input name: q"),
        ({"x": X}, ["q"], "Invalid output name:q"),
    ],
)
def test_what_the_runtime_blames_on_the_inputs_is_the_clients(
    inputs: Mapping[str, Array], outputs: list[str], text: str
) -> None:
    session = session_of(onnx_models.doubler())
    with pytest.raises(InvalidArgument, match=f"model 'm' could not run this request: onnx runtime error: .*{text}"):
        session.run(inputs, outputs)
    assert session.run({"x": X}, ["y"])[0].tolist() == X.tolist()


def test_an_index_that_the_table_does_not_have_is_the_clients() -> None:
    with pytest.raises(InvalidArgument, match="idx=9 must be within the inclusive range"):
        session_of(onnx_models.gather()).run({"x": np.array([[9]])}, ["y"])


def test_what_fails_inside_the_model_is_internal_and_shows_no_path() -> None:
    proto = onnx_models.model(
        [helper.make_node("Reshape", ["x", "shape"], ["y"], name="reshape_0")],
        [("x", TensorProto.FLOAT, ["n"])],
        [("y", TensorProto.FLOAT, ["m", 3])],
        {"shape": np.array([-1, 3])},
    )
    with pytest.raises(Internal) as failure:
        session_of(proto).run({"x": np.zeros(4, np.float32)}, ["y"])
    assert "Reshape node. Name:'reshape_0' Status Message: The input tensor cannot be reshaped" in failure.value.message
    assert "/" not in failure.value.message


RELU = [helper.make_node("Relu", ["x"], ["y"])]
TENSORS = [("x", TensorProto.FLOAT, ["n"])], [("y", TensorProto.FLOAT, ["n"])]


def strange(op_type: str, domain: str = "", opset: int = 17) -> bytes:
    nodes = [helper.make_node(op_type, ["x"], ["y"], domain=domain)]
    return bytes(onnx_models.model(nodes, *TENSORS, opset=opset).SerializeToString())


# A plain folder, and one that no pattern could know as a part of a path.
FOLDERS = ["shelf", "top shelf (of, 'old')"]


@pytest.mark.parametrize("folder", FOLDERS)
@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "its file is empty: copy or export the model again"),
        (bytes(range(256)), "Protobuf parsing failed"),
        (b"<!DOCTYPE html><html><body>404 Not Found</body></html>", "its file is an HTML page"),
        (onnx_models.doubler().SerializeToString()[:-40], "Protobuf parsing failed"),
        (strange("Frobnicate"), "Error No Op registered for Frobnicate"),
        (strange("Frob", "org.example"), "Error No opset import for domain 'org.example'"),
        (strange("Relu", opset=999), "Opset 999 is under development"),
    ],
    ids=["empty", "garbage", "html", "truncated", "unknown operator", "unknown domain", "opset 999"],
)
def test_what_is_no_model_is_refused_without_a_path(tmp_path: Path, folder: str, content: bytes, text: str) -> None:
    file = tmp_path / folder / "model.onnx"
    file.parent.mkdir()
    file.write_bytes(content)
    refusal = refusal_of(file)
    assert text in refusal
    assert refusal.endswith("copy or export it again.") is text.startswith("Protobuf")


def refusal_of(file: Path) -> str:
    """The message with which the model is refused, in which no part of its path is to be found."""
    with pytest.raises(ModelNotLoadable, match="ONNX Runtime cannot load model 'm': ") as refusal:
        Session(file, "m", SETTINGS, CPU, file.parent)
    for part in (*file.parts[1:-1], "onnxruntime_src", ".cc:"):
        assert part not in refusal.value.message
    assert "\n" not in refusal.value.message
    return refusal.value.message


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_model_file_that_is_not_there_or_a_directory_is_refused(tmp_path: Path, folder: str) -> None:
    assert "File doesn't exist" in refusal_of(tmp_path / folder / "model.onnx")
    directory = tmp_path / folder / "model.onnx"
    directory.mkdir(parents=True)
    refusal_of(directory)


@pytest.mark.parametrize("folder", FOLDERS)
def test_external_data_that_is_missing_cut_short_or_elsewhere_is_refused(tmp_path: Path, folder: str) -> None:
    file = tmp_path / folder / "model.onnx"
    weights = onnx_models.save_externally(onnx_models.with_external_data(), file)
    assert Session(file, "m", SETTINGS, CPU, file.parent).signature.inputs[0].name == "x"
    weights.write_bytes(weights.read_bytes()[:-1])
    assert "External initializer: w" in refusal_of(file)
    weights.unlink()
    assert "weights.bin" in refusal_of(file)
    file.write_bytes(file.read_bytes().replace(b"weights.bin", b"../elsewher"))
    assert "escapes model directory" in refusal_of(file)


def test_external_data_of_a_content_is_found_in_its_folder(tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    onnx_models.save_externally(onnx_models.with_external_data(4), file)
    session = Session(file.read_bytes(), "m", SETTINGS, CPU, tmp_path)
    assert session.run({"x": X}, ["y"])[0].tolist() == [[0, 1, 2, 3]]


@pytest.mark.parametrize(
    ("element_type", "word"),
    [(TensorProto.FLOAT8E4M3FN, "tensor(float8e4m3fn)"), (TensorProto.INT4, "tensor(int4)")],
)
def test_a_type_that_cannot_be_served_is_refused_naming_those_that_can(element_type: int, word: str) -> None:
    proto = onnx_models.model(
        [helper.make_node("Cast", ["x"], ["y"], to=element_type)],
        [("x", TensorProto.FLOAT, ["n"])],
        [("y", element_type, ["n"])],
        opset=21,
        ir_version=10,
    )
    with pytest.raises(InvalidArgument) as refusal:
        session_of(proto)
    assert f"tensor 'y' of model 'm' has type {word}, which cannot be served" in refusal.value.message
    assert "tensor(float16)" in refusal.value.message


@pytest.mark.filterwarnings("ignore:Specified provider")
def test_a_provider_that_did_not_come_up_is_refused_unless_falling_back_is_allowed() -> None:
    if "XnnpackExecutionProvider" in available_providers():
        pytest.skip("this ONNX Runtime has XNNPACK, which the test takes as missing")
    missing = Placement("m_0", InstanceKind.CPU, 0, (Provider("XnnpackExecutionProvider"), Provider(CPU_PROVIDER)))
    content = onnx_models.doubler().SerializeToString()
    with pytest.raises(InvalidArgument, match=r"asks for Xnnpack.*, but ONNX Runtime could only use CPUExecution"):
        Session(content, "m", SETTINGS, missing, Path())
    session = Session(content, "m", SessionSettings(allow_fallback=True), missing, Path())
    assert session.providers == (CPU_PROVIDER,)


def test_a_library_of_operators_that_is_not_there_is_refused_by_its_name() -> None:
    with pytest.raises(InvalidArgument, match=r"its library of operators 'libops\.so' is not there") as it:
        session_of(onnx_models.doubler(), SessionSettings(custom_op_libraries=("/srv/my ops/libops.so",)))
    assert "/srv" not in it.value.message


@pytest.mark.parametrize(
    "changed",
    [
        SessionSettings(intra_op_threads=2, inter_op_threads=2, parallel_execution=True),
        SessionSettings(graph_level=-1, memory_arena=False, memory_pattern=False),
        SessionSettings(graph_level=1, arena_shrinkage="cpu:0"),
        SessionSettings(graph_level=2, config_entries={"session.intra_op.allow_spinning": "0"}),
        SessionSettings(graph_level=77),  # Triton takes what it does not know as all
    ],
)
def test_settings_change_how_a_session_runs_and_not_what_it_answers(changed: SessionSettings) -> None:
    session = session_of(onnx_models.doubler(), changed)
    assert session.run({"x": X + 3}, ["y"])[0].tolist() == [[6, 6, 6, 6]]


def test_no_provider_of_this_server_sends_tensors_elsewhere() -> None:
    assert CPU_PROVIDER in available_providers()
    assert "AzureExecutionProvider" not in available_providers()


@pytest.mark.parametrize(
    ("arenas", "arena"), [("cpu:0", True), ("cpu:0;gpu:0", True), ("gpu:3", True), ("cpu:0", False), ("cpu:1", True)]
)
def test_arenas_that_a_session_does_not_have_fail_no_run(arenas: str, arena: bool) -> None:
    session = session_of(onnx_models.doubler(), SessionSettings(arena_shrinkage=arenas, memory_arena=arena))
    (y,) = session.run({"x": np.ones((1, 4), np.float32)}, ["y"], session.new_run())
    assert y.tolist() == [[2, 2, 2, 2]]
