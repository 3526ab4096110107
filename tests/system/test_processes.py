"""Several processes on one port: one server for its clients, and one that outlives the end of any of them."""

import base64
import contextlib
import http.client
import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import Any

import onnx_models
import onnx_sequences
import pytest
import tritonclient.grpc
from callers import ask, metric, rest_body, row, statistics
from replicas_seen import Kept, answers, has_replicas, one_to_each, page, replicas
from server_process import ServerProcess, command, eventually, finished, running

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="several processes share a port on Linux only")

SOON_S = 30
LONG_S = 60
TWO = "--processes=2"
INFER = "/v2/models/m/infer"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    onnx_models.save_version(tmp_path / "models", "m", onnx_models.adder(1))
    return tmp_path / "models"


@pytest.fixture
def controlled(repository: Path, tmp_path: Path) -> Iterator[ServerProcess]:
    """Two processes that load nothing at the start."""
    with running(
        repository, TWO, "--model-control-mode=explicit", "--allow-client-shm", log=tmp_path / "log"
    ) as server:
        yield server


def told(kept: Kept, path: str) -> Any:
    status, body = kept.ask("GET", path)
    assert status == 200, body
    return json.loads(body)


def is_ready(server: ServerProcess) -> bool:
    return ask(server, "GET", "/v2/health/ready").status == 200


# -- one server --------------------------------------------------------------------------------------------------------


def test_people_are_told_once_and_each_log_line_has_its_replica(repository: Path, tmp_path: Path) -> None:
    with running(repository, TWO, log=tmp_path / "log") as server:
        assert "2 processes" in server.summary.splitlines()[0]
        assert len(replicas(server)) == 2
        # Who only watches over the others stays small.
        assert "onnxruntime" not in Path(f"/proc/{server.process.pid}/maps").read_text()
        server.process.terminate()
        assert server.process.stdout
        assert server.process.stdout.read().count("Ortolan") == 0
        assert server.process.wait(SOON_S) == 0
    lines = [line for line in (tmp_path / "log").read_text().splitlines() if "is ready" in line]
    assert sorted(re.findall(r" INFO \[(\d)\] ", "\n".join(lines))) == ["1", "2"]


def test_both_doors_lead_to_all_replicas(repository: Path) -> None:
    with running(repository, TWO) as server:
        assert answers(server) == [1, 1]
        with one_to_each(server, server.grpc_port) as kept:
            assert len(kept) == 2


def test_numbers_are_those_of_all_replicas_wherever_they_are_asked(repository: Path) -> None:
    with running(repository, TWO) as server:
        with one_to_each(server) as kept:
            for times, each in enumerate(kept.values(), start=2):
                for _ in range(times):
                    assert each.ask("POST", INFER, rest_body(row(0, rows=2)))[0] == 200
            assert kept[replicas(server)[0]].ask("POST", INFER, b"{}")[0] == 400
            for each in kept.values():
                found = told(each, "/v2/models/m/stats")["model_stats"][0]
                assert (found["inference_stats"]["success"]["count"], found["inference_count"]) == (5, 10)
                assert (
                    sum(batch["compute_infer"]["count"] for batch in found["batch_stats"]) == found["execution_count"]
                )
                assert told(each, "/v2/models/stats")["model_stats"][0] == found
            with tritonclient.grpc.InferenceServerClient(server.grpc) as client:
                found = client.get_inference_statistics("m").model_stats[0]
                assert (found.inference_stats.success.count, found.inference_count) == (5, 10)
        with one_to_each(server, server.metrics_port) as pages:
            for each in pages.values():
                text = each.ask("GET", "/metrics")[1].decode()
                assert 'nv_inference_request_success{model="m",version="1"} 5\n' in text
                assert 'ortolan_request_duration_seconds_count{model="m",version="1"} 5\n' in text
                assert 'ortolan_error_responses_total{protocol="http",code="400"} 1\n' in text
                assert re.findall(r'^process_cpu_seconds_total{replica="(\d)"}', text, re.MULTILINE) == ["1", "2"]
                assert text.count("# TYPE process_cpu_seconds_total counter") == 1
                assert "ortolan_replicas 2\n" in text


