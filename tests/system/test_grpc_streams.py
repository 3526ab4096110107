"""``ModelStreamInfer``: order, errors of single requests, and how streams end."""

import asyncio
import queue
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import onnx_models
import pytest
import tritonclient.grpc
import tritonclient.grpc.aio
from callers import LONGEST_S, failures, grpc_request, row, statistics, until_waiting
from server_process import ServerProcess, eventually, running
from tritonclient.utils import InferenceServerException

from ortolan.protocol import protobuf_messages as messages

STREAM = "/inference.GRPCInferenceService/ModelStreamInfer"
INFER = "/inference.GRPCInferenceService/ModelInfer"
UNKNOWN = "Request for unknown model: 'nobody' is not found; the repository index lists the models"
CONFIG = "max_batch_size: 8\ninstance_group [ { count: 1, kind: KIND_CPU } ]\ndynamic_batching { }\n"


@pytest.fixture(scope="module", params=["http2", "grpcio"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    repository = tmp_path_factory.mktemp("models")
    onnx_models.save_version(repository, "doubler", onnx_models.doubler(), config=CONFIG)
    onnx_models.save_version(repository, "asked", onnx_models.slow_as_asked(), config="max_batch_size: 1\n")
    onnx_models.save_version(repository, "gather", onnx_models.gather(), config=CONFIG)
    log = repository.parent / "log"
    with running(repository, f"--grpc-transport={request.param}", log=log) as server:
        yield server
    assert "Traceback" not in log.read_text(), log.read_text()


@pytest.fixture
async def channel(server: ServerProcess) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(server.grpc) as channel:
        yield channel


def open_stream(channel: grpc.aio.Channel, **metadata: str) -> Any:
    return channel.stream_stream(STREAM)(metadata=tuple(metadata.items()), timeout=LONGEST_S)


def request(model: str, value: float, request_id: str = "") -> bytes:
    message = messages.ModelInferRequest.FromString(grpc_request(model, row(value)))
    message.id = request_id
    return bytes(message.SerializeToString())


async def rest(stream: Any) -> list[Any]:
    """Every response until the server ends the stream."""
    responses = []
    while (data := await stream.read()) is not grpc.aio.EOF:
        responses.append(messages.ModelStreamInferResponse.FromString(data))
    return responses


def value_of(response: Any) -> float:
    return float(np.frombuffer(response.infer_response.raw_output_contents[0], np.float32)[0])


async def test_answers_come_in_the_order_of_the_requests_whatever_each_takes(channel: grpc.aio.Channel) -> None:
    stream = open_stream(channel)
    for index, steps in enumerate([30_000, 1, 3000, 0, 100]):
        await stream.write(request("asked" if index % 2 == 0 else "doubler", steps, str(index)))
    await stream.done_writing()
    responses = await rest(stream)
    assert [response.infer_response.id for response in responses] == ["0", "1", "2", "3", "4"]
    assert [value_of(response) for response in responses] == [30_000, 2, 3000, 0, 100]
    assert await stream.code() is grpc.StatusCode.OK


async def test_every_response_says_that_it_is_the_last_for_its_request(channel: grpc.aio.Channel) -> None:
    stream = open_stream(channel)
    await stream.write(request("doubler", 1, "good"))
    await stream.write(request("nobody", 1, "bad"))
    await stream.done_writing()
    for response in await rest(stream):
        assert response.infer_response.parameters["triton_final_response"].bool_param is True


async def test_an_error_is_told_in_its_response_and_the_stream_goes_on(channel: grpc.aio.Channel) -> None:
    stream = open_stream(channel)
    for data in (request("nobody", 1, "a"), b"\xff\xff", request("doubler", 2, "c")):
        await stream.write(data)
    await stream.done_writing()
    unknown, broken, good = await rest(stream)
    assert (unknown.error_message, unknown.infer_response.id) == (UNKNOWN, "a")
    assert broken.error_message
    assert (good.error_message, good.infer_response.id, value_of(good)) == ("", "c", 4.0)
    assert await stream.code() is grpc.StatusCode.OK


async def test_with_triton_grpc_error_the_first_error_ends_the_stream_with_its_status(
    channel: grpc.aio.Channel,
) -> None:
    stream = open_stream(channel, triton_grpc_error="true")
    for data in (request("doubler", 1), request("nobody", 1), request("doubler", 3)):
        await stream.write(data)
    first = messages.ModelStreamInferResponse.FromString(await stream.read())
    assert value_of(first) == 2.0
    with pytest.raises(grpc.aio.AioRpcError) as ended:
        await rest(stream)
    assert (ended.value.code(), ended.value.details()) == (grpc.StatusCode.NOT_FOUND, UNKNOWN)


async def test_a_model_that_fails_is_an_error_of_its_request_only(channel: grpc.aio.Channel) -> None:
    stream = open_stream(channel)
    for index in (2, 99, 3):
        await stream.write(grpc_request("gather", np.array([[index]], np.int64)))
    await stream.done_writing()
    good, bad, also_good = await rest(stream)
    assert (value_of(good), value_of(also_good)) == (2.0, 3.0)
    assert "gather" in bad.error_message


async def test_a_client_that_does_not_read_fills_no_memory_and_gets_all_when_it_reads(tmp_path: Path) -> None:
    columns, count = 1 << 20, 400
    onnx_models.save_version(tmp_path / "models", "widener", onnx_models.widener(columns), config="max_batch_size: 1\n")
    with running(tmp_path / "models", log=tmp_path / "log") as server:
        async with grpc.aio.insecure_channel(server.grpc, [("grpc.max_receive_message_length", -1)]) as channel:
            await channel.unary_unary(INFER)(grpc_request("widener", np.zeros((1, 1), np.float32)))
            before = peak_memory_mib(server)
            stream = open_stream(channel)
            for index in range(count):
                await stream.write(grpc_request("widener", np.full((1, 1), index, np.float32)))
            await stream.done_writing()
            answered = await asyncio.to_thread(settled, lambda: statistics(server, "widener")["execution_count"])
            held_mib = peak_memory_mib(server) - before
            assert answered < 100
            assert held_mib < 600, "the answers to all have 1600 MiB"
            for index in range(count):
                response = messages.ModelStreamInferResponse.FromString(await stream.read())
                assert value_of(response) == index
            assert await stream.read() is grpc.aio.EOF
    assert "Traceback" not in (tmp_path / "log").read_text()


def peak_memory_mib(server: ServerProcess) -> int:
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) >> 10


def settled(count: Callable[[], int]) -> int:
    """The count once it has stayed the same for some time."""
    seen: list[int] = []
    eventually(lambda: seen.append(count()) or (len(seen) > 50 and len(set(seen[-50:])) == 1))
    return seen[-1]


async def test_an_empty_stream_ends_well(channel: grpc.aio.Channel) -> None:
    stream = open_stream(channel)
    await stream.done_writing()
    assert await rest(stream) == []
    assert await stream.code() is grpc.StatusCode.OK


async def test_a_stream_that_sends_thousands_ahead_of_reading_is_answered(channel: grpc.aio.Channel) -> None:
    stream = open_stream(channel)

    async def send() -> None:
        for index in range(3000):
            await stream.write(request("doubler", index))
        await stream.done_writing()

    sending = asyncio.create_task(send())
    values = [value_of(response) for response in await rest(stream)]
    await sending
    assert values == [2.0 * index for index in range(3000)]


async def test_requests_of_a_stream_wait_beside_each_other_and_cancelling_it_gives_them_all_up(tmp_path: Path) -> None:
    onnx_models.save_version(tmp_path / "models", "held", onnx_models.doubler(), config=CONFIG)
    environment = {"TRITONSERVER_DELAY_SCHEDULER": "1000"}
    with running(tmp_path / "models", environment=environment, log=tmp_path / "log") as server:
        async with grpc.aio.insecure_channel(server.grpc) as channel:
            stream = open_stream(channel)
            for index in range(20):
                await stream.write(request("held", index))
            await until_waiting(server, "held", 20)
            stream.cancel()
            await until_waiting(server, "held", 0)
            await asyncio.to_thread(eventually, lambda: failures(server, "held") == {"CANCELED": 20})
        assert statistics(server, "held")["execution_count"] == 0
    assert "Traceback" not in (tmp_path / "log").read_text()


async def test_a_stopping_server_answers_what_it_has_read_and_ends_idle_streams(tmp_path: Path) -> None:
    onnx_models.save_version(tmp_path / "models", "doubler", onnx_models.doubler(), config=CONFIG)
    with running(tmp_path / "models", log=tmp_path / "log") as server:
        async with grpc.aio.insecure_channel(server.grpc) as channel:
            stream = open_stream(channel)
            await stream.write(request("doubler", 7))
            assert value_of(messages.ModelStreamInferResponse.FromString(await stream.read())) == 14.0
            server.process.terminate()
            with pytest.raises(grpc.aio.AioRpcError) as ended:
                await rest(stream)
            assert ended.value.code() is grpc.StatusCode.UNAVAILABLE
            assert "shutting down" in ended.value.details()
        assert server.process.wait(10) == 0
    assert "Traceback" not in (tmp_path / "log").read_text(), (tmp_path / "log").read_text()


# -- tritonclient ------------------------------------------------------------------------------------------------------


def triton_input(module: Any, value: float) -> Any:
    tensor = module.InferInput("x", [1, 4], "FP32")
    tensor.set_data_from_numpy(row(value))
    return tensor


def test_tritonclient_streams(server: ServerProcess) -> None:
    answers: queue.Queue[tuple[Any, Any]] = queue.Queue()
    with tritonclient.grpc.InferenceServerClient(server.grpc) as client:
        client.start_stream(lambda result, error: answers.put((result, error)))
        for index in range(5):
            inputs = [triton_input(tritonclient.grpc, index)]
            client.async_stream_infer("doubler", inputs, request_id=str(index), enable_empty_final_response=True)
        client.async_stream_infer("nobody", [triton_input(tritonclient.grpc, 0)])
        for index in range(5):
            result, error = answers.get(timeout=LONGEST_S)
            assert error is None
            assert result.get_response().id == str(index)
            assert result.as_numpy("y").tolist() == row(2 * index).tolist()
        result, error = answers.get(timeout=LONGEST_S)
        assert isinstance(error, InferenceServerException)
        assert UNKNOWN in str(error)
        client.stop_stream()


async def test_tritonclients_asyncio_streams(server: ServerProcess) -> None:
    async def requests() -> AsyncIterator[dict[str, Any]]:
        for index in range(5):
            inputs = [triton_input(tritonclient.grpc.aio, index)]
            yield {"model_name": "doubler", "inputs": inputs, "request_id": str(index)}

    async with tritonclient.grpc.aio.InferenceServerClient(server.grpc) as client:
        index = 0
        async for result, error in client.stream_infer(requests()):
            assert error is None
            assert result.as_numpy("y").tolist() == row(2 * index).tolist()
            index += 1
    assert index == 5
