"""`ortolan bench` on real servers, briefly: what it says, not how fast anything is."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx_models
import pytest
from onnx import TensorProto
from server_process import ServerProcess, finished, running

BRIEFLY = ("--seconds=0.1", "--clients=1,2", "--rates=0.5", "--rows=1,2")


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("repository")
    onnx_models.save_version(root, "double", onnx_models.doubler())
    onnx_models.save_version(root, "open", onnx_models.identity(TensorProto.FLOAT, ("rows", "columns")))
    onnx_models.save_version(root, "gather", onnx_models.gather())
    onnx_models.save_version(root, "text", onnx_models.identity(TensorProto.STRING, ("batch", 2)))
    return root


@pytest.fixture(scope="module")
def server(repository: Path) -> Iterator[ServerProcess]:
    with running(repository, "--calibration-cache=none") as found:
        yield found


def measured(*arguments: str | Path) -> Any:
    found = finished("bench", *arguments, *BRIEFLY, "--json")
    assert found.returncode == 0, found.stderr
    return json.loads(found.stdout)


def of_running(server: ServerProcess, *arguments: str) -> Any:
    return measured(*arguments, f"--url={server.http}", f"--grpc-url={server.grpc}")


def test_a_file_is_served_and_measured_in_every_form(repository: Path) -> None:
    report = measured(repository / "double" / "1" / "model.onnx")
    assert [(each["form"], each["share_of_capacity"]) for each in report["points"]] == [
        (form, share) for form in ("http", "json", "grpc") for share in (None, None, 0.5)
    ]
    assert all(each["requests_per_s"] > 0 and not each["failed"] for each in report["points"])
    assert all(each["cpu_us_per_request"] is not None for each in report["points"])
    assert report["ready_s"] > 0
    assert [(each["rows"], each["floor_rows_per_s"] > 0) for each in report["by_rows"]] == [(1, True), (2, True)]
    assert report["advice"]


def test_a_running_server_is_measured_by_its_address(server: ServerProcess) -> None:
    report = of_running(server, "double")
    assert report["model"] == "double"
    assert report["ready_s"] is None
    assert "needs the model's .onnx file" in report["floor_note"]
    assert {each["form"] for each in report["points"]} == {"http", "json", "grpc"}


def test_a_form_that_was_left_out_for_want_of_an_address_is_told(server: ServerProcess) -> None:
    report = measured("double", f"--url={server.http}")
    assert {each["form"] for each in report["points"]} == {"http", "json"}
    assert any("--grpc-url" in each for each in report["advice"])
    assert not any("--grpc-url" in each for each in of_running(server, "double")["advice"])


def test_texts_are_sent_and_compared(server: ServerProcess) -> None:
    report = of_running(server, "text", "--forms=http,json")
    assert all(each["requests_per_s"] > 0 and not each["failed"] for each in report["points"])


def test_a_person_gets_tables(server: ServerProcess) -> None:
    found = finished("bench", "double", f"--url={server.http}", "--forms=http", *BRIEFLY)
    assert found.returncode == 0, found.stderr
    assert "HTTP binary  2 clients" in found.stdout
    assert "What stands out:" in found.stdout


def test_a_shape_fills_sizes_that_are_open(server: ServerProcess) -> None:
    report = of_running(server, "open", "--shape=x:1,7", "--forms=http")
    assert report["inputs"].startswith("x FP32 [1, 7]")


def test_a_written_request_is_sent_as_it_is(server: ServerProcess, tmp_path: Path) -> None:
    file = tmp_path / "request.json"
    tensor = {"name": "x", "shape": [1, 1], "datatype": "INT64", "data": [3]}
    file.write_text(json.dumps({"inputs": [tensor]}))
    report = of_running(server, "gather", f"--request={file}", "--forms=http,grpc")
    assert report["inputs"].startswith("x INT64 [1, 1]: as in")
    assert not any(each["failed"] for each in report["points"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nothing"], "has no model 'nothing' that is ready"),
        (["double", "--shape=x:1,5"], "declared as [-1, 4], which [1, 5] does not fit"),
        (["double", "--clients", ","], "--clients: expected at least one, got ','"),
        (["double", "--client=1"], "unknown flag --client; did you mean --clients?"),
        (["double", "--request=/nowhere"], "--request: /nowhere cannot be read"),
    ],
)
def test_what_cannot_be_measured_is_told(server: ServerProcess, arguments: list[str], said: str) -> None:
    found = finished("bench", *BRIEFLY, f"--url={server.http}", *arguments)
    assert found.returncode == 2
    assert said in found.stderr


def test_what_the_server_answers_is_told(server: ServerProcess, tmp_path: Path) -> None:
    file = tmp_path / "request.json"
    tensor = {"name": "x", "shape": [1, 1], "datatype": "INT64", "data": [99]}
    file.write_text(json.dumps({"inputs": [tensor]}))
    found = finished("bench", "gather", f"--url={server.http}", f"--request={file}", *BRIEFLY)
    assert found.returncode == 2
    assert "answers HTTP binary with 400" in found.stderr


def test_a_repository_of_several_models_needs_a_name(repository: Path) -> None:
    found = finished("bench", repository, *BRIEFLY)
    assert found.returncode == 2
    assert f"{repository} has several models; say which one with --model: double, gather, open, text" in found.stderr


def test_a_model_that_is_not_served_is_told(tmp_path: Path) -> None:
    (tmp_path / "broken.onnx").write_bytes(np.arange(9).tobytes())
    found = finished("bench", tmp_path / "broken.onnx", *BRIEFLY)
    assert found.returncode == 2
    assert "ortolan: " in found.stderr
