"""Models of sequences through real clients: slots, controls, states, both strategies, over HTTP, gRPC and streams."""

import queue
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx_models
import onnx_sequences
import pytest
import tritonclient.grpc as grpc_client
import tritonclient.http as http_client
from callers import ask, get, rest_body, statistics, waiting
from onnx import TensorProto
from onnx_sequences import CONTROLS, SUM, block
from server_process import ServerProcess, eventually, running
from tritonclient.utils import InferenceServerException

CORRID_TEXT = CONTROLS.replace("TYPE_INT64", "TYPE_STRING")
FILE_STATE = SUM.replace(
    "dims: [ 1 ]",
    'dims: [ 1 ] initial_state: { name: "first" data_type: TYPE_FP32 dims: [ 1 ] data_file: "hundred" }',
)
GROWING = 'state [ { input_name: "all_in" output_name: "all_out" data_type: TYPE_FP32 dims: [ -1 ] } ]'
STARTED = 'control_input [ { name: "START" control [ { kind: CONTROL_SEQUENCE_START fp32_false_true: [ 0, 1 ] } ] } ]'
OLDEST = "oldest { max_candidate_sequences: 4 }"
# Four of a model's requests, or a minute, so that it is known what is executed together.
TOGETHER = "oldest { max_candidate_sequences: 4 preferred_batch_size: 4 max_queue_delay_microseconds: 60000000 }"
SLOTS_TOGETHER = "direct { max_queue_delay_microseconds: 60000000 minimum_slot_utilization: 1.0 }"
BRIEFLY = "max_sequence_idle_microseconds: 50000"
LONG = "max_sequence_idle_microseconds: 60000000"

