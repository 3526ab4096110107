"""What befalls files, disks and descriptors under a server that serves: it answers on, and loads say what is wrong.

These are rows of our list of chaos. Those about files of weights that are cut short or overwritten are in
``test_private_copies`` too, the ones about half-written models in ``test_repository_changes``.
"""

import base64
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import onnx_models
import pytest
from callers import ask, rest_body, row
from reload_traffic import weighty
from server_process import ServerProcess, command, eventually, running

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc, namespaces and limits of Linux")

EXPLICIT = ("--model-control-mode=explicit", "--load-model=*")
POLL = ("--model-control-mode=poll", "--repository-poll-secs=0.1", "--repository-quiet-secs=0.1")
SMALL_DISK = 'mount -t tmpfs -o size=4m none "$0" && exec "$@"'
FULL = 'mount -t tmpfs -o size=64k none "$0" && head -c 65536 /dev/zero > "$0/all"; exec "$@"'
"""Shell command lines with a directory that is to be a small file system, or a full one, and what is to see it."""


def added(server: ServerProcess, model: str = "m") -> float:
    reply = ask(server, "POST", f"/v2/models/{model}/infer", rest_body(row()))
    assert reply.status == 200, reply.body
    return float(reply.array.flat[0])


def load(server: ServerProcess, model: str = "m", parameters: dict[str, object] | None = None) -> tuple[int, str]:
    reply = ask(server, "POST", f"/v2/repository/models/{model}/load", {"parameters": parameters or {}})
    return reply.status, reply.json["error"] if reply.body else ""


def index(server: ServerProcess) -> dict[str, tuple[str, str]]:
    entries = ask(server, "POST", "/v2/repository/index").json
    return {entry["name"]: (entry.get("state", ""), entry.get("reason", "")) for entry in entries}