def test_a_model_is_loaded_and_unloaded_in_all_replicas(controlled: ServerProcess) -> None:
    with one_to_each(controlled) as kept:
        first, second = kept.values()
        assert answers(controlled) == [404, 404]
        assert first.ask("POST", "/v2/repository/models/m/load", b"{}")[0] == 200
        assert answers(controlled) == [1, 1]
        indexes = [json.loads(each.ask("POST", "/v2/repository/index", b"{}")[1]) for each in (first, second)]
        assert indexes[0] == indexes[1] == [{"name": "m", "version": "1", "state": "READY"}]
        assert second.ask("POST", "/v2/repository/models/m/unload", b"{}")[0] == 200
        assert answers(controlled) == [404, 404]


def test_what_a_client_sends_with_a_load_reaches_all_replicas(controlled: ServerProcess, tmp_path: Path) -> None:
    file = onnx_models.save(onnx_models.adder(7), tmp_path / "other.onnx")
    config = json.dumps({"backend": "onnxruntime"})
    content = base64.b64encode(file.read_bytes()).decode()
    body = {"parameters": {"config": config, "file:1/model.onnx": content}}
    assert ask(controlled, "POST", "/v2/repository/models/m/load", body).status == 200
    assert answers(controlled) == [7, 7]
    with tritonclient.grpc.InferenceServerClient(controlled.grpc) as client:
        files = {"file:1/model.onnx": onnx_models.save(onnx_models.adder(8), tmp_path / "next.onnx").read_bytes()}
        client.load_model("m", config=config, files=files)
    assert answers(controlled) == [8, 8]


def test_a_load_that_fails_changes_no_replica_and_says_why(controlled: ServerProcess, repository: Path) -> None:
    assert ask(controlled, "POST", "/v2/repository/models/m/load").status == 200
    (repository / "m" / "1" / "model.onnx").write_bytes(b"no model")
    reply = ask(controlled, "POST", "/v2/repository/models/m/load")
    assert reply.status == 400
    assert "load failed for model 'm'" in reply.json["error"]
    assert answers(controlled) == [1, 1]


def test_a_load_that_fails_in_one_replica_only_leaves_the_model_in_none(controlled: ServerProcess) -> None:
    first, second = replicas(controlled)
    limits = resource.prlimit(second, resource.RLIMIT_NOFILE)
    with one_to_each(controlled) as kept:
        resource.prlimit(second, resource.RLIMIT_NOFILE, (3, limits[1]))
        status, body = kept[first].ask("POST", "/v2/repository/models/m/load", b"{}")
        assert (status >= 400, b"replica 2" in body) == (True, True), body
        resource.prlimit(second, resource.RLIMIT_NOFILE, limits)
        assert [each.ask("POST", INFER, rest_body(row(0)))[0] for each in kept.values()] == [404, 404]
        assert kept[second].ask("POST", "/v2/repository/models/m/load", b"{}")[0] == 200
        assert [each.ask("POST", INFER, rest_body(row(0)))[0] for each in kept.values()] == [200, 200]


def test_the_last_of_many_loads_and_unloads_decides_everywhere(controlled: ServerProcess) -> None:
    def change(number: int) -> int:
        return ask(controlled, "POST", f"/v2/repository/models/m/{'unload' if number % 2 else 'load'}").status

    with ThreadPoolExecutor(8) as clients:
        assert set(clients.map(change, range(24))) == {200}
    found = answers(controlled)
    assert found in ([1, 1], [404, 404]), found
    assert change(0) == 200
    assert answers(controlled) == [1, 1]


