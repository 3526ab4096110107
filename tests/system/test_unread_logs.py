"""A real server whose log goes to a pipe that nobody reads: it answers on, and ends when it is told to."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import onnx_models
import pytest
from callers import rest_body
from server_process import ServerProcess, running

BODY = rest_body(np.ones((1, 4), np.float32))
# A pipe holds some 300 lines.
REQUESTS, BURST = 1500, 50
WITHIN_S = 20


@pytest.fixture
def unread(tmp_path: Path) -> Iterator[Path]:
    """A pipe with a name, whose reader does not read."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    yield path
    os.close(reader)


def ask(server: ServerProcess, model: str) -> None:
    """Many inferences on one connection."""
    head = f"POST /v2/models/{model}/infer HTTP/1.1\r\nHost: h\r\nContent-Length: {len(BODY)}\r\n\r\n".encode()
    with socket.create_connection(("127.0.0.1", server.http_port), timeout=WITHIN_S) as client:
        answers = client.makefile("rb")
        for _ in range(REQUESTS // BURST):
            client.sendall((head + BODY) * BURST)
            for _ in range(BURST):
                assert answers.readline().startswith(b"HTTP/1.1 ")
                length = 0
                while (line := answers.readline().lower()) != b"\r\n":
                    if line.startswith(b"content-length:"):
                        length = int(line.split(b":")[1])
                answers.read(length)


@pytest.mark.parametrize(
    "flags",
    [
        ("--access-log=all", "--log-verbose=1"),
        # The server's standard output is not read either, after its summary.
        ("--access-log=all", "--access-log-file=-"),
        ("--access-log=all", "--log-verbose=1", "--processes=2"),
    ],
)
def test_a_server_whose_log_nobody_reads_answers_on_and_ends(
    tmp_path: Path, unread: Path, flags: tuple[str, ...]
) -> None:
    onnx_models.save_version(tmp_path / "models", "m", onnx_models.doubler())
    with running(tmp_path / "models", *flags, log=unread) as server:
        ask(server, "m")
        # Each is told in a debugging line of the event loop's, as well.
        ask(server, "none")
        with urlopen(f"http://{server.http}/v2/health/ready", timeout=WITHIN_S) as response:
            assert response.status == 200
        server.process.terminate()
        assert server.process.wait(WITHIN_S) == 0
