"""What an HTTP connection does with clients that go, wait, or do not read, and with large bodies."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import http_doors
import numpy as np
import onnx_models
import pytest
import uvloop
from http_doors import Doors, until

from ortolan.frontends.rest.inference_exchange import RestOptions

ONE_AT_A_TIME = "max_batch_size: 1\ninstance_group [ { count: 1, kind: KIND_CPU } ]"
GOOD = json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}]}).encode()
WIDE_FLOATS = 500_000


def request(model: str, body: bytes = GOOD, *headers: str) -> bytes:
    lines = [f"POST /v2/models/{model}/infer HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def wide(numbers: np.ndarray, *headers: str) -> bytes:
    """A request for the same numbers, as binary data."""
    parameters = {"binary_data_size": numbers.nbytes}
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, numbers.size], "parameters": parameters}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    return request("any", head + numbers.tobytes(), f"Inference-Header-Content-Length: {len(head)}", *headers)


async def answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    async with asyncio.timeout(http_doors.LONGEST_S):
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        size = int(head.split("\r\ncontent-length: ")[1].split("\r\n")[0])
        return int(head.split()[1]), await reader.readexactly(size)


Serve = Callable[[Callable[[Doors], Awaitable[None]]], None]
"""Runs clients of a server, whose model is ``any``, to their end."""


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def serve(request: pytest.FixtureRequest, tmp_path: Path) -> Serve:
    onnx_models.save_version(tmp_path, "any", onnx_models.identity(shape=("rows", "columns")))

    async def served(clients: Callable[[Doors], Awaitable[None]]) -> None:
        async with http_doors.opened(tmp_path, RestOptions(64 << 20)) as doors:
            await clients(doors)

    def run(clients: Callable[[Doors], Awaitable[None]]) -> None:
        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.run(served(clients))

    return run


@pytest.fixture
def endless(tmp_path: Path) -> None:
    """The model ``endless`` beside it; to load that takes two seconds."""
    onnx_models.save_version(tmp_path, "endless", onnx_models.slow(2**40), config=ONE_AT_A_TIME)


def test_large_bodies_come_whole_and_the_connection_goes_on(serve: Serve) -> None:
    async def client(doors: Doors) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", doors.own.port)
        for seed in range(3):
            numbers = np.random.default_rng(seed).random(WIDE_FLOATS, np.float32)
            writer.write(wide(numbers) + request("any"))
            status, body = await answer(reader)
            assert (status, body.endswith(numbers.tobytes())) == (200, True)
            assert (await answer(reader))[0] == 200
        writer.close()

    serve(client)


def test_a_client_that_goes_takes_its_run_along(endless: None, serve: Serve) -> None:
    async def client(doors: Doors) -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", doors.own.port)
        writer.write(request("endless"))
        tasks = doors.own.server_state.tasks
        await until(lambda: len(tasks) == 1)
        writer.close()
        await until(lambda: not tasks and not doors.own.server_state.connections)
        # The only instance is free again, so that this one gets as far as the model.
        assert b" 504 " in await http_doors.sent(
            doors.own.port, request("endless", GOOD, "X-Request-Timeout: 0.2", "Connection: close")
        )

    serve(client)


@pytest.mark.parametrize("part", [0.01, 0.5, 0.99])
def test_a_client_that_goes_in_the_middle_of_its_body_leaves_nothing(serve: Serve, part: float) -> None:
    async def client(doors: Doors) -> None:
        data = wide(np.zeros(WIDE_FLOATS, np.float32))
        reader, writer = await asyncio.open_connection("127.0.0.1", doors.own.port)
        writer.write(data[: int(len(data) * part)])
        state = doors.own.server_state
        await until(lambda: len(state.tasks) == 1)
        writer.close()
        await until(lambda: not state.tasks and not state.connections)
        assert await reader.read() == b""

    serve(client)


def test_a_client_that_does_not_read_gets_all_its_answers_once_it_does(serve: Serve) -> None:
    async def client(doors: Doors) -> None:
        numbers = [np.full(WIDE_FLOATS, value, np.float32) for value in range(8)]
        reader, writer = await asyncio.open_connection("127.0.0.1", doors.own.port)
        await until(lambda: len(doors.own.server_state.connections) == 1)
        (connection,) = doors.own.server_state.connections
        writer.write(b"".join(map(wide, numbers)))
        await until(lambda: connection.flow.write_paused)
        for expected in numbers:
            status, body = await answer(reader)
            assert (status, body.endswith(expected.tobytes())) == (200, True)
        writer.close()

    serve(client)


def test_a_body_that_waits_to_be_sent_is_asked_for(serve: Serve) -> None:
    async def client(doors: Doors) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", doors.own.port)
        data = request("any", GOOD, "Expect: 100-continue")
        writer.write(data[: -len(GOOD)])
        async with asyncio.timeout(http_doors.LONGEST_S):
            assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(GOOD)
        assert (await answer(reader))[0] == 200
        writer.close()

    serve(client)


def test_a_body_that_is_too_large_is_neither_asked_for_nor_waited_for(serve: Serve) -> None:
    async def client(doors: Doors) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", doors.own.port)
        writer.write(b"POST /v2/models/any/infer HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n")
        writer.write(b"Content-Length: 99999999999\r\n\r\n")
        status, body = await answer(reader)
        assert (status, b"--http-max-json-size" in body) == (400, True)
        writer.close()

    serve(client)


@pytest.mark.parametrize(
    "sent", [request("any")[:-5], wide(np.zeros(WIDE_FLOATS, np.float32))[:-5], request("endless")]
)
def test_what_outlasts_the_grace_period_is_told_so(endless: None, serve: Serve, sent: bytes) -> None:
    async def client(doors: Doors) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", doors.own.port)
        writer.write(sent)
        await until(lambda: len(doors.own.server_state.tasks) == 1)
        doors.core.set_draining()
        doors.own.should_exit = True
        status, body = await answer(reader)
        assert (status, b"stopped before" in body) == (503, True)
        assert await reader.read() == b""
        writer.close()

    serve(client)


def test_idle_connections_do_not_keep_a_server_from_stopping(serve: Serve) -> None:
    async def client(doors: Doors) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", doors.own.port)
        writer.write(request("any"))
        assert (await answer(reader))[0] == 200
        doors.own.should_exit = True
        assert await asyncio.wait_for(reader.read(), http_doors.LONGEST_S) == b""
        writer.close()

    serve(client)


@pytest.mark.parametrize("cut", [0, 1, 40, -1, -20])
def test_a_request_that_came_before_is_answered_however_it_comes_again(serve: Serve, cut: int) -> None:
    """Whole, in two parts, together with the next one, and with another body behind the same head."""

    async def clients(doors: Doors) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", doors.own.port)
        other_reader, other_writer = await asyncio.open_connection("127.0.0.1", doors.own.port)
        for number in range(1, 9):
            data = wide(np.full(4, number, np.float32))
            if cut and number % 2:
                writer.write(data[:cut])
                # Once another client is answered, the first part has come.
                other_writer.write(request("any"))
                await answer(other_reader)
                data = data[cut:]
            writer.write(data)
            status, body = await answer(reader)
            assert status == 200
            assert np.frombuffer(body[-16:], np.float32).tolist() == [number] * 4
        writer.write(wide(np.full(4, 10, np.float32)) + wide(np.full(4, 11, np.float32)))
        for number in (10, 11):
            assert np.frombuffer((await answer(reader))[1][-16:], np.float32).tolist() == [number] * 4
        data = bytearray(wide(np.full(4, 12, np.float32)))
        data[data.index(b'"FP32"') + 1] = ord("Z")
        writer.write(data)
        assert (await answer(reader))[0] == 400
        writer.close()
        other_writer.close()

    serve(clients)
