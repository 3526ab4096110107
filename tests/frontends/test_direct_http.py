"""Inferences over HTTP whose form came before: they go straight to the queue, and are answered as all others are."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import http_doors
import numpy as np
import onnx_models
import pytest
from http_doors import LONGEST_S, Doors, until
from onnx import TensorProto
from onnx.helper import make_node

from ortolan.core.direct_inference import DirectInference
from ortolan.core.served_version import ServedVersion
from ortolan.core.trace_settings import TIMESTAMPS, TraceSettings
from ortolan.core.tracing import Tracing
from ortolan.execution.model_statistics import FailureReason
from ortolan.frontends.http_server import HttpServer
from ortolan.frontends.rest.inference_exchange import RestOptions
from ortolan.frontends.rest.known_heads import KnownHeads
from ortolan.frontends.restriction import NO_RESTRICTIONS, Restrictions, http_restrictions

LIVE = b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"
ENDLESS = 2.0**40
A_WHILE = 200_000.0
ONE_INSTANCE = "instance_group [ { count: 1, kind: KIND_CPU } ] "
FOURS = "dynamic_batching { preferred_batch_size: [ 4 ] max_queue_delay_microseconds: 60000000 } max_batch_size: 4 "
IN_BINARY = {"parameters": {"binary_data_output": True}}

ROW = (TensorProto.FLOAT, ["batch", 4])
SUM, WHOLE = make_node("Add", ["a", "b"], ["sum"]), make_node("Floor", ["a"], ["whole"])
TWO = onnx_models.model([SUM, WHOLE], [("a", *ROW), ("b", *ROW)], [("sum", *ROW), ("whole", *ROW)])
MODELS = {
    "double": (onnx_models.doubler(), ""),
    "two": (TWO, ""),
    "gather": (onnx_models.gather(), ""),
    "four": (onnx_models.gather(), ONE_INSTANCE + FOURS),
    "asked": (onnx_models.slow_as_asked(), ONE_INSTANCE + "max_batch_size: 1"),
    "long": (onnx_models.widener(2000), ""),
    "wide": (onnx_models.widener(400_000), ""),
    "replaced": (onnx_models.adder(1), ""),
}


@asynccontextmanager
async def serving(repository: Path, *models: str, restrictions: Restrictions = NO_RESTRICTIONS) -> AsyncIterator[Doors]:
    for name in models:
        onnx_models.save_version(repository, name, MODELS[name][0], config=MODELS[name][1])
    async with http_doors.opened(repository, RestOptions(1 << 20, restrictions=restrictions)) as doors:
        yield doors


def request(model: str, body: bytes, *headers: str) -> bytes:
    lines = [f"POST /v2/models/{model}/infer HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def in_json(model: str, x: np.ndarray, more: dict[str, object] | None = None, *headers: str) -> bytes:
    datatype = "FP32" if x.dtype == np.float32 else "INT64"
    tensor = {"name": "x", "datatype": datatype, "shape": x.shape, "data": x.ravel().tolist()}
    return request(model, json.dumps({"inputs": [tensor], **(more or {})}).encode(), *headers)


def in_binary(model: str, more: dict[str, object], *headers: str, extra: int = 0, **arrays: np.ndarray) -> bytes:
    """``extra`` bytes more follow the JSON than that says, or fewer."""
    inputs = []
    for name, array in arrays.items():
        parameters = {"binary_data_size": array.nbytes}
        inputs.append({"name": name, "datatype": "FP32", "shape": array.shape, "parameters": parameters})
    head = json.dumps({"inputs": inputs, **more}).encode()
    data = b"".join([array.tobytes() for array in arrays.values()])
    data = data[: len(data) + min(extra, 0)] + bytes(max(extra, 0))
    return request(model, head + data, f"Inference-Header-Content-Length: {len(head)}", *headers)


def row(number: float) -> np.ndarray:
    return np.full((1, 4), number, np.float32)


def asked(number: float) -> bytes:
    return in_binary("asked", IN_BINARY, x=row(number))


def doubled(number: float) -> bytes:
    return in_binary("double", IN_BINARY, x=row(number))


class Reply(NamedTuple):
    """An answer, with what differs from time to time made the same; ``numbers``: what ends it, as FP32."""

    status: int
    head: bytes
    body: bytes
    numbers: list[float]


class Client(NamedTuple):
    """One connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    @classmethod
    @asynccontextmanager
    async def of(cls, door: HttpServer, first: bytes = LIVE) -> AsyncIterator["Client"]:
        """Connected, and the ``first`` request is answered."""
        client = cls(*await asyncio.open_connection("127.0.0.1", door.port))
        try:
            if first:
                await client.ask(first)
            yield client
        finally:
            client.writer.close()

    async def ask(self, *data: bytes) -> Reply:
        """The answer to the last of those; all are sent one after the other."""
        for each in data:
            self.writer.write(each)
            reply = await self.reply()
        return reply

    async def reply(self) -> Reply:
        async with asyncio.timeout(LONGEST_S):
            head = await self.reader.readuntil(b"\r\n\r\n")
            size = int(head.split(b"\r\ncontent-length: ")[1].split(b"\r\n")[0])
            body = await self.reader.readexactly(size)
        head = re.sub(rb"\r\ndate: [^\r]*", b"", head)
        numbers = np.frombuffer(body[-16:].rjust(16), np.float32).tolist()
        return Reply(int(head.split()[1]), re.sub(rb"dur=[0-9.]+", b"dur=0", head), body, numbers)


