"""Requests, bodies and models that need more memory than there is: each is refused by itself, and nothing else is."""

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path

import callers
import grpc
import heavy_models
import numpy as np
import onnx_models
import pytest
from callers import ask, rest_body, row
from reload_traffic import resident_mib
from server_process import ServerProcess, running

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux limits a process's memory")

LIMIT_MIB = 384
FITS_MIB = 32
TOO_MUCH = (4096, 2**20, 2**34)
"""Mebibytes: more than the limit, about a terabyte, and more than there are addresses for."""
ADVICE = "send a smaller one, or send it to another server or again later"
BATCHED = "max_batch_size: 16 dynamic_batching { preferred_batch_size: 16 max_queue_delay_microseconds: 300000 }"
ONE_INSTANCE = "instance_group [ { count: 1, kind: KIND_CPU } ]\n"
EXPLICIT = ("--model-control-mode=explicit", "--load-model=*")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    as_asked = heavy_models.as_large_as_asked()
    onnx_models.save_version(root, "as_asked", as_asked, config="max_batch_size: 1\n" + ONE_INSTANCE)
    onnx_models.save_version(root, "batched", as_asked, config=BATCHED + ONE_INSTANCE)
    onnx_models.save_version(root, "other", onnx_models.doubler())
    return root


@pytest.fixture(scope="module")
def server(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    log = tmp_path_factory.mktemp("log") / "log"
    flags = (f"--memory-limit={LIMIT_MIB}MiB", f"--http-max-input-size={2 << 30}", "--calibration-cache=none")
    with running(root, *flags, *EXPLICIT, log=log) as server:
        yield server
    assert "Traceback" not in log.read_text(), log.read_text()


def answered(server: ServerProcess, model: str, mebibytes: float) -> callers.Reply:
    return ask(server, "POST", f"/v2/models/{model}/infer", rest_body(row(mebibytes)))


def is_well(server: ServerProcess) -> bool:
    reply = answered(server, "other", 1)
    return reply.status == 200 and ask(server, "GET", "/v2/health/ready").status == 200


def test_a_hundred_requests_that_need_too_much_memory_fail_alone(server: ServerProcess) -> None:
    for number in range(100):
        refused = answered(server, "as_asked", TOO_MUCH[number % len(TOO_MUCH)])
        assert refused.status == 503, refused.body
        assert int(refused.headers["retry-after"]) >= 1
        message = refused.json["error"]
        assert message.startswith("model 'as_asked' has no "), message
        assert message.endswith(" left to run this request: " + ADVICE), message
        if number % 10 == 0:
            assert answered(server, "as_asked", FITS_MIB).array.tolist() == row(FITS_MIB).tolist()
            assert is_well(server)
    assert resident_mib(server.process.pid) < LIMIT_MIB


async def test_over_grpc_it_is_unavailable(server: ServerProcess) -> None:
    async with grpc.aio.insecure_channel(server.grpc) as channel:
        with pytest.raises(grpc.RpcError) as refused:
            await callers.grpc_call(channel, "as_asked", row(4096))
        assert refused.value.code() == grpc.StatusCode.UNAVAILABLE
        assert "has no 4 GiB left to run this request" in refused.value.details()
        assert callers.grpc_array(await callers.grpc_call(channel, "as_asked", row(1))).tolist() == row(1).tolist()


async def test_the_companions_of_such_a_request_are_answered(server: ServerProcess) -> None:
    asked = [1, 2, 3, 4096, 4, 5]
    replies = await asyncio.gather(*(callers.rest(server, "batched", row(each)) for each in asked))
    assert [reply.status for reply in replies] == [200, 200, 200, 503, 200, 200]
    assert is_well(server)


def test_a_body_for_which_there_is_no_memory_is_refused(server: ServerProcess) -> None:
    """It says that it will have more than a gigabyte; of that only a megabyte comes."""
    head = (
        f"POST /v2/models/other/infer HTTP/1.1\r\nHost: localhost\r\nContent-Length: {1 << 30}\r\n"
        "Inference-Header-Content-Length: 100\r\nContent-Type: application/octet-stream\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", server.http_port), callers.LONGEST_S) as connection:
        connection.sendall(head.encode() + bytes(1 << 20))
        answer = connection.recv(1 << 16)
    assert answer.startswith(b"HTTP/1.1 503 "), answer
    assert b"there is no memory left for the request's body" in answer
    assert is_well(server)


def test_a_model_for_which_there_is_no_memory_is_refused(server: ServerProcess, root: Path) -> None:
    onnx_models.save_version(root, "large", heavy_models.heavy(1, LIMIT_MIB / 2))
    for _ in range(2):
        refused = ask(server, "POST", "/v2/repository/models/large/load")
        assert (refused.status, "memory" in refused.json["error"]) == (503, True), refused.body
        assert str(root) not in refused.json["error"]
        assert answered(server, "other", 1).array.tolist() == row(2).tolist()
    onnx_models.save_version(root, "large", heavy_models.heavy(1, 8))
    assert ask(server, "POST", "/v2/repository/models/large/load").status == 200
    assert answered(server, "large", 1).array.tolist() == np.full((1, 4), 2).tolist()


def test_a_message_for_which_there_is_no_memory_is_refused(server: ServerProcess) -> None:
    with grpc.insecure_channel(server.grpc, [("grpc.max_send_message_length", -1)]) as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        with pytest.raises(grpc.RpcError) as refused:
            call(bytes(LIMIT_MIB - 64 << 20), timeout=callers.LONGEST_S)
    assert refused.value.code() == grpc.StatusCode.UNAVAILABLE
    assert "no memory left for this request" in refused.value.details()
    assert answered(server, "other", 1).array.tolist() == row(2).tolist()
