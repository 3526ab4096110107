"""What a model's configuration asks for, as those see it who serve it: told by name, and shown so that it loads."""

import json
import urllib.request
from pathlib import Path
from typing import Any

import onnx_models
from server_process import ServerProcess, running


def posted(server: ServerProcess, path: str, body: dict[str, Any]) -> Any:
    data = json.dumps(body).encode()
    request = urllib.request.Request(f"http://{server.http}/v2/{path}", data)
    with urllib.request.urlopen(request, timeout=20) as answer:  # noqa: S310
        return json.loads(answer.read() or "null")


def config_of(server: ServerProcess, name: str) -> Any:
    with urllib.request.urlopen(f"http://{server.http}/v2/models/{name}/config", timeout=20) as answer:
        return json.load(answer)


def parameter(key: str, value: str) -> str:
    return f'parameters {{ key: "{key}" value {{ string_value: "{value}" }} }} '


GPU_CONFIG = (
    "instance_group { gpus: 0 host_policy: 'numa0' } "
    "optimization { execution_accelerators { gpu_execution_accelerator { name: 'tensorrt' } } priority: PRIORITY_MAX } "
    + parameter("cudnn_conv_algo_search", "1")
    + parameter("memory.enable_memory_arena_shrinkage", "cpu:0;gpu:0")
    + parameter("enable_mem_arena", "0")
    + parameter("author", "x")
)


def test_a_configuration_for_gpus_serves_on_the_cpu_and_what_has_no_effect_is_in_the_log(tmp_path: Path) -> None:
    onnx_models.save_version(tmp_path / "repository", "double", onnx_models.doubler(), config=GPU_CONFIG)
    log = tmp_path / "log"
    x = {"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}
    with running(tmp_path / "repository", "--device=cpu", log=log) as server:
        answer = posted(server, "models/double/infer", {"inputs": [x]})
    assert answer["outputs"][0]["data"] == [2, 4, 6, 8]
    told = log.read_text()
    for name in (
        "instance_group[0].gpus [0]",
        "instance_group.host_policy",
        "gpu_execution_accelerator 'tensorrt'",
        "optimization.priority",
        "'cudnn_conv_algo_search'",
        "memory.enable_memory_arena_shrinkage 'gpu:0'",
        "memory.enable_memory_arena_shrinkage 'cpu:0'",
        "'author'",
    ):
        assert name in told


def test_the_configuration_that_is_shown_loads_as_the_same(tmp_path: Path) -> None:
    onnx_models.save_version(tmp_path, "double", onnx_models.doubler(), config="instance_group { count: 3 }")
    with running(tmp_path, "--model-control-mode=explicit", "--load-model=double") as server:
        shown = config_of(server, "double")
        posted(server, "repository/models/double/load", {"parameters": {"config": json.dumps(shown)}})
        assert config_of(server, "double") == shown
