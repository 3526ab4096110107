"""Ensembles over HTTP and gRPC, with tritonclient."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ensembles
import numpy as np
import onnx_models
import pytest
import tritonclient.grpc
import tritonclient.http
from callers import ask, batches, failures, metric, statistics
from server_process import ServerProcess, eventually, finished, running
from tritonclient.utils import InferenceServerException

MODULES = {"http": tritonclient.http, "grpc": tritonclient.grpc}
EIGHT = "max_batch_size: 8\n"


def repository(root: Path) -> Path:
    """``sum`` adds 1 and then 10; ``pick`` looks up in a table of four; ``sides`` has both sums side by side."""
    onnx_models.save_version(root, "one", onnx_models.adder(1), config=EIGHT)
    labelled = EIGHT + 'output { name: "y" data_type: TYPE_FP32 dims: 4 label_filename: "labels.txt" }'
    onnx_models.save_version(root, "ten", onnx_models.adder(10), config=labelled)
    (root / "ten" / "labels.txt").write_text("ant\nbee\ncat\ndog\n")
    onnx_models.save_version(root, "gather", onnx_models.gather(), config=EIGHT)
    ensembles.save(root, "sum", ensembles.config(ensembles.chain("one", "ten")))
    sides = ensembles.step("one", [("x", "in")], [("y", "left")]) + ensembles.step(
        "ten", [("x", "in")], [("y", "right")]
    )
    ensembles.save(root, "sides", ensembles.config(sides, outputs=["left", "right"]))
    pick = ensembles.config(ensembles.step("gather", [("x", "in")], [("y", "out")]))
    ensembles.save(root, "pick", pick.replace("dims: 4", "dims: 1").replace("TYPE_FP32", "TYPE_INT64", 1))
    return root


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    root = repository(tmp_path_factory.mktemp("repository"))
    with running(root, "--model-control-mode=explicit", "--load-model=*") as started:
        yield started


@pytest.fixture(params=MODULES)
def protocol(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def client(protocol: str, server: ServerProcess) -> Iterator[Any]:
    with MODULES[protocol].InferenceServerClient(server.http if protocol == "http" else server.grpc) as client:
        yield client


def tensor(protocol: str, array: np.ndarray, datatype: str = "FP32") -> Any:
    given = MODULES[protocol].InferInput("in", array.shape, datatype)
    given.set_data_from_numpy(array)
    return given


def row(value: float, rows: int = 1) -> np.ndarray:
    return np.full((rows, 4), value, np.float32)


def test_an_ensemble_answers(client: Any, protocol: str) -> None:
    result = client.infer("sum", [tensor(protocol, row(5, 3))], request_id="r7")
    assert np.array_equal(result.as_numpy("out"), row(16, 3))


def test_its_metadata_and_configuration_are_an_ensembles(client: Any, protocol: str) -> None:
    metadata, config = client.get_model_metadata("sum"), client.get_model_config("sum")
    if protocol == "grpc":
        assert metadata.platform == "ensemble"
        assert [step.model_name for step in config.config.ensemble_scheduling.step] == ["one", "ten"]
    else:
        assert metadata["platform"] == "ensemble"
        assert metadata["inputs"] == [{"name": "in", "datatype": "FP32", "shape": [-1, 4]}]
        assert [step["model_name"] for step in config["ensemble_scheduling"]["step"]] == ["one", "ten"]
        assert "optimization" not in config


def test_only_what_is_asked_for_runs(client: Any, protocol: str, server: ServerProcess) -> None:
    before = statistics(server, "one")["execution_count"]
    wanted = MODULES[protocol].InferRequestedOutput("right")
    result = client.infer("sides", [tensor(protocol, row(1))], outputs=[wanted])
    assert np.array_equal(result.as_numpy("right"), row(11))
    assert result.as_numpy("left") is None
    assert statistics(server, "one")["execution_count"] == before


def test_labels_come_from_the_step(client: Any, protocol: str) -> None:
    wanted = MODULES[protocol].InferRequestedOutput("out", class_count=1)
    result = client.infer("sum", [tensor(protocol, np.array([[0, 0, 5, 0]], np.float32))], outputs=[wanted])
    assert result.as_numpy("out").tolist() == [[b"16.000000:2:cat"]]


def test_the_error_of_a_step_says_where_it_was(client: Any, protocol: str, server: ServerProcess) -> None:
    before = failures(server, "pick").get("BACKEND", 0)
    with pytest.raises(InferenceServerException, match="in ensemble 'pick', model 'gather' could not run"):
        client.infer("pick", [tensor(protocol, np.array([[99]], np.int64), "INT64")])
    assert failures(server, "pick")["BACKEND"] == before + 1


def test_statistics_and_metrics_count_the_ensemble_and_its_models(
    client: Any, protocol: str, server: ServerProcess
) -> None:
    names = ("sum", "one", "ten")
    before = {name: statistics(server, name)["inference_count"] for name in names}
    client.infer("sum", [tensor(protocol, row(5, 2))])
    for name in names:
        found = statistics(server, name)
        assert found["inference_count"] == before[name] + 2
        assert found["inference_stats"]["queue"]["count"] == found["inference_stats"]["success"]["count"]
        assert metric(server, "nv_inference_count", name) == found["inference_count"]
    assert 2 in batches(server, "sum")


def states(server: ServerProcess) -> dict[str, tuple[str, str]]:
    found = ask(server, "POST", "/v2/repository/index", b"{}").json
    return {entry["name"]: (entry.get("state", ""), entry.get("reason", "")) for entry in found}


def test_models_come_and_go_with_their_ensemble(tmp_path: Path, protocol: str) -> None:
    root = repository(tmp_path)
    with running(root, "--model-control-mode=explicit", "--load-model=ten") as server:
        address = server.http if protocol == "http" else server.grpc
        with MODULES[protocol].InferenceServerClient(address) as client:
            client.load_model("sum")
            assert states(server)["one"][0] == "READY"
            assert np.array_equal(client.infer("sum", [tensor(protocol, row(0))]).as_numpy("out"), row(11))

            client.unload_model("one")
            reason = "unloaded: ensemble 'sum' depends on 'one' which has no loaded version"
            eventually(lambda: states(server)["sum"] == ("UNAVAILABLE", reason))
            assert client.is_server_ready()

            client.load_model("sum")
            client.unload_model("sum", unload_dependents=True)
            # Somebody loaded "ten" by its name; "one" came with the ensemble.
            eventually(lambda: [states(server)[name][0] for name in ("sum", "one")] == ["UNAVAILABLE"] * 2)
            assert states(server)["ten"][0] == "READY"


def test_an_ensemble_that_cannot_be_loaded_says_why(client: Any, server: ServerProcess, tmp_path: Path) -> None:
    config = ensembles.config(ensembles.chain("nowhere"))
    ensembles.save(tmp_path, "bad", config)
    with running(tmp_path, "--exit-on-error=false") as started:
        assert states(started)["bad"] == (
            "UNAVAILABLE",
            "ensemble 'bad' depends on 'nowhere' which has no loaded version",
        )
        assert ask(started, "GET", "/v2/health/ready").status == 400


def test_ensembles_are_listed_and_explained(tmp_path: Path) -> None:
    shown = finished("models", repository(tmp_path), "--explain")
    assert shown.returncode == 0, shown.stderr
    assert "ensemble of one, ten" in shown.stdout
    assert "sum version 1: ensemble of one, ten" in shown.stdout
