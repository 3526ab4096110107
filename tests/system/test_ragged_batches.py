"""Requests of different lengths in one batch, told by the statistics of a real server, over HTTP and gRPC."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import callers
import grpc
import numpy as np
import onnx_models
import onnx_ragged
import pytest
from callers import batches, statistics
from server_process import ServerProcess, finished, running

HELD = 6
DELAY = "max_queue_delay_microseconds: 100000"
WARMUP = """
model_warmup [ {
  name: "two" batch_size: 2 inputs { key: "x" value { data_type: TYPE_FP32 dims: [ 5 ] random_data: true } }
} ]
"""
APART = """
input [ { name: "x" data_type: TYPE_FP32 dims: [ -1 ] } ]
output [ { name: "y" data_type: TYPE_FP32 dims: [ -1 ] } ]
"""
ragged, SUMS = onnx_ragged.config, onnx_ragged.SUMS
MODELS = {
    "sums_rest": (onnx_ragged.sums(), ragged(SUMS, DELAY) + WARMUP),
    "sums_grpc": (onnx_ragged.sums(), ragged(SUMS, DELAY)),
    "sums_both": (onnx_ragged.sums(), ragged(SUMS, DELAY)),
    "automatic": (onnx_ragged.sums(), ragged(SUMS)),
    "refused": (onnx_ragged.sums(), ragged(SUMS, DELAY)),
    "doubled": (onnx_ragged.doubled_and_counted(), ragged(onnx_ragged.DOUBLED, DELAY)),
    "failing": (onnx_ragged.failing(), ragged(onnx_ragged.FAILING, DELAY)),
    "apart": (onnx_models.doubler(("batch", "any")), ragged(APART, DELAY)),
}
SIX = [np.arange(length, dtype=np.float32).reshape(1, -1) + length for length in (3, 1, 700, 5, 8, 2)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Nothing of a model is executed before six requests wait for it; each test has a model of its own."""
    repository = tmp_path_factory.mktemp("models")
    for name, (proto, text) in MODELS.items():
        onnx_models.save_version(repository, name, proto, config=text)
    environment = {"TRITONSERVER_DELAY_SCHEDULER": str(HELD)}
    with running(repository, "--calibration-cache=none", environment=environment) as server:
        yield server


@pytest.fixture
async def channel(server: ServerProcess) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(server.grpc) as channel:
        yield channel


async def test_requests_of_different_lengths_share_a_batch_over_http(server: ServerProcess) -> None:
    replies = await asyncio.gather(*(callers.rest(server, "sums_rest", array) for array in SIX))
    assert [reply.array.tolist() for reply in replies] == [[[array.sum()]] for array in SIX]
    assert batches(server, "sums_rest") == {6: 1}
    assert statistics(server, "sums_rest")["execution_count"] == 1  # without the warm-up's


async def test_requests_of_different_lengths_share_a_batch_over_grpc(
    server: ServerProcess, channel: grpc.aio.Channel
) -> None:
    answers = await asyncio.gather(*(callers.grpc_call(channel, "sums_grpc", array) for array in SIX))
    assert [callers.grpc_array(answer).tolist() for answer in answers] == [[[array.sum()]] for array in SIX]
    assert batches(server, "sums_grpc") == {6: 1}


async def test_both_protocols_share_one_batch(server: ServerProcess, channel: grpc.aio.Channel) -> None:
    rest = [callers.rest(server, "sums_both", array) for array in SIX[:3]]
    over_grpc = [callers.grpc_call(channel, "sums_both", array) for array in SIX[3:]]
    replies, answers = await asyncio.gather(asyncio.gather(*rest), asyncio.gather(*over_grpc))
    sums = [reply.array.item() for reply in replies] + [callers.grpc_array(answer).item() for answer in answers]
    assert sums == [array.sum() for array in SIX]
    assert batches(server, "sums_both") == {6: 1}


