"""A server as an online endpoint of Azure Machine Learning runs it, asked by the routes that a deployment names."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx_models
import pytest
from callers import ask
from read_only import NOWHERE_TO_WRITE, listing, protected
from server_process import ServerProcess, running

ROWS = [[1.0, 2.0, 3.0, 4.0]]
INFER = {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": ROWS}]}
ANY_PORTS = ("--http-port=0", "--grpc-port=0", "--metrics-port=0", "--drain-delay-secs=0")
PAGE = Path(__file__).parents[2] / "docs" / "hosting.md"


@pytest.fixture(scope="module")
def model_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository, registered as the second version of "iris" with the folder that was uploaded."""
    directory = tmp_path_factory.mktemp("azureml-app") / "azureml-models" / "iris" / "2"
    onnx_models.save_version(directory / "uploaded", "double", onnx_models.doubler())
    return protected(directory)


@pytest.fixture(scope="module")
def server(model_directory: Path) -> Iterator[ServerProcess]:
    before = listing(model_directory)
    environment = {"AZUREML_MODEL_DIR": str(model_directory), **NOWHERE_TO_WRITE}
    with running(environment=environment, defaults=ANY_PORTS) as started:
        yield started
    assert listing(model_directory) == before


@pytest.fixture(scope="module")
def inference_config() -> Any:
    """The routes as the documentation has a deployment name them."""
    found = re.search(r'```json\n(\{\s*"inference_config".*?)```', PAGE.read_text(), re.DOTALL)
    assert found is not None
    return json.loads(found[1])["inference_config"]


def test_the_model_is_found_without_a_path(server: ServerProcess, model_directory: Path) -> None:
    told = server.summary.splitlines()[0]
    assert told.startswith("On AzureML, by its environment: --http-address=0.0.0.0, ")
    assert f"--model-name=iris, models from {model_directory / 'uploaded'} " in told


@pytest.mark.parametrize("route", ["liveness_route", "readiness_route"])
def test_probes_are_answered(server: ServerProcess, inference_config: Any, route: str) -> None:
    assert ask(server, "GET", inference_config[route]["path"]).status == 200


def test_the_scoring_route_answers(server: ServerProcess, inference_config: Any) -> None:
    headers = {"azureml-model-deployment": "blue", "Content-Type": "application/json"}
    reply = ask(server, "POST", inference_config["scoring_route"]["path"], INFER, headers)
    assert reply.array.tolist() == [[2.0, 4.0, 6.0, 8.0]]


def test_the_three_routes_are_on_the_servers_own_port(inference_config: Any) -> None:
    assert {route["port"] for route in inference_config.values()} == {8000}