def test_settings_and_regions_that_a_client_changes_are_those_of_all_replicas(controlled: ServerProcess) -> None:
    memory = SharedMemory(create=True, size=64)
    try:
        with one_to_each(controlled) as kept:
            first, second = kept.values()
            assert first.ask("POST", "/v2/logging", b'{"log_verbose_level": 1}')[0] == 200
            assert told(second, "/v2/logging")["log_verbose_level"] == 1
            assert second.ask("POST", "/v2/trace/setting", b'{"trace_rate": "7"}')[0] == 200
            assert told(first, "/v2/trace/setting")["trace_rate"] == "7"
            assert first.ask("POST", "/v2/logging", b'{"log_verbose_level": -1}')[0] == 400
            region = json.dumps({"key": memory.name, "byte_size": 64}).encode()
            assert first.ask("POST", "/v2/systemsharedmemory/region/r/register", region)[0] == 200
            again = second.ask("POST", "/v2/systemsharedmemory/region/r/register", region)
            assert (again[0], b"already" in again[1]) == (400, True)
            assert [len(told(each, "/v2/systemsharedmemory/status")) for each in (first, second)] == [1, 1]
            assert second.ask("POST", "/v2/systemsharedmemory/unregister")[0] == 200
            assert [told(each, "/v2/systemsharedmemory/status") for each in (first, second)] == [[], []]
    finally:
        memory.close()
        memory.unlink()


def test_replicas_map_one_copy_of_the_weights(tmp_path: Path) -> None:
    onnx_models.save_version(tmp_path / "models", "m", onnx_models.perceptron(1100))
    cache = f"--compiled-cache-directory={tmp_path / 'cache'}"
    with running(tmp_path / "models", TWO, cache) as server:
        for pid in replicas(server):
            assert f"{tmp_path}/cache/" in Path(f"/proc/{pid}/maps").read_text()


# -- starting ----------------------------------------------------------------------------------------------------------


def test_it_is_ready_once_all_replicas_are(repository: Path, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    flags = (f"--http-port={port}", "--grpc-port=0", "--metrics-port=0", "--drain-delay-secs=0")
    with open(tmp_path / "log", "w") as log:
        process = subprocess.Popen(
            command("serve", repository, TWO, *flags), stdout=subprocess.DEVNULL, stderr=log, text=True
        )
    server = ServerProcess(process, port, 0, 0, "")

    def ready() -> bool:
        with contextlib.suppress(OSError):
            return is_ready(server)
        return False

    try:
        eventually(ready, LONG_S)
        assert [ask(server, "POST", INFER, rest_body(row(0))).status for _ in range(20)] == [200] * 20
    finally:
        process.terminate()
        assert process.wait(SOON_S) == 0


def test_a_model_that_cannot_be_loaded_ends_the_start_and_is_told_once(repository: Path) -> None:
    (repository / "m" / "1" / "model.onnx").write_bytes(b"no model")
    ended = finished("serve", repository, TWO, "--http-port=0", "--grpc-port=0", "--metrics-port=0")
    assert ended.returncode == 1
    assert ended.stderr.count("exiting because a model failed to load") == 1


def test_a_port_that_is_taken_ends_the_start_although_processes_could_share_it(repository: Path) -> None:
    with running(repository, TWO) as server:
        flags = ("--grpc-port=0", "--metrics-port=0", f"--http-port={server.http_port}")
        for processes in (TWO, "--processes=1"):
            ended = finished("serve", repository, processes, *flags)
            assert (ended.returncode, "--http-port" in ended.stderr) == (2, True), ended.stderr


@pytest.mark.parametrize(
    "flags",
    [
        ("--load-on-demand",),
        ("--model-memory-budget=1GiB", "--model-control-mode=explicit"),
        ("--rate-limit=execution_count",),
        ("--processes=0",),
    ],
)
def test_what_would_not_be_one_server_is_refused_by_name(repository: Path, flags: tuple[str, ...]) -> None:
    ended = finished("serve", repository, TWO, *flags)
    assert (ended.returncode, flags[0].partition("=")[0] in ended.stderr) == (2, True), ended.stderr


def test_models_with_sequences_are_refused(tmp_path: Path) -> None:
    config = onnx_sequences.block("oldest { }")
    onnx_models.save_version(tmp_path, "sequence", onnx_sequences.accumulator(), config=config)
    ended = finished("serve", tmp_path, TWO, "--http-port=0", "--grpc-port=0", "--metrics-port=0")
    assert (ended.returncode, "--processes=1" in ended.stderr) == (1, True), ended.stderr


# -- ending ------------------------------------------------------------------------------------------------------------


class Load:
    """Clients that ask over and over, each over connections of its own; a failure ends a connection, not the client."""

    def __init__(self, server: ServerProcess, clients: int) -> None:
        self._server = server
        self.failures: list[str] = []
        self.answered = 0
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(clients)]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join(LONG_S)

    def until_answered(self, more: int) -> None:
        goal = self.answered + more
        eventually(lambda: self.answered >= goal, LONG_S)

    def _ask(self) -> None:
        while not self._ended.is_set():
            connection = http.client.HTTPConnection("127.0.0.1", self._server.http_port, timeout=SOON_S)
            try:
                while not self._ended.is_set():
                    connection.request("POST", INFER, rest_body(row(1)))
                    response = connection.getresponse()
                    data = json.loads(response.read())
                    assert data["outputs"][0]["data"] == [2] * 4, data
                    with self._lock:
                        self.answered += 1
                    if response.getheader("connection") == "close":
                        break
            except (OSError, http.client.HTTPException) as error:
                with self._lock:
                    self.failures.append(repr(error))
            finally:
                connection.close()


