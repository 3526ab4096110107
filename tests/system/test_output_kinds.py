"""Outputs that are no tensors in ONNX, over HTTP and gRPC: what the metadata says, and what comes."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import onnx_models
import onnx_outputs
import pytest
import tritonclient.grpc
import tritonclient.http
from onnx import TensorProto
from server_process import ServerProcess, running
from tritonclient.utils import InferenceServerException

FLOATS = np.arange(8, dtype=np.float32).reshape(2, 4)
ANY_RANK = 'input [ { name: "x" data_type: TYPE_FP32 dims: [ 2, -1 ] } ]'
ROWS = """max_batch_size: 4
output [ { name: "y" data_type: TYPE_FP32 dims: [ 4 ] } ]
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    root = tmp_path_factory.mktemp("kinds")
    floats = onnx_outputs.tensor_type(TensorProto.FLOAT, ["n", 4])
    onnx_models.save_version(root, "maps", onnx_models.zip_map(["rose", "lily", "iris", "tulip"]))
    onnx_models.save_version(root, "sequence", onnx_outputs.rows())
    onnx_models.save_version(root, "batched_sequence", onnx_outputs.rows(), config=ROWS)
    onnx_models.save_version(root, "texts", onnx_outputs.rows(element_type=TensorProto.STRING))
    onnx_models.save_version(root, "uneven", onnx_models.sequence())
    onnx_models.save_version(root, "perhaps", onnx_outputs.perhaps(floats, ["n", 4]))
    onnx_models.save_version(root, "x_or_zeros", onnx_outputs.x_or_zeros())
    onnx_models.save_version(root, "any_rank", onnx_outputs.any_rank(), config=ANY_RANK)
    onnx_models.save_version(root, "reshaped", onnx_outputs.reshaped())
    with running(root) as started:
        yield started


@pytest.fixture(params=[tritonclient.http, tritonclient.grpc], ids=["http", "grpc"])
def module(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def client(module: Any, server: ServerProcess) -> Iterator[Any]:
    with module.InferenceServerClient(server.http if module is tritonclient.http else server.grpc) as client:
        yield client


def declared(client: Any, module: Any, model: str) -> dict[str, tuple[str, list[int]]]:
    """The model's outputs by its metadata: datatype and shape."""
    as_json = {} if module is tritonclient.http else {"as_json": True}
    outputs = client.get_model_metadata(model, **as_json)["outputs"]
    return {output["name"]: (output["datatype"], [int(size) for size in output["shape"]]) for output in outputs}


def y_of(client: Any, module: Any, model: str, inputs: Mapping[str, np.ndarray], class_count: int = 0) -> np.ndarray:
    tensors = []
    for name, array in inputs.items():
        tensor = module.InferInput(name, list(array.shape), tritonclient.utils.np_to_triton_dtype(array.dtype))
        tensor.set_data_from_numpy(array)
        tensors.append(tensor)
    wanted = [module.InferRequestedOutput("y", class_count=class_count)] if class_count else None
    array: np.ndarray = client.infer(model, tensors, outputs=wanted).as_numpy("y")
    return array


def test_maps_are_rows_and_classes_with_their_names(client: Any, module: Any) -> None:
    assert declared(client, module, "maps") == {"y": ("FP32", [-1, -1])}
    assert y_of(client, module, "maps", {"x": FLOATS}).tolist() == FLOATS[:, [2, 1, 0, 3]].tolist()
    best = y_of(client, module, "maps", {"x": FLOATS}, class_count=2)
    assert best.tolist() == [[b"3.000000:3:tulip", b"2.000000:0:iris"], [b"7.000000:3:tulip", b"6.000000:0:iris"]]


def test_sequences_are_stacked(client: Any, module: Any) -> None:
    assert declared(client, module, "sequence") == {"y": ("FP32", [-1, 4])}
    assert y_of(client, module, "sequence", {"x": FLOATS}).tolist() == FLOATS.tolist()
    assert declared(client, module, "batched_sequence") == {"y": ("FP32", [-1, 4])}
    assert y_of(client, module, "batched_sequence", {"x": FLOATS}).tolist() == FLOATS.tolist()
    texts = np.array([[b"a", b"", b"\xff", b"d"]], object)
    assert declared(client, module, "texts") == {"y": ("BYTES", [-1, 4])}
    assert y_of(client, module, "texts", {"x": texts}).tolist() == texts.tolist()


def test_a_sequence_of_uneven_tensors_is_an_error_that_says_so(client: Any, module: Any) -> None:
    even = y_of(client, module, "uneven", {"a": FLOATS[:1, :2], "b": FLOATS[1:, :2]})
    assert even.tolist() == [[[0, 1]], [[4, 5]]]
    with pytest.raises(InferenceServerException, match="a sequence whose elements differ in shape"):
        y_of(client, module, "uneven", {"a": FLOATS[:1, :2], "b": FLOATS[:, :2]})


def test_an_absent_optional_is_empty(client: Any, module: Any) -> None:
    assert declared(client, module, "perhaps") == {"y": ("FP32", [-1, 4])}
    assert y_of(client, module, "perhaps", {"x": FLOATS, "wanted": np.array([True])}).tolist() == FLOATS.tolist()
    assert y_of(client, module, "perhaps", {"x": FLOATS, "wanted": np.array([False])}).shape == (0, 4)


def test_an_optional_input_may_be_left_out(client: Any, module: Any) -> None:
    assert y_of(client, module, "x_or_zeros", {"x": FLOATS[0]}).tolist() == [0, 1, 2, 3]
    assert y_of(client, module, "x_or_zeros", {}).tolist() == [0, 0, 0, 0]


def test_a_tensor_of_any_rank_is_as_the_configuration_says(client: Any, module: Any) -> None:
    assert declared(client, module, "any_rank") == {"y": ("FP32", [-1])}
    assert y_of(client, module, "any_rank", {"x": FLOATS}).tolist() == (-FLOATS).tolist()
    with pytest.raises(InferenceServerException, match=r"Expected \[2,-1\], got \[1,4\]"):
        y_of(client, module, "any_rank", {"x": FLOATS[:1]})
    shape = np.array([2, 2, 2])
    assert y_of(client, module, "reshaped", {"x": FLOATS, "shape": shape}).shape == (2, 2, 2)