MODELS = {
    "controls": (onnx_sequences.controls(), block(f"{LONG} direct {{ }} {CONTROLS}")),
    "controls_of_one": (onnx_sequences.controls(batch=False), block(CONTROLS, 0)),
    "controls_of_texts": (onnx_sequences.controls(TensorProto.STRING), block(f"oldest {{ }} {CORRID_TEXT}")),
    "direct": (onnx_sequences.accumulator(), block(f"{LONG} {SUM}", 2, 2)),
    "direct_batches": (onnx_sequences.accumulator(), block(f"{LONG} {SLOTS_TOGETHER} {SUM}", 4)),
    "oldest": (onnx_sequences.accumulator(), block(f"{LONG} {OLDEST} {SUM}")),
    "oldest_batches": (onnx_sequences.accumulator(), block(f"{LONG} {TOGETHER} {SUM}")),
    "unbatched": (onnx_sequences.accumulator(batch=False), block(f"{LONG} {SUM}", 0)),
    "started": (onnx_sequences.accumulator(started=True), block(f"{STARTED} {SUM}")),
    "from_file": (onnx_sequences.accumulator(), block(f"{LONG} {FILE_STATE}")),
    "growing": (onnx_sequences.memory(), block(f"{LONG} {OLDEST} {GROWING}")),
    "state_shown": (
        onnx_sequences.accumulator(),
        block(SUM) + ' output [ { name: "sum_out" data_type: TYPE_FP32 dims: 1 } ]',
    ),
    "idle": (onnx_sequences.accumulator(), block(f"{BRIEFLY} {SUM}", 1)),
    "one_slot": (onnx_sequences.accumulator(), block(f"{LONG} {SUM}", 1)),
    "one_slot_slow": (onnx_sequences.slow_accumulator(), block(f"{LONG} {SUM}", 1)),
    "growable": (onnx_sequences.memory(), block(GROWING.replace("dims:", "use_growable_memory: true dims:"))),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    repository = tmp_path_factory.mktemp("models")
    for name, (proto, text) in MODELS.items():
        onnx_models.save_version(repository, name, proto, config=text)
    states = repository / "from_file" / "initial_state"
    states.mkdir()
    (states / "hundred").write_bytes(np.float32(100).tobytes())
    with running(repository, "--calibration-cache=none", "--exit-on-error=false") as server:
        yield server


Step = Callable[..., Any]


@pytest.fixture(params=["http", "grpc"])
def step(request: pytest.FixtureRequest, server: ServerProcess) -> Step:
    """Sends one number as one request of a sequence, from any thread; the result."""
    module, address = (http_client, server.http) if request.param == "http" else (grpc_client, server.grpc)

    def send(model: str, sequence_id: int | str, value: float, flags: str = "", batch: bool = True, **more: Any) -> Any:
        with module.InferenceServerClient(address) as client:
            return client.infer(
                model,
                [tensor(module, value, batch)],
                sequence_id=sequence_id,
                sequence_start="s" in flags,
                sequence_end="e" in flags,
                **more,
            )

    return send


def tensor(module: Any, value: float, batch: bool = True) -> Any:
    array = np.full((1, 1) if batch else (1,), value, np.float32)
    made = module.InferInput("x", array.shape, "FP32")
    made.set_data_from_numpy(array)
    return made


def number(result: Any, name: str = "y") -> float:
    return float(result.as_numpy(name).item())


# -- the models --------------------------------------------------------------------------------------------------------


def test_the_server_has_the_extension(server: ServerProcess) -> None:
    assert get(server, "/v2")["extensions"][:3] == ["classification", "sequence", "model_repository"]


def test_the_metadata_has_what_clients_send_and_get(server: ServerProcess) -> None:
    metadata = get(server, "/v2/models/controls")
    assert [tensor["name"] for tensor in metadata["inputs"]] == ["x"]
    metadata = get(server, "/v2/models/direct")
    assert [tensor["name"] for tensor in metadata["inputs"] + metadata["outputs"]] == ["x", "y"]
    assert metadata["properties"]["batching"] == "direct: each sequence has its row of an instance's batch"


def test_the_configuration_is_shown_complete(server: ServerProcess) -> None:
    shown = get(server, "/v2/models/started/config")
    assert shown["sequence_batching"]["max_sequence_idle_microseconds"] == 1_000_000
    assert "dynamic_batching" not in shown
    shown = get(server, "/v2/models/oldest/config")["sequence_batching"]
    assert shown["oldest"] == {
        "max_candidate_sequences": 4,
        "preferred_batch_size": [4],
        "max_queue_delay_microseconds": 0,
        "preserve_ordering": False,
    }
    assert shown["state"] == [
        {
            "input_name": "sum_in",
            "output_name": "sum_out",
            "data_type": "TYPE_FP32",
            "dims": [1],
            "initial_state": [],
            "use_same_buffer_for_input_output": False,
            "use_growable_memory": False,
        }
    ]


def test_what_is_not_done_is_refused_by_name(server: ServerProcess) -> None:
    index = {entry["name"]: entry for entry in ask(server, "POST", "/v2/repository/index").json}
    assert index["growable"]["state"] == "UNAVAILABLE"
    assert "use_growable_memory is not available" in index["growable"]["reason"]


# -- controls ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("model", "batch"), [("controls", True), ("controls_of_one", False)])
def test_the_model_is_told_where_in_which_sequence_it_is(step: Step, model: str, batch: bool) -> None:
    results = [step(model, 2**62, 1, flags, batch) for flags in ("s", "", "e")]
    told = [[result.as_numpy(name).item() for name in ("start", "ready", "end", "id")] for result in results]
    assert told == [[1, 1, 0, 2**62], [0, 1, 0, 2**62], [0, 1, 1, 2**62]]


def test_an_id_may_be_a_text(step: Step) -> None:
    assert step("controls_of_texts", "käse", 1, "se").as_numpy("id").item() == "käse".encode()
    assert step("controls_of_texts", 7, 1, "se").as_numpy("id").item() == b"7"
    with pytest.raises(InferenceServerException, match="sequence ids of type INT64"):
        step("controls", "käse", 1, "s")


# -- states ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["direct", "oldest", "started"])
@pytest.mark.parametrize("sequence_id", [7, "seven"])
def test_a_sum_is_kept_for_each_sequence(step: Step, model: str, sequence_id: int | str) -> None:
    other = 8 if sequence_id == 7 else "eight"
    assert [number(step(model, sequence_id, value, "s" * (value == 1))) for value in (1, 2)] == [1, 3]
    assert number(step(model, other, 10, "se")) == 10
    assert number(step(model, sequence_id, 3, "e")) == 6


def test_a_sum_is_kept_without_a_batch_dimension(step: Step) -> None:
    sums = [number(step("unbatched", 7, value, flags, batch=False)) for value, flags in ((1, "s"), (2, ""), (3, "e"))]
    assert sums == [1, 3, 6]


def test_a_start_on_a_live_sequence_starts_it_anew(step: Step) -> None:
    assert [number(step("direct", 9, value, flags)) for value, flags in ((1, "s"), (5, "s"), (1, "e"))] == [1, 5, 6]


def test_a_sequence_starts_with_what_a_file_says(step: Step) -> None:
    assert [number(step("from_file", 1, 1, "s")), number(step("from_file", 1, 1, "e"))] == [101, 102]


def test_a_state_may_grow(step: Step) -> None:
    grown = [step("growing", 1, value, flags).as_numpy("y").tolist() for value, flags in ((1, "s"), (2, ""), (3, "e"))]
    assert grown == [[[0, 1]], [[0, 1, 2]], [[0, 1, 2, 3]]]


def test_a_state_that_is_an_output_is_shown(step: Step) -> None:
    step("state_shown", 1, 1, "s")
    assert number(step("state_shown", 1, 2, "e"), "sum_out") == 3


# -- batches -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["direct_batches", "oldest_batches"])
def test_sequences_share_batches(server: ServerProcess, model: str) -> None:
    def whole(sequence_id: int) -> list[float]:
        with grpc_client.InferenceServerClient(server.grpc) as client:
            return [
                number(
                    client.infer(
                        model,
                        [tensor(grpc_client, sequence_id)],
                        sequence_id=sequence_id,
                        sequence_start=index == 0,
                        sequence_end=index == 2,
                    )
                )
                for index in range(3)
            ]

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(whole, range(1, 5))) == [[each, 2 * each, 3 * each] for each in range(1, 5)]
    batches = statistics(server, model)["batch_stats"]
    assert {batch["batch_size"]: batch["compute_infer"]["count"] for batch in batches} == {4: 3}
    assert statistics(server, model)["inference_count"] == 12


