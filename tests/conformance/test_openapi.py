"""The OpenAPI document against the server, by schemathesis: whatever is sent, what comes is documented and no fault.

The requests are the same every time. ``make fuzz`` sends others, for longer.
"""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from importlib.util import find_spec
from pathlib import Path

import pytest
from callers import get
from server_process import ServerProcess, running

HERE = Path(__file__).parent
MODELS = HERE.parents[1] / "model_repo"
# They take models away, so that all else is asked before.
CHANGES = "/v2/repository/models/"
RESTRICTED = "--http-restricted-api=model-config,statistics,inference:admin-key=secret"

pytestmark = pytest.mark.skipif(find_spec("schemathesis") is None, reason="schemathesis is not installed")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(MODELS, tmp_path_factory.mktemp("served") / "models"))


@pytest.fixture(scope="module")
def server(models: Path) -> Iterator[ServerProcess]:
    with running(models, "--model-control-mode=explicit", "--load-model=*", "--allow-client-shm") as server:
        yield server


def operations_found_right(server: ServerProcess, scratch: Path, *options: str) -> int:
    """How many operations schemathesis tested, with ``options`` beside ours; fails with its report of what is wrong.

    It leaves files in the directory that it runs in, ``scratch``.
    """
    schemathesis = [sys.executable, "-m", "schemathesis.cli", f"--config-file={HERE / 'schemathesis.toml'}", "run"]
    bounds = ["--max-examples=6", "--generation-deterministic", "--no-color", "--warnings=off", *options]
    done = subprocess.run(
        [*schemathesis, f"http://{server.http}/openapi.json", *bounds],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=100,
        cwd=scratch,
    )
    assert done.returncode == 0, done.stdout[-8000:]
    tested = re.search(r"Tested: (\d+)", done.stdout)
    assert tested, done.stdout
    return int(tested[1])


def test_every_answer_is_documented_and_none_is_a_fault(server: ServerProcess, tmp_path: Path) -> None:
    assert operations_found_right(server, tmp_path, f"--exclude-path-regex={CHANGES}") >= 39


def test_so_it_is_where_models_come_and_go(server: ServerProcess, tmp_path: Path) -> None:
    assert operations_found_right(server, tmp_path, f"--include-path-regex={CHANGES}") == 2
    assert operations_found_right(server, tmp_path, "--include-path-regex=/stats$|/config$|/ready$|/index$") > 4


def test_so_it_is_where_the_operator_forbids(models: Path, tmp_path: Path) -> None:
    with running(models, RESTRICTED) as server:
        forbidden = "sharedmemory|/stats$|/config$|/infer$|/generate|:predict|/repository/"
        # What is forbidden is forbidden by any method.
        methods = "--exclude-checks=unsupported_method"
        assert operations_found_right(server, tmp_path, f"--include-path-regex={forbidden}", methods) > 20


def test_a_method_that_is_not_allowed_is_told_those_that_are(server: ServerProcess) -> None:
    with closing(HTTPConnection(server.http, timeout=10)) as connection:
        connection.request("DELETE", "/v2/logging")
        answer = connection.getresponse()
        assert (answer.status, answer.getheader("allow")) == (405, "GET, POST")
        answer.read()


def test_an_answer_in_binary_form_is_documented_too(server: ServerProcess) -> None:
    operation = get(server, "/openapi.json")["paths"]["/v2/models/{model_name}/infer"]["post"]
    model = operation["parameters"][0]["example"]
    example = operation["requestBody"]["content"]["application/json"]["example"]
    body = json.dumps({**example, "parameters": {"binary_data_output": True}})
    with closing(HTTPConnection(server.http, timeout=10)) as connection:
        connection.request("POST", f"/v2/models/{model}/infer", body)
        answer = connection.getresponse()
        answer.read()
    documented = operation["responses"]["200"]
    assert answer.getheader("content-type") == "application/octet-stream"
    assert "application/octet-stream" in documented["content"]
    assert all(answer.getheader(name) for name in documented["headers"])
