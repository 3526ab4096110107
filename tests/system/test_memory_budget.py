"""A budget for the memory of models: what is measured, what is unloaded for others, what is refused; nothing fails."""

import random
import sys
import threading
from collections import Counter
from pathlib import Path

import grpc
import numpy as np
import onnx_models
import pytest
import tritonclient.grpc
import tritonclient.http
from callers import ask, get, metric, rest_body, row, statistics
from heavy_models import heavy
from reload_traffic import descriptors, resident_mib
from server_process import ServerProcess, eventually, running
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import InferenceServerException

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="glibc tells what its heap holds")

MIB = 1 << 20
EXPLICIT = "--model-control-mode=explicit"
STRESS_REQUESTS = 120
CYCLES = 30


def put(repository: Path, *names: str, mebibytes: float = 8, config: str = "") -> None:
    """A model that adds 0, one that adds 1, and so on, with so many weights."""
    for value, name in enumerate(names):
        onnx_models.save_version(repository, name, heavy(value, mebibytes), config=config)


def load(server: ServerProcess, model: str) -> tuple[int, str]:
    reply = ask(server, "POST", f"/v2/repository/models/{model}/load")
    return reply.status, reply.body.decode()


def index(server: ServerProcess) -> dict[str, tuple[str, str]]:
    """State and reason of each model."""
    entries = ask(server, "POST", "/v2/repository/index").json
    return {entry["name"]: (entry.get("state", ""), entry.get("reason", "")) for entry in entries}


def answer(server: ServerProcess, model: str) -> float:
    reply = ask(server, "POST", f"/v2/models/{model}/infer", rest_body(row()))
    assert reply.status == 200, reply.body
    return float(reply.array[0, 0])


def test_what_a_model_holds_is_measured_and_told_everywhere(tmp_path: Path) -> None:
    log = tmp_path / "log"
    put(tmp_path / "models", "small", mebibytes=1)
    put(tmp_path / "models", "large", mebibytes=24)
    with running(tmp_path / "models", log=log) as server:
        usage = statistics(server, "large")["memory_usage"]
        assert [(each["type"], each["id"]) for each in usage] == [("CPU", 0)]
        size_bytes = usage[0]["byte_size"]
        # Its weights, an arena, and what the two that were loaded beside each other share unevenly.
        assert 24 * MIB < size_bytes < 29 * MIB
        assert metric(server, "ortolan_model_memory_bytes", "large") == size_bytes
        with grpc.insecure_channel(server.grpc) as channel:
            request = service_pb2.ModelStatisticsRequest(name="large")
            told = service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelStatistics(request).model_stats[0]
        assert [(each.type, each.id, each.byte_size) for each in told.memory_usage] == [("CPU", 0, size_bytes)]
    assert f"{size_bytes / MIB:.1f} MiB of memory" in log.read_text()


def test_the_model_that_was_not_asked_for_longest_makes_room(tmp_path: Path) -> None:
    put(tmp_path, "a", "b", "c")
    with running(tmp_path, EXPLICIT, "--model-memory-budget=24MiB") as server:
        assert [load(server, model)[0] for model in ("a", "b")] == [200, 200]
        assert answer(server, "a") == 0
        assert load(server, "c")[0] == 200
        assert (answer(server, "a"), answer(server, "c")) == (0, 2)
        assert index(server)["b"] == ("UNAVAILABLE", "unloaded: model 'c' needs its memory")
        assert ask(server, "POST", "/v2/models/b/infer", rest_body(row())).status == 404
        assert ask(server, "GET", "/v2/health/ready").status == 200


def test_a_load_for_which_nothing_can_go_is_refused_and_the_log_says_who_holds_how_much(tmp_path: Path) -> None:
    put(tmp_path, "a", "b", "c")
    log = tmp_path / "log"
    put(tmp_path, "huge", mebibytes=40)
    pinned = ("--pin-model=a", "--pin-model=b")
    with running(tmp_path, EXPLICIT, *pinned, "--model-memory-budget=24MiB", log=log) as server:
        assert [load(server, model)[0] for model in ("a", "b")] == [200, 200]
        status, text = load(server, "c")
        assert status == 503
        assert "model 'c' needs 9.3 MiB of memory, and the models' memory budget is 24.0 MiB" in text
        # Who asks may know no other model.
        assert "'a'" not in text
        assert all(part in log.read_text() for part in ("'a' ", "'b' ", "(pinned)"))
        assert str(tmp_path) not in text
        assert load(server, "huge")[0] == 503
        assert (answer(server, "a"), answer(server, "b")) == (0, 1)
        with grpc.insecure_channel(server.grpc) as channel:
            load_c = service_pb2_grpc.GRPCInferenceServiceStub(channel).RepositoryModelLoad
            with pytest.raises(grpc.RpcError) as refused:
                load_c(service_pb2.RepositoryModelLoadRequest(model_name="c"))
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        assert "9.3 MiB" in refused.value.details()
        # With room it loads: the refusal is no verdict on its files.
        assert ask(server, "POST", "/v2/repository/models/a/unload").status == 200
        assert load(server, "c")[0] == 200


