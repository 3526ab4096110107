"""``ortolan doctor`` as a program, in surroundings that are as they should be, and in others."""

import json
import os
import subprocess
import sys
import venv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx_models
import pytest
from server_process import command, finished, running

SOURCES = Path(__file__).resolve().parents[2] / "server"
PORTS = ("--http-port=0", "--grpc-port=0", "--metrics-port=0")


def told(done: subprocess.CompletedProcess[str]) -> list[Mapping[str, Any]]:
    assert done.stderr == ""
    found: list[Mapping[str, Any]] = json.loads(done.stdout)
    assert all(each["remedy"] for each in found if each["level"] != "ok")
    return found


def of(findings: list[Mapping[str, Any]], subject: str) -> list[tuple[str, str]]:
    return [(each["level"], each["text"]) for each in findings if each["subject"] == subject]


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models")
    onnx_models.save_version(path, "doubler", onnx_models.doubler())
    (path / "broken" / "1").mkdir(parents=True)
    (path / "broken" / "1" / "model.onnx").write_bytes(b"no model")
    return path


def test_everything_is_looked_at_and_a_broken_model_fails_it(repository: Path, tmp_path: Path) -> None:
    environment = {"XDG_CACHE_HOME": str(tmp_path), "ORTOLAN_HTTP_PROT": "9000"}
    done = finished("doctor", repository, *PORTS, "--json", environment=environment)
    findings = told(done)
    subjects = {each["subject"] for each in findings}
    assert {"python", "packages", "onnxruntime", "devices", "telemetry", "cores", "caches", "models"} <= subjects
    assert [level for level, _ in of(findings, "models")] == ["broken", "ok"]
    assert of(findings, "models")[0][1].startswith("broken: ")
    assert of(findings, "settings")[0][0] == "warning"
    assert [each["subject"] for each in findings if each["level"] == "broken"] == ["models"]
    assert done.returncode == 1


def test_nothing_broken_is_success_and_lines_for_people(repository: Path, tmp_path: Path) -> None:
    done = finished("doctor", repository / "doubler", *PORTS, environment={"XDG_CACHE_HOME": str(tmp_path)})
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[0].startswith("ok       python ")
    assert done.stdout.splitlines()[-1].startswith("0 broken, ")


def test_a_wrong_setting_is_told_and_the_rest_is_looked_at_all_the_same() -> None:
    findings = told(finished("doctor", "--json", "--http-port=x"))
    assert of(findings, "settings")[0][0] == "broken"
    assert of(findings, "cores")
    assert not of(findings, "models")


def test_beside_a_running_server_its_ports_are_warnings(repository: Path) -> None:
    with running(repository / "doubler") as server:
        others = (f"--grpc-port={server.grpc_port}", f"--metrics-port={server.metrics_port}")
        beside = told(finished("doctor", "--json", f"--http-port={server.http_port}", *others))
        elsewhere = told(finished("doctor", "--json", "--http-port=0", *others))
    doors = ("http port", "grpc port", "metrics port")
    assert [level for door in doors for level, _ in of(beside, door)] == ["warning"] * 3
    assert [level for door in doors for level, _ in of(elsewhere, door)] == ["ok", "broken", "broken"]


@pytest.mark.parametrize("arguments", [["--models-timeout-secs=x"], ["--htttp-port=1"]])
def test_a_wrong_command_line_is_refused(arguments: list[str]) -> None:
    done = finished("doctor", *arguments)
    assert (done.returncode, done.stdout) == (2, "")


# -- where next to nothing is installed --------------------------------------------------------------------------------


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A Python without any package."""
    venv.create(tmp_path / "bare", with_pip=False, symlinks=True)
    return tmp_path / "bare"


def _installed(python: Path, name: str, version: str) -> None:
    """As pip writes it; the package itself is not there."""
    (site,) = python.glob("lib/python3*/site-packages")
    information = site / f"{name.replace('-', '_')}-{version}.dist-info"
    information.mkdir()
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


def _looked(python: Path, *arguments: str) -> list[Mapping[str, Any]]:
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(SOURCES)}
    line = [str(python / "bin" / "python"), *command("doctor", "--json", *arguments)[1:]]
    done = subprocess.run(line, capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode == 1
    return told(done)


@pytest.mark.skipif(sys.platform == "win32", reason="its environments look otherwise")
def test_without_any_package_it_says_what_is_missing(bare: Path) -> None:
    findings = _looked(bare)
    assert "pydantic" in of(findings, "packages")[0][1]
    assert of(findings, "onnxruntime") == [("broken", "it is not installed")]
    assert of(findings, "clock")


@pytest.mark.skipif(sys.platform == "win32", reason="its environments look otherwise")
def test_both_builds_of_the_runtime_are_told_even_where_nothing_else_works(bare: Path) -> None:
    _installed(bare, "onnxruntime", "1.31.1")
    _installed(bare, "onnxruntime-gpu", "1.31.1")
    ((level, text),) = of(_looked(bare, "/models", "--http-port=9000"), "onnxruntime")
    assert level == "broken"
    assert "onnxruntime 1.31.1 and onnxruntime-gpu 1.31.1 are both installed" in text


@pytest.mark.skipif(sys.platform == "win32", reason="its environments look otherwise")
def test_a_runtime_of_which_only_the_name_is_left_is_told(bare: Path) -> None:
    _installed(bare, "onnxruntime", "1.31.1")
    ((level, text),) = of(_looked(bare), "onnxruntime")
    assert level == "broken"
    assert "cannot be imported: ModuleNotFoundError" in text