async def usual(doors: Doors, data: bytes) -> Reply:
    """What a door says that knows no direct way."""
    async with Client.of(doors.asgi, b"") as client:
        return await client.ask(data)


def heads(doors: Doors) -> KnownHeads:
    return doors.own.config.http_protocol_class.args[0].heads


def direct(doors: Doors) -> int:
    """How many requests went the direct way."""
    return sum(requests.lessons.begun_count for requests in heads(doors)._requests.values())


def version(doors: Doors, model: str) -> ServedVersion:
    return doors.core.statistics(model, "")[0]


MIXED = {"outputs": [{"name": "whole"}, {"name": "sum", "parameters": {"binary_data": True}}]}
BY_FORM = {
    "JSON": (lambda n: in_json("double", row(n)), 3),
    "JSON with an id": (lambda n: in_json("double", row(n), {"id": "seven", "outputs": [{"name": "y"}]}), 3),
    "JSON in, binary out": (lambda n: in_json("double", row(n), IN_BINARY), 3),
    "integers": (lambda n: in_json("gather", np.array([[int(n) % 4]])), 3),
    "binary": (doubled, 3),
    "binary in, JSON out": (lambda n: in_binary("double", {}, x=row(n)), 3),
    "a version": (lambda n: in_binary("double/versions/1", IN_BINARY, x=row(n)), 3),
    "several rows": (lambda n: in_binary("double", IN_BINARY, x=np.repeat(row(n), 3, 0)), 3),
    "two inputs and outputs": (lambda n: in_binary("two", {}, a=row(n), b=row(7)), 3),
    "an output of each form": (lambda n: in_binary("two", MIXED, b=row(7), a=row(n)), 3),
    "one of two outputs": (lambda n: in_binary("two", {"outputs": [{"name": "sum"}]}, a=row(n), b=row(0)), 3),
    "a long answer": (lambda n: in_binary("wide", IN_BINARY, x=row(n)[:, :1]), 3),
    "a timeout": (lambda n: in_json("double", row(n), {"parameters": {"timeout": 9_000_000}}), 0),
}


async def test_the_first_answers_and_the_later_ones_are_the_usual_ones(tmp_path: Path) -> None:
    async with serving(tmp_path, "double", "two", "gather", "wide") as doors, Client.of(doors.own) as client:
        for name, (form, expected) in BY_FORM.items():
            before = direct(doors)
            replies = [await client.ask(form(number)) for number in (4, 5, 6, 7, 9)]
            assert replies == [await usual(doors, form(number)) for number in (4, 5, 6, 7, 9)], name
            assert {reply.status for reply in replies} == {200}, name
            assert len({reply.body for reply in replies}) > 3, name
            assert direct(doors) - before == expected, name
        found = version(doors, "two").statistics
        assert (found.success.count, found.inference_count, found.execution_count, found.fail.count) == (30, 30, 30, 0)
        assert (await client.ask(doubled(8))).numbers == [16] * 4