def test_without_a_way_to_load_them_again_models_are_refused_and_none_is_unloaded(tmp_path: Path) -> None:
    put(tmp_path, "a", "b", "c")
    with running(tmp_path, "--model-memory-budget=24MiB", "--exit-on-error=false") as server:
        states = Counter(state for state, _ in index(server).values())
        assert states == {"READY": 2, "UNAVAILABLE": 1}


@pytest.mark.parametrize("budget", ["x", "0", "-1", "120%", "8 parsec"])
def test_a_budget_that_makes_no_sense_is_refused_at_start(tmp_path: Path, budget: str) -> None:
    from server_process import finished

    done = finished("serve", tmp_path, f"--model-memory-budget={budget}")
    assert done.returncode != 0
    assert "--model-memory-budget expects" in done.stderr


def test_models_that_make_room_for_each_other_leave_nothing_behind(tmp_path: Path) -> None:
    put(tmp_path, "a", "b", mebibytes=8)

    def take_turns(server: ServerProcess, times: int) -> tuple[float, int]:
        for _ in range(times):
            assert (answer(server, "a"), answer(server, "b")) == (0, 1)
        eventually(lambda: index(server)["a"][0] == "UNAVAILABLE")
        return resident_mib(server.process.pid), descriptors(server.process.pid)

    with running(tmp_path, "--load-on-demand", "--model-memory-budget=14MiB") as server:
        resident, opened = take_turns(server, 5)
        resident_after, _ = take_turns(server, CYCLES)
        assert resident_after - resident < 32
        eventually(lambda: descriptors(server.process.pid) <= opened)
        assert eviction_count(server, "budget") >= 2 * CYCLES


def test_requests_that_race_with_unloading_all_get_their_own_answers(tmp_path: Path) -> None:
    """Three models, memory for two, and eight clients of all three over REST and gRPC."""
    put(tmp_path, "a", "b", "c", mebibytes=4)
    wrong: list[str] = []
    answers: Counter[float] = Counter()

    def asks(server: ServerProcess, number: int) -> None:
        chance = random.Random(number)
        use_http = number % 2 == 0
        library = tritonclient.http if use_http else tritonclient.grpc
        client = library.InferenceServerClient(server.http if use_http else server.grpc)
        for _ in range(STRESS_REQUESTS):
            value = chance.randrange(3)
            tensor = library.InferInput("x", [1, 4], "FP32")
            tensor.set_data_from_numpy(row(number))
            try:
                found = client.infer("abc"[value], [tensor]).as_numpy("y")
            except InferenceServerException as error:
                wrong.append(str(error))
                continue
            answers[value] += 1
            if not np.array_equal(found, row(number + value)):
                wrong.append(f"{found} instead of {number + value}")
        client.close()

    with running(tmp_path, "--load-on-demand", "--model-memory-budget=11MiB") as server:
        threads = [threading.Thread(target=asks, args=(server, number)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
        assert wrong == []
        assert sum(answers.values()) == 8 * STRESS_REQUESTS
        assert eviction_count(server, "budget") >= 1, "there is room for two of the three models"
        held = eventually(lambda: within_budget(server, 11 * MIB))
        assert held


def eviction_count(server: ServerProcess, reason: str) -> int:
    from urllib.request import urlopen

    with urlopen(f"http://{server.metrics}/metrics", timeout=10) as response:
        text = response.read().decode()
    line = next(
        line for line in text.splitlines() if line.startswith(f'ortolan_model_evictions_total{{reason="{reason}"}}')
    )
    return int(float(line.split()[-1]))


def within_budget(server: ServerProcess, budget_bytes: int) -> bool:
    held = [
        usage["byte_size"] for each in get(server, "/v2/models/stats")["model_stats"] for usage in each["memory_usage"]
    ]
    return sum(held) <= budget_bytes
