"""Loading and unloading while the server runs: by the API, by looking at the repository, or not at all."""

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_models
import pytest
import tritonclient.grpc
import tritonclient.http
from server_process import ServerProcess, eventually, running
from tritonclient.utils import InferenceServerException

MODULES = {"http": tritonclient.http, "grpc": tritonclient.grpc}


def connect(protocol: str, server: ServerProcess) -> Any:
    address = server.http if protocol == "http" else server.grpc
    return MODULES[protocol].InferenceServerClient(address)


def index(client: Any) -> dict[tuple[str, str], tuple[str, str]]:
    """(name, version) → (state, reason)"""
    if isinstance(client, tritonclient.http.InferenceServerClient):
        models = client.get_model_repository_index()
    else:
        models = client.get_model_repository_index(as_json=True).get("models", [])
    return {(m["name"], m.get("version", "")): (m.get("state", ""), m.get("reason", "")) for m in models}


def added(client: Any, model: str, version: str = "") -> float:
    """What the model (an ``adder``) adds to 0."""
    module = MODULES["http" if isinstance(client, tritonclient.http.InferenceServerClient) else "grpc"]
    tensor = module.InferInput("x", [1, 4], "FP32")
    tensor.set_data_from_numpy(np.zeros((1, 4), np.float32))
    return float(client.infer(model, [tensor], model_version=version).as_numpy("y")[0, 0])


def swap_in(proto: onnx.ModelProto, path: Path) -> None:
    """Put a model where another is, in one step, as a careful operator does."""
    os.replace(onnx_models.save(proto, path.with_name(".new")), path)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("explicit")
    for name in ("plus_1", "plus_2"):
        onnx_models.save_version(root, name, onnx_models.adder(float(name[-1])))
    (root / "broken" / "1").mkdir(parents=True)
    (root / "broken" / "1" / "model.onnx").write_bytes(b"not a model")
    return root


@pytest.fixture(scope="module")
def explicit_server(repository: Path) -> Iterator[ServerProcess]:
    with running(repository, "--model-control-mode=explicit", "--load-model=plus_1") as server:
        yield server


@pytest.fixture(params=MODULES)
def client(request: pytest.FixtureRequest, explicit_server: ServerProcess) -> Iterator[Any]:
    with connect(request.param, explicit_server) as client:
        yield client


def test_in_explicit_mode_only_the_models_that_are_named_are_loaded_at_the_start(client: Any) -> None:
    assert client.is_server_ready()
    assert index(client)["plus_1", "1"] == ("READY", "")
    assert ("plus_2", "") in index(client) or index(client)["plus_2", "1"][0] == "UNAVAILABLE"
    assert not client.is_model_ready("plus_2")


def test_a_model_is_loaded_and_unloaded_by_the_api(client: Any) -> None:
    client.load_model("plus_2")
    assert client.is_model_ready("plus_2")
    assert added(client, "plus_2") == 2
    client.unload_model("plus_2")
    assert not client.is_model_ready("plus_2")
    with pytest.raises(InferenceServerException) as refused:
        added(client, "plus_2")
    assert "plus_2" in refused.value.message()
    assert eventually(lambda: index(client)["plus_2", "1"][1]) == "unloaded"
    assert client.is_server_ready(), "a model that was unloaded on purpose does not make the server unready"


def test_to_load_again_takes_the_files_as_they_are_now(client: Any, repository: Path) -> None:
    path = repository / "again" / "1" / "model.onnx"
    onnx_models.save(onnx_models.adder(5), path)
    client.load_model("again")
    assert added(client, "again") == 5
    swap_in(onnx_models.adder(6), path)
    client.load_model("again")
    assert added(client, "again") == 6
    client.unload_model("again")
    shutil.rmtree(repository / "again")


def test_a_load_that_fails_says_why_and_carries_no_path(client: Any, repository: Path) -> None:
    with pytest.raises(InferenceServerException) as refused:
        client.load_model("broken")
    assert "ONNX Runtime cannot load model 'broken'" in refused.value.message()
    state, reason = index(client)["broken", "1"]
    assert state == "UNAVAILABLE"
    assert "ONNX Runtime cannot load model 'broken'" in reason
    assert str(repository.parent) not in refused.value.message() + reason
    client.unload_model("broken")


@pytest.fixture
def spoilt(client: Any, repository: Path) -> Iterator[Path]:
    """``kept`` is served, and its file is not a model any more."""
    path = repository / "kept" / "1" / "model.onnx"
    onnx_models.save(onnx_models.adder(7), path)
    client.load_model("kept")
    path.write_bytes(b"half a mo")
    yield path
    client.unload_model("kept")
    shutil.rmtree(repository / "kept")


