"""Stopping a server whose models are being loaded, by a client or because they changed."""

import json
import signal
import threading
import urllib.error
import urllib.request
from pathlib import Path

import onnx_models
from server_process import ServerProcess, eventually, running

SOON_S = 8
LONG_CHAIN = 200_000
"""Nodes: ONNX Runtime needs several times the longest grace period below (2 s) to load so many, on any machine."""


def state(server: ServerProcess, name: str) -> str:
    request = urllib.request.Request(f"http://{server.http}/v2/repository/index", b"")
    with urllib.request.urlopen(request, timeout=10) as response:  # noqa: S310 - a URL of ours
        states = [entry.get("state", "") for entry in json.load(response) if entry["name"] == name]
        return states[0] if states else ""


def load(server: ServerProcess, name: str) -> tuple[int, str]:
    url = f"http://{server.http}/v2/repository/models/{name}/load"
    try:
        with urllib.request.urlopen(url, b"", timeout=60) as response:
            return int(response.status), ""
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)["error"]


def test_a_load_by_a_client_is_given_up_after_the_grace_period_and_the_client_is_told(tmp_path: Path) -> None:
    log = tmp_path / "log"
    onnx_models.save_version(tmp_path / "repository", "long", onnx_models.chain(LONG_CHAIN))
    answers: list[tuple[int, str]] = []
    flags = ("--model-control-mode=explicit", "--exit-timeout-secs=1")
    with running(tmp_path / "repository", *flags, log=log) as server:
        client = threading.Thread(target=lambda: answers.append(load(server, "long")))
        client.start()
        eventually(lambda: state(server, "long") == "LOADING")
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(SOON_S) == 0
        client.join(SOON_S)
    assert [(code, "stopped before" in said) for code, said in answers] == [(503, True)]
    assert "Traceback" not in log.read_text()
    assert ": draining: " in log.read_text()
    assert log.read_text().endswith(": stopped\n")


def test_a_load_that_only_waits_does_not_hold_up_the_end(tmp_path: Path) -> None:
    log = tmp_path / "log"
    onnx_models.save_version(tmp_path / "repository", "long", onnx_models.chain(LONG_CHAIN))
    answers: list[tuple[int, str]] = []
    flags = ("--model-control-mode=explicit", "--exit-timeout-secs=2", "--log-verbose=1")
    with running(tmp_path / "repository", *flags, log=log) as server:
        clients = [threading.Thread(target=lambda: answers.append(load(server, "long"))) for _ in range(3)]
        clients[0].start()
        eventually(lambda: state(server, "long") == "LOADING")
        for client in clients[1:]:
            client.start()
        # Connections are served in turn: whoever connects after them is answered after they were heard.
        eventually(lambda: state(server, "long") == "LOADING")
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(SOON_S) == 0
        for client in clients:
            client.join(SOON_S)
    assert [code for code, _ in answers] == [503, 503, 503]
    assert ["stops" in said or "stopping" in said for _, said in answers] == [True, True, False]
    assert "Traceback" not in log.read_text()


def test_a_load_that_polling_began_does_not_hold_up_the_end(tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    repository.mkdir()
    flags = ("--model-control-mode=poll", "--repository-poll-secs=0.1", "--exit-timeout-secs=1")
    with running(repository, *flags) as server:
        onnx_models.save_version(repository, "long", onnx_models.chain(LONG_CHAIN))
        eventually(lambda: state(server, "long") == "LOADING")
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(SOON_S) == 0


def test_polling_goes_on_when_the_repository_was_away(tmp_path: Path) -> None:
    repository, away, log = tmp_path / "repository", tmp_path / "away", tmp_path / "log"
    onnx_models.save_version(repository, "double", onnx_models.doubler())
    with running(repository, "--model-control-mode=poll", "--repository-poll-secs=0.1", log=log) as server:
        repository.rename(away)
        repository.symlink_to(repository)
        eventually(lambda: "cannot look at the model repository" in log.read_text())
        repository.unlink()
        onnx_models.save_version(away, "single", onnx_models.doubler())
        away.rename(repository)
        eventually(lambda: state(server, "single") == "READY")