@pytest.mark.parametrize("model", ["direct", "oldest"])
def test_a_stream_carries_many_sequences_at_once(server: ServerProcess, model: str) -> None:
    answers: queue.Queue[Any] = queue.Queue()
    values = range(1, 21)
    sequences: list[int | str] = [100, 101, "a", "b", "c", 102]
    with grpc_client.InferenceServerClient(server.grpc) as client:
        client.start_stream(lambda result, error: answers.put((result, error)))
        for value in values:
            for position, sequence_id in enumerate(sequences):
                client.async_stream_infer(
                    model,
                    [tensor(grpc_client, value * (position + 1))],
                    request_id=f"{sequence_id} {value}",
                    sequence_id=sequence_id,
                    sequence_start=value == 1,
                    sequence_end=value == 20,
                )
        found = [answers.get(timeout=30) for _ in range(len(values) * len(sequences))]
        client.stop_stream()
    assert [error for _, error in found if error is not None] == []
    sums = {result.get_response().id: number(result) for result, _ in found}
    assert sums == {
        f"{sequence_id} {value}": (position + 1) * value * (value + 1) / 2
        for value in values
        for position, sequence_id in enumerate(sequences)
    }


# -- the rules ---------------------------------------------------------------------------------------------------------


def test_a_sequence_has_to_start(step: Step) -> None:
    with pytest.raises(InferenceServerException) as refused:
        step("direct", 77, 1)
    assert (
        "inference request for sequence 77 to model 'direct' must specify the START flag on the first request of the "
        "sequence" in str(refused.value)
    )
    assert refused.value.status() in ("400", "StatusCode.INVALID_ARGUMENT")


def test_a_request_has_to_be_of_a_sequence(step: Step) -> None:
    with pytest.raises(InferenceServerException, match="must specify a non-zero or non-empty correlation ID"):
        step("direct", 0, 1, "s")


def test_a_request_has_one_row(server: ServerProcess) -> None:
    body = rest_body(np.ones((2, 1), np.float32), parameters={"sequence_id": 5, "sequence_start": True})
    reply = ask(server, "POST", "/v2/models/direct/infer", body)
    assert reply.status == 400
    assert "must specify batch-size 1 due to requirements of sequence batcher" in reply.json["error"]


def test_an_idle_sequence_is_over(step: Step) -> None:
    step("idle", 1, 1, "s")
    # It had the only slot, so that another's answer shows that it is over.
    assert number(step("idle", 2, 5, "se")) == 5
    with pytest.raises(InferenceServerException, match="must specify the START flag"):
        step("idle", 1, 1)


