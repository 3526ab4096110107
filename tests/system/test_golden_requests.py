"""A version that does not give the answers kept beside it never serves."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx_models
import pytest
import tritonclient.grpc
import tritonclient.http
from callers import ask, rest_body, row
from onnx import numpy_helper
from server_process import ServerProcess, eventually, finished, running
from tritonclient.utils import InferenceServerException

MODULES = {"http": tritonclient.http, "grpc": tritonclient.grpc}
REFUSAL = "refuse it: test_data_set_0: output 'y' at [0, 0]: expected 1.0, got 5.0"


def save_golden(directory: Path, x: float, y: float) -> None:
    directory.mkdir(parents=True)
    for name, value in (("input_0.pb", x), ("output_0.pb", y)):
        tensor = numpy_helper.from_array(np.full((1, 4), value, np.float32))
        (directory / name).write_bytes(tensor.SerializeToString())


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """``m`` adds 1, and has to."""
    onnx_models.save_version(tmp_path, "m", onnx_models.adder(1))
    save_golden(tmp_path / "m" / "test_data_set_0", 0, 1)
    return tmp_path


@pytest.fixture
def server(root: Path) -> Iterator[ServerProcess]:
    with running(root, "--model-control-mode=explicit", "--load-model=m") as started:
        yield started


def added(server: ServerProcess) -> float:
    reply = ask(server, "POST", "/v2/models/m/infer", rest_body(row(0)))
    assert reply.status == 200
    return float(reply.array[0, 0])


@pytest.mark.parametrize("protocol", MODULES)
def test_a_version_with_wrong_answers_is_refused_and_the_old_one_serves_on(
    server: ServerProcess, root: Path, protocol: str
) -> None:
    client: Any = MODULES[protocol].InferenceServerClient(server.http if protocol == "http" else server.grpc)
    with client:
        onnx_models.save_version(root, "m", onnx_models.adder(5))
        with pytest.raises(InferenceServerException) as refusal:
            client.load_model("m")
        assert REFUSAL in refusal.value.message()
        assert client.is_model_ready("m")
        assert added(server) == 1
        onnx_models.save_version(root, "m", onnx_models.adder(1.0001))
        client.load_model("m")
        assert added(server) == pytest.approx(1.0001)


def test_poll_mode_keeps_what_serves_until_the_answers_are_right(root: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with running(root, "--model-control-mode=poll", "--repository-poll-secs=0.1", log=log) as server:
        onnx_models.save_version(root, "m", onnx_models.adder(5))
        eventually(lambda: REFUSAL in log.read_text())
        assert added(server) == 1
        tensor = numpy_helper.from_array(np.full((1, 4), 5, np.float32))
        (root / "m" / "test_data_set_0" / "output_0.pb").write_bytes(tensor.SerializeToString())
        eventually(lambda: added(server) == 5)


def test_a_server_does_not_start_with_wrong_answers_unless_it_is_told_to(root: Path) -> None:
    onnx_models.save_version(root, "m", onnx_models.adder(5))
    ports = ("--http-port=0", "--grpc-port=0", "--metrics-port=0")
    ended = finished("serve", root, *ports)
    assert ended.returncode == 1
    assert REFUSAL in ended.stderr
    with running(root, "--golden-requests=off") as server:
        assert added(server) == 5


def test_what_is_required_must_be_there(root: Path) -> None:
    onnx_models.save_version(root, "untried", onnx_models.adder(1))
    with running(root, "--golden-requests=require", "--exit-on-error=false") as server:
        assert added(server) == 1
        (entry,) = (each for each in ask(server, "POST", "/v2/repository/index", {}).json if each["name"] == "untried")
        assert "--golden-requests=require wants one" in entry["reason"]
