"""A load of everything: all doors, tensors of bytes and of megabytes, requests that are wrong, clients that go."""

import http.client
import json
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import grpc
import large_tensors
import numpy as np
from callers import LONGEST_S, ask, grpc_array, grpc_request, rest_body
from server_process import ServerProcess

from ortolan.protocol import protobuf_messages as messages

CLIENTS = 4
_ROWS = (1, 1, 1, 10, 300, 6000)
_INFER = "/v2/models/sizes/infer"


class WrongAnswer(AssertionError):
    """An answer that says that all is well, and is not what the model gives."""


@dataclass
class MixedLoad:
    """To be sent to a server with ``large_tensors.save_models`` and ``sizes``, y = x in up to 8192 rows of 4."""

    server: ServerProcess
    counts: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    verdicts: Counter[str] = field(default_factory=Counter)
    """Of the faults: requests ``lost`` without an answer, those that ``failed``, those answered ``wrong``."""

    def run(self, requests: int) -> None:
        """Send so many, from a few clients at once; each run the same ones."""
        self._run([iter(range(requests // CLIENTS)) for _ in range(CLIENTS)])

    def run_for(self, seconds: float) -> None:
        """Send for so long, from a few clients at once."""
        end = time.monotonic() + seconds
        self._run([iter(lambda: time.monotonic() < end, False) for _ in range(CLIENTS)])

    def _run(self, turns: Sequence[Iterator[object]]) -> None:
        threads = [
            threading.Thread(target=self._client, args=(random.Random(seed), turn)) for seed, turn in enumerate(turns)
        ]
        for each in threads:
            each.start()
        for each in threads:
            each.join()

    def _client(self, chance: random.Random, turns: Iterator[object]) -> None:
        for _ in turns:
            kind, act = chance.choice(ACTS)
            try:
                act(self.server, chance)
                self.counts[kind] += 1
            except Exception as error:
                self.faults.append(f"{kind}: {error!r}")
                self.verdicts[_verdict(error)] += 1


def _verdict(error: Exception) -> str:
    if isinstance(error, WrongAnswer):
        return "wrong"
    return "failed" if isinstance(error, (AssertionError, grpc.RpcError, KeyError)) else "lost"


def _check(answer: np.ndarray, asked: np.ndarray) -> None:
    if not np.array_equal(answer, asked):
        raise WrongAnswer(f"expected {asked.shape} of {asked[0, 0]}, got {answer.shape} of {answer.ravel()[:4]}")


def _rows(chance: random.Random) -> np.ndarray:
    """Of a number of their own, so that no answer can be taken for that of another request."""
    return np.full((chance.choice(_ROWS), 4), chance.randrange(1 << 20), np.float32)


def _json(server: ServerProcess, chance: random.Random) -> None:
    rows = _rows(chance)
    reply = ask(server, "POST", _INFER, rest_body(rows))
    assert reply.status == 200, reply.body[:300]
    _check(reply.array, rows)


def _kept_open(server: ServerProcess, chance: random.Random) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.http_port, timeout=LONGEST_S)
    try:
        for _ in range(10):
            rows = _rows(chance)
            connection.request("POST", _INFER, rest_body(rows))
            response = connection.getresponse()
            body = response.read()
            assert response.status == 200, body[:300]
            _check(np.array(json.loads(body)["outputs"][0]["data"]).reshape(-1, 4), rows)
    finally:
        connection.close()


def _wrong(server: ServerProcess, chance: random.Random) -> None:
    shape = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 5], "data": [0] * 5}]}
    paths_and_bodies: Sequence[tuple[str, bytes]] = (
        (_INFER, b"{" * 1000),
        (_INFER, json.dumps(shape).encode()),
        ("/v2/models/nobody/infer", rest_body(_rows(chance))),
        ("/nowhere", b""),
    )
    path, body = chance.choice(paths_and_bodies)
    assert ask(server, "POST", path, body).status in (400, 404)


def _gone_midway(server: ServerProcess, chance: random.Random) -> None:
    """A client that goes with half of its body sent, small or large."""
    size = chance.choice((100, 3_000_000))
    head = f"POST {_INFER} HTTP/1.1\r\nHost: here\r\nContent-Length: {2 * size}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.http_port), LONGEST_S) as connection:
        connection.sendall(head.encode() + bytes(size))


def _large(server: ServerProcess, chance: random.Random) -> None:
    large_tensors.DOORS[chance.choice([*large_tensors.DOORS])](server, chance.choice([*large_tensors.MODELS]))


def _grpc(server: ServerProcess, chance: random.Random) -> None:
    with grpc.insecure_channel(server.grpc) as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        for _ in range(10):
            rows = _rows(chance)
            _check(grpc_array(call(grpc_request("sizes", rows), timeout=LONGEST_S)), rows)


def _grpc_wrong(server: ServerProcess, chance: random.Random) -> None:
    with grpc.insecure_channel(server.grpc) as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        for request in (grpc_request("nobody", _rows(chance)), b"\xff" * 5000):
            code = call.future(request, timeout=LONGEST_S).exception().code()
            assert code in (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INVALID_ARGUMENT)


def _grpc_cancelled(server: ServerProcess, chance: random.Random) -> None:
    with grpc.insecure_channel(server.grpc) as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        call.future(large_tensors.message(chance.choice(("takes", "both"))), timeout=LONGEST_S).cancel()


def _stream(server: ServerProcess, chance: random.Random) -> None:
    """Right and wrong requests on one stream, which goes on after each."""
    asked = [(chance.choice(("sizes", "sizes", "nobody")), _rows(chance)) for _ in range(10)]
    with grpc.insecure_channel(server.grpc) as channel:
        call = channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")
        answers = list(call((grpc_request(model, rows) for model, rows in asked), timeout=LONGEST_S))
    assert len(answers) == len(asked)
    for (model, rows), data in zip(asked, answers, strict=True):
        answer = messages.ModelStreamInferResponse.FromString(data)
        assert bool(answer.error_message) is (model == "nobody"), answer.error_message
        if model == "sizes":
            _check(grpc_array(answer.infer_response.SerializeToString()), rows)


Act = Callable[[ServerProcess, random.Random], None]
ACTS: Sequence[tuple[str, Act]] = (
    ("JSON", _json),
    ("JSON, kept open", _kept_open),
    ("wrong over REST", _wrong),
    ("gone midway", _gone_midway),
    ("6 MB", _large),
    ("gRPC", _grpc),
    ("wrong over gRPC", _grpc_wrong),
    ("cancelled over gRPC", _grpc_cancelled),
    ("stream", _stream),
)
