"""Models that are loaded by the first request for them, whichever door it comes through, and go when nobody asks."""

import asyncio
import threading
import time
from collections.abc import Callable
from pathlib import Path

import ensembles
import grpc
import numpy as np
import onnx_models
import pytest
import tritonclient.grpc
from callers import ask, get, rest_body, row
from heavy_models import heavy
from server_process import ServerProcess, eventually, running
from tritonclient.grpc import service_pb2, service_pb2_grpc

ON_DEMAND = "--load-on-demand"
EXPLICIT = "--model-control-mode=explicit"
EIGHT = "max_batch_size: 8\n"
NEVER = ("UNAVAILABLE", "unloaded: loads on demand")


def state(server: ServerProcess, model: str) -> tuple[str, str]:
    entries = ask(server, "POST", "/v2/repository/index").json
    return next((each.get("state", ""), each.get("reason", "")) for each in entries if each["name"] == model)


def is_loaded(server: ServerProcess, model: str) -> bool:
    return state(server, model)[0] == "READY"


def v2(server: ServerProcess) -> float:
    return float(ask(server, "POST", "/v2/models/m/infer", rest_body(row(1))).array[0, 0])


def v2_raw(server: ServerProcess) -> float:
    headers = {"Inference-Header-Content-Length": "0", "Content-Type": "application/octet-stream"}
    return float(
        np.frombuffer(ask(server, "POST", "/v2/models/m/infer", row(1).tobytes(), headers).body[-16:], "<f4")[0]
    )


def v1(server: ServerProcess) -> float:
    return float(ask(server, "POST", "/v1/models/m:predict", {"instances": [[1, 1, 1, 1]]}).json["predictions"][0][0])


def generated(server: ServerProcess) -> float:
    return float(ask(server, "POST", "/v2/models/m/generate", {"x": [1, 1, 1, 1]}).json["y"][0])


def over_grpc(server: ServerProcess) -> float:
    client = tritonclient.grpc.InferenceServerClient(server.grpc)
    try:
        return float(client.infer("m", [grpc_row()]).as_numpy("y")[0, 0])
    finally:
        client.close()


def streamed(server: ServerProcess) -> float:
    client = tritonclient.grpc.InferenceServerClient(server.grpc)
    answered = threading.Event()
    found: list[float] = []

    def take(result: tritonclient.grpc.InferResult | None, error: Exception | None) -> None:
        found.append(float(result.as_numpy("y")[0, 0]) if result is not None else float("nan"))
        answered.set()

    client.start_stream(take)
    client.async_stream_infer("m", [grpc_row()])
    assert answered.wait(20)
    client.stop_stream()
    client.close()
    return found[0]


def grpc_row() -> tritonclient.grpc.InferInput:
    tensor = tritonclient.grpc.InferInput("x", [1, 4], "FP32")
    tensor.set_data_from_numpy(row(1))
    return tensor


def metadata(server: ServerProcess) -> float:
    return float(get(server, "/v2/models/m")["inputs"][0]["shape"][1]) - 1


def grpc_config(server: ServerProcess) -> float:
    client = tritonclient.grpc.InferenceServerClient(server.grpc)
    try:
        return float(client.get_model_config("m").config.input[0].dims[0]) - 1
    finally:
        client.close()


@pytest.mark.parametrize("door", [v2, v2_raw, v1, generated, over_grpc, streamed, metadata, grpc_config])
def test_the_first_question_loads_the_model(tmp_path: Path, door: Callable[[ServerProcess], float]) -> None:
    onnx_models.save_version(tmp_path, "m", onnx_models.adder(2), config=EIGHT)
    onnx_models.save_version(tmp_path, "other", onnx_models.adder(2), config=EIGHT)
    with running(tmp_path, ON_DEMAND) as server:
        assert (state(server, "m"), state(server, "other")) == (NEVER, NEVER)
        assert ask(server, "GET", "/v2/health/ready").status == 200
        assert door(server) == 3
        assert is_loaded(server, "m")
        assert state(server, "other") == NEVER


