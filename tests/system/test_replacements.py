"""While one of several processes leaves or is gone: the others do what clients ask, and another takes its place."""

import contextlib
import http.client
import json
import os
import select
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import onnx_models
import pytest
from callers import ask, rest_body, row, waiting
from conformance import http2
from conformance.http2 import Http2, data_frames
from replicas_seen import answers, has_replicas, one_to_each, ports_of, replicas
from server_process import ServerProcess, eventually, running

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="several processes share a port on Linux only")

SOON_S = 30
TWO = "--processes=2"
LOAD, UNLOAD = "/v2/repository/models/m/load", "/v2/repository/models/m/unload"
MOST_WAITING = 64
MEASURED_S = 2.0


@pytest.fixture
def models(tmp_path: Path) -> Path:
    root = tmp_path / "models"
    onnx_models.save_version(root, "m", onnx_models.adder(1))
    onnx_models.save_version(root, "k", onnx_models.adder(2))
    return root


def is_ready(server: ServerProcess) -> bool:
    return ask(server, "GET", "/v2/health/ready").status == 200


def replace_one(server: ServerProcess) -> None:
    """Kill a replica, and return once another serves in its place."""
    victim = replicas(server)[1]
    os.kill(victim, signal.SIGKILL)
    eventually(lambda: victim not in replicas(server))
    eventually(lambda: ask_for_replicas(server, 2), SOON_S)


def ask_for_replicas(server: ServerProcess, count: int) -> bool:
    with contextlib.suppress(OSError):  # a connection may have been to the one that ended
        return has_replicas(server, count)
    return False


# -- one that leaves ---------------------------------------------------------------------------------------------------


def test_loads_and_unloads_go_on_while_a_replica_leaves_and_are_those_of_the_next_one(models: Path) -> None:
    config = "max_batch_size: 1\ninstance_group [ { count: 1, kind: KIND_CPU } ]"
    onnx_models.save_version(models, "slow", onnx_models.slow_as_asked(), config=config)
    flags = (TWO, "--model-control-mode=explicit", "--load-model=slow", "--exit-timeout-secs=1")
    with (
        running(models, *flags) as server,
        one_to_each(server) as kept,
        one_to_each(server) as others,
        ThreadPoolExecutor(2) as clients,
    ):
        leaving, staying = replicas(server)
        body = rest_body(row(2**40))
        pending = [clients.submit(each[leaving].ask, "POST", "/v2/models/slow/infer", body) for each in (kept, others)]
        # The one waits because the other runs.
        eventually(lambda: waiting(server, "slow") == 1)
        os.kill(leaving, signal.SIGTERM)
        replies: list[tuple[int, bytes]] = []
        while leaving in replicas(server):
            replies += [kept[staying].ask("POST", path, b"{}") for path in (LOAD, UNLOAD, LOAD)]
        assert {*replies} == {(200, b"")}
        assert [each.result(SOON_S)[0] for each in pending] == [503, 503]
        eventually(lambda: ask_for_replicas(server, 2), SOON_S)
        assert answers(server) == [1, 1]


# -- one that is gone --------------------------------------------------------------------------------------------------


def test_a_replica_comes_back_although_a_model_on_disk_is_broken_since(models: Path, tmp_path: Path) -> None:
    flags = (TWO, "--model-control-mode=explicit", "--load-model=*")
    with running(models, *flags, log=tmp_path / "log") as server:
        (models / "m" / "1" / "model.onnx").write_bytes(b"no model")
        replace_one(server)
        assert answers(server, "k") == [2, 2]
        # That half of the connections meet no such model is told to people, and to balancers.
        eventually(lambda: "without what others have: m version 1" in (tmp_path / "log").read_text())
        assert not is_ready(server)
        assert ask(server, "POST", UNLOAD).status == 200
        eventually(lambda: is_ready(server))
        onnx_models.save_version(models, "m", onnx_models.adder(3))
        assert ask(server, "POST", LOAD).status == 200
        assert answers(server) == [3, 3]


def test_a_replica_comes_back_although_the_files_of_a_loaded_model_are_gone(models: Path, tmp_path: Path) -> None:
    flags = (TWO, "--model-control-mode=explicit", "--load-model=k")
    with running(models, *flags, log=tmp_path / "log") as server:
        assert ask(server, "POST", LOAD).status == 200
        shutil.rmtree(models / "m")
        replace_one(server)
        assert answers(server, "k") == [2, 2]
        eventually(lambda: "without what others have: m version 1" in (tmp_path / "log").read_text())


# -- one that hangs ----------------------------------------------------------------------------------------------------


