"""Starting: what is served, what is refused, and that the reason is said where the operator looks."""

import json
import os
import re
import socket
import subprocess
import sys
import sysconfig
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import onnx_models
import pytest
from server_process import ServerProcess, finished, running

ANY_PORTS = ("--http-port=0", "--grpc-port=0", "--metrics-port=0")


def ask(server: ServerProcess, path: str, body: object = None) -> tuple[int, Any]:
    """The status and the JSON (or None) of an answer."""
    data = None if body is None else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(
            urllib.request.Request(f"http://{server.http}{path}", data), timeout=10
        ) as response:
            return response.status, json.loads(response.read() or b"null")
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read() or b"null")


def names(server: ServerProcess) -> list[str]:
    return [entry["name"] for entry in ask(server, "/v2/repository/index", {})[1]]


ONES = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 1, 1, 1]}]}


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A good model among models that cannot be loaded, each for its own reason."""
    root = tmp_path_factory.mktemp("damaged")
    good = onnx_models.save_version(root, "good", onnx_models.doubler()) / "1" / "model.onnx"
    whole = good.read_bytes()
    contents = {"corrupt": b"\xff" * 200, "truncated": whole[: len(whole) // 2], "empty": b""}
    for name, content in contents.items():
        (root / name / "1").mkdir(parents=True)
        (root / name / "1" / "model.onnx").write_bytes(content)
    onnx_models.save_version(root, "misspelt", onnx_models.doubler(), config="max_batchsize: 4")
    (root / "versionless").mkdir()
    (root / "versionless" / "config.pbtxt").write_text('backend: "onnxruntime"')
    return root


REASONS = {
    "corrupt": "Protobuf parsing failed",
    "truncated": "Protobuf parsing failed",
    "empty": "its file is empty",
    "misspelt": 'unknown field "max_batchsize" at line 1; did you mean "max_batch_size"?',
    "versionless": "no version found",
}


def test_a_model_that_cannot_be_loaded_ends_the_start_and_is_named_with_its_reason(damaged: Path) -> None:
    done = finished("serve", damaged, *ANY_PORTS)
    assert done.returncode == 1
    for name, reason in REASONS.items():
        assert len(re.findall(f"model '{name}'.* cannot be served: .*{re.escape(reason)}", done.stderr)) == 1, (
            done.stderr
        )
    assert "--exit-on-error=false" in done.stderr
    assert done.stdout == ""


@pytest.fixture(scope="module", params=["true", "false"])
def lenient_server(request: pytest.FixtureRequest, damaged: Path) -> Iterator[tuple[ServerProcess, bool]]:
    """A server that serves what it can; and whether its readiness is strict."""
    with running(damaged, "--exit-on-error=false", f"--strict-readiness={request.param}") as server:
        yield server, request.param == "true"


def test_without_exit_on_error_the_others_are_served(lenient_server: tuple[ServerProcess, bool]) -> None:
    server, _ = lenient_server
    status, answer = ask(server, "/v2/models/good/infer", ONES)
    assert (status, answer["outputs"][0]["data"]) == (200, [2, 2, 2, 2])
    assert ask(server, "/v2/models/good/ready")[0] == 200


def test_what_could_not_be_loaded_is_in_the_index_with_its_reason(
    lenient_server: tuple[ServerProcess, bool], damaged: Path
) -> None:
    index = {entry["name"]: entry for entry in ask(lenient_server[0], "/v2/repository/index", {})[1]}
    assert index["good"] == {"name": "good", "version": "1", "state": "READY"}
    for name, reason in REASONS.items():
        assert (index[name]["state"], reason in index[name]["reason"]) == ("UNAVAILABLE", True), index[name]
    assert str(damaged) not in json.dumps(index)
    assert [entry["name"] for entry in ask(lenient_server[0], "/v2/repository/index", {"ready": True})[1]] == ["good"]


@pytest.mark.parametrize("name", REASONS)
def test_what_could_not_be_loaded_cannot_be_asked(lenient_server: tuple[ServerProcess, bool], name: str) -> None:
    for path, body in (("infer", ONES), ("versions/1/infer", ONES), ("config", None), ("stats", None)):
        status, answer = ask(lenient_server[0], f"/v2/models/{name}/{path}", body)
        assert (status in (400, 404, 503), name in answer["error"]) == (True, True), answer
    assert ask(lenient_server[0], f"/v2/models/{name}/ready")[0] in (400, 404)


def test_readiness_is_strict_unless_told_otherwise(lenient_server: tuple[ServerProcess, bool]) -> None:
    server, strict = lenient_server
    assert ask(server, "/v2/health/ready")[0] == (400 if strict else 200)
    assert ask(server, "/v2/health/live")[0] == 200


def test_the_summary_names_what_is_not_served(lenient_server: tuple[ServerProcess, bool]) -> None:
    for name, reason in REASONS.items():
        assert re.search(f"^  {name}  NOT SERVED: .*{re.escape(reason)}", lenient_server[0].summary, re.MULTILINE)


def test_an_empty_repository_is_served_and_ready_with_a_warning(tmp_path: Path) -> None:
    log = tmp_path / "log"
    (tmp_path / "repository").mkdir()
    with running(tmp_path / "repository", log=log) as server:
        assert ask(server, "/v2/health/ready") == (200, {"ready": True})
        assert names(server) == []
        assert ask(server, "/openapi.json")[0] == 200
    assert "WARNING" in log.read_text()
    assert "empty" in log.read_text()
    assert "no models" in server.summary


def test_an_explicit_server_without_a_model_says_how_to_load_one(tmp_path: Path) -> None:
    onnx_models.save_version(tmp_path, "double", onnx_models.doubler())
    with running(tmp_path, "--model-control-mode=explicit") as server:
        assert "no models loaded; load one with POST /v2/repository/models/NAME/load" in server.summary
        assert "empty" not in server.summary


@pytest.mark.parametrize("door", ["http", "grpc"])
def test_an_address_of_another_machine_is_named_with_its_flag(tmp_path: Path, door: str) -> None:
    done = finished("serve", tmp_path, *ANY_PORTS, f"--{door}-address=192.0.2.1")
    assert done.returncode != 0
    assert f"--{door}-address" in done.stderr
    assert "192.0.2.1:0" in done.stderr
    assert f"--{door}-port" not in done.stderr


def test_a_path_that_is_not_there_is_named(tmp_path: Path) -> None:
    done = finished("serve", tmp_path / "nowhere", *ANY_PORTS)
    assert done.returncode != 0
    assert f"'{tmp_path / 'nowhere'}' does not exist" in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("door", ["http", "grpc", "metrics"])
def test_a_port_in_use_is_named_with_its_flag(tmp_path: Path, door: str) -> None:
    with closing(socket.socket()) as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        done = finished("serve", tmp_path, *ANY_PORTS, f"--{door}-port={port}")
    assert done.returncode != 0
    assert str(port) in done.stderr
    assert f"--{door}-port" in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("path", "flags", "served"),
    [
        ("repository", (), ["double"]),
        ("repository/double", (), ["double"]),
        ("repository/double", ("--model-name=twice",), ["twice"]),
        ("loose.onnx", (), ["loose"]),
        ("loose.onnx", ("--model-name=twice",), ["twice"]),
    ],
)
def test_a_repository_a_models_directory_and_a_bare_file_are_served(
    tmp_path: Path, path: str, flags: tuple[str, ...], served: list[str]
) -> None:
    onnx_models.save_version(tmp_path / "repository", "double", onnx_models.doubler())
    onnx_models.save(onnx_models.doubler(), tmp_path / "loose.onnx")
    with running(tmp_path / path, *flags) as server:
        assert names(server) == served
        assert ask(server, f"/v2/models/{served[0]}/infer", ONES)[1]["outputs"][0]["data"] == [2, 2, 2, 2]


def test_settings_come_from_the_environment_and_flags_beat_it(tmp_path: Path) -> None:
    environment = {
        "ORTOLAN_MODEL_REPOSITORY": str(tmp_path / "repository"),
        "ORTOLAN_ID": "from the environment",
        "ORTOLAN_HTTP_PORT": "1",
        "ORTOLAN_MODEL_CONTROL_MODE": "explicit",
        "ORTOLAN_LOAD_MODEL": "one, two",
        "ORTOLAN_HTTP_PROT": "1",
        "ORTOLAN_SERVICE_HOST": "10.0.0.1",
    }
    for number, name in enumerate(("one", "two", "three"), 1):
        onnx_models.save_version(tmp_path / "repository", name, onnx_models.adder(number))
    log = tmp_path / "log"
    with running("--id=from a flag", environment=environment, log=log) as server:
        assert ask(server, "/v2")[1]["name"] == "from a flag"
        assert {name: ask(server, f"/v2/models/{name}/ready")[0] for name in ("one", "two", "three")} == {
            "one": 200,
            "two": 200,
            "three": 404,
        }
    assert "ORTOLAN_HTTP_PROT has no effect; did you mean ORTOLAN_HTTP_PORT?" in log.read_text()
    assert "SERVICE_HOST" not in log.read_text()


def test_flags_of_triton_without_effect_are_accepted_with_a_word(tmp_path: Path) -> None:
    onnx_models.save_version(tmp_path / "repository", "double", onnx_models.doubler())
    log = tmp_path / "log"
    flags = (
        "--model-store",
        tmp_path / "repository",
        "--cuda-virtual-address-size",
        "0:1",
        "--backend-config=onnxruntime,a=b",
    )
    with running(*flags, "--grpc-infer-thread-count=4", log=log) as server:
        assert names(server) == ["double"]
    for flag in ("--cuda-virtual-address-size", "--backend-config=onnxruntime,a=b", "--grpc-infer-thread-count"):
        assert f"{flag} has no effect" in log.read_text()


def test_a_model_whose_labels_are_missing_is_refused_with_a_reason(tmp_path: Path) -> None:
    config = 'output [ { name: "y", data_type: TYPE_FP32, dims: [ 4 ], label_filename: "labels.txt" } ]'
    onnx_models.save_version(tmp_path, "labelled", onnx_models.doubler(), config=config)
    done = finished("models", tmp_path)
    assert (done.returncode, "labelled" in done.stdout, "labels.txt" in done.stdout) == (1, True, True), done
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="no IPv6 here")
def test_an_ipv6_address_can_be_listened_on(tmp_path: Path) -> None:
    with running(tmp_path, "--http-address=::1", "--grpc-address=::1") as server:
        assert f"[::1]:{server.http_port}" in server.summary
        with urllib.request.urlopen(f"http://[::1]:{server.http_port}/v2/health/live", timeout=10) as response:
            assert response.status == 200


@pytest.fixture(scope="module")
def python_without_runtime(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter that has every package of this one but ONNX Runtime."""
    venv = tmp_path_factory.mktemp("without") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    paths = {"base": str(venv), "platbase": str(venv)}
    target = Path(sysconfig.get_path("purelib", "venv", paths))
    for site in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
        for entry in Path(site).iterdir():
            if not entry.name.lower().startswith("onnxruntime") and not (target / entry.name).exists():
                (target / entry.name).symlink_to(entry)
    return venv / "bin" / "python"


@pytest.mark.skipif(os.name != "posix", reason="builds an environment of symbolic links")
@pytest.mark.parametrize("arguments", [("serve", "."), ("models", "."), ("version",)])
def test_without_onnx_runtime_both_extras_are_named(python_without_runtime: Path, arguments: tuple[str, ...]) -> None:
    import ortolan

    source = str(Path(ortolan.__file__).parents[1])
    done = subprocess.run(
        [python_without_runtime, "-m", "ortolan", *arguments],
        env={**os.environ, "PYTHONPATH": source},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode != 0
    assert 'pip install "ortolan[cpu]"' in done.stderr
    assert 'pip install "ortolan[gpu]"' in done.stderr
    assert "Traceback" not in done.stderr


def test_no_example_is_printed_that_is_too_long_to_paste(tmp_path: Path) -> None:
    onnx_models.save_version(tmp_path, "image", onnx_models.doubler((1, 3, 224, 224)))
    with running(tmp_path) as server:
        assert "image" in server.summary
        assert len(server.summary) < 2000
