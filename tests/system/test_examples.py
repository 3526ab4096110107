"""What a newcomer pastes: the examples, the lines of the README beside the models, the line of the summary."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from server_process import ServerProcess, running

ROOT = Path(__file__).parents[2]
LINES = re.findall(r"^curl .*$", (ROOT / "model_repo" / "README.md").read_text(), re.MULTILINE)

needs_curl = pytest.mark.skipif(shutil.which("curl") is None or shutil.which("bash") is None, reason="no curl, no bash")


def pasted(line: str) -> str:
    """What a line pasted into bash at the project's root prints."""
    done = subprocess.run(["bash", "-c", line], cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "example",
    [
        pytest.param("bash curl.sh", marks=needs_curl),
        "python python_rest.py",
        "python tritonclient_http.py",
        "python tritonclient_grpc.py",
    ],
)
def test_every_example_finds_the_three(model_repo_server: ServerProcess, example: str) -> None:
    program, file = example.split()
    done = subprocess.run(
        [sys.executable if program == "python" else program, ROOT / "examples" / file],
        env={
            **os.environ,
            "ORTOLAN_HTTP_URL": f"http://{model_repo_server.http}",
            "ORTOLAN_GRPC_URL": model_repo_server.grpc,
        },
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(r"class 3, probability 0\.99\d+\n", done.stdout)


def test_all_examples_are_tried() -> None:
    assert {path.name for path in (ROOT / "examples").iterdir() if path.suffix in (".py", ".sh")} == {
        "curl.sh",
        "python_rest.py",
        "tritonclient_http.py",
        "tritonclient_grpc.py",
    }


@needs_curl
@pytest.mark.parametrize(
    ("model", "answer"),
    [("digits", ":3:three"), ("iris", "versicolor"), ("language", "python"), ("wine/versions/1", 2)],
)
def test_every_curl_line_beside_the_models_gets_its_answer(
    model_repo_server: ServerProcess, model: str, answer: str | int
) -> None:
    (line,) = (line for line in LINES if f"/{model}/infer" in line)
    response = json.loads(pasted(line.replace("localhost:8000", model_repo_server.http)))
    first = response["outputs"][0]["data"][0]
    assert first == answer if isinstance(answer, int) else str(answer) in first
    assert len(LINES) == 4


@needs_curl
def test_the_line_that_the_server_prints_at_its_start_works_as_it_stands() -> None:
    with running(ROOT / "model_repo" / "language" / "1" / "model.onnx", "--model-name=it's a name") as server:
        assert server.process.stdout is not None
        line = next(line for line in server.process.stdout if line.startswith("  curl "))
        response = json.loads(pasted(line))
    assert response["model_name"] == "it's a name"
    assert response["outputs"][0]["data"]