def test_a_sequence_waits_for_a_slot(server: ServerProcess, step: Step) -> None:
    step("one_slot", 1, 1, "s")
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(step, "one_slot", 2, 5, "se")
        eventually(lambda: waiting(server, "one_slot") == 1)
        assert number(step("one_slot", 1, 2, "e")) == 3
        assert number(other.result(30)) == 5


def test_a_sequence_waits_for_a_slot_no_longer_than_it_allows(step: Step) -> None:
    step("one_slot", 1, 1, "s")
    with pytest.raises(InferenceServerException, match="timeout of the corresponding sequence has been expired"):
        step("one_slot", 2, 5, "s", timeout=10_000)
    assert number(step("one_slot", 1, 2, "e")) == 3


def test_a_client_that_gives_up_ends_its_sequence(server: ServerProcess) -> None:
    with grpc_client.InferenceServerClient(server.grpc) as client:
        inputs = [tensor(grpc_client, 1e9)]
        with pytest.raises(InferenceServerException, match=r"DEADLINE_EXCEEDED|Deadline"):
            client.infer("one_slot_slow", inputs, sequence_id=1, sequence_start=True, client_timeout=0.2)
        answer = client.infer("one_slot_slow", [tensor(grpc_client, 1)], sequence_id=2, sequence_start=True)
        assert number(answer, "sum") == 1
        with pytest.raises(InferenceServerException, match="must specify the START flag"):
            client.infer("one_slot_slow", inputs, sequence_id=1)


# -- loading -----------------------------------------------------------------------------------------------------------


def test_unloading_answers_what_waits_for_a_slot(tmp_path: Path) -> None:
    onnx_models.save_version(tmp_path, "m", onnx_sequences.accumulator(), config=block(f"{LONG} {SUM}", 1))
    with running(tmp_path, "--model-control-mode=explicit", "--load-model=m") as server, ThreadPoolExecutor(1) as pool:
        body = rest_body(np.ones((1, 1), np.float32), parameters={"sequence_id": 1, "sequence_start": True})
        assert ask(server, "POST", "/v2/models/m/infer", body).status == 200
        body = rest_body(np.full((1, 1), 7, np.float32), parameters={"sequence_id": 2, "sequence_start": True})
        other = pool.submit(ask, server, "POST", "/v2/models/m/infer", body)
        eventually(lambda: waiting(server, "m") == 1)
        assert ask(server, "POST", "/v2/repository/models/m/unload").status == 200
        assert other.result(30).json["outputs"][0]["data"] == [7]


def test_no_sequence_fails_or_changes_its_model_while_it_is_reloaded(tmp_path: Path) -> None:
    """Each model of a reload multiplies by another factor, so that each sequence shows which one it was in."""

    def put(factor: int) -> None:
        proto = onnx_sequences.scaled_accumulator(factor)
        onnx_models.save_version(tmp_path, "m", proto, config=block(f"{LONG} {OLDEST} {SUM}"))

    def sequences(module: Any, address: str, first_id: int) -> list[list[float]]:
        with module.InferenceServerClient(address) as client:
            return [
                [
                    number(
                        client.infer(
                            "m",
                            [tensor(module, 1)],
                            sequence_id=sequence_id,
                            sequence_start=index == 0,
                            sequence_end=index == 4,
                        )
                    )
                    for index in range(5)
                ]
                for sequence_id in range(first_id, first_id + 40)
            ]

    put(1)
    with running(tmp_path, "--model-control-mode=explicit", "--load-model=m") as server, ThreadPoolExecutor(4) as pool:
        doors = [(http_client, server.http), (grpc_client, server.grpc)] * 2
        clients = [pool.submit(sequences, *door, 1000 * index + 1) for index, door in enumerate(doors)]
        factor = 1
        while not all(client.done() for client in clients):
            factor += 1
            put(factor)
            assert ask(server, "POST", "/v2/repository/models/m/load").status == 200
        found = [sums for client in clients for sums in client.result(60)]
        assert [sums for sums in found if sums != [sums[0] * (index + 1) for index in range(5)]] == []
        assert factor > 2
        assert len({sums[0] for sums in found}) > 1
