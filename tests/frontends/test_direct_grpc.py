"""Inferences over gRPC whose form came before: they go straight to the queue, and are answered as all others are."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import callers
import grpc
import numpy as np
import onnx_models
import pytest
from frontends.grpc_peers import MIB, SOON_S, HandClient, framed
from google.protobuf.message import Message
from http_doors import until
from onnx import TensorProto
from onnx.helper import make_node

from ortolan.core.inference_core import InferenceCore
from ortolan.core.model_manager import ModelManager
from ortolan.core.served_version import ServedVersion
from ortolan.errors import OrtolanError
from ortolan.execution.model_statistics import FailureReason
from ortolan.frontends.grpc.call import Call
from ortolan.frontends.grpc.direct_inferences import DirectInferences
from ortolan.frontends.grpc.http2_server import Http2Server
from ortolan.frontends.grpc.methods import UnaryRpc, served_methods
from ortolan.frontends.grpc.options import GrpcOptions
from ortolan.frontends.grpc.service import InferenceService
from ortolan.frontends.status import grpc_code
from ortolan.managed_models import model_manager
from ortolan.protocol import protobuf_messages as messages
from ortolan.protocol.serialized import in_one_piece
from ortolan.server import Server
from ortolan.settings import Settings

CODE = grpc.StatusCode
PATH = "/inference.GRPCInferenceService/ModelInfer"
ENDLESS = 2.0**40
ONE_INSTANCE = "instance_group [ { count: 1, kind: KIND_CPU } ] "
FOURS = "dynamic_batching { preferred_batch_size: [ 4 ] max_queue_delay_microseconds: 60000000 } max_batch_size: 4 "
ROW = (TensorProto.FLOAT, ["batch", 4])
SUM, WHOLE = make_node("Add", ["a", "a"], ["sum"]), make_node("Cast", ["a"], ["whole"], to=TensorProto.INT64)
SEVERAL = onnx_models.model([SUM, WHOLE], [("a", *ROW)], [("sum", *ROW), ("whole", TensorProto.INT64, ROW[1])])
TWO_INPUTS = onnx_models.model([make_node("Add", ["a", "b"], ["y"])], [("a", *ROW), ("b", *ROW)], [("y", *ROW)])
MODELS = {
    "double": (onnx_models.doubler(), ""),
    "several": (SEVERAL, ""),
    "two": (TWO_INPUTS, ""),
    "gather": (onnx_models.gather(), ""),
    "four": (onnx_models.gather(), ONE_INSTANCE + FOURS),
    "asked": (onnx_models.slow_as_asked(), ONE_INSTANCE + "max_batch_size: 1"),
    "wide": (onnx_models.widener(100_000), ""),
    "replaced": (onnx_models.adder(1), ""),
}


@dataclass
class Served:
    """A gRPC port of a server with some models."""

    core: InferenceCore
    manager: ModelManager
    server: Http2Server
    inferences: DirectInferences
    channel: grpc.aio.Channel

    @property
    def direct(self) -> int:
        """How many calls went the direct way."""
        return self.inferences.lessons.begun_count

    def version(self, model: str) -> ServedVersion:
        return self.core.statistics(model, "")[0]

    async def usual(self, data: bytes) -> Message:
        """The answer of the method, which knows no direct way."""
        answer = await InferenceService(self.core, timing=False).model_infer(data, Call())
        return messages.ModelInferResponse.FromString(in_one_piece(answer))

    def call(self, data: bytes, **more: Any) -> "grpc.aio.UnaryUnaryCall[bytes, Message]":
        method = self.channel.unary_unary(PATH, None, messages.ModelInferResponse.FromString)
        return method(data, **{"timeout": SOON_S, **more})

    async def failure(self, data: bytes, **more: Any) -> tuple[grpc.StatusCode, str]:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await self.call(data, **more)
        return caught.value.code(), caught.value.details()


@asynccontextmanager
async def serving(repository: Path, *models: str, **options: Any) -> AsyncIterator[Served]:
    for name in models:
        onnx_models.save_version(repository, name, MODELS[name][0], config=MODELS[name][1])
    trace = (f"triton,file={repository.parent / 'trace'}", "rate=1")
    settings = Settings(model_repository=(str(repository),), calibration_cache="none", trace_config=trace)
    manager = model_manager(settings, None)
    core = Server(settings, manager, lambda _: None, lambda _: None).core
    await manager.load_all(None, wait_for_roots=False)
    core.set_started()
    chosen = GrpcOptions(16 * MIB, **options)
    methods = served_methods(core, chosen)
    (inferences,) = (rpc.direct for rpc in methods.all if isinstance(rpc, UnaryRpc) and rpc.name.path == PATH)
    server = Http2Server(methods, "127.0.0.1", 0, chosen)
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            yield Served(core, manager, server, inferences, channel)
    finally:
        await server.stop(0)
        await manager.stop()
        core.tracing.close()


@pytest.fixture
def models(tmp_path: Path) -> Path:
    return tmp_path / "models"


def request(model: str, typed: bool = False, outputs: Sequence[str] = (), **more: Any) -> bytes:
    """``more``: inputs by their names, and other fields."""
    arrays = {name: array for name, array in more.items() if isinstance(array, np.ndarray)}
    fields = {name: field for name, field in more.items() if name not in arrays}
    message = messages.ModelInferRequest(model_name=model, **fields)
    for name, array in arrays.items():
        datatype = "FP32" if array.dtype == np.float32 else "INT64"
        tensor = message.inputs.add(name=name, datatype=datatype, shape=array.shape)
        if typed:
            tensor.contents.fp32_contents.extend(array.ravel().tolist())
        else:
            message.raw_input_contents.append(array.tobytes())
    for name in outputs:
        message.outputs.add(name=name)
    return bytes(message.SerializeToString())


def row(number: float) -> np.ndarray:
    return np.full((1, 4), number, np.float32)


def doubled(number: float) -> bytes:
    return request("double", x=row(number))


def asked(number: float) -> bytes:
    return request("asked", x=row(number))


def numbers(response: Any, output: int = 0) -> list[float]:
    return np.frombuffer(response.raw_output_contents[output], np.float32).tolist()


BY_FORM = {
    "raw": (doubled, 4),
    "an id": (lambda n: request("double", id="seven", x=row(n)), 4),
    "a version": (lambda n: request("double", model_version="1", x=row(n)), 4),
    "several rows": (lambda n: request("double", x=np.repeat(row(n), 3, 0)), 4),
    "several outputs": (lambda n: request("several", a=row(n)), 4),
    "outputs in another order": (lambda n: request("several", outputs=("whole", "sum"), a=row(n)), 4),
    "one of the outputs": (lambda n: request("several", outputs=("whole",), a=row(n)), 4),
    "integers": (lambda n: request("gather", x=np.array([[int(n) % 4]])), 4),
    "a long answer": (lambda n: request("wide", x=row(n)[:, :1]), 4),
    "typed contents": (lambda n: request("double", typed=True, x=row(n)), 0),
    "two inputs": (lambda n: request("two", a=row(n), b=row(7)), 0),
}


async def test_the_first_answers_and_the_later_ones_are_the_usual_ones(models: Path) -> None:
    async with serving(models, "double", "several", "two", "gather", "wide") as served:
        for name, (form, expected) in BY_FORM.items():
            before = served.direct
            sent = [form(number) for number in (4, 5, 6, 7, 9)]
            answers = [await served.call(data) for data in sent]
            assert answers == [await served.usual(data) for data in sent], name
            assert len({answer.raw_output_contents[0] for answer in answers}) > 3, name
            assert served.direct - before == expected, name
        assert numbers(await served.call(doubled(8))) == [16] * 4


@pytest.mark.parametrize("kind", [grpc.Compression.Gzip, grpc.Compression.Deflate])
async def test_compressed_messages_are_answered_as_usual(models: Path, kind: grpc.Compression) -> None:
    async with serving(models, "double") as served:
        for number in range(4):
            data = request("double", x=np.repeat(row(number), 2, 0))
            assert await served.call(data) == await served.usual(data)
            assert await served.call(data, compression=kind) == await served.usual(data)
        assert served.direct == 3


async def test_compressed_answers_are_the_usual_ones(models: Path) -> None:
    async with serving(models, "wide", compression="low") as served:
        for number in range(4):
            data = request("wide", x=row(number)[:, :1])
            assert await served.call(data) == await served.usual(data)


@pytest.mark.parametrize("cuts", [[0], [1], [5], [6], [25], [-1], [3, 9, 40], [2, 5, -16, -4], [4, 22, 40]])
async def test_a_message_may_come_in_pieces(models: Path, cuts: list[int]) -> None:
    async with serving(models, "double") as served, HandClient.connected(served.server.port) as client:
        for number in range(4):
            data = framed(doubled(number))
            places = [0, *(cut % len(data) for cut in cuts), len(data)]
            stream = client.call("", end=False, **{":path": PATH})
            for begin, end in pairwise(places):
                client.h2.send_data(stream, data[begin:end], end_stream=number % 2 == 1 and end == len(data))
                await client.flush()
            if number % 2 == 0:
                client.h2.send_data(stream, b"", end_stream=True)
            await client.until_ended(stream)
            response = messages.ModelInferResponse.FromString(client.data[stream][5:])
            assert (client.status(stream), numbers(response)) == (0, [2 * number] * 4)
        assert served.direct == 3


async def test_many_calls_at_once_each_get_their_own_answer(models: Path) -> None:
    async with serving(models, "double", "several") as served:
        for count in (6, 1000):
            sent = [doubled(n) if n % 3 else request("several", id=str(n), a=row(n)) for n in range(count)]
            answers = await asyncio.gather(*map(served.call, sent))
            assert [numbers(answer)[0] for answer in answers] == [2 * n for n in range(count)]
            assert [answer.id for answer in answers] == ["" if n % 3 else str(n) for n in range(count)]
        assert served.direct >= 600
        counts = [served.version(model).statistics.success.count for model in ("double", "several")]
        assert counts == [670, 336]


# Models


async def test_a_model_that_was_replaced_answers_as_the_new_one(models: Path) -> None:
    async with serving(models, "replaced") as served:
        data = request("replaced", x=row(1))
        assert [numbers(await served.call(data)) for _ in range(3)] == [[2] * 4] * 3
        assert served.direct == 2
        onnx_models.save_version(models, "replaced", onnx_models.adder(10), version=2)
        await served.manager.load("replaced")
        answers = [await served.call(data) for _ in range(3)]
        assert [(numbers(answer), answer.model_version) for answer in answers] == [([11] * 4, "2")] * 3
        assert served.direct == 4
        await served.manager.unload("replaced")
        assert await served.failure(data) == await usual_failure(served, data)
        await served.manager.load("replaced")
        assert numbers(await served.call(data)) == [11] * 4


async def usual_failure(served: Served, data: bytes) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(OrtolanError) as caught:
        await served.usual(data)
    return grpc_code(caught.value), caught.value.message


async def test_a_run_that_fails_fails_as_usual_and_nothing_but_its_own_call(models: Path) -> None:
    def sent(model: str, index: int) -> bytes:
        return request(model, x=np.array([[index]]))

    async with serving(models, "four", "gather") as served:
        for indices in ((0, 1, 2, 3), (3, 2, 1, 0)):
            await asyncio.gather(*(served.call(sent("four", index)) for index in indices))
        before = served.direct
        good = [served.call(sent("four", index)) for index in (0, 2, 3)]
        code, text = await usual_failure(served, sent("gather", 9))
        assert await served.failure(sent("four", 9)) == (code, text.replace("'gather'", "'four'"))
        assert [numbers(await call) for call in good] == [[0], [2], [3]]
        assert served.direct == before + 4
        found = served.version("four").statistics
        assert (found.success.count, found.inference_count, found.fail.count) == (11, 11, 1)
        assert found.failures[FailureReason.BACKEND] == 1


async def test_each_inference_tells_where_its_time_went_if_that_is_wanted(models: Path) -> None:
    async with serving(models, "double", timing=True) as served:
        for _ in range(3):
            call = served.call(doubled(1))
            assert numbers(await call) == [2] * 4
            timing = callers.timing_of(dict(await call.trailing_metadata())["server-timing"])
            assert (timing.keys(), timing["batch"]) == ({"queue", "batch", "compute", "encode"}, 1)
        assert served.direct == 2


async def test_traced_calls_are_answered_and_traced(models: Path, tmp_path: Path) -> None:
    async with serving(models, "double") as served:
        for number in range(6):
            level = "TIMESTAMPS" if number in (2, 3) else "OFF"
            served.core.change_trace_settings("", {"trace_level": [level]})
            assert await served.call(doubled(number)) == await served.usual(doubled(number))
        assert served.direct == 3
    traced = [each for each in json.loads((tmp_path / "trace").read_text()) if "model_name" in each]
    # Also those that the method was asked here.
    assert len(traced) == 4


# Clients


async def test_a_deadline_is_kept_and_ends_the_run(models: Path) -> None:
    async with serving(models, "asked") as served, HandClient.connected(served.server.port) as client:
        for number in (1, 2):
            assert numbers(await served.call(asked(number))) == [number] * 4
        runs = client.call("", asked(ENDLESS), **{":path": PATH, "grpc-timeout": "400m"})
        await client.flush()
        await until(lambda: served.version("asked").in_flight_requests == 1)
        waits = client.call("", asked(ENDLESS), **{":path": PATH, "grpc-timeout": "200m"})
        await client.until_ended(runs, waits)
        assert [client.status(stream) for stream in (runs, waits)] == [CODE.DEADLINE_EXCEEDED.value[0]] * 2
        assert "deadline" in client.headers[runs]["grpc-message"].lower()
        assert (await served.failure(asked(ENDLESS), timeout=0.2))[0] is CODE.DEADLINE_EXCEEDED
        await until(lambda: not served.version("asked").in_flight_requests)
        assert numbers(await served.call(asked(3))) == [3] * 4
        found = served.version("asked").statistics
        assert (served.direct, found.success.count, found.fail.count) == (5, 3, 3)


@pytest.mark.parametrize("how", ["cancels", "resets", "goes"])
async def test_clients_that_go_take_what_waits_and_what_runs_along(models: Path, how: str) -> None:
    async with serving(models, "asked") as served, HandClient.connected(served.server.port) as client:
        its = served.version("asked")
        for number in (1, 2):
            await served.call(asked(number))
        calls = [served.call(asked(ENDLESS)) for _ in range(2)] if how == "cancels" else []
        streams = [] if calls else [client.call("", asked(ENDLESS), **{":path": PATH}) for _ in range(2)]
        await client.flush()
        await until(lambda: its.in_flight_requests == 2 and its.waiting_requests == 1)
        for call in calls:
            call.cancel()
        for stream in streams if how == "resets" else ():
            client.h2.reset_stream(stream)
        await client.flush()
        if how == "goes":
            client.writer.close()
        await until(lambda: not its.in_flight_requests)
        assert numbers(await served.call(asked(3))) == [3] * 4
        found = its.statistics
        assert (found.success.count, found.fail.count, found.failures[FailureReason.CANCELED]) == (3, 2, 2)
        assert served.direct == 4


async def test_what_outlasts_a_stopping_server_is_told_so(models: Path) -> None:
    async with serving(models, "asked") as served:
        for number in (1, 2):
            await served.call(asked(number))
        calls = [served.call(asked(ENDLESS)) for _ in range(2)]
        await until(lambda: served.version("asked").in_flight_requests == 2)
        assert served.direct == 3
        await served.server.stop(0.05)
        for call in calls:
            assert await call.code() is CODE.UNAVAILABLE
        await until(lambda: not served.version("asked").in_flight_requests)


async def test_a_client_whose_messages_are_all_different_takes_no_more_and_more_memory(models: Path) -> None:
    async with serving(models, "double") as served:
        for number in range(2000):
            data = request("double", id=f"{number:0{4 + number % 9}}", x=row(number))
            assert numbers(await served.call(data))[0] == 2 * number
            if number % 5 == 0:
                await served.call(data)
        known = served.inferences._known
        assert 0 < len(known._known) <= 256
        assert len(known._heads) <= 256
        assert all(len(starts) <= 4 for starts in known._heads.values())
        before = served.direct
        for _ in range(130):
            await served.call(doubled(1))
        assert served.direct > before