def test_a_failed_reload_leaves_the_old_version_serving(client: Any, spoilt: Path) -> None:
    with contextlib.suppress(InferenceServerException):
        client.load_model("kept")
    assert "the newer files failed to load" in index(client)["kept", "1"][1]
    assert added(client, "kept") == 7


def test_a_reload_that_fails_is_answered_with_the_reason(client: Any, spoilt: Path) -> None:
    with pytest.raises(InferenceServerException, match="ONNX Runtime cannot load model 'kept'"):
        client.load_model("kept")


def test_when_the_repository_is_away_nothing_is_loaded_and_the_index_tells_what_is_known(tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    onnx_models.save_version(repository, "plus_1", onnx_models.adder(1))
    with running(repository, "--model-control-mode=explicit") as server, connect("http", server) as client:
        repository.rename(tmp_path / "away")
        with pytest.raises(InferenceServerException) as refused:
            client.load_model("plus_1")
        assert refused.value.status() == "503"
        assert list(index(client)) == [("plus_1", "")]


def test_to_load_what_is_not_there_is_refused(client: Any) -> None:
    with pytest.raises(InferenceServerException, match="no such model"):
        client.load_model("nowhere")


def test_to_unload_what_is_not_there_is_fine(client: Any) -> None:
    client.unload_model("nowhere")


@pytest.mark.parametrize("change", ["load_model", "unload_model"])
@pytest.mark.parametrize("protocol", MODULES)
def test_in_mode_none_loading_and_unloading_are_unavailable(
    model_repo_server: ServerProcess, protocol: str, change: str
) -> None:
    with connect(protocol, model_repo_server) as client:
        with pytest.raises(InferenceServerException) as refused:
            getattr(client, change)("iris")
        assert "explicit model load / unload is not allowed" in refused.value.message()
        assert refused.value.status() == {"http": "503", "grpc": "StatusCode.UNAVAILABLE"}[protocol]
        assert client.is_model_ready("iris")


@pytest.fixture(scope="module")
def polled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Any]]:
    """A repository that the server follows, with one model that stays; and a client."""
    root = tmp_path_factory.mktemp("polled")
    onnx_models.save_version(root, "stays", onnx_models.adder(9))
    with (
        running(root, "--model-control-mode=poll", "--repository-poll-secs=0.1") as server,
        connect("http", server) as client,
    ):
        yield root, client


def refuses(ask: Callable[[], object]) -> bool:
    try:
        ask()
    except InferenceServerException:
        return True
    return False


def test_poll_mode_serves_a_model_that_appears_follows_its_changes_and_lets_it_go(polled: tuple[Path, Any]) -> None:
    repository, client = polled
    onnx_models.save_version(repository / ".staging", "comes", onnx_models.adder(1))
    (repository / ".staging" / "comes").rename(repository / "comes")
    eventually(lambda: client.is_model_ready("comes"))
    assert added(client, "comes") == 1
    swap_in(onnx_models.adder(2), repository / "comes" / "1" / "model.onnx")
    eventually(lambda: added(client, "comes") == 2)
    swap_in(onnx_models.adder(3), repository / "comes" / "2" / "model.onnx")
    eventually(lambda: added(client, "comes") == 3)
    eventually(lambda: not client.is_model_ready("comes", "1"))  # only the latest version is wanted
    shutil.rmtree(repository / "comes")
    eventually(lambda: refuses(lambda: added(client, "comes")))
    assert added(client, "stays") == 9


def test_poll_mode_keeps_what_served_when_a_change_does_not_load(polled: tuple[Path, Any]) -> None:
    repository, client = polled
    path = repository / "stays" / "1" / "model.onnx"
    path.write_bytes(b"not a model any more")
    eventually(lambda: "failed to load" in index(client)["stays", "1"][1])
    assert added(client, "stays") == 9
    swap_in(onnx_models.adder(10), path)
    eventually(lambda: added(client, "stays") == 10)
    assert index(client)["stays", "1"] == ("READY", "")


def test_poll_mode_goes_on_when_the_whole_repository_is_away_for_a_while(tmp_path: Path) -> None:
    repository, away, log = tmp_path / "repository", tmp_path / "away", tmp_path / "log"
    onnx_models.save_version(repository, "plus_1", onnx_models.adder(1))
    with (
        running(repository, "--model-control-mode=poll", "--repository-poll-secs=0.1", log=log) as server,
        connect("http", server) as client,
    ):
        repository.rename(away)
        eventually(lambda: "does not exist" in log.read_text())
        assert added(client, "plus_1") == 1
        onnx_models.save_version(away, "plus_2", onnx_models.adder(2))
        away.rename(repository)
        eventually(lambda: client.is_model_ready("plus_2"))
        assert added(client, "plus_1") == 1
