"""The response cache over HTTP and gRPC, with tritonclient."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import ensembles
import numpy as np
import onnx_models
import pytest
import tritonclient.grpc
import tritonclient.http
from callers import metric, statistics
from server_process import ServerProcess, finished, running

MODULES = {"http": tritonclient.http, "grpc": tritonclient.grpc}
CACHED = "max_batch_size: 8 response_cache { enable: true }\n"


def repository(root: Path) -> Path:
    onnx_models.save_version(root, "kept", onnx_models.adder(1), config=CACHED)
    onnx_models.save_version(root, "plain", onnx_models.adder(1), config="max_batch_size: 8\n")
    chain = ensembles.chain("plain", "plain")
    ensembles.save(root, "twice", ensembles.config(chain, extra="response_cache { enable: true }"))
    return root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return repository(tmp_path)


@pytest.fixture
def server(root: Path) -> Iterator[ServerProcess]:
    with running(
        root, "--model-control-mode=explicit", "--load-model=*", "--cache-config=local,size=1048576"
    ) as started:
        yield started


@pytest.fixture(params=MODULES)
def protocol(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def client(protocol: str, server: ServerProcess) -> Iterator[Any]:
    with MODULES[protocol].InferenceServerClient(server.http if protocol == "http" else server.grpc) as client:
        yield client


def infer(client: Any, protocol: str, model: str, value: float, name: str = "x", **others: Any) -> Any:
    given = MODULES[protocol].InferInput(name, (1, 4), "FP32")
    given.set_data_from_numpy(np.full((1, 4), value, np.float32))
    return client.infer(model, [given], **others)


def test_the_second_answer_comes_out_of_the_cache(client: Any, protocol: str, server: ServerProcess) -> None:
    first, second = (infer(client, protocol, "kept", 5, request_id=name) for name in ("a", "b"))
    assert np.array_equal(first.as_numpy("y"), np.full((1, 4), 6, np.float32))
    assert np.array_equal(second.as_numpy("y"), first.as_numpy("y"))
    response = second.get_response()
    assert (response["id"] if protocol == "http" else response.id) == "b"
    found = statistics(server, "kept")
    stats = found["inference_stats"]
    assert (stats["success"]["count"], stats["queue"]["count"], stats["compute_infer"]["count"]) == (2, 2, 1)
    assert (stats["cache_hit"]["count"], stats["cache_miss"]["count"]) == (1, 1)
    assert (found["inference_count"], found["execution_count"]) == (1, 1)


def test_another_value_another_form_and_other_outputs_are_other_questions(
    client: Any, protocol: str, server: ServerProcess
) -> None:
    classes = MODULES[protocol].InferRequestedOutput("y", class_count=1)
    infer(client, protocol, "kept", 5)
    infer(client, protocol, "kept", 6)
    infer(client, protocol, "kept", 5, outputs=[classes])
    again = infer(client, protocol, "kept", 5, outputs=[classes])
    assert again.as_numpy("y").tolist() == [[b"6.000000:0"]]
    assert statistics(server, "kept")["inference_stats"]["cache_hit"]["count"] == 1


def test_a_reload_forgets_what_the_old_files_answered(
    client: Any, protocol: str, server: ServerProcess, root: Path
) -> None:
    infer(client, protocol, "kept", 5)
    infer(client, protocol, "twice", 5, "in")
    for name in ("kept", "plain"):
        onnx_models.save_version(root, name, onnx_models.adder(100.25), config=CACHED)
        client.load_model(name)
    assert infer(client, protocol, "kept", 5).as_numpy("y")[0, 0] == 105.25
    assert infer(client, protocol, "twice", 5, "in").as_numpy("out")[0, 0] == 205.5


def test_an_ensemble_that_keeps_its_answers_skips_its_steps(client: Any, protocol: str, server: ServerProcess) -> None:
    for _ in range(3):
        assert infer(client, protocol, "twice", 5, "in").as_numpy("out")[0, 0] == 7
    assert statistics(server, "twice")["inference_stats"]["cache_hit"]["count"] == 2
    assert statistics(server, "plain")["execution_count"] == 2


def test_metrics_show_the_cache_for_those_that_have_it(client: Any, protocol: str, server: ServerProcess) -> None:
    for _ in range(3):
        infer(client, protocol, "kept", 5)
        infer(client, protocol, "plain", 5)
    assert metric(server, "nv_cache_num_hits_per_model", "kept") == 2
    assert metric(server, "nv_cache_num_misses_per_model", "kept") == 1
    assert metric(server, "nv_inference_request_success", "kept") == 3
    assert metric(server, "nv_inference_count", "kept") == 1
    page = page_of(server)
    assert "# TYPE nv_cache_hit_duration_per_model counter" in page
    assert 'nv_cache_miss_duration_per_model{model="kept",version="1"}' in page
    assert 'nv_cache_num_hits_per_model{model="plain"' not in page


def page_of(server: ServerProcess) -> str:
    with urlopen(f"http://{server.metrics}/metrics", timeout=30) as response:
        return str(response.read().decode())


def test_without_the_flag_every_request_runs_and_the_log_says_so(
    root: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    log = tmp_path_factory.mktemp("log") / "log"
    with running(root, log=log) as server, tritonclient.http.InferenceServerClient(server.http) as client:
        for _ in range(2):
            infer(client, "http", "kept", 5)
        assert statistics(server, "kept")["execution_count"] == 2
        assert "nv_cache" not in page_of(server)
    assert "response_cache has no effect without --cache-config" in log.read_text()


def test_a_wrong_flag_is_told_before_anything_starts(root: Path) -> None:
    ended = finished("serve", root, "--cache-config=redis,host=there")
    assert ended.returncode == 2
    assert "the cache 'redis' is not available" in ended.stderr
