"""The classification extension through every door."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx_models
import pytest
import tritonclient.grpc
import tritonclient.http
from onnx import TensorProto
from server_process import ServerProcess, running

CONFIG = """max_batch_size: 4
output [ { name: "y", data_type: TYPE_FP32, dims: [ 4 ], label_filename: "labels.txt" } ]
"""
X = np.array([[1, 4, 2, 3], [9, 0, 0, 8]], np.float32)
EXPECTED = [[b"4.000000:1:one", b"3.000000:3"], [b"9.000000:0:nought", b"8.000000:3"]]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    root = tmp_path_factory.mktemp("classes")
    directory = onnx_models.save_version(root, "labelled", onnx_models.identity(), config=CONFIG)
    (directory / "labels.txt").write_text("nought\none\ntwo\n")
    onnx_models.save_version(root, "yes_or_no", onnx_models.identity(TensorProto.BOOL))
    with running(root) as started:
        yield started


def classified(module: Any, url: str, name: str, x: np.ndarray, datatype: str, **form: bool) -> np.ndarray:
    given = module.InferInput("x", list(x.shape), datatype)
    given.set_data_from_numpy(x)
    with module.InferenceServerClient(url) as client:
        assert "classification" in metadata_extensions(client.get_server_metadata())
        wanted = module.InferRequestedOutput("y", class_count=2, **form)
        return client.infer(name, [given], outputs=[wanted]).as_numpy("y")


def metadata_extensions(metadata: Any) -> list[str]:
    return list(metadata["extensions"] if isinstance(metadata, dict) else metadata.extensions)


@pytest.mark.parametrize("binary", [True, False])
def test_classes_come_with_their_labels_over_rest(server: ServerProcess, binary: bool) -> None:
    found = classified(tritonclient.http, server.http, "labelled", X, "FP32", binary_data=binary)
    assert [
        [element if isinstance(element, bytes) else element.encode() for element in row] for row in found
    ] == EXPECTED


def test_classes_come_with_their_labels_over_grpc(server: ServerProcess) -> None:
    assert classified(tritonclient.grpc, server.grpc, "labelled", X, "FP32").tolist() == EXPECTED


def test_an_output_without_an_order_has_no_classes(server: ServerProcess) -> None:
    for module, url in ((tritonclient.http, server.http), (tritonclient.grpc, server.grpc)):
        with pytest.raises(Exception, match="class result not available for output 'y' due to unsupported type 'BOOL'"):
            classified(module, url, "yes_or_no", np.ones((1, 4), np.bool_), "BOOL")
