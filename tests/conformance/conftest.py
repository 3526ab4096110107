"""One server for the conformance tests, and the doors to it."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import perf_analyzer
import pytest
from conformance import models
from conformance.served import Served
from conformance.transports import TRANSPORTS, Transport
from conformance.wire import Grpc, Http
from perf_analyzer import PerfAnalyzer
from server_process import ServerProcess, running


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The conformance models, loaded and unloaded by the API, with shared memory."""
    root = tmp_path_factory.mktemp("conformance")
    models.write_repository(root / "models")
    models.write_unloaded(root / "unloaded")
    loaded = [f"--load-model={directory.name}" for directory in (root / "models").iterdir()]
    repositories = [f"--model-repository={root / name}" for name in ("models", "unloaded")]
    flags = ("--model-control-mode=explicit", "--allow-client-shm", *repositories, *loaded)
    with running(*flags, log=root / "log") as server:
        yield Served(server, root / "log")


@pytest.fixture(scope="session")
def bad_input(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The same models behind a limit of 1 MiB, without shared memory, with a log of every refusal."""
    with _bearing_bad_input(tmp_path_factory.mktemp("bad_input")) as served:
        yield served


@pytest.fixture(scope="session")
def bad_input_grpcio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The same with grpcio's transport."""
    with _bearing_bad_input(tmp_path_factory.mktemp("bad_input_grpcio"), "--grpc-transport=grpcio") as served:
        yield served


@pytest.fixture(params=["bad_input", "bad_input_grpcio"], ids=["http2", "grpcio"])
def bad_grpc_input(request: pytest.FixtureRequest) -> Served:
    """Each of gRPC's transports."""
    served: Served = request.getfixturevalue(request.param)
    return served


@contextmanager
def _bearing_bad_input(root: Path, *more: str) -> Iterator[Served]:
    models.write_repository(root / "models")
    pattern = "^(forwarded|sequence_id|triton_x)$"
    flags = (
        "--model-control-mode=explicit",
        "--load-model=*",
        f"--http-max-input-size={1 << 20}",
        f"--http-header-forward-pattern={pattern}",
        f"--grpc-header-forward-pattern={pattern}",
        "--log-verbose=1",
        *more,
    )
    with running(root / "models", *flags, log=root / "log") as server:
        served = Served(server, root / "log")
        yield served
        assert server.process.poll() is None
    log = served.log.read_text()
    assert "Traceback" not in log, log[log.index("Traceback") - 500 :][:4000]
    # What clients sent ended no line and moved no cursor.
    assert "\x1b" not in log
    assert not [line for line in log.splitlines() if line.startswith("forged")]


@pytest.fixture(scope="session")
def conformance_server(served: Served) -> Iterator[ServerProcess]:
    yield served.server
    assert "Traceback" not in served.log.read_text(), served.log.read_text()[-4000:]


@pytest.fixture(params=TRANSPORTS)
def transport(request: pytest.FixtureRequest, conformance_server: ServerProcess) -> Iterator[Transport]:
    """Each way to ask for an inference."""
    with TRANSPORTS[request.param](conformance_server) as transport:
        yield transport


@pytest.fixture
def http(conformance_server: ServerProcess) -> Iterator[Http]:
    with closing(Http(conformance_server)) as http:
        yield http


@pytest.fixture
def grpc_(conformance_server: ServerProcess) -> Iterator[Grpc]:
    with closing(Grpc(conformance_server)) as grpc:
        yield grpc


@pytest.fixture(scope="session")
def tool() -> PerfAnalyzer:
    """Triton's load generator."""
    found = perf_analyzer.found()
    if isinstance(found, str):
        pytest.skip(found)
    return found