def test_looking_at_models_loads_none_of_them(tmp_path: Path) -> None:
    onnx_models.save_version(tmp_path, "m", onnx_models.adder(2), config=EIGHT)
    with running(tmp_path, ON_DEMAND) as server:
        assert ask(server, "GET", "/v2/models/m/ready").status == 200, "it would answer"
        assert ask(server, "GET", "/v2/models/m/versions/1/ready").status == 200
        assert ask(server, "GET", "/v2/models/m/versions/2/ready").status == 404
        assert ask(server, "GET", "/v1/models/m").status == 200
        assert get(server, "/v2/models")["models"] == ["m"]
        with grpc.insecure_channel(server.grpc) as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            assert stub.ModelReady(service_pb2.ModelReadyRequest(name="m")).ready
        assert ask(server, "GET", "/v2/models/stats").json == {"model_stats": []}
        assert ask(server, "GET", "/v2/models/m/stats").status == 400
        assert ask(server, "GET", "/v2/models/nowhere/ready").status == 404
        assert ask(server, "POST", "/v2/models/nowhere/infer", rest_body(row())).status == 404
        assert state(server, "m") == NEVER


def test_however_many_ask_the_model_is_loaded_once(tmp_path: Path) -> None:
    log = tmp_path / "log"
    onnx_models.save_version(tmp_path / "models", "m", heavy(2, 64))
    replies: list[int] = []
    with running(tmp_path / "models", ON_DEMAND, log=log) as server:
        threads = [
            threading.Thread(
                target=lambda: replies.append(ask(server, "POST", "/v2/models/m/infer", rest_body(row())).status)
            )
            for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert replies == [200] * 8
    assert log.read_text().count("version 1 is ready") == 1


def test_who_has_waited_long_enough_is_told_to_come_back_and_the_load_goes_on(tmp_path: Path) -> None:
    onnx_models.save_version(tmp_path, "m", heavy(2, 64))
    with running(tmp_path, ON_DEMAND, "--load-on-demand-wait-secs=0.001") as server:
        early = ask(server, "POST", "/v2/models/m/infer", rest_body(row()))
        assert (early.status, early.headers["retry-after"]) == (503, "5")
        assert "model 'm' is being loaded" in early.json["error"]
        eventually(lambda: is_loaded(server, "m"))
        assert ask(server, "POST", "/v2/models/m/infer", rest_body(row())).status == 200


def test_the_requests_own_deadline_ends_its_waiting(tmp_path: Path) -> None:
    onnx_models.save_version(tmp_path, "m", heavy(2, 64))
    with running(tmp_path, ON_DEMAND) as server, grpc.insecure_channel(server.grpc) as channel:
        early = ask(server, "POST", "/v2/models/m/infer", rest_body(row()), {"X-Request-Timeout": "0.02"})
        assert early.status == 504, early.body
        eventually(lambda: is_loaded(server, "m"))
        assert grpc.channel_ready_future(channel).result(10) is None


def test_a_model_that_does_not_load_is_not_tried_for_each_request(tmp_path: Path) -> None:
    log = tmp_path / "log"
    onnx_models.save_version(tmp_path / "models", "m", onnx_models.adder(2))
    (tmp_path / "models" / "m" / "1" / "model.onnx").write_bytes(b"this is no model")
    with running(tmp_path / "models", ON_DEMAND, log=log) as server:
        replies = [ask(server, "POST", "/v2/models/m/infer", rest_body(row())) for _ in range(20)]
        assert {reply.status for reply in replies} == {503}
        assert all("could not be loaded, and is not tried again for 1 s" in reply.json["error"] for reply in replies)
        assert all(int(reply.headers["retry-after"]) == 1 for reply in replies)
        assert str(tmp_path) not in replies[0].json["error"]
        assert ask(server, "GET", "/v2/models/m/ready").status == 404
        assert ask(server, "GET", "/v2/health/ready").status == 200
        assert log.read_text().count("cannot be served") == 1
        # When it is mended, the pause ends by itself.
        onnx_models.save_version(tmp_path / "models", "m", onnx_models.adder(2))
        eventually(lambda: ask(server, "POST", "/v2/models/m/infer", rest_body(row())).status == 200)


def test_what_a_client_unloads_stays_unloaded_until_a_client_loads_it(tmp_path: Path) -> None:
    onnx_models.save_version(tmp_path, "m", onnx_models.adder(2), config=EIGHT)
    onnx_models.save_version(tmp_path, "n", onnx_models.adder(3), config=EIGHT)
    ensembles.save(tmp_path, "sum", ensembles.config(ensembles.chain("n", "m")))

    def control(server: ServerProcess, action: str, model: str = "m") -> None:
        assert ask(server, "POST", f"/v2/repository/models/{model}/{action}").status == 200

    with running(tmp_path, EXPLICIT, ON_DEMAND) as server:
        assert v2(server) == 3
        control(server, "unload")
        eventually(lambda: state(server, "m") == ("UNAVAILABLE", "unloaded"))
        assert ask(server, "POST", "/v2/models/m/infer", rest_body(row())).status == 404
        assert ask(server, "GET", "/v2/models/m/ready").status != 200
        needing = ask(server, "POST", "/v2/models/sum/infer", rest_body(row(), "in"))
        assert needing.status == 503
        assert "needs model 'm', which a client has unloaded" in needing.json["error"]
        # Also where it had never been loaded.
        control(server, "unload", "n")
        assert ask(server, "POST", "/v2/models/n/infer", rest_body(row())).status == 404
        control(server, "load")
        assert v2(server) == 3


def test_an_ensemble_brings_its_models_and_they_go_together(tmp_path: Path) -> None:
    onnx_models.save_version(tmp_path, "one", heavy(1, 4), config=EIGHT)
    onnx_models.save_version(tmp_path, "ten", heavy(10, 4), config=EIGHT)
    onnx_models.save_version(tmp_path, "big", heavy(100, 8), config=EIGHT)
    ensembles.save(tmp_path, "sum", ensembles.config(ensembles.chain("one", "ten")))
    with running(tmp_path, ON_DEMAND, "--model-memory-budget=13MiB") as server:
        for _ in range(2):
            assert ask(server, "POST", "/v2/models/sum/infer", rest_body(row(), "in")).array[0, 0] == 11
            assert [is_loaded(server, model) for model in ("sum", "one", "ten")] == [True, True, True]
            assert ask(server, "POST", "/v2/models/big/infer", rest_body(row())).array[0, 0] == 100
            assert state(server, "sum")[1].startswith("unloaded: its model '")
            assert state(server, "sum")[1].endswith("; loads on demand")


def test_a_model_that_nobody_asks_goes_and_comes_back(tmp_path: Path) -> None:
    for name, config in (("m", ""), ("own", "idle_unload_secs"), ("pinned", "pin"), ("flagged", "")):
        value = {"pin": "1", "idle_unload_secs": "3600"}.get(config)
        text = f'parameters {{ key: "{config}" value {{ string_value: "{value}" }} }}' if config else ""
        onnx_models.save_version(tmp_path, name, onnx_models.adder(2), config=EIGHT + text)
    with running(tmp_path, ON_DEMAND, "--model-idle-secs=0.5", "--pin-model=flagged") as server:
        assert is_loaded(server, "flagged"), "what is pinned by a flag is loaded at start"
        for name in ("own", "pinned"):
            assert ask(server, "POST", f"/v2/models/{name}/infer", rest_body(row())).status == 200
        assert v2(server) == 3
        idle = ("UNAVAILABLE", "unloaded: idle for 0.5 s; loads on demand")
        eventually(lambda: state(server, "m") == idle)
        assert [is_loaded(server, name) for name in ("own", "pinned", "flagged")] == [True, True, True]
        assert ask(server, "GET", "/v2/health/ready").status == 200
        assert v2(server) == 3


def test_questions_that_are_no_inference_do_not_keep_a_model(tmp_path: Path) -> None:
    onnx_models.save_version(tmp_path, "m", onnx_models.adder(2), config=EIGHT)
    with running(tmp_path, ON_DEMAND, "--model-idle-secs=0.5") as server:
        assert v2(server) == 3
        deadline = time.monotonic() + 20
        while is_loaded(server, "m"):
            assert time.monotonic() < deadline
            ask(server, "GET", "/v2/models/m/stats")
            ask(server, "GET", "/v2/models/m/ready")


def test_a_model_that_a_client_sent_is_not_unloaded_because_nothing_could_bring_it_back(tmp_path: Path) -> None:
    import base64

    onnx_models.save_version(tmp_path, "other", heavy(1, 8))
    content = base64.b64encode(heavy(7, 8).SerializeToString()).decode()
    parameters = {"config": '{"max_batch_size": 4}', "file:1/model.onnx": content}
    log = tmp_path / "log"
    with running(tmp_path, EXPLICIT, ON_DEMAND, "--model-memory-budget=12MiB", log=log) as server:
        assert ask(server, "POST", "/v2/repository/models/m/load", {"parameters": parameters}).status == 200
        refused = ask(server, "POST", "/v2/models/other/infer", rest_body(row()))
        assert refused.status == 503
        assert "(sent by a client)" in log.read_text()
        assert v2(server) == 8


def test_in_poll_mode_files_that_change_are_loaded_when_next_asked(tmp_path: Path) -> None:
    onnx_models.save_version(tmp_path, "m", onnx_models.adder(2), config=EIGHT)
    poll = ("--model-control-mode=poll", "--repository-poll-secs=0.2", "--repository-quiet-secs=0.1")
    with running(tmp_path, ON_DEMAND, *poll) as server:
        onnx_models.save_version(tmp_path, "new", onnx_models.adder(5), config=EIGHT)
        eventually(lambda: "new" in get(server, "/v2/models")["models"])
        assert state(server, "new") == NEVER
        assert v2(server) == 3
        onnx_models.save_version(tmp_path, "m", onnx_models.adder(4), config=EIGHT)
        eventually(lambda: v2(server) == 5)


def test_requests_that_wait_when_the_server_stops_are_answered(tmp_path: Path) -> None:
    onnx_models.save_version(tmp_path, "m", heavy(2, 64))
    statuses: list[int] = []
    with running(tmp_path, ON_DEMAND) as server:
        asking = threading.Thread(
            target=lambda: statuses.append(ask(server, "POST", "/v2/models/m/infer", rest_body(row())).status)
        )
        asking.start()
        eventually(lambda: state(server, "m")[0] in ("LOADING", "READY"))
        server.process.terminate()
        asking.join(30)
        assert server.process.wait(30) == 0
    assert statuses == [200]


def test_asking_while_models_come_and_go_gives_right_answers_from_ensembles_too(tmp_path: Path) -> None:
    for value, name in enumerate(("a", "b", "c")):
        onnx_models.save_version(tmp_path, name, heavy(value, 4), config=EIGHT)
    ensembles.save(tmp_path, "ab", ensembles.config(ensembles.chain("a", "b")))
    wrong: list[str] = []

    async def asks(server: ServerProcess, number: int) -> None:
        for turn in range(30):
            name, tensor, shift = (("ab", "in", 1), ("c", "x", 2), ("b", "x", 1))[(number + turn) % 3]
            body = rest_body(row(number), tensor)
            reply = await asyncio.to_thread(ask, server, "POST", f"/v2/models/{name}/infer", body)
            if reply.status != 200 or not np.array_equal(reply.array, row(number + shift)):
                wrong.append(f"{name}: {reply.status} {reply.body[:300]!r}")

    async def all_ask(server: ServerProcess) -> None:
        await asyncio.gather(*(asks(server, number) for number in range(4)))

    with running(tmp_path, ON_DEMAND, "--model-memory-budget=11MiB") as server:
        asyncio.run(all_ask(server))
    assert wrong == []