def test_a_replica_that_is_killed_takes_its_own_connections_only_and_comes_back_as_it_was(
    controlled: ServerProcess,
) -> None:
    clients = 8
    assert ask(controlled, "POST", "/v2/repository/models/m/load").status == 200
    assert ask(controlled, "POST", "/v2/trace/setting", {"trace_rate": "7"}).status == 200
    before = replicas(controlled)
    with Load(controlled, clients) as load, one_to_each(controlled) as kept:
        load.until_answered(200)
        counted = metric(controlled, "nv_inference_request_success", "m")
        victim, survivor = before
        os.kill(victim, signal.SIGKILL)
        # Until it is gone to the last, connections may still be opened to it.
        eventually(lambda: not Path(f"/proc/{victim}").exists())
        assert is_ready(controlled)
        assert kept[survivor].ask("POST", INFER, rest_body(row(1)))[0] == 200
        load.until_answered(200)
        eventually(lambda: has_replicas(controlled, 2), LONG_S)
        load.until_answered(200)
        # The one request that each of its connections had under way, and those that were just being opened.
        assert len(load.failures) <= 2 * clients, load.failures
    assert survivor in replicas(controlled)
    assert answers(controlled) == [1, 1]
    with one_to_each(controlled) as kept:
        assert [told(each, "/v2/trace/setting")["trace_rate"] for each in kept.values()] == ["7", "7"]
    # A counter that fell would be taken for one that began anew.
    assert metric(controlled, "nv_inference_request_success", "m") >= counted
    assert "ortolan_replica_restarts_total 1\n" in page(controlled)


def test_what_changes_while_a_replica_is_away_is_so_in_the_next_one(controlled: ServerProcess) -> None:
    os.kill(replicas(controlled)[0], signal.SIGKILL)
    # A connection may reach it before it is gone, or what was changed through it may be lost with it.
    eventually(lambda: ask_or_zero(controlled, "/v2/repository/models/m/load") == 200)
    eventually(lambda: has_replicas(controlled, 2), LONG_S)
    assert answers(controlled) == [1, 1]


def ask_or_zero(server: ServerProcess, path: str) -> int:
    """The status; 0 where the connection reached a process that just ended."""
    with contextlib.suppress(OSError, http.client.HTTPException):
        return ask(server, "POST", path).status
    return 0


def test_a_replica_that_is_asked_to_stop_answers_what_it_has_and_is_replaced(tmp_path: Path) -> None:
    config = "max_batch_size: 1\ninstance_group [ { count: 1, kind: KIND_CPU } ]"
    onnx_models.save_version(tmp_path, "m", onnx_models.slow(400_000), config=config)
    with running(tmp_path, TWO) as server, one_to_each(server) as kept, ThreadPoolExecutor(1) as client:
        leaving, staying = kept
        pending = client.submit(kept[leaving].ask, "POST", INFER, rest_body(row(3)))
        eventually(lambda: in_flight_or_done(server) or pending.done())
        os.kill(leaving, signal.SIGTERM)
        status, body = pending.result(SOON_S)
        assert (status, json.loads(body)["outputs"][0]["data"]) == (200, [3] * 4)
        assert kept[staying].ask("GET", "/v2/health/ready")[0] == 200
        eventually(lambda: leaving not in replicas(server) and has_replicas(server, 2), LONG_S)
        assert server.process.poll() is None


