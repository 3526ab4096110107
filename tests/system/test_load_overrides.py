"""Loading with a configuration and with files in the request, over HTTP and gRPC, with tritonclient and by hand."""

import base64
import http.client
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import onnx_models
import pytest
import tritonclient.grpc
import tritonclient.http
from server_process import ServerProcess, eventually, running
from tritonclient.utils import InferenceServerException

from ortolan.protocol import protobuf_messages as messages

MODULES = {"http": tritonclient.http, "grpc": tritonclient.grpc}
PLUS_7 = onnx_models.adder(7).SerializeToString()
FILE = "file:1/model.onnx"


@pytest.fixture(scope="module")
def sent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the server keeps what clients send."""
    return tmp_path_factory.mktemp("sent")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, sent: Path) -> Iterator[ServerProcess]:
    root = tmp_path_factory.mktemp("repository")
    config = "max_batch_size: 8\ninstance_group [ { count: 1, kind: KIND_CPU } ]\n"
    onnx_models.save_version(root, "plus", onnx_models.adder(1), config=config)
    with running(root, "--model-control-mode=explicit", environment={"TMPDIR": str(sent)}) as started:
        yield started
    assert not any(sent.iterdir())


@pytest.fixture(params=MODULES)
def protocol(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def client(protocol: str, server: ServerProcess) -> Iterator[Any]:
    """A client; ``plus`` is loaded as it is in the repository, and ``new`` is not."""
    with MODULES[protocol].InferenceServerClient(server.http if protocol == "http" else server.grpc) as client:
        client.load_model("plus")
        yield client
        client.unload_model("new")


def batch_size(client: Any, model: str = "plus") -> int:
    if isinstance(client, tritonclient.http.InferenceServerClient):
        return int(client.get_model_config(model)["max_batch_size"])
    return int(client.get_model_config(model).config.max_batch_size)


def index(client: Any) -> dict[str, tuple[str, str]]:
    if isinstance(client, tritonclient.http.InferenceServerClient):
        models = client.get_model_repository_index()
    else:
        models = client.get_model_repository_index(as_json=True).get("models", [])
    return {model["name"]: (model.get("version", ""), model.get("state", "")) for model in models}


def added(client: Any, model: str = "plus", rows: int = 1) -> float:
    """What the model (an ``adder``) adds to 0."""
    module = MODULES["http" if isinstance(client, tritonclient.http.InferenceServerClient) else "grpc"]
    tensor = module.InferInput("x", [rows, 4], "FP32")
    tensor.set_data_from_numpy(np.zeros((rows, 4), np.float32))
    return float(client.infer(model, [tensor]).as_numpy("y")[-1, 0])


def test_a_configuration_takes_the_place_of_the_files(client: Any) -> None:
    assert batch_size(client) == 8
    client.load_model("plus", config='{"max_batch_size": 2}')
    assert (batch_size(client), added(client)) == (2, 1)
    with pytest.raises(InferenceServerException, match="batch-size must be <= 2"):
        added(client, rows=3)
    client.load_model("plus")
    assert batch_size(client) == 8
    assert added(client, rows=3) == 1


def test_the_configuration_that_the_server_tells_can_be_sent_back(client: Any, server: ServerProcess) -> None:
    with tritonclient.http.InferenceServerClient(server.http) as teller:
        told = teller.get_model_config("plus")
    client.load_model("plus", config=json.dumps(told | {"max_batch_size": "16"}))
    assert (batch_size(client), added(client)) == (16, 1)


def test_files_are_a_model_of_a_new_name(client: Any, sent: Path) -> None:
    client.load_model("new", config='{"max_batch_size": 3}', files={FILE: PLUS_7, "file:notes/read.me": b""})
    assert (batch_size(client, "new"), added(client, "new")) == (3, 7)
    assert index(client) == {"new": ("1", "READY"), "plus": ("1", "READY")}
    assert not [path for directory in sent.iterdir() for path in directory.iterdir()]
    assert client.is_server_ready()
    client.unload_model("new", unload_dependents=True)
    eventually(lambda: "new" not in index(client))
    assert client.is_server_ready()
    with pytest.raises(InferenceServerException, match="no such model in it"):
        client.load_model("new")


def test_files_replace_those_of_the_repository_until_the_next_load(client: Any) -> None:
    client.load_model("plus", config="{}", files={"file:3/model.onnx": PLUS_7})
    assert (index(client)["plus"], added(client)) == (("3", "READY"), 7)
    client.load_model("plus")
    assert added(client) == 1


@pytest.mark.parametrize(
    ("config", "files", "said"),
    [
        (None, {FILE: PLUS_7}, "load parameter 'config' is required when files are given"),
        ("{", None, "the configuration of model 'plus' cannot be read"),
        ('{"max_batch_sise": 1}', None, 'unknown field "max_batch_sise"'),
        ('{"max_batch_size": -1}', None, "max_batch_size"),
        ("[" * 300, None, "cannot be read"),
        ('{"name": "other"}', None, "directory name must equal model name"),
        ('{"input": [{"name": "z", "data_type": "TYPE_FP32", "dims": [4]}]}', None, "unexpected inference input 'z'"),
        ("{}", {FILE: b"this is no model"}, "ONNX Runtime cannot load model 'plus'"),
        ("{}", {"file:model.txt": b""}, "no version found"),
        ("{}", {"file:../../root/.bashrc": b"x"}, "inside the model's directory"),
        ("{}", {"file:/etc/passwd": b"x"}, "inside the model's directory"),
        ("{}", {f"file:{'x' * 256}": b"x"}, "the path is too long"),
        ("{}", {"1/model.onnx": PLUS_7}, "unknown load parameter '1/model.onnx'"),
        ('{"model_operations": {"op_library_filename": ["/opt/ops.so"]}}', None, "names a file of the server"),
    ],
)
def test_what_is_wrong_is_refused_and_what_was_loaded_goes_on(
    client: Any, sent: Path, config: str | None, files: dict[str, bytes] | None, said: str
) -> None:
    with pytest.raises(InferenceServerException) as refusal:
        client.load_model("plus", config=config, files=files)
    assert said in refusal.value.message()
    assert refusal.value.status() in ("400", "StatusCode.INVALID_ARGUMENT")
    assert str(sent) not in refusal.value.message()
    assert (batch_size(client), added(client), client.is_server_ready()) == (8, 1, True)
    assert not [path for directory in sent.iterdir() for path in directory.iterdir()]


def test_requests_are_answered_all_through_the_loads(client: Any, server: ServerProcess, protocol: str) -> None:
    answers: list[float] = []
    ended = threading.Event()

    def ask_on() -> None:
        module = MODULES[protocol]
        with module.InferenceServerClient(server.http if protocol == "http" else server.grpc) as other:
            while not ended.is_set():
                answers.append(added(other))

    asking = threading.Thread(target=ask_on)
    asking.start()
    try:
        for number in range(1, 6):
            client.load_model("plus", config="{}", files={FILE: onnx_models.adder(number).SerializeToString()})
            with pytest.raises(InferenceServerException, match="ONNX Runtime cannot load"):
                client.load_model("plus", config="{}", files={FILE: b"this is no model"})
            seen = len(answers)
            eventually(lambda seen=seen: len(answers) > seen + 1)  # type: ignore[misc]
            assert added(client) == number
    finally:
        ended.set()
        asking.join(30)
    assert set(answers) <= {1, 2, 3, 4, 5}
    assert answers[-1] == 5


# -- by hand -----------------------------------------------------------------------------------------------------------


def post(server: ServerProcess, path: str, body: object = None) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", server.http_port, timeout=30)
    connection.request("POST", path, None if body is None else json.dumps(body))
    response = connection.getresponse()
    text = response.read().decode()
    connection.close()
    return response.status, json.loads(text)["error"] if text else ""


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"parameters": []}, "'parameters' expects an object"),
        ({"parameters": {"config": {"max_batch_size": 8}}}, "'config' expects the JSON text of a configuration"),
        ({"parameters": {"config": "{}", FILE: "no base64!"}}, f"load parameter '{FILE}' is not base64 text"),
        ({"parameters": {"config": "{}", FILE: "YWJ"}}, f"load parameter '{FILE}' is not base64 text"),
        ({"parameters": {"config": "{}", FILE: "ünd"}}, f"load parameter '{FILE}' is not base64 text"),
        ({"parameters": {"config": "{}", FILE: 7}}, f"load parameter '{FILE}' expects the file's content"),
        ({"parameters": {"file:" + "\n" * 3: "YWI="}}, r"load parameter 'file:\n\n\n'"),
        ({"parameters": {"colour": "red"}}, "unknown load parameter 'colour'; known are"),
        ([], "object"),
    ],
)
def test_a_wrong_load_over_http_is_refused_by_name(server: ServerProcess, body: object, said: str) -> None:
    status, error = post(server, "/v2/repository/models/plus/load", body)
    assert (status, said in error) == (400, True), error


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (None, 200, ""),
        ({"parameters": {"unload_dependents": False}}, 200, ""),
        ({"parameters": {"unload_dependents": "yes"}}, 400, "'unload_dependents' expects true or false"),
        ({"parameters": {"force": True}}, 400, "unknown unload parameter 'force'"),
    ],
)
def test_an_unload_over_http_takes_one_parameter(server: ServerProcess, body: object, status: int, said: str) -> None:
    answered, error = post(server, "/v2/repository/models/nothing/unload", body)
    assert (answered, said in error) == (status, True), error


@pytest.mark.parametrize("path", ["index", "models/plus/load", "models/plus/unload"])
def test_a_repository_cannot_be_named(server: ServerProcess, path: str) -> None:
    assert post(server, f"/v2/repository/main/{path}") == (501, "'repository_name' specification is not supported")


@pytest.mark.parametrize("name", ["..", " ..", ".. ", " ", "\t", "a\\b", "a\0b", "x" * 256])
def test_a_name_that_is_no_directorys_is_refused(server: ServerProcess, name: str) -> None:
    body = {"parameters": {"config": "{}", FILE: base64.b64encode(PLUS_7).decode()}}
    status, error = post(server, f"/v2/repository/models/{quote(name, safe='')}/load", body)
    assert (status, "the model's name must" in error) == (400, True), error


@pytest.mark.parametrize("name", ["...", "..m", "m..1"])
def test_names_with_dots_are_names_like_others(server: ServerProcess, name: str) -> None:
    status, error = post(server, f"/v2/repository/models/{name}/load")
    assert (status, "no such model in it" in error) == (400, True), error
    body = {"parameters": {"config": "{}", FILE: base64.b64encode(PLUS_7).decode()}}
    assert post(server, f"/v2/repository/models/{name}/load", body) == (200, "")
    with tritonclient.http.InferenceServerClient(server.http) as client:
        assert added(client, name) == 7
        client.unload_model(name)


def call(server: ServerProcess, method: str, request: Any) -> None:
    import grpc

    with grpc.insecure_channel(server.grpc) as channel:
        channel.unary_unary(f"/inference.GRPCInferenceService/{method}")(request.SerializeToString(), timeout=30)


@pytest.mark.parametrize(
    ("method", "name", "values", "said"),
    [
        ("RepositoryModelLoad", "plus", {"config": {"bytes_param": b"{}"}}, "got bytes"),
        ("RepositoryModelLoad", "plus", {"config": {}}, "got nothing"),
        (
            "RepositoryModelLoad",
            "plus",
            {"config": {"string_param": "{}"}, FILE: {"string_param": "YWI="}},
            "as bytes_param over gRPC, got a string",
        ),
        ("RepositoryModelLoad", "plus", {"colour": {"bool_param": True}}, "unknown load parameter 'colour'"),
        ("RepositoryModelLoad", "../etc", {}, "the model's name must"),
        ("RepositoryModelLoad", "a/../b", {}, "the model's name must"),
        ("RepositoryModelUnload", "/etc", {}, "the model's name must"),
        (
            "RepositoryModelUnload",
            "plus",
            {"unload_dependents": {"int64_param": 1}},
            "expects true or false, got a number",
        ),
        ("RepositoryModelUnload", "plus", {"force": {"bool_param": True}}, "unknown unload parameter 'force'"),
    ],
)
def test_a_wrong_call_over_grpc_is_refused_by_name(
    server: ServerProcess, method: str, name: str, values: dict[str, dict[str, Any]], said: str
) -> None:
    import grpc

    request = getattr(messages, f"{method}Request")(model_name=name)
    for key, value in values.items():
        request.parameters[key].SetInParent()
        for field, content in value.items():
            setattr(request.parameters[key], field, content)
    with pytest.raises(grpc.RpcError) as refusal:
        call(server, method, request)
    assert refusal.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert said in refusal.value.details()


def test_what_a_killed_server_left_is_gone_after_the_next_start(tmp_path: Path) -> None:
    repository, sent = tmp_path / "repository", tmp_path / "sent"
    onnx_models.save_version(repository, "plus", onnx_models.adder(1))
    sent.mkdir()
    arguments = (repository, "--model-control-mode=explicit")
    with running(*arguments, environment={"TMPDIR": str(sent)}) as server:
        with tritonclient.http.InferenceServerClient(server.http) as client:
            client.load_model("new", config="{}", files={FILE: PLUS_7})
        server.process.kill()
        server.process.wait(30)
    assert any(sent.iterdir())
    with running(*arguments, environment={"TMPDIR": str(sent)}):
        assert not any(sent.iterdir())