async def test_numbers_that_json_does_not_have_and_texts_of_other_lengths_are_as_usual(tmp_path: Path) -> None:
    async with serving(tmp_path, "double") as doors, Client.of(doors.own) as client:
        for name in ("JSON", "binary in, JSON out"):
            form, _ = BY_FORM[name]
            await client.ask(form(1), form(2))
            for number in (10, 1.5, 1e30, -0.1) if name == "JSON" else (np.nan, np.inf, -np.inf, 3e38, -0.0, 1e-45):
                data, before = form(number), direct(doors)
                assert (await client.ask(data, data), direct(doors) > before) == (await usual(doors, data), True), (
                    number
                )


WRONG_NUMBERS = [
    *("[NaN,1,1,1]", "[Infinity,1,1,1]", "[1e999,1,1,1]", "[1e39,1,1,1]", "[-1e39,1,1,1]", "[1,2,3]", "[1,2,3,4,5]"),
    *('["1",2,3,4]', "[true,1,1,1]", "[null,1,1,1]", "[[1,2,3,4]]", "[[1,2],[3,4]]", "[[1,2],[3]]", "[[1],2,3,4]"),
    *("[]", "null", "7", '"1234"', "{}", "[1,2,3,4", "[1,2,3,4]]", "[1,2,3,4],", "[1,,2,3,4]", "[+1,2,3,4]"),
    *("[01,2,3,4]", "[.5,2,3,4]", "[0x1,2,3,4]", "[1,2,3,4]//", "[ 1 ,2,\t3,4 ]", " [1,2,3,4]", "[-0,1E2,1e-2,0.0]"),
    *(f"[{'9' * 38},1,1,1]", f"[{'9' * 400},1,1,1]", f"[0.{'1' * 300},1,1,1]", "[" * 900 + "]" * 900, "[1,2,3,\xff]"),
    *('[1,2,3,4],"data":[5,6,7,8]', '[1,2,3,4],"shape":[2,2]', '[1,2,3,4]}],"x":[{"y":[1]', '[1,2,3,4],"name":"z"'),
    *("[18446744073709551616]", "[-9223372036854775809]", "[9223372036854775807]", "[1.0]", "[1.5]", "[true]", "[3]"),
]


@pytest.mark.parametrize("model", ["double", "gather"])
async def test_what_are_no_such_numbers_gets_the_usual_answer(tmp_path: Path, model: str) -> None:
    shape, datatype, good = ("1,4", "FP32", "[1,2,3,4]") if model == "double" else ("1,1", "INT64", "[1]")

    def with_data(text: str) -> bytes:
        body = f'{{"inputs":[{{"name":"x","datatype":"{datatype}","shape":[{shape}],"data":{text}}}],"id":"i"}}'
        return request(model, body.encode("latin-1"))

    async with serving(tmp_path, model) as doors, Client.of(doors.own) as client:
        await client.ask(with_data(good), with_data(good))
        for text in WRONG_NUMBERS:
            expected = await usual(doors, with_data(text))
            assert [await client.ask(with_data(text)) for _ in range(3)] == [expected] * 3, text
        before = direct(doors)
        assert ((await client.ask(with_data(good))).status, direct(doors)) == (200, before + 1)


async def test_bodies_that_are_not_as_long_as_they_say_are_refused_as_usual(tmp_path: Path) -> None:
    async with serving(tmp_path, "double") as doors, Client.of(doors.own) as client:
        await client.ask(doubled(1), doubled(2))
        for extra in (-16, -4, -1, 1, 4, 16):
            data = in_binary("double", IN_BINARY, extra=extra, x=row(1))
            expected = await usual(doors, data)
            assert (expected.status, [await client.ask(data) for _ in range(4)]) == (400, [expected] * 4), extra
        assert (direct(doors), (await client.ask(doubled(3))).numbers) == (0, [6] * 4)