def in_flight_or_done(server: ServerProcess) -> bool:
    found = statistics(server, "m")
    return bool(found["execution_count"])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_the_end_of_all_leaves_no_request_unanswered(tmp_path: Path, number: signal.Signals) -> None:
    config = "max_batch_size: 1\ninstance_group [ { count: 1, kind: KIND_CPU } ]"
    onnx_models.save_version(tmp_path, "m", onnx_models.slow(200_000), config=config)
    with running(tmp_path, TWO) as server, one_to_each(server) as kept, ThreadPoolExecutor(2) as clients:
        pending = [clients.submit(each.ask, "POST", INFER, rest_body(row(2))) for each in kept.values()]
        eventually(lambda: all(each.done() for each in pending) or statistics(server, "m")["execution_count"])
        server.process.send_signal(number)
        assert [each.result(SOON_S)[0] for each in pending] == [200, 200]
        assert server.process.wait(SOON_S) == 0


def test_after_sigterm_no_replica_is_ready_all_answer_on_and_a_second_signal_ends_that(repository: Path) -> None:
    with running(repository, TWO, f"--drain-delay-secs={LONG_S}") as server, one_to_each(server) as kept:
        server.process.send_signal(signal.SIGTERM)
        for each in kept.values():
            eventually(lambda each=each: each.ask("GET", "/v2/health/ready")[0] == 503)
            assert each.ask("POST", INFER, rest_body(row(0)))[0] == 200
        assert server.process.poll() is None
        start = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(SOON_S) == 0
        assert time.monotonic() - start < LONG_S / 2


def test_signals_for_all_processes_at_once_end_no_delay(repository: Path) -> None:
    with running(repository, TWO, f"--drain-delay-secs={LONG_S}") as server:
        for pid in (*replicas(server), server.process.pid):
            os.kill(pid, signal.SIGTERM)
        with one_to_each(server) as kept:
            assert [each.ask("POST", INFER, rest_body(row(0)))[0] for each in kept.values()] == [200, 200]
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(SOON_S) == 0


def test_a_run_that_outlasts_the_grace_period_is_ended_in_its_replica(tmp_path: Path) -> None:
    config = "max_batch_size: 1\ninstance_group [ { count: 1, kind: KIND_CPU } ]"
    onnx_models.save_version(tmp_path, "m", onnx_models.slow(2**40), config=config)
    with running(tmp_path, TWO, "--exit-timeout-secs=1") as server, ThreadPoolExecutor(1) as client:
        pending = client.submit(ask, server, "POST", INFER, rest_body(row(1)))
        eventually(lambda: metric(server, "nv_inference_pending_request_count", "m") or busy(server))
        server.process.terminate()
        assert pending.result(SOON_S).status == 503
        assert server.process.wait(SOON_S) == 0


def busy(server: ServerProcess) -> bool:
    """Whether a replica uses a processor."""
    return any(Path(f"/proc/{pid}/stat").read_text().split()[2] == "R" for pid in replicas(server))


def test_replicas_do_not_outlive_a_supervisor_that_is_killed(repository: Path) -> None:
    with running(repository, TWO) as server:
        orphans = replicas(server)
        server.process.kill()
        server.process.wait(SOON_S)
        for pid in orphans:
            eventually(lambda pid=pid: not Path(f"/proc/{pid}").exists() or is_zombie(pid))


def is_zombie(pid: int) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    return True


def test_a_replica_that_hangs_makes_the_server_not_ready_until_it_goes_on(repository: Path) -> None:
    with running(repository, TWO) as server, one_to_each(server) as kept:
        stuck, other = kept
        os.kill(stuck, signal.SIGSTOP)
        try:
            assert kept[other].ask("GET", "/v2/health/ready")[0] == 400
            assert kept[other].ask("POST", INFER, rest_body(row(0)))[0] == 200
        finally:
            os.kill(stuck, signal.SIGCONT)
        eventually(lambda: kept[other].ask("GET", "/v2/health/ready")[0] == 200)
