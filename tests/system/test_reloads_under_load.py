"""Models that are loaded anew, loaded and unloaded while clients ask them: nothing fails, and nothing stays behind."""

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path

import large_models
import onnx_models
import pytest
from callers import ask, rest_body, row
from control_soak import soak
from reload_traffic import Traffic, control, descriptors, made, reload_under, resident_mib, weighty
from server_process import ServerProcess, eventually, running

EXPLICIT = ("--model-control-mode=explicit", "--load-model=*")
CYCLES = 40


def test_requests_through_reloads_all_get_the_answer_of_a_version_that_is_right_then(tmp_path: Path) -> None:
    onnx_models.save_version(tmp_path, "m", weighty(0, 0.5))
    files, traffic = made(tmp_path, 20, 0.5), Traffic()

    async def reload(port: int) -> None:
        over = asyncio.Event()
        sending = asyncio.create_task(traffic.send(port, "m", 200, over))
        await reload_under(traffic, port, files)
        over.set()
        await sending

    with running(tmp_path, *EXPLICIT) as server:
        asyncio.run(reload(server.http_port))
    assert traffic.failed == []
    assert traffic.wrong == []
    assert set(traffic.answers) <= set(range(21))
    assert len(traffic.answers) > 10, "the requests were spread over the reloads"


@pytest.mark.parametrize(
    "neighbour",
    [
        lambda root: onnx_models.save_version(root, "n", large_models.perceptron(8)),
        lambda root: large_models.save_with_external_data(root, "n", large_models.perceptron(8), 1024),
        lambda root: onnx_models.save_version(root, "n", large_models.chain(2000)),
        lambda root: large_models.save_with_external_data(root, "n", large_models.additions(300), 0),
    ],
    ids=["embedded", "external", "nodes", "constants"],
)
def test_requests_beside_loads_of_another_model_are_all_answered(
    tmp_path: Path, neighbour: Callable[[Path], object]
) -> None:
    onnx_models.save_version(tmp_path, "m", onnx_models.adder(0))
    neighbour(tmp_path)
    traffic = Traffic()

    async def load(port: int) -> list[int]:
        over = asyncio.Event()
        sending = asyncio.create_task(traffic.send(port, "m", 200, over))
        statuses = [(await control(port, "n", "load", {"force": True}))[0] for _ in range(4)]
        over.set()
        await sending
        return statuses

    with running(tmp_path, "--model-control-mode=explicit", "--load-model=m") as server:
        assert asyncio.run(load(server.http_port)) == [200] * 4
    assert (traffic.failed, traffic.wrong) == ([], [])
    assert set(traffic.answers) == {0}


def test_clients_that_load_and_unload_at_random_break_nothing_and_the_last_command_decides(tmp_path: Path) -> None:
    for value in range(3):
        onnx_models.save_version(tmp_path, f"m{value}", onnx_models.adder(value))
    log = tmp_path / "log"
    with running(tmp_path, *EXPLICIT, log=log) as server:
        result = soak(server, ("m0", "m1", "m2"), seconds=4)
        assert server.process.poll() is None
    assert result.faults == []
    assert "Traceback" not in log.read_text()


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_loads_and_unloads_leave_neither_memory_nor_descriptors_behind(tmp_path: Path) -> None:
    onnx_models.save_version(tmp_path, "m", weighty(1, 2))

    async def cycles(port: int, count: int) -> None:
        for _ in range(count):
            assert (await control(port, "m", "load"))[0] == 200
            assert (await control(port, "m", "unload"))[0] == 200

    def gone(server: ServerProcess) -> bool:
        entries = ask(server, "POST", "/v2/repository/index").json
        return all(each.get("reason") == "unloaded" for each in entries)

    with running(tmp_path, "--model-control-mode=explicit") as server:
        pid = server.process.pid
        asyncio.run(cycles(server.http_port, 10))
        eventually(lambda: gone(server))
        before, open_before = resident_mib(pid), descriptors(pid)
        asyncio.run(cycles(server.http_port, CYCLES))
        eventually(lambda: gone(server))
        eventually(lambda: descriptors(pid) <= open_before)
        assert resident_mib(pid) - before < 32


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_a_forced_load_loads_anew_what_did_not_change(tmp_path: Path, protocol: str) -> None:
    onnx_models.save_version(tmp_path, "m", onnx_models.adder(1))

    def load(server: ServerProcess, force: object) -> None:
        if protocol == "http":
            reply = ask(server, "POST", "/v2/repository/models/m/load", {"parameters": {"force": force}})
            assert reply.status == (200 if isinstance(force, bool) else 400), reply.body
            return
        from grpc import RpcError, insecure_channel
        from tritonclient.grpc import service_pb2, service_pb2_grpc

        request = service_pb2.RepositoryModelLoadRequest(model_name="m")
        if isinstance(force, bool):
            request.parameters["force"].bool_param = force
        else:
            request.parameters["force"].string_param = str(force)
        with insecure_channel(server.grpc) as channel:
            call = service_pb2_grpc.GRPCInferenceServiceStub(channel).RepositoryModelLoad
            if isinstance(force, bool):
                call(request)
            else:
                with pytest.raises(RpcError, match="load parameter 'force' expects true or false, got a string"):
                    call(request)

    def successes(server: ServerProcess) -> int:
        """How many requests the version has answered since it was loaded, this one not counted."""
        count = ask(server, "GET", "/v2/models/m/stats").json["model_stats"][0]["inference_stats"]["success"]["count"]
        ask(server, "POST", "/v2/models/m/infer", rest_body(row()))
        return int(count)

    with running(tmp_path, *EXPLICIT) as server:
        assert successes(server) == 0
        load(server, False)
        assert successes(server) == 1
        load(server, True)
        assert successes(server) == 0
        load(server, "yes")
        assert successes(server) == 1