@pytest.mark.parametrize("accepted", ["gzip", "deflate", "identity"])
async def test_only_long_answers_are_compressed_and_only_where_that_is_wanted(tmp_path: Path, accepted: str) -> None:
    async with serving(tmp_path, "long", "double") as doors, Client.of(doors.own) as client:
        for model, columns in (("long", 1), ("double", 4)):
            before = direct(doors)
            data = in_json(model, row(7)[:, :columns], None, f"Accept-Encoding: {accepted}")
            reply = await client.ask(data, data, data)
            assert reply == await usual(doors, data)
            assert direct(doors) == before + 1
            assert (b"content-encoding" in reply.head) == (model == "long" and accepted != "identity")


async def test_a_model_that_was_replaced_answers_as_the_new_one(tmp_path: Path) -> None:
    async with serving(tmp_path, "replaced") as doors, Client.of(doors.own) as client:
        data = in_binary("replaced", IN_BINARY, x=row(1))
        assert ((await client.ask(data, data, data)).numbers, direct(doors)) == ([2] * 4, 1)
        onnx_models.save_version(tmp_path, "replaced", onnx_models.adder(10), version=2)
        await doors.core._manager.load("replaced")
        for count in (1, 2, 3):
            assert ((await client.ask(data)).numbers, direct(doors)) == ([11] * 4, count)
        await doors.core._manager.unload("replaced")
        assert await client.ask(data) == (reply := await usual(doors, data))
        assert reply.status in (400, 404)


async def test_a_run_that_fails_fails_as_usual_and_nothing_but_its_own_request(tmp_path: Path) -> None:
    async with serving(tmp_path, "four", "gather") as doors, AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(Client.of(doors.own)) for _ in range(4)]
        for indices in ((0, 1, 2, 3), (3, 2, 1, 0), (0, 9, 2, 3)):
            before = direct(doors)
            replies = await asyncio.gather(
                *map(Client.ask, clients, [in_json("four", np.array([[index]])) for index in indices])
            )
        assert direct(doors) == before + 4
        assert [reply.status for reply in replies] == [200, 400, 200, 200]
        assert [json.loads(replies[index].body)["outputs"][0]["data"] for index in (0, 2, 3)] == [[0], [2], [3]]
        failed = await usual(doors, in_json("gather", np.array([[9]])))
        assert (replies[1].status, replies[1].body) == (failed.status, failed.body.replace(b"'gather'", b"'four'"))
        found = version(doors, "four").statistics
        assert (found.success.count, found.inference_count, found.failures[FailureReason.BACKEND]) == (11, 11, 1)


async def test_clients_that_go_and_deadlines_end_what_waits_and_what_runs(tmp_path: Path) -> None:
    async with serving(tmp_path, "asked") as doors, Client.of(doors.own) as client:
        await client.ask(asked(1), asked(2))
        its = version(doors, "asked")
        async with Client.of(doors.own) as runs:
            runs.writer.write(asked(ENDLESS))
            await until(lambda: its.in_flight_requests > its.waiting_requests)
            async with Client.of(doors.own) as waits:
                waits.writer.write(asked(ENDLESS))
                await until(lambda: its.waiting_requests == 1)
                assert (its.in_flight_requests, direct(doors)) == (2, 2)
            await until(lambda: its.in_flight_requests == 1)
            assert its.waiting_requests == 0
        await until(lambda: not its.in_flight_requests and not doors.own.server_state.tasks)
        assert (await client.ask(asked(3))).numbers == [3] * 4
        found = its.statistics
        assert (found.success.count, found.fail.count, found.failures[FailureReason.CANCELED]) == (3, 2, 2)
        data = [in_binary("asked", IN_BINARY, "X-Request-Timeout: 0.3", x=row(n)) for n in (1, 1, 1, ENDLESS)]
        assert ((await client.ask(*data)).status, its.in_flight_requests) == (504, 0)