@pytest.fixture
def connections() -> Iterator[list[http.client.HTTPConnection]]:
    opened: list[http.client.HTTPConnection] = []
    yield opened
    for each in opened:
        each.close()


def test_settings_are_not_refused_because_loads_wait(
    models: Path, connections: list[http.client.HTTPConnection]
) -> None:
    with running(models, TWO, "--model-control-mode=explicit") as server:
        asked, stuck = replicas(server)
        for _ in range(4 * MOST_WAITING):
            connection = http.client.HTTPConnection("127.0.0.1", server.http_port, timeout=SOON_S)
            connection.connect()
            connections.append(connection)
        eventually(lambda: len(ports_of(asked)) + len(ports_of(stuck)) >= len(connections))
        ports = ports_of(asked)
        clients = [each for each in connections if each.sock.getsockname()[1] in ports]
        loads, settings = clients[: MOST_WAITING + 2], clients[MOST_WAITING + 2]
        os.kill(stuck, signal.SIGSTOP)
        try:
            for each in loads:
                each.request("POST", UNLOAD, b"{}")
            sockets = {each.sock: each for each in loads}
            refused = eventually(lambda: answered if len(answered := select.select(sockets, (), (), 0)[0]) == 2 else [])
            replies = [sockets[each].getresponse() for each in refused]
            assert [(reply.status, b"loads" in reply.read()) for reply in replies] == [(503, True)] * 2
            settings.request("POST", "/v2/logging", b'{"log_verbose_level": 1}')
            assert not select.select([settings.sock], (), (), 0.5)[0]
        finally:
            os.kill(stuck, signal.SIGCONT)
        reply = settings.getresponse()
        assert (reply.status, json.loads(reply.read())["log_verbose_level"]) == (200, 1)
        assert {each.getresponse().status for sock, each in sockets.items() if sock not in refused} == {200}


# -- the supervisor ----------------------------------------------------------------------------------------------------


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_who_watches_readiness_does_not_keep_the_supervisor_busy(models: Path) -> None:
    with running(models, TWO) as server, contextlib.ExitStack() as opened:
        for _ in range(20):
            connection = opened.enter_context(Http2(server.grpc_port))
            for stream in range(1, 100, 2):
                # The empty request is for the server as a whole.
                watch = http2.message(b"", compressed=False)
                connection.send(http2.call_headers(stream, "/grpc.health.v1.Health/Watch") + data_frames(stream, watch))
        supervisor = server.process.pid
        start, start_s = cpu_s(supervisor), time.monotonic()
        with one_to_each(server) as kept:
            while time.monotonic() < start_s + MEASURED_S:
                assert [each.ask("GET", "/v2/health/ready")[0] for each in kept.values()] == [200, 200]
        assert cpu_s(supervisor) - start < MEASURED_S / 20


def page_status(server: ServerProcess) -> int:
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", server.metrics_port, timeout=SOON_S)) as connection:
        connection.request("GET", "/metrics")
        return connection.getresponse().status


def test_readiness_is_answered_although_the_supervisor_hangs(models: Path) -> None:
    with running(models, TWO) as server:
        os.kill(server.process.pid, signal.SIGSTOP)
        try:
            with ThreadPoolExecutor(1) as client:
                scraped = client.submit(page_status, server)
                assert not is_ready(server)
                assert scraped.result(SOON_S) == 503
            assert ask(server, "POST", "/v2/models/k/infer", rest_body(row(0))).status == 200
        finally:
            os.kill(server.process.pid, signal.SIGCONT)
        eventually(lambda: is_ready(server))


def state(pid: str) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def children_that_ended(pid: int) -> list[str]:
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [child for task in tasks for child in (task / "children").read_text().split() if state(child) == "Z"]


def test_processes_that_come_to_the_supervisor_from_others_do_not_stay_when_they_have_ended(models: Path) -> None:
    # A shell begins three, and becomes the supervisor: as if they were of a replica in a container, and it had ended.
    with running(models, TWO, under=("sh", "-c", 'for _ in 1 2 3; do true & done; exec "$@"', "sh")) as server:
        eventually(lambda: not children_that_ended(server.process.pid))
        replace_one(server)
        assert answers(server) == [1, 1]


def test_under_nohup_the_end_of_a_terminal_is_ignored(models: Path) -> None:
    with running(models, TWO, under=("nohup",)) as server:
        told = dict(line.split(":\t") for line in Path(f"/proc/{server.process.pid}/status").read_text().splitlines())
        assert int(told["SigIgn"], 16) & 1 << signal.SIGHUP - 1
        server.process.send_signal(signal.SIGHUP)
        assert answers(server) == [1, 1]
