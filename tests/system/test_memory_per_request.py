"""What a request of 6 MB costs in memory: its tensors, once; and what is left of requests: nothing."""

import queue
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import large_tensors
import onnx_models
import pytest
from conformance.memory import peak_growth_bytes
from large_tensors import DOORS, LONGEST_S, MODELS, TENSOR_BYTES
from mixed_load import MixedLoad
from reload_traffic import descriptors, resident_mib
from server_process import ServerProcess, eventually, running

MIB = 1 << 20
# Freed memory goes back to the system at once, so that what is resident is what is alive.
NOTHING_KEPT = {
    "MALLOC_MMAP_THRESHOLD_": "4096",
    "MALLOC_TRIM_THRESHOLD_": "0",
    "MALLOC_TOP_PAD_": "0",
    "MALLOC_ARENA_MAX_": "1",
}
# Pieces on their way from and to the sockets, and pages of two megabytes that are not full.
SMALL_CHANGE_BYTES = 5 * MIB // 2
AT_ONCE = 8
# What the C library and Python keep to use again.
KEPT_MIB = 48

pytestmark = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux tells peaks of memory")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    repository = tmp_path_factory.mktemp("models")
    large_tensors.save_models(repository)
    with running(repository, environment=NOTHING_KEPT) as server:
        yield server


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("model", MODELS)
def test_a_request_costs_its_tensors_once(server: ServerProcess, model: str, door: str) -> None:
    """The tensor that came is where the socket's bytes went, and the answer leaves from where the model put it."""
    send = DOORS[door]
    tensors_bytes = MODELS[model].tensors * TENSOR_BYTES
    send(server, model)
    grown_bytes = settled_growth_bytes(server, lambda: send(server, model))
    assert tensors_bytes / 2 < grown_bytes < tensors_bytes + SMALL_CHANGE_BYTES


@pytest.mark.parametrize("door", DOORS)
def test_requests_at_once_cost_no_more_than_one_after_the_other(server: ServerProcess, door: str) -> None:
    def send() -> None:
        DOORS[door](server, "both")

    at_once(send)
    grown_bytes = settled_growth_bytes(server, lambda: at_once(send))
    assert grown_bytes < AT_ONCE * (2 * TENSOR_BYTES + SMALL_CHANGE_BYTES)


def test_a_stream_that_waits_holds_nothing_of_what_it_has_answered(server: ServerProcess) -> None:
    large_tensors.send_stream(server, "both")
    before = resident_mib(until_at_rest(server))
    requests: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
    requests.put(large_tensors.message("both"))
    with grpc.insecure_channel(server.grpc, [("grpc.max_receive_message_length", -1)]) as channel:
        stream = channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")
        answers = stream(iter(requests.get, None), timeout=LONGEST_S)
        assert len(next(answers)) > TENSOR_BYTES
        eventually(lambda: resident_mib(server.process.pid) < before + 2)
        requests.put(None)
        assert not list(answers)


def test_a_load_of_all_kinds_leaves_nothing_behind(tmp_path: Path) -> None:
    """Sizes from bytes to megabytes, all doors, errors and clients that go, with the memory that operators have."""
    large_tensors.save_models(tmp_path / "models", config="max_batch_size: 0\n")
    onnx_models.save_version(tmp_path / "models", "sizes", onnx_models.identity(), config="max_batch_size: 8192\n")
    log = tmp_path / "log"
    with running(tmp_path / "models", "--calibration-cache=none", log=log) as server:
        pid = server.process.pid
        load = MixedLoad(server)
        load.run(requests=200)
        before = resident_mib(until_at_rest(server)), descriptors(pid)
        load.run(requests=800)
        eventually(lambda: descriptors(pid) <= before[1])
        assert not load.faults
        assert resident_mib(until_at_rest(server)) < before[0] + KEPT_MIB
    assert "Traceback" not in log.read_text()


def settled_growth_bytes(server: ServerProcess, action: Callable[[], object]) -> int:
    """How far the server's memory rises in ``action``, from rest; afterwards all of it is given back."""
    before = resident_mib(until_at_rest(server))
    grown_bytes = peak_growth_bytes(server, action)
    eventually(lambda: resident_mib(server.process.pid) < before + 1)
    return grown_bytes


def until_at_rest(server: ServerProcess) -> int:
    """The server's process, once its memory has stopped changing: it lets go of a request after its answer is read."""
    looks: list[float] = [0.0]

    def same_as_before() -> bool:
        looks.append(resident_mib(server.process.pid))
        return looks[-1] == looks[-2]

    eventually(same_as_before)
    return server.process.pid


def at_once(send: Callable[[], object]) -> None:
    threads = [threading.Thread(target=send) for _ in range(AT_ONCE)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