async def test_requests_that_are_sent_ahead_are_answered_in_their_order(tmp_path: Path) -> None:
    async with serving(tmp_path, "asked", "double") as doors, Client.of(doors.own) as client:
        await client.ask(asked(1), asked(2), doubled(1), doubled(2))
        client.writer.write(doubled(3) + doubled(4) + asked(5))
        assert [(await client.reply()).numbers[0] for _ in range(3)] == [6, 8, 5]
        before = direct(doors)
        for _ in range(2):
            client.writer.write(asked(A_WHILE))
            await until(lambda: version(doors, "asked").in_flight_requests == 1)
            client.writer.write(doubled(3) + doubled(4)[:-3])
            assert [(await client.reply()).numbers[0] for _ in range(2)] == [A_WHILE, 6]
            client.writer.write(doubled(4)[-3:])
            assert (await client.reply()).numbers[0] == 8
        assert direct(doors) == before + 2


async def test_a_draining_server_answers_and_closes(tmp_path: Path) -> None:
    async with serving(tmp_path, "asked", "double", "gather") as doors, AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(Client.of(doors.own)) for _ in range(3)]
        wrong = in_json("gather", np.array([[9]]))
        for data in (asked(1), doubled(1), in_json("gather", np.array([[1]]))):
            await clients[0].ask(data, data)
        clients[0].writer.write(asked(A_WHILE))
        await until(lambda: version(doors, "asked").in_flight_requests == 1)
        doors.core.set_draining()
        clients[1].writer.write(doubled(4))
        clients[2].writer.write(wrong)
        expected = [await usual(doors, data) for data in (asked(A_WHILE), doubled(4), wrong)]
        assert [await client.reply() for client in clients] == expected
        assert all(b"\r\nconnection: close\r\n" in reply.head for reply in expected)
        assert [await client.reader.read() for client in clients] == [b""] * 3
        assert direct(doors) == 3


@pytest.mark.parametrize("draining", [True, False])
async def test_what_outlasts_a_stopping_server_is_told_so_if_it_drains(tmp_path: Path, draining: bool) -> None:
    async with serving(tmp_path, "asked") as doors, Client.of(doors.own) as client, Client.of(doors.own) as other:
        await client.ask(asked(1), asked(1))
        its = version(doors, "asked")
        for each in (client, other):
            each.writer.write(asked(ENDLESS))
        await until(lambda: its.in_flight_requests == 2)
        assert direct(doors) == 2
        if draining:
            doors.core.set_draining()
        doors.own.should_exit = True
        async with asyncio.timeout(LONGEST_S):
            said = [await each.reader.read() for each in (client, other)]
        assert [(b" 503 " in each, b"stopped before" in each) for each in said] == [(draining, draining)] * 2
        await until(lambda: not its.in_flight_requests)


@pytest.mark.parametrize("goes", [False, True])
async def test_answers_wait_for_a_client_that_does_not_read(tmp_path: Path, goes: bool) -> None:
    async def answered(client: Client, number: int) -> None:
        client.writer.write(in_binary("wide", IN_BINARY, x=row(number)[:, :1]))
        await until(lambda: its.statistics.success.count == number)

    async with serving(tmp_path, "wide") as doors, Client.of(doors.own) as client:
        its, others = version(doors, "wide"), set(doors.own.server_state.connections)
        for number in (1, 2):
            await answered(client, number)
            await client.reply()
        async with Client.of(doors.own) as slow:
            (connection,) = doors.own.server_state.connections - others
            while not connection.flow.write_paused:
                number += 1
                await answered(slow, number)
            await answered(slow, number + 1)
            if not goes:
                assert [(await slow.reply()).numbers[0] for _ in range(2, number + 1)] == [*range(3, number + 2)]
        await until(lambda: not doors.own.server_state.tasks and doors.own.server_state.connections == others)
        await answered(client, number + 2)
        assert ((await client.reply()).numbers[0], direct(doors)) == (number + 2, number)


async def test_traced_requests_are_answered_and_traced(tmp_path: Path) -> None:
    async with serving(tmp_path, "double") as doors, Client.of(doors.own) as client:
        await client.ask(doubled(1), doubled(2), doubled(3))
        doors.core.tracing = Tracing(TraceSettings((TIMESTAMPS,), rate=1, file=str(tmp_path / "trace")))
        assert (await client.ask(doubled(4), doubled(5))).numbers == [10] * 4
        doors.core.change_trace_settings("", {"trace_level": ["OFF"]})
        assert (direct(doors), (await client.ask(doubled(6))).numbers, direct(doors)) == (1, [12] * 4, 2)
        doors.core.tracing.close()
        assert len({each["id"] for each in json.loads((tmp_path / "trace").read_text())}) == 2


