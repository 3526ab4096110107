"""Many requests at once, batched by the server: each gets its own answer, and one that fails fails alone."""

import asyncio
import json
import re
from collections.abc import Awaitable
from typing import Any
from urllib.request import urlopen

import grpc
import numpy as np
import pytest
import tritonclient.grpc.aio
import tritonclient.http.aio
from server_process import ServerProcess, eventually
from tritonclient.utils import InferenceServerException

from ortolan.protocol import protobuf_messages as messages

MODULES = {"http": tritonclient.http.aio, "grpc": tritonclient.grpc.aio}


@pytest.fixture(params=MODULES)
async def client(request: pytest.FixtureRequest, small_models_server: ServerProcess) -> Any:
    address = small_models_server.http if request.param == "http" else small_models_server.grpc
    async with MODULES[request.param].InferenceServerClient(address) as client:
        client.module = MODULES[request.param]
        yield client


def infer(client: Any, model: str, datatype: str, array: np.ndarray) -> Awaitable[Any]:
    tensor = client.module.InferInput("x", list(array.shape), datatype)
    tensor.set_data_from_numpy(array)
    answer: Awaitable[Any] = client.infer(model, [tensor])
    return answer


def statistics(server: ServerProcess, model: str) -> dict[str, Any]:
    with urlopen(f"http://{server.http}/v2/models/{model}/stats") as response:
        found: dict[str, Any] = json.load(response)["model_stats"][0]
        return found


async def test_of_32_requests_at_once_each_gets_its_own_answer(client: Any, small_models_server: ServerProcess) -> None:
    before = statistics(small_models_server, "slow")
    sent = [np.full((1 + number % 3, 4), number, np.float32) for number in range(32)]
    results = await asyncio.gather(*(infer(client, "slow", "FP32", array) for array in sent))
    for array, result in zip(sent, results, strict=True):
        assert np.array_equal(result.as_numpy("y"), array)
    after = statistics(small_models_server, "slow")
    assert after["inference_count"] - before["inference_count"] == sum(len(array) for array in sent)
    assert after["execution_count"] - before["execution_count"] < len(sent), "they were not batched"


async def test_one_request_that_fails_in_the_model_does_not_disturb_its_batch(client: Any) -> None:
    indices = [2, 3, 99, 1, 0, 2]
    results: list[Any] = await asyncio.gather(
        *(infer(client, "gather", "INT64", np.array([[index]], np.int64)) for index in indices), return_exceptions=True
    )
    assert isinstance(results.pop(indices.index(99)), InferenceServerException)
    indices.remove(99)
    assert [result.as_numpy("y").item() for result in results] == indices


async def test_a_call_that_its_client_cancels_leaves_the_queue_counted_so_and_disturbs_nobody(
    small_models_server: ServerProcess,
) -> None:
    def counted(metric: str) -> int:
        with urlopen(f"http://{small_models_server.metrics}/metrics") as response:
            page = response.read().decode()
        labels = 'model="slower",version="1"'
        (value,) = re.findall(rf"^{metric}{{{labels}(?:,reason=\"CANCELED\")?}} (\d+)$", page, re.MULTILINE)
        return int(value)

    def inside() -> int:
        return counted("nv_inference_pending_request_count") + counted("nv_inference_request_success") - answered

    answered, cancelled = counted("nv_inference_request_success"), counted("nv_inference_request_failure")
    request = messages.ModelInferRequest(model_name="slower")
    request.inputs.add(name="x", datatype="FP32", shape=[1, 4])
    async with grpc.aio.insecure_channel(small_models_server.grpc) as channel:
        method = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        calls = []
        for number in range(6):
            request.raw_input_contents[:] = [np.full(4, number, np.float32).tobytes()]
            calls.append(method(request.SerializeToString()))
        await asyncio.to_thread(eventually, lambda: inside() >= 5)
        # The model takes them one by one, so that the last ones still wait.
        for call in calls[4:]:
            call.cancel()
        for number, call in enumerate(calls[:4]):
            response = messages.ModelInferResponse.FromString(await call)
            assert np.frombuffer(response.raw_output_contents[0], np.float32).tolist() == [number] * 4
    await asyncio.to_thread(eventually, lambda: counted("nv_inference_request_failure") == cancelled + 2)
    assert counted("nv_inference_request_success") == answered + 4