def in_namespace(script: str, directory: Path) -> tuple[str, ...]:
    """The start of a command line whose file systems are its own. Skips the test where nobody may mount one."""
    under = ("unshare", "-rm", "sh", "-c", script, str(directory))
    try:
        tried = subprocess.run([*under, "true"], capture_output=True, timeout=20)
    except OSError:
        tried = None
    if tried is None or tried.returncode != 0:
        pytest.skip("no user may mount a file system here")
    return under


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A repository with ``m``, which adds 1."""
    onnx_models.save_version(tmp_path / "models", "m", onnx_models.adder(1))
    return tmp_path / "models"


@pytest.fixture
def small(tmp_path: Path) -> Path:
    (tmp_path / "small").mkdir()
    return tmp_path / "small"


# -- files under a model that serves -----------------------------------------------------------------------------------


def test_a_large_model_with_its_weights_inside_is_truncated_and_serves_on(root: Path) -> None:
    file = root / "large" / "1" / "model.onnx"
    onnx_models.save(weighty(3, 8), file)
    with running(root, *EXPLICIT) as server:
        os.truncate(file, 4096)
        assert added(server, "large") == 3
        os.truncate(file, 0)
        assert added(server, "large") == 3
        status, error = load(server, "large")
        assert (status, "ONNX Runtime cannot load model 'large'" in error) == (400, True), error
        assert added(server, "large") == 3
        assert index(server)["large"][0] == "READY"
        assert "the newer files failed to load" in index(server)["large"][1]


CORRUPT: dict[str, tuple[Callable[[Path], object], str]] = {
    "cut_short": (lambda config: config.write_text("max_batch_size: 2 instance_group [ {"), "cannot be read"),
    "empty_list": (lambda config: config.write_text("dynamic_batching { preferred_batch_size: [ 0 ] }"), "positive"),
    "another_model": (lambda config: config.write_text('name: "other"'), "directory name must equal model name"),
    "random": (lambda config: config.write_bytes(bytes(range(128, 256)) * 8), "is not UTF-8 text"),
    "zeros": (lambda config: config.write_bytes(bytes(512)), "cannot be read"),
    "wrong_for_the_graph": (
        lambda config: config.write_text('input { name: "z" data_type: TYPE_FP32 dims: 4 }'),
        "unexpected inference input 'z'",
    ),
    "link_to_nothing": (lambda config: (config.unlink(), config.symlink_to("nothing")), "is not there"),
    "directory": (lambda config: (config.unlink(), config.mkdir()), "not a regular file"),
}


@pytest.mark.parametrize(
    ("flags", "cases"),
    [(EXPLICIT, tuple(CORRUPT)), (POLL, ("cut_short", "wrong_for_the_graph", "link_to_nothing"))],
    ids=["explicit", "poll"],
)
def test_a_configuration_that_is_corrupt_on_reload_leaves_the_old_version_serving(
    root: Path, flags: tuple[str, ...], cases: tuple[str, ...]
) -> None:
    config = root / "m" / "config.pbtxt"
    config.write_text("max_batch_size: 2")

    def tells(said: str) -> bool:
        state, reason = index(server)["m"]
        assert state == "READY"
        return said in reason

    with running(root, *flags) as server:
        for name in cases:
            spoil, said = CORRUPT[name]
            spoil(config)
            if flags is EXPLICIT:
                status, error = load(server)
                assert (status, said in error) == (400, True), (name, error)
            eventually(lambda said=said: tells(said))
            assert added(server) == 1
            assert ask(server, "GET", "/v2/models/m/config").json["max_batch_size"] == 2
            assert ask(server, "GET", "/v2/health/ready").status == 200
            shutil.rmtree(config) if config.is_dir() else config.unlink()
            config.write_text("max_batch_size: 2")
            if flags is EXPLICIT:
                assert load(server) == (200, "")
            eventually(lambda: index(server)["m"] == ("READY", ""))


# -- a process that is killed ------------------------------------------------------------------------------------------


def test_a_server_killed_while_it_loads_leaves_nothing_to_its_successor(root: Path, tmp_path: Path) -> None:
    """Large models have copies while they load; what a client sent is in files; both outlive a kill, and no start."""
    private, ports = tmp_path / "private", ("--http-port=0", "--grpc-port=0", "--metrics-port=0")
    private.mkdir()
    onnx_models.save(weighty(2, 8), root / "large" / "1" / "model.onnx")
    onnx_models.save(onnx_models.chain(10_000), root / "long" / "1" / "model.onnx")
    environment = {**os.environ, "TMPDIR": str(private)}
    server = os.posix_spawn(
        sys.executable, command("serve", root, *ports, f"--model-copy-directory={private}"), environment
    )
    try:
        eventually(lambda: list(private.glob("ortolan-models-*")))
    finally:
        os.kill(server, signal.SIGKILL)
        os.waitpid(server, 0)
    shutil.rmtree(root / "long")
    with running(root, f"--model-copy-directory={private}", environment={"TMPDIR": str(private)}) as successor:
        assert (added(successor), added(successor, "large")) == (1, 2)
        # What the server makes of its models beside serving them has a copy for that long.
        eventually(lambda: not any(names for _, _, names in os.walk(private)))
    assert list(private.iterdir()) == []


# -- disks that are full -----------------------------------------------------------------------------------------------


def test_files_of_a_client_that_find_no_room_fail_the_load_and_nothing_else(root: Path, small: Path) -> None:
    sent = base64.b64encode(weighty(2, 8).SerializeToString()).decode()
    under = in_namespace(SMALL_DISK, small)
    with running(root, *EXPLICIT, f"--model-copy-directory={small}", under=under) as server:
        for model in ("m", "new"):
            status, error = load(server, model, {"config": "{}", "file:1/model.onnx": sent})
            assert (status, "No space left on device" in error) in ((400, True), (500, True)), error
            assert str(small) not in error
            assert added(server) == 1
        assert index(server)["m"] == ("READY", "")
        assert "new" not in index(server)
        # Nothing of it stays: what fits is taken still.
        fits = base64.b64encode(weighty(5, 1).SerializeToString()).decode()
        assert load(server, "m", {"config": "{}", "file:1/model.onnx": fits}) == (200, "")
        assert added(server) == 5


@pytest.mark.parametrize("flags", [("--log-file=logs/log",), ()], ids=["file", "standard error"])
def test_a_full_disk_for_logs_touches_neither_requests_nor_loads(
    root: Path, tmp_path: Path, flags: tuple[str, ...]
) -> None:
    (tmp_path / "logs").mkdir()
    under = in_namespace(FULL, tmp_path / "logs") if flags else ()
    where = [flag.replace("logs/", f"{tmp_path}/logs/") for flag in flags]
    errors = tmp_path / "errors" if flags else Path("/dev/full")
    with running(root, *EXPLICIT, *where, under=under, log=errors) as server:
        onnx_models.save_version(root, "m", onnx_models.adder(2))
        assert load(server) == (200, "")
        assert added(server) == 2
        (root / "m" / "1" / "model.onnx").write_bytes(b"no model")
        assert load(server)[0] == 400
        assert added(server) == 2
        assert ask(server, "POST", "/v2/models/none/infer", rest_body(row())).status == 404
    if flags:
        assert errors.read_text().count("log lines cannot be written and are lost until that is mended") == 1


def test_a_log_file_whose_directory_goes_touches_neither_requests_nor_loads(root: Path, tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    with running(root, *EXPLICIT, f"--log-file={logs}/log") as server:
        shutil.rmtree(logs)
        for value in (2, 3):
            onnx_models.save_version(root, "m", onnx_models.adder(value))
            assert load(server) == (200, "")
            assert added(server) == value
        logs.mkdir()
        onnx_models.save_version(root, "m", onnx_models.adder(4))
        assert load(server) == (200, "")
        assert "model 'm' version 1 is ready" in eventually((logs / "log").read_text)


def test_a_full_disk_for_traces_touches_no_request(root: Path, tmp_path: Path) -> None:
    (tmp_path / "traces").mkdir()
    under, log = in_namespace(FULL, tmp_path / "traces"), tmp_path / "log"
    flags = (f"--trace-config=triton,file={tmp_path}/traces/t", "--trace-config=rate=1", "--trace-config=level=TENSORS")
    with running(root, *EXPLICIT, *flags, under=under, log=log) as server:
        for _ in range(50):
            assert added(server) == 1
        eventually(lambda: "traces cannot be written and are lost" in log.read_text())
        assert added(server) == 1
    assert log.read_text().count("traces cannot be written and are lost") == 1


def test_a_calibration_cache_without_room_fails_no_load(root: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    with running(
        root, *EXPLICIT, f"--calibration-cache={tmp_path}/cache", under=in_namespace(FULL, tmp_path / "cache")
    ) as server:
        assert added(server) == 1
        onnx_models.save_version(root, "m", onnx_models.adder(2))
        assert load(server) == (200, "")
        assert added(server) == 2


# -- descriptors -------------------------------------------------------------------------------------------------------


@contextmanager
def no_descriptors_left(server: ServerProcess) -> Iterator[None]:
    """Connections to the server until it can open nothing more."""
    limit = 128
    with ExitStack() as connections:
        for _ in range(2 * limit):
            connections.enter_context(socket.create_connection(("127.0.0.1", server.http_port), timeout=10))
        eventually(lambda: len(os.listdir(f"/proc/{server.process.pid}/fd")) >= limit)
        yield


def test_without_descriptors_a_load_fails_and_what_serves_answers_on(root: Path, tmp_path: Path) -> None:
    body = rest_body(row())
    log = tmp_path / "log"
    limited = ("sh", "-c", 'ulimit -n 128; exec "$@"', "sh")
    with running(root, *POLL, under=limited, log=log) as server:
        kept = http.client.HTTPConnection("127.0.0.1", server.http_port, timeout=20)

        def value() -> float:
            kept.request("POST", "/v2/models/m/infer", body)
            return float(json.loads(kept.getresponse().read())["outputs"][0]["data"][0])

        assert value() == 1
        with no_descriptors_left(server):
            onnx_models.save_version(root, "m", onnx_models.adder(2))
            assert [value() for _ in range(20)] == [1] * 20
            shutil.rmtree(root / "m")
            assert value() == 1
            eventually(lambda: "Too many open files" in log.read_text())
            onnx_models.save_version(root, "m", onnx_models.adder(3))
            assert value() == 1
        eventually(lambda: value() == 3)
        eventually(lambda: index(server)["m"] == ("READY", ""))
        kept.close()