async def test_requests_that_are_not_chosen_to_be_traced_go_the_direct_way_and_are_counted(tmp_path: Path) -> None:
    async with serving(tmp_path, "double") as doors, Client.of(doors.own) as client:
        path = tmp_path / "trace"
        settings = TraceSettings((TIMESTAMPS,), rate=3, file=str(path))
        tracing = doors.core.tracing = Tracing(settings)
        doors.core.direct = DirectInference(doors.core._manager, tracing)
        for number in range(1, 10):
            assert (await client.ask(doubled(number))).numbers == [2 * number] * 4
        tracing.close()
        # All but the first two, from which head and body were learned, and the traced ones.
        assert direct(doors) == 9 - 2 - 3
        assert len({each["id"] for each in json.loads(path.read_text())}) == 3


async def test_a_callers_span_that_nobody_follows_is_not_in_the_way(tmp_path: Path) -> None:
    async with serving(tmp_path, "double") as doors, Client.of(doors.own) as client:
        for number in range(1, 6):
            span = f"traceparent: 00-{number:032x}-{number:016x}-01\r\ntracestate: a={number}"
            data = in_binary("double", IN_BINARY, span, x=row(number))
            assert await client.ask(data) == await usual(doors, data)
        assert (direct(doors), len(heads(doors)._known)) == (3, 1)


@pytest.mark.parametrize("name", ["X-Request-Id", "TraceParent", "tracestate"])
async def test_a_header_that_is_a_secret_is_looked_at_in_each_request(tmp_path: Path, name: str) -> None:
    restrictions = http_restrictions([f"inference:{name}=secret"])
    async with serving(tmp_path, "double", restrictions=restrictions) as doors, Client.of(doors.own) as client:
        for value, status in (("secret", 200), ("wrong", 403), ("secret", 200), ("secret", 200), ("wrong", 403)):
            data = in_binary("double", IN_BINARY, f"{name}: {value}", x=row(1))
            assert (await client.ask(data)).status == (await usual(doors, data)).status == status


async def test_an_id_before_the_first_line_is_refused_whatever_came_before(tmp_path: Path) -> None:
    async with serving(tmp_path, "double") as doors, Client.of(doors.own) as client:
        await client.ask(b"\r\n" + doubled(1), doubled(2), b"\r\n" + doubled(3))
        data = b"\r\nX-Request-Id: foo\r\n" + doubled(4)
        assert (await client.ask(data)).status == (await usual(doors, data)).status == 400


@pytest.mark.parametrize("in_head", [False, True])
async def test_a_client_whose_requests_all_differ_does_not_take_ever_more_memory(tmp_path: Path, in_head: bool) -> None:
    async with serving(tmp_path, "double") as doors, Client.of(doors.own) as client:
        for number in range(1500):
            tag = f"{number:04}"
            header, more = (f"X-Id: {tag}", {}) if in_head else ("X-Id: 0", {"id": tag})
            data = in_binary("double", {**IN_BINARY, **more}, header, x=row(number))
            as_json = in_json("double", row(1), more, header)
            assert (await client.ask(data, *([data, as_json, as_json] if number % 3 == 0 else []))).status == 200
        known = heads(doors)._requests.values()
        assert max(len(known), len(heads(doors)._known)) <= 256
        assert all(len(each._binary) <= 16 and len(each._json) <= 4 for each in known)
        assert 0 < sum(len(each._binary) for each in known) <= 1024


async def test_a_new_connection_for_each_request_is_known_as_well(tmp_path: Path) -> None:
    async with serving(tmp_path, "double") as doors:
        for number in range(5):
            async with Client.of(doors.own, b"") as client:
                assert (await client.ask(doubled(number))).numbers == [2 * number] * 4
        assert direct(doors) == 3
