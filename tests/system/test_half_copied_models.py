"""Copies that stall for longer than the server's quiet time; what a repository's changes make of readiness."""

from collections.abc import Iterator
from pathlib import Path

import ensembles
import onnx_models
import pytest
from callers import ask, rest_body, row
from server_process import ServerProcess, eventually, running

POLL = ("--model-control-mode=poll", "--repository-poll-secs=3600", "--repository-quiet-secs=0.1")
WHOLE = onnx_models.adder(1).SerializeToString()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    onnx_models.save_version(root, "stays", onnx_models.adder(9))
    return root


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("log") / "log"


@pytest.fixture(scope="module")
def server(root: Path, log: Path) -> Iterator[ServerProcess]:
    with running(root, *POLL, log=log) as server:
        yield server


def index(server: ServerProcess, model: str) -> dict[str, tuple[str, str]]:
    told = ask(server, "POST", "/v2/repository/index").json
    return {
        each.get("version", ""): (each.get("state", ""), each.get("reason", ""))
        for each in told
        if each["name"] == model
    }


def is_ready(server: ServerProcess) -> bool:
    return ask(server, "GET", "/v2/health/ready").status == 200


def added(server: ServerProcess, model: str) -> float | None:
    reply = ask(server, "POST", f"/v2/models/{model}/infer", rest_body(row()))
    return float(reply.array.flat[0]) if reply.status == 200 else None


@pytest.mark.parametrize("beside", [False, True], ids=["a new model", "a new version"])
def test_a_copy_that_stalls_is_told_as_incomplete_and_served_once_it_is_whole(
    server: ServerProcess, root: Path, beside: bool, log: Path
) -> None:
    model = f"copied_{beside}"
    if beside:
        onnx_models.save_version(root, model, onnx_models.adder(5))
        eventually(lambda: added(server, model) == 5)
    file = root / model / "9" / "model.onnx"
    file.parent.mkdir(parents=True)
    with file.open("wb", buffering=0) as copy:
        copy.write(WHOLE[:50])
        said = "incomplete, trying again when it changes: ONNX Runtime cannot load"
        eventually(lambda: index(server, model).get("9", ("", ""))[1].startswith(said))
        assert is_ready(server)
        assert added(server, model) == (5 if beside else None)
        if not beside:
            refused = ask(server, "POST", f"/v2/models/{model}/infer", rest_body(row()))
            start = f"Request for unknown model: '{model}' has no available versions: version 9 is at UNAVAILABLE state"
            assert (refused.status, refused.json["error"].startswith(start)) == (404, True)
        copy.write(WHOLE[50:])
    eventually(lambda: added(server, model) == 1)
    assert index(server, model)["9"] == ("READY", "")
    text = log.read_text()
    assert f"ERROR ortolan.core.version_changes: model '{model}'" not in text
    assert "watchfiles" not in text, "what it tells of every burst of events is nobody's business"


def test_an_ensemble_whose_model_was_moved_away_makes_the_server_not_ready(tmp_path: Path) -> None:
    root = tmp_path / "models"
    onnx_models.save_version(root, "one", onnx_models.adder(1), config="max_batch_size: 8")
    ensembles.save_like_a_model(root, "sum", "one")
    with running(root, *POLL) as server:
        assert (added(server, "sum"), is_ready(server)) == (1, True)
        (root / "one").rename(tmp_path / "away")
        eventually(lambda: not is_ready(server))
        reason = "ensemble 'sum' depends on 'one' which has no loaded version"
        eventually(lambda: index(server, "sum")["1"] == ("UNAVAILABLE", f"unloaded: {reason}"))
        assert reason in ask(server, "POST", "/v2/models/sum/infer", rest_body(row())).json["error"]
        (tmp_path / "away").rename(root / "one")
        eventually(lambda: is_ready(server))
        assert added(server, "sum") == 1


def test_the_index_is_told_while_the_repository_is_away(tmp_path: Path) -> None:
    root = tmp_path / "models"
    onnx_models.save_version(root, "m", onnx_models.adder(1))
    with running(root, *POLL) as server:
        root.rename(tmp_path / "away")
        assert index(server, "m") == {"1": ("READY", "")}
        assert (added(server, "m"), is_ready(server)) == (1, True)