async def test_answers_are_right_however_automatic_batches_fall(
    server: ServerProcess, channel: grpc.aio.Channel
) -> None:
    arrays = [np.full((1, 1 + number * 7 % 31), number, np.float32) for number in range(60)]
    rest = [callers.rest(server, "automatic", array) for array in arrays]
    over_grpc = [callers.grpc_call(channel, "automatic", array) for array in arrays]
    replies, answers = await asyncio.gather(asyncio.gather(*rest), asyncio.gather(*over_grpc))
    assert [reply.array.item() for reply in replies] == [array.sum() for array in arrays]
    assert [callers.grpc_array(answer).item() for answer in answers] == [array.sum() for array in arrays]
    found = statistics(server, "automatic")
    assert found["inference_count"] == 120
    assert found["execution_count"] < 120


async def test_outputs_are_dealt_out_by_the_shapes_of_an_input(server: ServerProcess) -> None:
    replies = await asyncio.gather(*(callers.rest(server, "doubled", array) for array in SIX))
    for reply, array in zip(replies, SIX, strict=True):
        found = {each["name"]: (each["shape"], each["data"]) for each in reply.json["outputs"]}
        assert found["y"] == ([1, array.size], (2 * array).ravel().tolist())
        assert found["count"] == ([1, 1], [array.size])
    assert batches(server, "doubled") == {6: 1}


async def test_only_the_request_that_fails_its_batch_fails(server: ServerProcess) -> None:
    arrays = [np.zeros((1, length), np.int64) for length in (1, 2, 3, 4, 5, 6)]
    arrays[2][0, 1] = 9
    replies = await asyncio.gather(*(callers.rest(server, "failing", array) for array in arrays))
    assert [reply.status for reply in replies] == [200, 200, 400, 200, 200, 200]
    assert replies[5].array.shape == (1, 6)


async def test_without_it_requests_of_different_lengths_do_not_share_a_batch(server: ServerProcess) -> None:
    replies = await asyncio.gather(*(callers.rest(server, "apart", array) for array in SIX))
    assert [reply.array.tolist() for reply in replies] == [(2 * array).tolist() for array in SIX]
    assert batches(server, "apart") == {1: 6}


async def test_clients_neither_see_nor_send_what_the_server_makes(
    server: ServerProcess, channel: grpc.aio.Channel
) -> None:
    assert callers.get(server, "/v2/models/refused")["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, -1]}]
    said = "[request id: <id_unknown>] unexpected inference input 'ends' for model 'refused'; its inputs are ['x']"
    body: dict[str, Any] = json.loads(callers.rest_body(SIX[0]))
    body["inputs"].append({"name": "ends", "shape": [1, 2], "datatype": "INT32", "data": [0, 3]})
    reply = callers.ask(server, "POST", "/v2/models/refused/infer", body)
    assert (reply.status, reply.json["error"]) == (400, said)
    request = callers.messages.ModelInferRequest.FromString(callers.grpc_request("refused", SIX[0]))
    request.inputs.add(name="ends", datatype="INT32", shape=[1, 2])
    request.raw_input_contents.append(np.array([0, 3], np.int32).tobytes())
    method = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
    with pytest.raises(grpc.RpcError) as refused:
        await method(request.SerializeToString(), timeout=callers.LONGEST_S)
    assert (refused.value.code(), refused.value.details()) == (grpc.StatusCode.INVALID_ARGUMENT, said)


def test_the_configuration_is_shown_back(server: ServerProcess, tmp_path_factory: pytest.TempPathFactory) -> None:
    config = callers.get(server, "/v2/models/doubled/config")
    assert config["input"][0]["allow_ragged_batch"] is True
    kind = {"kind": "BATCH_ELEMENT_COUNT", "target_name": ["counts"], "data_type": "TYPE_FP32", "source_input": ["x"]}
    assert config["batch_input"] == [kind]
    scatter = {"target_name": ["y"], "kind": "BATCH_SCATTER_WITH_INPUT_SHAPE", "source_input": ["x"]}
    assert config["batch_output"] == [scatter]
    repository = tmp_path_factory.mktemp("one")
    onnx_models.save_version(repository, "m", MODELS["sums_rest"][0], config=MODELS["sums_rest"][1])
    shown = finished("config", repository / "m", "--calibration-cache=none")
    assert shown.returncode == 0
    for text in ("allow_ragged_batch: true", "kind: BATCH_ACCUMULATED_ELEMENT_COUNT_WITH_ZERO", 'target_name: "ends"'):
        assert text in shown.stdout
